"""btrfs on changing sets of devices, and in formats beyond the defaults, against the kernel's view."""

from __future__ import annotations

import itertools
from pathlib import Path

import btrfs_device_recipes
import pytest
from btrfs_recipes import PROFILES, SINGLES
from btrfs_stripe_recipes import LAYOUTS

from fsdrivers import pools
from fsdrivers.block import BlockDevice, FileDevice
from fsdrivers.btrfs import features
from fsdrivers.btrfs.pool import BtrfsPool
from fsdrivers.desk.walk import record
from fsdrivers.errors import Ambiguous, FsError, MissingDevices, NotThisFs, Unsupported
from fsdrivers.filesystem import Filesystem
from fsdrivers.traverse import walk
from qemu import manifest

pytestmark = pytest.mark.images


def disks(story: str, *roles: str) -> list[BlockDevice]:
    return [FileDevice(str(btrfs_device_recipes.stories()[story].disks[role]), role) for role in roles]


def assemble(members: list[BlockDevice]) -> BtrfsPool:
    complaints: list[FsError] = []
    (pool,) = pools.assemble(members, complaints.append)
    assert not complaints
    assert isinstance(pool, BtrfsPool)
    return pool


def states(pool: BtrfsPool) -> dict[str | None, str]:
    return {slot.device: slot.state for slot in pool.slots}


def check(filesystem: Filesystem, wanted: dict[str, manifest.Record], copied: bool = False) -> None:
    """Compare the whole tree with the kernel's view of it; ``copied``: of the tree that mkfs copied from elsewhere.

    Sizes of directories are then those of another filesystem, and the root directory has a time of its own.
    """
    found = {}
    for item in walk(filesystem):
        assert item.error is None, item
        found[item.path] = record(filesystem, item, sha256=True)
    wrong = []
    for path in sorted(set(found) | set(wanted)):
        ours, theirs = found.get(path, {}), wanted[path].fields() if path in wanted else {}
        ours.pop("xattrs", None)
        if copied and ours.get("type") == theirs.get("type") == "directory":
            ours, theirs = ({k: v for k, v in side.items() if k != "size"} for side in (ours, theirs))
        if ours != theirs and not (copied and path == "/"):
            wrong.append((path, ours, theirs))
    assert not wrong, wrong[:5]
    assert len(found) > 40


def records(story: str) -> dict[str, manifest.Record]:
    return btrfs_device_recipes.stories()[story].records


def test_seed_and_sprout() -> None:
    for members in itertools.permutations(disks("seed", "seed", "sprout")):
        pool = assemble(list(members))
        check(pool.open("/"), records("seed"))
        assert states(pool) == {"seed": "online", "sprout": "online"}
        assert pool.health.report() == []


def test_seed_alone_and_sprout_alone() -> None:
    out = btrfs_device_recipes.stories()["seed"].out
    pool = assemble(disks("seed", "seed"))
    check(pool.open("/"), manifest.read(out, "seed-alone"))
    alone = assemble(disks("seed", "sprout"))
    assert alone.state == "degraded"
    with pytest.raises(MissingDevices):
        alone.open("/").read_file("/dir/file9", 1 << 20)


def test_a_seed_is_no_part_of_others() -> None:
    """A seed that lies around next to a filesystem that does not use it."""
    found = pools.assemble(disks("seed", "seed") + disks("removed", "first", "second"))
    assert [pool.name for pool in found] == ["removed", "seeded"]
    check(found[0].open("/"), records("removed"))
    assert set(states(found[0])) == {"first", "second"}  # type: ignore[arg-type]


def test_replaced_device_that_comes_back() -> None:
    pool = assemble(disks("replaced", "old", "first", "new"))
    check(pool.open("/"), records("replaced"))
    assert states(pool) == {"first": "online", "new": "online", "old": "duplicate"}
    assert any("old is a copy of devid 2" in line for line in pool.health.report())
    check(assemble(disks("replaced", "new")).open("/"), records("replaced"))


def test_replaced_device_without_its_successor() -> None:
    """The old disk steps in where it can prove its blocks good."""
    pool = assemble(disks("replaced", "old", "first"))
    assert states(pool) == {"first": "online", "old": "stale"}
    check(pool.open("/"), records("replaced"))


def test_replace_under_way() -> None:
    assert (btrfs_device_recipes.stories()["replacing"].out / "replacing.devid").read_text() == "0\n"
    for members in itertools.permutations(disks("replacing", "first", "source", "target")):
        pool = assemble(list(members))
        assert states(pool) == {"first": "online", "source": "online", "target": "replacing"}
        check(pool.open("/"), records("replacing"))
    for other in ("first", "source"):
        pool = assemble(disks("replacing", other, "target"))
        assert pool.state == "degraded"
        check(pool.open("/"), records("replacing"))
    complaints: list[FsError] = []
    assert pools.assemble(disks("replacing", "target"), complaints.append) == []
    assert isinstance(complaints[0], NotThisFs)


def test_removed_device_that_comes_back() -> None:
    pool = assemble(disks("removed", "copy", "first", "second"))
    check(pool.open("/"), records("removed"))
    assert states(pool) == {"first": "online", "second": "online", "copy": "removed"}
    assert any("no member of the filesystem any more" in line for line in pool.health.report())


def test_the_same_disk_twice() -> None:
    """A dd copy of the same generation and content: one is taken, and that is said."""
    first, second = disks("removed", "first", "second")
    twin = FileDevice(str(btrfs_device_recipes.stories()["removed"].disks["first"]), "twin")
    pool = assemble([first, twin, second])
    check(pool.open("/"), records("removed"))
    assert states(pool) == {"first": "online", "second": "online", "twin": "duplicate"}
    assert any("twin is a copy of devid 1 (first), of the same generation" in line for line in pool.health.report())


def test_copies_that_went_apart(tmp_path: Path) -> None:
    """Two disks that claim one place in the same generation, with different superblocks: nobody can know."""
    source = btrfs_device_recipes.stories()["removed"].disks["first"]
    other = tmp_path / "other.raw"
    with source.open("rb") as reading, other.open("wb") as writing:
        writing.truncate(source.stat().st_size)
        for offset in (0x10000, 0x4000000):
            reading.seek(offset)
            raw = bytearray(reading.read(0x1000))
            raw[0x12B:0x130] = b"other"
            from fsdrivers.checksums.crc32c import crc32c

            raw[:4] = crc32c(bytes(raw[0x20:])).to_bytes(4, "little")
            writing.seek(offset)
            writing.write(raw)
    (pool,) = pools.assemble([*disks("removed", "first", "second"), FileDevice(str(other), "other")])
    with pytest.raises(Ambiguous, match="both claim to be devid 1"):
        pool.open("/")


def test_whole_disk_and_partitions_at_different_offsets() -> None:
    members = disks("parts", "whole", "gpt", "mbr")
    pool = assemble(members)
    check(pool.open("/"), records("parts"))
    assert sorted(slot.state for slot in pool.slots) == ["online"] * 3
    assert [device for device in states(pool) if device == "whole"]
    for without in range(3):
        check(assemble(members[:without] + members[without + 1 :]).open("/"), records("parts"))


def test_interrupted_conversion() -> None:
    members = disks("convert", "first", "second", "third")
    pool = assemble(members)
    check(pool.open("/"), records("convert"))
    assert pool._store is not None
    data = {chunk.profile.name for chunk in pool._store.volume.chunks if chunk.type & 1}
    assert len(data) >= 2


def test_backup_roots() -> None:
    """The newest tree root is lost: the tree before it is shown, and what that means is said."""
    places = (btrfs_device_recipes.stories()["backup"].out / "backup.places").read_text().split()
    assert len(places) == 2
    pool = assemble(disks("backup", "disk"))
    filesystem = pool.open("/")
    check(filesystem, records("backup"))
    (note,) = filesystem.health.report()
    assert "the newest tree root (generation" in note
    assert "is shown, without anything that changed after it" in note


@pytest.mark.parametrize("name", btrfs_device_recipes.FORMATS[:-1])
def test_format(name: str) -> None:
    made = btrfs_device_recipes.formats()[name]
    pool = assemble([FileDevice(str(made.disks["disk"]), "disk")])
    check(pool.open("/"), made.records, copied=name.startswith("sector"))
    assert pool.health.report() == []
    flags = dict(
        line.split(None, 1)
        for line in (made.out / f"{name}.super").read_text().splitlines()
        if " " in line or "\t" in line
    )
    incompat, compat_ro = int(flags["incompat_flags"], 16), int(flags["compat_ro_flags"], 16)
    wanted = {
        "block-group-tree": compat_ro >> 3 & 1,
        "verity": compat_ro >> 2 & 1,
        "simple-quota": incompat >> 16 & 1,
        "sector16": pool.superblock.sectorsize == 16384,
        "sector64": pool.superblock.sectorsize == 65536,
    }
    assert wanted.get(name, True)


def test_the_middle_of_shared_compressed_extents() -> None:
    made = btrfs_device_recipes.formats()["block-group-tree"]
    filesystem = assemble([FileDevice(str(made.disks["disk"]), "disk")]).open("/")
    whole, window = filesystem.read_file("/packed", 1 << 22), filesystem.read_file("/window", 1 << 22)
    assert window[:200704] == whole[69632 : 69632 + 200704]
    assert window[299008:] == whole[409600 : 409600 + 4096]
    assert window[200704:299008] == bytes(299008 - 200704)
    clone = filesystem.read_file("/clone", 1 << 22)
    assert clone == whole[:65536] + bytes(12288) + whole[65536 + 12288 :]


def opened(name: str) -> Filesystem:
    return assemble([FileDevice(str(btrfs_device_recipes.formats()[name].disks["disk"]), "disk")]).open("/")


def test_a_directory_of_ten_thousand() -> None:
    filesystem = opened("block-group-tree")
    assert {entry.name for entry in filesystem.listdir("/dir/wide")} == {str(number) for number in range(1, 10001)}
    for number in range(1, 10001, 371):
        assert filesystem.lstat(f"/dir/wide/{number}").size == 0


def test_extended_references_times_and_attributes() -> None:
    filesystem = opened("quota")
    assert filesystem.lstat("/large").nlink == 51
    assert filesystem.lstat("/link").mtime == (1 << 31) * 10**9 + 1
    assert filesystem.xattrs(filesystem.resolve("/packed")) == {"user.bytes": b"\x00\xff\x80A"}


def test_zoned_is_refused_by_name() -> None:
    made = btrfs_device_recipes.formats()["zoned"]
    complaints: list[FsError] = []
    assert pools.assemble([FileDevice(str(made.disks["disk"]), "disk")], complaints.append) == []
    (complaint,) = complaints
    assert isinstance(complaint, Unsupported)
    assert complaint.feature == "btrfs zoned"


def test_every_feature_is_backed_by_an_image_or_refused() -> None:
    images = {one.name for one in (*PROFILES, *SINGLES, *LAYOUTS)} | {"every image"}
    images |= set(btrfs_device_recipes.FORMATS)
    for feature in (*features.INCOMPAT.values(), *features.COMPAT_RO.values()):
        assert bool(feature.refused) != bool(feature.test)
        assert not feature.test or set(feature.test.split(", ")) <= images
