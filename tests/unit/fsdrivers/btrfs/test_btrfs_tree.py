"""Tree nodes: what is accepted, what is refused, and that searches end whatever the pointers say."""

from __future__ import annotations

import random
from typing import cast

import pytest
from built import btrfs

from fsdrivers import redundancy
from fsdrivers.btrfs import checksum, layout, tree
from fsdrivers.btrfs.superblock import Superblock
from fsdrivers.btrfs.tree import Key, Node, Nodes, Pointer, Tree
from fsdrivers.btrfs.volume import Verify, Volume
from fsdrivers.checksums.crc32c import crc32c
from fsdrivers.errors import Corrupt, FsError
from fsdrivers.redundancy import Attempt

SIZE = 4096
FSID = bytes(range(16))
OWNER = 5


def seal(raw: bytearray) -> bytes:
    raw[:4] = crc32c(raw[32:]).to_bytes(4, "little")
    return bytes(raw)


def header(bytenr: int, count: int, level: int, generation: int = 7) -> bytearray:
    head = btrfs.HEADER(fsid=FSID, bytenr=bytenr, generation=generation, owner=OWNER, nritems=count, level=level)
    return bytearray(head.ljust(SIZE, b"\0"))


def leaf(bytenr: int, items: list[tuple[Key, bytes]]) -> bytearray:
    raw = header(bytenr, len(items), 0)
    end = SIZE
    for index, (key, data) in enumerate(items):
        end -= len(data)
        raw[end : end + len(data)] = data
        offset = end - layout.HEADER.size
        layout.ITEM.pack_into(raw, layout.HEADER.size + index * layout.ITEM.size, *key, offset, len(data))
    return raw


def node(bytenr: int, level: int, children: list[tuple[Key, int]]) -> bytearray:
    raw = header(bytenr, len(children), level)
    for index, (key, child) in enumerate(children):
        layout.KEY_PTR.pack_into(raw, layout.HEADER.size + index * layout.KEY_PTR.size, *key, child, 7)
    return raw


class Memory:
    """Stands for a Volume: nodes by address, each with a list of copies."""

    def __init__(self, blocks: dict[int, list[bytes]]) -> None:
        self.blocks, self.name, self.sectorsize = blocks, "fs", 4096
        self.checksum = checksum.TYPES[0]
        self.health = redundancy.Health()
        self.superblock = type("Block", (), {"nodesize": SIZE, "metadata_uuid": FSID})()
        self.legs: dict[bytes, object] = {}
        self.reads = 0

    def read_verified(self, start: int, length: int, verify: Verify) -> bytes:
        self.reads += 1
        copies = self.blocks.get(start, [])
        attempts = [Attempt(f"disk{n}", start, lambda raw=raw: raw) for n, raw in enumerate(copies)]  # type: ignore[misc]
        return redundancy.read(attempts, verify, self.health, lambda: FsError("nothing there"))


def make(blocks: dict[int, bytearray], root: Pointer) -> tuple[Tree, Memory]:
    memory = Memory({at: [seal(raw)] for at, raw in blocks.items()})
    assert cast("Superblock", memory.superblock).nodesize == SIZE
    return Tree(Nodes(cast("Volume", memory)), root), memory


ITEMS: list[tuple[Key, bytes]] = [((number, 1, 0), b"data of %d" % number) for number in range(10, 30, 2)]
ROOT = Pointer(0x1000, 0, 7, OWNER)


def test_a_good_leaf() -> None:
    found, _ = make({0x1000: leaf(0x1000, ITEMS)}, ROOT)
    item = found.find(12, 1, 0)
    assert item is not None
    assert item.data == b"data of 12"
    assert found.find(13, 1, 0) is None
    assert [item.objectid for item in found.items((11, 0, 0), (20, 1, 0))] == [12, 14, 16, 18, 20]
    assert [item.objectid for item in found.items((0, 0, 0), layout.MAX_KEY)] == list(range(10, 30, 2))
    assert list(found.of(40, 1)) == []
    before = found.at_or_before(14, 1, 99)
    assert before is not None
    assert before.objectid == 14
    assert found.at_or_before(15, 1, 99) is None


def test_an_empty_tree() -> None:
    found, _ = make({0x1000: leaf(0x1000, [])}, ROOT)
    assert found.find(1, 1, 1) is None
    assert found.at_or_before(1, 1, 1) is None
    assert list(found.items((0, 0, 0), layout.MAX_KEY)) == []


@pytest.mark.parametrize(
    ("at", "data", "message"),
    [
        (0x20, b"\xff", "fsid"),
        (0x30, b"\xff", "address"),
        (0x50, b"\x06", "generation"),
        (0x58, b"\x07", "owner"),
        (0x60, b"\xff\xff\xff\xff", "nritems"),
        (0x60, b"\x50\0", "order of keys"),  # the headers after the last are zeros
        (0x60, b"\x09", None),  # an item less: fine, what is behind is not looked at
        (0x64, b"\x01", "level"),
        (0x65 + 25, b"\x01", "order of keys"),
        (0x65 + 17, b"\xff\xff\xff\xff", "item offsets|order"),
        (0x65 + 21, b"\xff\xff\xff\xff", "item offsets"),
        (0x65 + 25 * 9 + 17, b"\0\0\0\0", "item offsets"),
    ],
)
def test_damage_with_a_right_checksum(at: int, data: bytes, message: str | None) -> None:
    raw = leaf(0x1000, ITEMS)
    raw[at : at + len(data)] = data
    found, _ = make({0x1000: raw}, ROOT)
    if message is None:
        assert found.find(12, 1, 0) is not None
        return
    with pytest.raises(Corrupt, match=message):
        found.find(12, 1, 0)


def test_an_older_copy_is_read_around() -> None:
    old = header(0x1000, 0, 0, generation=6)
    memory = Memory({0x1000: [seal(old), seal(leaf(0x1000, ITEMS))]})
    found = Tree(Nodes(cast("Volume", memory)), ROOT)
    assert found.find(12, 1, 0) is not None
    assert memory.health.damage == {"disk0": 1}
    assert "generation" in memory.health.examples["disk0"]


def deep(first: list[tuple[Key, bytes]], second: list[tuple[Key, bytes]], keys: tuple[Key, Key]) -> Tree:
    blocks = {
        0x1000: node(0x1000, 1, [(keys[0], 0x2000), (keys[1], 0x3000)]),
        0x2000: leaf(0x2000, first),
        0x3000: leaf(0x3000, second),
    }
    return make(blocks, ROOT._replace(level=1))[0]


def test_two_leaves() -> None:
    found = deep(ITEMS[:5], ITEMS[5:], (ITEMS[0][0], ITEMS[5][0]))
    assert [item.objectid for item in found.items((0, 0, 0), layout.MAX_KEY)] == list(range(10, 30, 2))
    assert [item.objectid for item in found.items((19, 0, 0), layout.MAX_KEY)] == list(range(20, 30, 2))
    assert found.find(*ITEMS[7][0]) is not None
    assert found.find(5, 1, 0) is None


def test_first_key_has_to_be_what_the_parent_says() -> None:
    found = deep(ITEMS[:5], ITEMS[5:], ((9, 1, 0), ITEMS[5][0]))
    with pytest.raises(Corrupt, match="first key"):
        found.find(*ITEMS[0][0])


def test_keys_have_to_end_before_the_next_node() -> None:
    found = deep(ITEMS[:6], ITEMS[5:], (ITEMS[0][0], ITEMS[5][0]))
    with pytest.raises(Corrupt, match="keys beyond"):
        found.find(*ITEMS[0][0])


def test_a_node_that_is_its_own_child() -> None:
    raw = node(0x1000, 1, [((1, 1, 1), 0x1000)])
    found, _ = make({0x1000: raw}, ROOT._replace(level=1))
    with pytest.raises(Corrupt, match="level"):
        list(found.items((0, 0, 0), layout.MAX_KEY))


def test_two_pointers_to_one_leaf() -> None:
    blocks = {
        0x1000: node(0x1000, 1, [((10, 1, 0), 0x2000), ((50, 1, 0), 0x2000)]),
        0x2000: leaf(0x2000, ITEMS),
    }
    found, _ = make(blocks, ROOT._replace(level=1))
    with pytest.raises(Corrupt, match="first key"):
        list(found.items((0, 0, 0), layout.MAX_KEY))


def test_level_out_of_range() -> None:
    found, _ = make({0x1000: node(0x1000, 9, [((1, 1, 1), 0x2000)])}, ROOT._replace(level=9))
    with pytest.raises(Corrupt, match="level"):
        found.find(1, 1, 1)


def test_nodes_are_read_once() -> None:
    found, memory = make({0x1000: leaf(0x1000, ITEMS)}, ROOT)
    for key, _ in ITEMS:
        assert found.find(*key) is not None
    assert memory.reads == 1


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Nodes, "CACHE", 0)
    blocks = {at: leaf(at, [((at, 1, 1), b"x")]) for at in range(0x1000, 0x1000 * 200, 0x1000)}
    memory = Memory({at: [seal(raw)] for at, raw in blocks.items()})
    nodes = Nodes(cast("Volume", memory))
    for at in blocks:
        nodes.load(Pointer(at, 0, 7, OWNER))
    assert len(nodes._cache) == 64


def test_header_is_cut_to_the_node() -> None:
    raw = leaf(0x1000, ITEMS)
    raw[0x60:0x64] = b"\xff\xff\xff\x7f"
    assert len(Node(seal(raw)).items) == (SIZE - tree.HEADER_SIZE) // layout.ITEM.size


def test_searches_that_follow_each_other_answer_as_first_ones() -> None:
    """The last leaf is remembered, and asked first: keys before, in, between and behind the leaves, in any order."""
    leaves = [ITEMS[at : at + 2] for at in range(0, 10, 2)]
    addresses = [0x2000 + number * SIZE for number in range(5)]
    blocks = {address: leaf(address, items) for address, items in zip(addresses, leaves, strict=True)}
    low, high = 0x10000, 0x11000
    pointers = [(items[0][0], address) for address, items in zip(addresses, leaves, strict=True)]
    blocks[low], blocks[high] = node(low, 1, pointers[:3]), node(high, 1, pointers[3:])
    blocks[0x1000] = node(0x1000, 2, [(pointers[0][0], low), (pointers[3][0], high)])
    root = Pointer(0x1000, 2, 7, OWNER)
    keys = [(number, kind, 0) for number in range(8, 32) for kind in (0, 1, 2)]

    def answers(found: Tree, key: Key) -> list[object]:
        floor = found.floor(key)
        behind = [item.objectid for item in found.items(key, layout.MAX_KEY)]
        exact = found.find(*key)
        return [floor and floor.objectid, behind, exact and exact.data]

    fresh = {key: answers(make(blocks, root)[0], key) for key in keys}
    kept, _ = make(blocks, root)
    for seed in range(20):
        order = random.Random(seed).sample(keys, len(keys))
        assert {key: answers(kept, key) for key in order} == fresh


def test_neighbours_need_no_descent() -> None:
    found, _ = make(
        {0x1000: node(0x1000, 1, [((10, 1, 0), 0x2000)]), 0x2000: leaf(0x2000, ITEMS)}, Pointer(0x1000, 1, 7, OWNER)
    )
    assert found.find(10, 1, 0) is not None
    loads = []
    nodes = found._nodes
    real = nodes.load
    nodes.load = lambda pointer: loads.append(pointer) or real(pointer)  # type: ignore[func-returns-value,method-assign]
    assert found.find(28, 1, 0) is not None
    assert found.find(99, 1, 0) is None
    assert loads == []
    assert found.find(1, 1, 0) is None  # before the first key of the leaf: nobody remembers that
    assert loads != []
