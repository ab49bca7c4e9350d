"""btrfs as the kernel wrote it, read with every tolerable set of disks missing or rotten, against the kernel's view."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence

import btrfs_recipes
import pytest
from btrfs_recipes import PROFILES, SINGLES, Layout, Made

from fsdrivers import pools
from fsdrivers.block import BlockDevice, FileDevice
from fsdrivers.btrfs.layout import SUPER_OFFSETS
from fsdrivers.btrfs.pool import BtrfsPool
from fsdrivers.desk import cli
from fsdrivers.desk.walk import record
from fsdrivers.errors import Corrupt, FsError, MissingDevices, NotFound, ReadError
from fsdrivers.filesystem import Filesystem
from fsdrivers.traverse import walk
from qemu import manifest

pytestmark = pytest.mark.images

ALL = (*PROFILES, *SINGLES)
REDUNDANT = [item for item in ALL if item.tolerated]
# The kernel makes up this directory, with the time of its first look at it.
STUB = "/@home/snapshot/var"
UNCHECKED = ("/@/nodatacow", "/@home/snapshot/nodatacow")  # nothing can tell which of two versions is right


class Overlay(BlockDevice):
    """A device with ``patches`` (bytes by offset) over it."""

    def __init__(self, parent: BlockDevice, patches: dict[int, bytes], size: int | None = None) -> None:
        self.parent, self.patches, self.name = parent, patches, parent.name
        self.size = parent.size if size is None else size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check(offset, len(buffer))
        self.parent.read_into(offset, buffer)
        for start, data in self.patches.items():
            low, high = max(start, offset), min(start + len(data), offset + len(buffer))
            if low < high:
                buffer[low - offset : high - offset] = data[low - start : high - start]


class Rotten(BlockDevice):
    """A device whose every sector has one byte flipped, the superblocks excepted."""

    def __init__(self, parent: BlockDevice) -> None:
        self.parent, self.name, self.size = parent, parent.name, parent.size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.parent.read_into(offset, buffer)
        for at in range(-offset % 4096, len(buffer), 4096):
            if offset + at not in SUPER_OFFSETS:
                buffer[at] ^= 0xFF


class Dying(BlockDevice):
    """A device that answers for its superblocks only."""

    def __init__(self, parent: BlockDevice) -> None:
        self.parent, self.name, self.size = parent, parent.name, parent.size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        if offset > 0x11000 and offset not in SUPER_OFFSETS:
            raise ReadError(self.name, offset, len(buffer), "Input/output error")
        self.parent.read_into(offset, buffer)


def made(layout: Layout) -> Made:
    return (btrfs_recipes.profiles() if layout in PROFILES else btrfs_recipes.singles())[layout.name]


def devices(layout: Layout, without: Sequence[int] = ()) -> list[BlockDevice]:
    return [
        FileDevice(str(path), f"disk{number}")
        for number, path in enumerate(made(layout).disks)
        if number not in without
    ]


def assemble(members: Sequence[BlockDevice]) -> BtrfsPool:
    """The one filesystem on ``members``."""
    complaints: list[FsError] = []
    (pool,) = pools.assemble(members, complaints.append)
    assert not complaints
    assert isinstance(pool, BtrfsPool)
    return pool


def top(members: Sequence[BlockDevice]) -> Filesystem:
    return assemble(members).open("/")


def check(filesystem: Filesystem, wanted: dict[str, manifest.Record], leave_out: Sequence[str] = ()) -> None:
    """Compare the whole tree with the kernel's view of it."""
    found = {}
    for item in walk(filesystem):
        assert item.error is None, item
        fields = record(filesystem, item, sha256=True)
        found[item.path] = fields
    differences = []
    for path in sorted(set(found) | set(wanted)):
        ours = found.get(path, {})
        theirs = wanted[path].fields() if path in wanted else {}
        if path == STUB:
            ours, theirs = ({k: v for k, v in side.items() if k != "mtime"} for side in (ours, theirs))
        if ours != theirs and path not in leave_out:
            differences.append((path, ours, theirs))
    assert not differences, differences[:5]
    assert len(found) > 250


def subsets(layout: Layout) -> Iterator[tuple[int, ...]]:
    for count in range(1, layout.tolerated + 1):
        yield from itertools.combinations(range(layout.disks), count)


def cases(layouts: Sequence[Layout]) -> list[object]:
    return [
        pytest.param(item, disks, id=f"{item.name}-{'+'.join(map(str, disks))}")
        for item in layouts
        for disks in subsets(item)
    ]


@pytest.mark.parametrize("layout", ALL, ids=lambda item: item.name)
def test_healthy(layout: Layout) -> None:
    pool = assemble(devices(layout))
    assert (pool.state, pool.name, pool.missing) == ("online", layout.name, ())
    check(pool.open("/"), made(layout).records)
    assert pool.health.report() == []


@pytest.mark.parametrize(("layout", "missing"), cases(REDUNDANT))
def test_missing(layout: Layout, missing: tuple[int, ...]) -> None:
    pool = assemble(devices(layout, missing))
    assert pool.state == "degraded"
    assert [slot.id for slot in pool.missing] == [number + 1 for number in missing]
    check(pool.open("/"), made(layout).records)


@pytest.mark.parametrize(("layout", "rotten"), cases(REDUNDANT))
def test_rotten(layout: Layout, rotten: tuple[int, ...]) -> None:
    members = [Rotten(item) if number in rotten else item for number, item in enumerate(devices(layout))]
    pool = assemble(members)
    check(pool.open("/"), made(layout).records, UNCHECKED)
    assert set(pool.health.damage) <= {f"disk{number}" for number in rotten}
    if rotten == tuple(range(layout.disks - 1)):  # all but the last, and everything was there
        assert len(pool.health.damage) == len(rotten)


@pytest.mark.parametrize("layout", REDUNDANT, ids=lambda item: item.name)
def test_every_disk_heals_from_the_others(layout: Layout) -> None:
    """Over all single rotten disks, healing is seen on at least two: the copies are really read from all over."""
    damaged = set()
    for rotten in range(layout.disks):
        members = [Rotten(item) if number == rotten else item for number, item in enumerate(devices(layout))]
        filesystem = top(members)
        for _ in walk(filesystem):
            pass
        damaged |= set(filesystem.health.damage)
    assert damaged


def test_dup_heals_from_its_second_copy() -> None:
    """Every sector of the first copy in every chunk is bad, on the one disk there is."""
    (layout,) = [item for item in SINGLES if item.name == "dup"]
    (disk,) = devices(layout)
    pool = assemble([disk])
    assert pool._store is not None
    patches = {}
    for chunk in pool._store.volume.chunks:
        for place in range(0, chunk.length, 4096):
            offset = chunk.stripes[0].offset + place
            patches[offset] = b"rotten!!"
    filesystem = top([Holes(disk, patches)])
    check(filesystem, made(layout).records, UNCHECKED)
    assert set(filesystem.health.damage) == {"disk0"}


class Holes(BlockDevice):
    """As Overlay, for very many patches at multiples of 4096."""

    def __init__(self, parent: BlockDevice, patches: dict[int, bytes]) -> None:
        self.parent, self.patches, self.name, self.size = parent, patches, parent.name, parent.size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.parent.read_into(offset, buffer)
        for at in range(-offset % 4096, len(buffer), 4096):
            data = self.patches.get(offset + at)
            if data and offset + at not in SUPER_OFFSETS:
                buffer[at : at + len(data)] = data


@pytest.mark.parametrize("layout", [item for item in REDUNDANT if item.tolerated < 3], ids=lambda item: item.name)
def test_dying(layout: Layout) -> None:
    members = [Dying(item) if number == 0 else item for number, item in enumerate(devices(layout))]
    check(top(members), made(layout).records)


@pytest.mark.parametrize("layout", [item for item in PROFILES if item.disks > 1], ids=lambda item: item.name)
def test_beyond_tolerance(layout: Layout) -> None:
    """One disk more than can be missing: MissingDevices, or (where luck left a copy of it) the right data."""
    lost = 0
    for missing in itertools.combinations(range(layout.disks), layout.tolerated + 1):
        present = devices(layout, missing)
        if not present:
            continue
        try:
            filesystem = top(present)
        except MissingDevices:
            lost += 1
            continue
        for item in walk(filesystem):
            assert item.error is None or isinstance(item.error, MissingDevices)
            if item.stat is None or item.error or item.path not in made(layout).records:
                continue
            fields = record(filesystem, item, sha256=True)
            wanted = made(layout).records[item.path].fields()
            if "error" in fields:
                lost += 1
            elif item.path != STUB:
                assert fields == wanted
    assert lost or layout.tolerated == layout.disks - 1


def test_raid10_survives_two_disks_of_different_pairs() -> None:
    """Whatever set of two leaves a disk in every pair of every chunk."""
    (layout,) = [item for item in PROFILES if item.name == "raid10"]
    store = assemble(devices(layout))._store
    assert store is not None
    pairs = set()
    for chunk in store.volume.chunks:
        devids = [stripe.devid for stripe in chunk.stripes]
        pairs |= {frozenset(devids[at : at + 2]) for at in range(0, len(devids), 2)}
    survivable = [
        missing
        for missing in itertools.combinations(range(4), 2)
        if not any(pair <= {number + 1 for number in missing} for pair in pairs)
    ]
    assert survivable
    for missing in survivable:
        check(top(devices(layout, missing)), made(layout).records)


def test_zeroed_first_superblocks() -> None:
    (layout,) = [item for item in PROFILES if item.name == "raid1"]
    members = [Overlay(item, {0: bytes(0x20000)}) for item in devices(layout)]
    check(top(members), made(layout).records)


def test_truncated_image() -> None:
    (layout,) = [item for item in SINGLES if item.name == "single"]
    (disk,) = devices(layout)
    with pytest.raises((Corrupt, ReadError)):
        check_nothing(top([Overlay(disk, {}, size=8 << 20)]))


def check_nothing(filesystem: Filesystem) -> None:
    """Read everything; the first error is raised."""
    for item in walk(filesystem):
        if item.error:
            raise item.error
        if item.stat and item.stat.type == "file":
            for _ in filesystem.pieces(item.node, 0, item.stat.size):
                pass


def test_truncated_member_is_read_around() -> None:
    (layout,) = [item for item in PROFILES if item.name == "raid1c3"]
    first, *others = devices(layout)
    check(top([Overlay(first, {}, size=30 << 20), *others]), made(layout).records)


def test_subvolumes() -> None:
    (layout,) = [item for item in SINGLES if item.name == "dup"]
    pool = assemble(devices(layout))
    listed = {}
    for line in (made(layout).out / "dup.subvolumes").read_text().splitlines():
        # ID 256 gen 11 parent 5 top level 5 parent_uuid - received_uuid - uuid 5c... path @
        words = line.split()
        listed[int(words[1])] = {
            "generation": int(words[3]),
            "uuid": words[words.index("uuid") + 1],
            "name": line.split(" path ")[1],
        }
    roots = {root.id: root for root in pool.roots()}
    assert set(roots) == {5, *listed}
    for number, wanted in listed.items():
        root = roots[number]
        assert {"generation": root.generation, "uuid": root.uuid, "name": root.name} == wanted
        assert root.created > 0
    named = {root.name: root for root in roots.values()}
    assert named["@home/snapshot"].readonly
    assert not named["@"].readonly
    assert named["@/var"].parent == "@"
    assert [root.name for root in roots.values() if root.default] == ["@"]
    assert pool.roots()[0].default


def test_probe_tells_all_of_a_subvolume(capsys: pytest.CaptureFixture[str]) -> None:
    (layout,) = [item for item in SINGLES if item.name == "dup"]
    (disk,) = made(layout).disks
    assert cli.main(["-a", str(disk), "probe"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = (made(layout).out / "dup.subvolumes").read_text().splitlines()
    (wanted,) = [line.split() for line in listed if line.endswith(" path @home/snapshot")]
    uuid = wanted[wanted.index("uuid") + 1]
    start = f"  root @home/snapshot id {wanted[1]} parent @home generation {wanted[3]} uuid {uuid} created 20"
    (line,) = [line for line in lines if line.startswith(start)]
    assert line.endswith("Z (readonly)")
    assert [line.split()[1] for line in lines if line.endswith("(default)")] == ["@"]


def test_opening_subvolumes() -> None:
    (layout,) = [item for item in SINGLES if item.name == "dup"]
    pool = assemble(devices(layout))
    number = {root.name: root.id for root in pool.roots()}
    assert pool.open().root_name == "@"  # the default subvolume
    assert pool.open().read_file("/etc/tiny", 100) == b"hello\n"
    for name in ("@", "/@", "@/", f"id:{number['@']}"):
        assert pool.open(name).read_file("/absolute", 100) == b"hello\n"
    assert pool.open("@/var").read_file("/nested", 100) == b"in a nested subvolume\n"
    assert pool.open("@").read_file("/var/nested", 100) == b"in a nested subvolume\n"
    snapshot = pool.open("@home/snapshot")
    assert not snapshot.exists("/after-the-snapshot")
    assert snapshot.exists("/many/file7")
    assert snapshot.listdir("/var") == []
    for name in ("@nowhere", "id:9999", "@/etc", "@/etc/tiny", "id:7", "@home/snapshot/var"):
        with pytest.raises(NotFound):
            pool.open(name)


def test_extended_attributes() -> None:
    (layout,) = [item for item in SINGLES if item.name == "single"]
    filesystem = assemble(devices(layout)).open("@")
    assert filesystem.xattrs(filesystem.resolve("/etc/tiny")) == {"user.test": b"\x00\xffA"}
    assert filesystem.xattrs(filesystem.resolve("/etc")) == {"user.directory": b"d"}
    assert filesystem.xattrs(filesystem.resolve("/many")) == {}


def test_names_with_the_same_hash() -> None:
    (layout,) = [item for item in SINGLES if item.name == "single"]
    filesystem = assemble(devices(layout)).open("@")
    for name in ("mkkxzhbqh", "dhizg3fy0", "3yp89w8wv", "7yv1tpzf7", "jx307n86y", "2z37ebx6q"):
        assert filesystem.read_file(f"/etc/{name}", 100).decode() == f"{name}\n"


def test_reading_in_the_middle() -> None:
    """Any range of a file equals that range of the whole."""
    for layout in ALL:
        filesystem = assemble(devices(layout)).open("@")
        for path in ("/boot/vmlinuz-6.1.0", "/mixed", "/sparse", "/etc/inline", "/preallocated"):
            file = filesystem.open(path)
            whole = file.read()
            assert len(whole) == file.size
            for start in (0, 1, 4095, 4096, 131071, 200123, 500001, file.size - 1, file.size, file.size + 5):
                for length in (0, 1, 4096, 70001):
                    assert file.read(start, length) == whole[start : start + length], (layout.name, path, start, length)


def test_stale_leg() -> None:
    """A disk that missed writes: never asked for anything that it cannot prove, and named."""
    fresh = made(btrfs_recipes.STALE)
    members = devices(btrfs_recipes.STALE)
    pool = assemble(members)
    states = {slot.device: slot.state for slot in pool.slots}
    assert sorted(states.values()) == ["online", "stale"]
    check(pool.open("/"), fresh.records)
    assert any("missed writes" in note for note in pool.health.report())
    assert "second" in pool.open("/").read_file("/changed", 100).decode()
    # The same in the other order, and the fresh disk alone.
    check(assemble(members[::-1]).open("/"), fresh.records)
    online = [member for member in members if states[member.name] == "online"]
    check(assemble(online).open("/"), fresh.records)


def test_walk_shows_attributes_in_base64(capsys: pytest.CaptureFixture[str]) -> None:
    (layout,) = [item for item in SINGLES if item.name == "single"]
    (disk,) = made(layout).disks
    assert cli.main(["-a", str(disk), "--fs", "@", "walk", "--json", "/etc"]) == 0
    found = {fields["path"]: fields for fields in map(json.loads, capsys.readouterr().out.splitlines())}
    assert found["/etc/tiny"]["xattrs"] == {"user.test": "AP9B"}
    assert found["/etc"]["xattrs"] == {"user.directory": "ZA=="}
    assert "xattrs" not in found["/etc/empty"]
