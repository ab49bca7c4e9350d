"""The worst trees of btrfs: shared nodes, subvolumes in subvolumes, logs that change everything, wide chunks."""

from __future__ import annotations

import random
from collections.abc import Iterable
from functools import cache
from typing import Any, cast

import pytest
from bounded import bounded
from built import btrfs
from hypothesis import given, settings
from hypothesis import strategies as st
from test_btrfs_tree import OWNER, ROOT, Memory, leaf, make, node, seal

from fsdrivers import redundancy
from fsdrivers.block import BlockDevice
from fsdrivers.btrfs import chunks, directory, geometry, layout, log, names
from fsdrivers.btrfs.filesystem import BtrfsFilesystem
from fsdrivers.btrfs.filesystem import Node as FsNode
from fsdrivers.btrfs.geometry import Chunk, Stripe
from fsdrivers.btrfs.overlay import Keys, Overlay
from fsdrivers.btrfs.rebuild import Row
from fsdrivers.btrfs.replay import replay
from fsdrivers.btrfs.roots import Roots
from fsdrivers.btrfs.stripetree import StripeTree
from fsdrivers.btrfs.tree import Key, Nodes, Pointer, Tree
from fsdrivers.btrfs.volume import Volume
from fsdrivers.errors import Corrupt, FsError, TooMany
from fsdrivers.filesystem import Piece, Stat
from fsdrivers.redundancy import Attempt, Health

SECTOR = 4096


def of(items: Iterable[tuple[Key, bytes]] = ()) -> Overlay:
    """A tree with ``items``, however many."""
    empty, memory = make({0x1000: leaf(0x1000, [])}, ROOT)
    memory.superblock.nodesize = 65536  # type: ignore[attr-defined]
    tree = Overlay(empty)
    for key, data in items:
        tree.put(key, data)
    return tree


# --- nodes -------------------------------------------------------------------------------------------


def test_a_last_child_ends_where_its_parent_does() -> None:
    """Or one subtree could hang behind the last child of every node before it, again and again on every level."""
    blocks = {
        0x1000: node(0x1000, 2, [((10, 1, 0), 0x2000), ((20, 1, 0), 0x3000)]),
        0x2000: node(0x2000, 1, [((10, 1, 0), 0x4000)]),
        0x3000: node(0x3000, 1, [((20, 1, 0), 0x5000)]),
        0x4000: leaf(0x4000, [((10, 1, 0), b"a"), ((20, 1, 0), b"again")]),
        0x5000: leaf(0x5000, [((20, 1, 0), b"b")]),
    }
    found, _ = make(blocks, ROOT._replace(level=2))
    with pytest.raises(Corrupt, match="keys beyond"):
        list(found.items((0, 0, 0), layout.MAX_KEY))
    with pytest.raises(Corrupt, match="keys beyond"):
        found.find(10, 1, 0)


@settings(max_examples=300)
@given(st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=4), min_size=8, max_size=24), st.data())
def test_no_item_comes_twice(shapes: list[list[int]], data: st.DataObject) -> None:
    """Nodes that share children, with keys that fit to what they point to."""
    levels: list[list[tuple[Key, int]]] = [[], [], []]
    blocks: dict[int, bytearray] = {}
    for number, shape in enumerate(shapes):
        at = 0x2000 + number * 0x1000
        level = number * 3 // len(shapes)
        if not level:
            items: list[tuple[Key, bytes]] = [((key, 1, 0), b"x") for key in sorted(set(shape))]
            blocks[at] = leaf(at, items)
            levels[0].append((items[0][0], at))
            continue
        choice = levels[level - 1]
        below = sorted(dict(choice[one % len(choice)] for one in shape).items())
        blocks[at] = node(at, level, below)
        levels[level].append((below[0][0], at))
    tops = dict(levels[2])
    blocks[0x1000] = node(0x1000, 3, sorted(tops.items()))
    found = make(blocks, ROOT._replace(level=3))[0]
    seen = []
    try:
        for item in found.items((0, 0, 0), layout.MAX_KEY):
            seen.append(item.objectid)
            assert len(seen) <= 12
    except Corrupt:
        pass
    assert seen == sorted(set(seen))


def test_nodes_full_of_items_are_kept_by_the_item() -> None:
    count = (SECTOR - layout.HEADER.size) // layout.ITEM.size
    blocks = {}
    for number in range(1500):
        at = 0x10000 + number * SECTOR
        items: list[tuple[Key, bytes]] = [((1 << 40 | number, 1, 1 << 40 | one), b"") for one in range(count)]
        blocks[at] = [seal(leaf(at, items))]
    nodes = Nodes(cast(Volume, Memory(blocks)))

    def run() -> None:
        for at in blocks:
            nodes.load(Pointer(at, 0, 7, OWNER))

    bounded(run)
    run()
    assert sum(len(one.items) for one in nodes._cache.values()) <= Nodes.ITEMS


def test_few_trees_remember_their_last_search() -> None:
    """Each of thousands of subvolumes would keep its nodes, whatever the cache does."""
    blocks: dict[int, list[bytes]] = {}
    for number in range(500):
        at = 0x10000 + number * SECTOR
        blocks[at] = [seal(leaf(at, [((number, 1, 0), b"x")]))]
    nodes = Nodes(cast(Volume, Memory(blocks)))
    trees = [Tree(nodes, Pointer(at, 0, 7, OWNER)) for at in blocks]
    for number, tree in enumerate(trees):
        assert tree.find(number, 1, 0) is not None
    assert sum(tree._last is not None for tree in trees) == Nodes.TREES
    assert all(tree.find(number, 1, 0) is not None for number, tree in enumerate(trees))


# --- chunks and rows ---------------------------------------------------------------------------------


def chunk(kind: int, stripes: int, length: int = 1 << 30) -> bytes:
    head = btrfs.CHUNK(
        length=length, owner=2, stripe_len=layout.STRIPE_LEN, type=kind | layout.BLOCK_GROUP_DATA, sector_size=SECTOR,
        num_stripes=stripes, sub_stripes=1,
    )  # fmt: skip
    return head + b"".join(btrfs.STRIPE(devid=number) for number in range(stripes))


def test_more_columns_than_parity_can_tell_apart() -> None:
    for kind, most in ((layout.BLOCK_GROUP_RAID5, 256), (layout.BLOCK_GROUP_RAID6, 257)):
        assert len(chunks.parse(chunk(kind, most), 0, SECTOR, "fs").stripes) == most
        for stripes in (most + 1, 2000):
            with pytest.raises(Corrupt, match="num_stripes"):
                chunks.parse(chunk(kind, stripes), 0, SECTOR, "fs")


def test_a_chunk_map_of_many_chunks() -> None:
    def run() -> int:
        found = chunks.ChunkMap("fs")
        for number in range(50_000):
            found.add(Chunk(number << 20, 1 << 20, 1, geometry.SINGLE, (Stripe(1, 0, bytes(16)),)))
        return len(found)

    assert bounded(run).value == 50_000


class Zeros(BlockDevice):
    size = 1 << 60

    def __init__(self, name: str) -> None:
        self.name = name

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check(offset, len(buffer))


def test_a_wide_row_that_nothing_makes_good() -> None:
    kind = layout.BLOCK_GROUP_RAID6
    found = chunks.parse(chunk(kind, 257), 0, SECTOR, "fs")
    segment = next(geometry.segments(found, 0, layout.STRIPE_LEN))
    leg: Any = type("Leg", (), {"device": Zeros("d"), "failed": lambda self: None})()

    def refuse(data: bytes, attempt: Attempt) -> FsError:
        return Corrupt(attempt.device, "data", attempt.offset)

    health = Health()
    health.patience = 0

    def run() -> bytes:
        return redundancy.read(Row(segment, lambda stripe: leg).attempts(), refuse, health, lambda: FsError("lost"))

    assert "corrupt data" in bounded(run, mebibytes=96).error  # a row is 16 MiB


def test_stripes_of_single_bytes() -> None:
    found = chunks.parse(chunk(layout.BLOCK_GROUP_RAID1, 2), 0, SECTOR, "fs")
    places = btrfs.RAID_STRIDE(devid=0) + btrfs.RAID_STRIDE(devid=1)
    tree = of(((number, layout.RAID_STRIPE, 1), places) for number in range(50_000))
    stripes = StripeTree(tree, "fs", SECTOR)
    assert "alignment" in bounded(lambda: len(list(stripes.segments(found, 0, 1 << 20)))).error


# --- where subvolumes are ----------------------------------------------------------------------------


def roots(places: dict[int, tuple[int, int, bytes]], directories: dict[int, tuple[int, bytes]]) -> Roots:
    """Subvolumes by id at (parent, directory inode, name), all with the ``directories``: inode -> parent, name."""
    item = btrfs.ROOT(generation=7, root_dirid=256, bytenr=0x1000, refs=1)
    items: list[tuple[Key, bytes]] = [((number, layout.ROOT_ITEM, 0), item) for number in (5, *places)]
    for number, (parent, inode, name) in places.items():
        place = btrfs.ROOT_REF_ITEM(dirid=inode, name_len=len(name)) + name
        items.append(((number, layout.ROOT_BACKREF, parent), place))
    tree = of(
        ((inode, layout.INODE_REF, parent), btrfs.INODE_REF_ITEM(name_len=len(name)) + name)
        for inode, (parent, name) in directories.items()
    )
    found = Roots(tree._nodes, ROOT, "fs")
    found.tree = of(items)
    for number in (5, *places):
        found._trees[number] = tree
    return found


def everywhere(found: Roots) -> tuple[int, int]:
    """How many subvolumes have a path, and how long all are together."""
    paths = []
    for item in found.subvolumes():
        try:
            paths.append(found.path(item.id))
        except FsError:
            continue
    return len(paths), sum(map(len, paths))


def test_where_subvolumes_are() -> None:
    flat = roots({number: (5, 256, b"s%d" % number) for number in range(256, 2256)}, {})
    assert everywhere(flat)[0] == 2001
    assert flat.path(300) == "s300"
    deep = roots({257: (5, 300, b"a"), 258: (257, 256, b"b")}, {300: (301, b"x"), 301: (256, b"y")})
    assert deep.path(258) == "y/x/a/b"


def test_subvolumes_in_subvolumes() -> None:
    count = 10_000
    chain = roots({256 + at: (255 + at if at else 5, 256, b"n" * 255) for at in range(count)}, {})
    assert bounded(lambda: everywhere(chain)).value == (17, sum(256 * one - 1 for one in range(1, 17)))
    circle = roots({256 + at: (256 + (at + 1) % count, 256, b"n") for at in range(count)}, {})
    assert bounded(lambda: everywhere(circle)).value == (1, 0)


def test_subvolumes_in_deep_directories() -> None:
    deep = {257 + at: (256 + at, b"d") for at in range(20_000)}
    far = roots({256 + at: (5, 257 + 19_000, b"s") for at in range(200)}, deep)
    # Ten thousand containers five directories deep have to be found: so much may be spent on this, too.
    assert bounded(lambda: everywhere(far), seconds=2).value == (1, 0)
    far = roots({256 + at: (5, 257 + 1000, b"%d" % at) for at in range(5_000)}, deep)
    bounded(lambda: everywhere(far), seconds=2)


# --- logs --------------------------------------------------------------------------------------------


@cache
def inode(size: int = 0, mode: int = 0o100644, links: int = 1) -> bytes:
    return btrfs.INODE(generation=7, transid=7, size=size, nlink=links, mode=mode)


@cache
def extent(length: int = SECTOR) -> bytes:
    return btrfs.EXTENT(
        generation=7, ram_bytes=length, type=layout.EXTENT_REGULAR, disk_bytenr=1 << 20, disk_num_bytes=length,
        num_bytes=length,
    )  # fmt: skip


def replayed(base: Overlay, logged: Overlay, most: int = log.MAX_STEPS) -> int:
    """Replays; how many steps it took."""
    steps = 0

    def spend(number: int) -> None:
        nonlocal steps
        steps += number
        if steps > most:
            raise TooMany("steps", most)

    replay(base, logged, SECTOR, "fs", spend)
    return steps


def extents(count: int, shift: int = 0, length: int = SECTOR, apart: int = 4 * SECTOR) -> list[tuple[Key, bytes]]:
    found: list[tuple[Key, bytes]] = [((300, layout.INODE_ITEM, 0), inode(count * apart + (1 << 20)))]
    found += [((300, layout.EXTENT_DATA, at * apart + shift), extent(length)) for at in range(count)]
    return found


def test_a_log_over_a_file_of_many_extents() -> None:
    """Before: every look for the extent before a place went back over all that had been replaced."""
    for count in (1000, 4000):
        steps = replayed(of(extents(count, length=4 * SECTOR)), of(extents(count, SECTOR)))
        assert steps < 40 * count
    base, logged = of(extents(5000, length=4 * SECTOR)), of(extents(5000, SECTOR))
    bounded(lambda: replayed(base, logged))


def test_names_of_one_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (directory, names):
        monkeypatch.setattr(module, "name_hash", lambda name: 7)
    items: list[tuple[Key, bytes]] = [((300, layout.INODE_ITEM, 0), inode(mode=0o040755))]
    for number in range(2500):
        name = b"%08d" % number
        items.append(((1000 + number, layout.INODE_ITEM, 0), inode()))
        location = {"objectid": 1000 + number, "type": layout.INODE_ITEM}
        entry = btrfs.DIR(location=location, name_len=len(name), type=layout.FT_REG_FILE) + name
        items.append(((300, layout.DIR_INDEX, number + 2), entry))
    base, logged = of([((300, layout.INODE_ITEM, 0), inode(mode=0o040755))]), of(items)
    # Whichever limit comes first: that of steps, or that of what an item can hold.
    assert "too many steps" in bounded(lambda: replayed(base, logged, 1 << 18)).error
    with pytest.raises(Corrupt, match="size"):
        base.put((1, 1, 1), bytes(65536))


def test_many_inodes_whose_links_are_counted() -> None:
    items = [((number, layout.INODE_ITEM, 0), inode()) for number in range(300, 10_300)]
    base, logged = of(), of(items)
    assert cast(int, bounded(lambda: replayed(base, logged)).value) < 20 * len(items)


def test_a_log_without_end_is_given_up() -> None:
    base, logged = of(extents(3000)), of(extents(3000, SECTOR))
    assert "too many steps" in bounded(lambda: replayed(base, logged, 1000)).error


def test_extents_that_cover_everything() -> None:
    """Each of the log's extents covers all that comes after it."""
    items: list[tuple[Key, bytes]] = [((300, layout.INODE_ITEM, 0), inode(1 << 40))]
    items += [((300, layout.EXTENT_DATA, at * SECTOR), extent(1 << 40)) for at in range(3000)]
    base, logged = of(extents(3000)), of(items)
    assert "too many steps" in bounded(lambda: replayed(base, logged, 1 << 19)).error


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=60), st.integers(0, 40))
def test_an_overlay_is_what_was_put_into_it(changes: list[tuple[int, bool]], wanted: int) -> None:
    under = dict.fromkeys(range(0, 40, 3), b"base")
    blocks = {0x1000: leaf(0x1000, [((1, 1, number), data) for number, data in under.items()])}
    tree = Overlay(make(blocks, ROOT)[0])
    model = dict(under)
    for number, put in changes:
        if put:
            tree.put((1, 1, number), b"new")
            model[number] = b"new"
        else:
            tree.remove((1, 1, number))
            model.pop(number, None)
    assert {item.offset: item.data for item in tree.of(1, 1)} == model
    assert [item.offset for item in tree.of(1, 1)] == sorted(model)
    before = tree.at_or_before(1, 1, wanted)
    assert (before.offset if before else None) == max((one for one in model if one <= wanted), default=None)
    assert tree.at_or_before(2, 1, wanted) is None
    assert (tree.find(1, 1, wanted) is not None) == (wanted in model)


@pytest.mark.parametrize("seed", range(4))
def test_keys_stay_in_order(seed: int) -> None:
    dice = random.Random(seed)
    order = dice.sample(range(9000), 5000)
    numbers = set(order)
    keys = Keys()
    for number in order:
        keys.add((number, 0, 0))
    low, high = sorted(dice.sample(range(9000), 2))
    assert [key[0] for key in keys.between((low, 0, 0), (high, 0, 0))] == sorted(n for n in numbers if low <= n <= high)
    assert [key[0] for key in keys.down((high, 0, 0))] == sorted((n for n in numbers if n <= high), reverse=True)


def test_extended_attributes_without_end() -> None:
    from fsdrivers.btrfs import inode as inodes

    value = btrfs.DIR(data_len=60_000, name_len=1, type=layout.FT_XATTR) + b"n" + bytes(60_000)
    tree = of(((300, layout.XATTR_ITEM, number), value) for number in range(500))
    assert "extended attributes of inode 300" in bounded(lambda: inodes.xattrs(tree, 300, "fs")).error


def test_a_name_of_an_attribute_that_no_system_call_takes() -> None:
    from fsdrivers.btrfs import inode as inodes

    value = btrfs.DIR(data_len=1, name_len=8, type=layout.FT_XATTR) + b"user.a\0b" + b"v"
    with pytest.raises(Corrupt, match="name of an extended attribute of inode 300"):
        inodes.xattrs(of([((300, layout.XATTR_ITEM, 1), value)]), 300, "fs")


@pytest.mark.parametrize("piece", [Piece(0, 9, b"/etc\0.bad"), Piece(0, 9, None)])
def test_a_target_that_no_system_call_takes(monkeypatch: pytest.MonkeyPatch, piece: Piece) -> None:
    monkeypatch.setattr(BtrfsFilesystem, "stat", lambda self, node: Stat(0o120777, 0, 0, 9, 1, 300, 0, 0, 0))
    monkeypatch.setattr(BtrfsFilesystem, "pieces", lambda *given: iter((piece,)))
    monkeypatch.setattr(BtrfsFilesystem, "_name", "fs")
    with pytest.raises(Corrupt, match="symlink inode 300"):
        BtrfsFilesystem.__new__(BtrfsFilesystem).link_target(FsNode(5, 300))
