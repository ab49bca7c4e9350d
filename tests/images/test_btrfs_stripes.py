"""btrfs with a raid-stripe-tree, as kernel 6.12 wrote it (``btrfs_stripe_recipes``), against that kernel's view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from btrfs_recipes import Layout
from btrfs_stripe_recipes import LAYOUTS, unpack
from test_btrfs import Overlay, Rotten, assemble, cases

from fsdrivers.block import BlockDevice, FileDevice
from fsdrivers.btrfs import features, geometry, layout
from fsdrivers.btrfs.store import Store
from fsdrivers.btrfs.stripetree import StripeTree
from fsdrivers.damage import Totals
from fsdrivers.desk.walk import record
from fsdrivers.errors import Corrupt
from fsdrivers.filesystem import Filesystem
from fsdrivers.traverse import walk
from qemu import manifest

pytestmark = pytest.mark.images

Unpacked = dict[str, Path]
REDUNDANT = [item for item in LAYOUTS if item.tolerated]
KEPT = [item for item in LAYOUTS if item.name != "stripes-single"]  # a single copy stays where its chunk says
UNCHECKED = ("/plain", "/snapshot/plain")  # nothing can tell which of two versions is right


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unpacked]:
    """The archives, each in a directory of its own."""
    found = {}
    for item in LAYOUTS:
        found[item.name] = tmp_path_factory.mktemp(item.name)
        assert len(unpack(item.name, found[item.name])) == item.disks
    yield found
    for directory in found.values():
        for path in directory.iterdir():
            path.unlink()


def devices(unpacked: Unpacked, item: Layout, without: Sequence[int] = ()) -> list[BlockDevice]:
    return [
        FileDevice(str(unpacked[item.name] / f"disk{number}.raw"), f"disk{number}")
        for number in range(item.disks)
        if number not in without
    ]


def check(unpacked: Unpacked, item: Layout, filesystem: Filesystem, leave_out: Sequence[str] = ()) -> None:
    wanted = manifest.read(unpacked[item.name], item.name)
    seen = {}
    for one in walk(filesystem):
        assert one.error is None, one
        seen[one.path] = record(filesystem, one, sha256=True)
    assert set(seen) == set(wanted)
    assert len(seen) > 60
    wrong = [(path, seen[path]) for path in seen if seen[path] != wanted[path].fields() and path not in leave_out]
    assert not wrong, wrong[:3]


@pytest.mark.parametrize("item", LAYOUTS, ids=lambda item: item.name)
def test_healthy(unpacked: Unpacked, item: Layout) -> None:
    pool = assemble(devices(unpacked, item))
    assert pool.superblock.incompat_flags & features.RAID_STRIPE_TREE
    assert (pool.state, pool.name) == ("online", item.name)
    check(unpacked, item, pool.open("/"))
    assert pool.health.report() == []
    assert list(pool.verify(True, Totals())) == []


def found(unpacked: Unpacked, item: Layout, path: str) -> tuple[Store, geometry.Segment]:
    """The store, and the segment of the first sector of ``path``."""
    pool = assemble(devices(unpacked, item))
    store = pool._opened()
    node = pool.open("/").resolve(path)
    extent = next(store.roots.tree_of(node.tree).of(node.inode, layout.EXTENT_DATA))  # type: ignore[attr-defined]
    (segment,) = store.volume.segments(store.reader.parse(extent).address, store.volume.sectorsize)
    return store, segment


def offsets(store: Store, segment: geometry.Segment) -> dict[str, list[int]]:
    """Where the copies of ``segment`` are, by device."""
    places: dict[str, list[int]] = {}
    for copy in segment.copies:
        leg = store.volume.leg(segment.chunk.stripes[copy.stripe])
        assert leg is not None
        places.setdefault(leg.device.name, []).append(copy.offset)
    return places


@pytest.mark.parametrize("item", KEPT, ids=lambda item: item.name)
def test_the_tree_and_the_chunks_agree(unpacked: Unpacked, item: Layout) -> None:
    """On devices without zones the kernel writes where the chunk says, and down in the tree where that was."""
    store = assemble(devices(unpacked, item))._opened()
    volume, count = store.volume, 0
    for one in store.roots.tree_of(layout.RAID_STRIPE_TREE).items((0, 0, 0), layout.MAX_KEY):
        assert one.type == layout.RAID_STRIPE
        chunk = volume.chunks.at(one.objectid)
        assert StripeTree.covers(chunk)
        (ours,) = volume.segments(one.objectid, one.offset)
        first = next(geometry.segments(chunk, one.objectid, volume.sectorsize))
        assert ours.copies == first.copies
        count += 1
    assert count > 15


@pytest.mark.parametrize("item", KEPT, ids=lambda item: item.name)
def test_the_tree_is_what_counts(unpacked: Unpacked, item: Layout) -> None:
    """A piece of data moved to another place on each device, and its item changed accordingly."""
    store, segment = found(unpacked, item, "/dir/below/later")
    tree = store.roots.tree_of(layout.RAID_STRIPE_TREE)
    entry = tree.floor((segment.start, layout.RAID_STRIPE, layout.MAX_KEY[2]))
    assert entry is not None
    assert entry.objectid <= segment.start < entry.objectid + entry.offset
    _, leaf = tree._descend((entry.objectid, entry.type, entry.offset))
    members = {one.name: one for one in devices(unpacked, item)}
    patches: dict[str, dict[int, bytes]] = {name: {} for name in members}
    raw = bytearray(leaf.raw)
    free = 240 << 20
    for number, (devid, physical) in enumerate(layout.RAID_STRIDE.iter_unpack(entry.data)):
        name = f"disk{devid - 1}"
        data = members[name].read(physical, entry.offset)
        patches[name] |= {free: data, physical: b"\xff\0" * (len(data) // 2)}
        start = entry.start + number * layout.RAID_STRIDE.size
        raw[start : start + layout.RAID_STRIDE.size] = layout.RAID_STRIDE.pack(devid, free)
        free += 1 << 20
    raw[: layout.CSUM_FIELD] = store.volume.checksum.sum(raw[layout.CSUM_FIELD :]).ljust(layout.CSUM_FIELD, b"\0")
    (top,) = store.volume.segments(leaf.bytenr, len(raw))
    for name, places in offsets(store, top).items():
        patches[name] |= dict.fromkeys(places, bytes(raw))
    moved = assemble([Overlay(one, patches[name]) for name, one in members.items()])
    check(unpacked, item, moved.open("/"))
    assert moved.health.report() == []


@pytest.mark.parametrize(("item", "missing"), cases(REDUNDANT))
def test_missing(unpacked: Unpacked, item: Layout, missing: tuple[int, ...]) -> None:
    pool = assemble(devices(unpacked, item, missing))
    assert pool.state == "degraded"
    check(unpacked, item, pool.open("/"))


@pytest.mark.parametrize(("item", "rotten"), cases(REDUNDANT))
def test_rotten(unpacked: Unpacked, item: Layout, rotten: tuple[int, ...]) -> None:
    members = [Rotten(one) if number in rotten else one for number, one in enumerate(devices(unpacked, item))]
    pool = assemble(members)
    check(unpacked, item, pool.open("/"), UNCHECKED)
    assert set(pool.health.damage) <= {f"disk{number}" for number in rotten}


@pytest.mark.parametrize("item", KEPT, ids=lambda item: item.name)
def test_a_damaged_copy_is_where_the_tree_says(unpacked: Unpacked, item: Layout) -> None:
    """One sector of one copy, found by the stripe tree: `verify` names exactly that place."""
    store, segment = found(unpacked, item, "/dir/below/later")
    name, places = list(offsets(store, segment).items())[-1]
    members = [
        Overlay(one, {places[-1]: b"\xff\0" * 2048}) if one.name == name else one for one in devices(unpacked, item)
    ]
    (damage,) = assemble(members).verify(True, Totals())
    assert (damage.device, damage.offset, damage.length) == (name, places[-1], 4096)
    assert damage.lost == (len(segment.copies) == 1)
    assert damage.file.endswith("/dir/below/later")


def test_an_address_that_the_tree_does_not_know(unpacked: Unpacked) -> None:
    item = KEPT[0]
    store = assemble(devices(unpacked, item))._opened()
    last = max(chunk.end for chunk in store.volume.chunks if StripeTree.covers(chunk))
    with pytest.raises(Corrupt, match="there is none for this address"):
        store.volume.segments(last - 4096, 4096)
