"""Copies of pools that went their own ways are claims of their own; what is left over of a pool's past is not."""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pytest
import zfs_recipes
import zstandard

from fsdrivers import pools
from fsdrivers.block import BlockDevice, FileDevice
from fsdrivers.btrfs import layout as layout_btrfs
from fsdrivers.btrfs import superblock
from fsdrivers.btrfs.pool import BtrfsPool
from fsdrivers.checksums.crc32c import crc32c
from fsdrivers.desk import cli
from fsdrivers.errors import FsError
from fsdrivers.pool import Pool
from fsdrivers.zfs import label, layout
from fsdrivers.zfs.pool import ZfsPool

pytestmark = pytest.mark.images


def devices(paths: Sequence[Path]) -> list[BlockDevice]:
    return [FileDevice(str(path)) for path in paths]


def slots(paths: Sequence[Path]) -> list[list[tuple[str, str]]]:
    """State and name of each device, of each pool; that they are rivals of each other."""
    heard: list[FsError] = []
    found = pools.assemble(devices(paths), heard.append)
    assert heard == []
    for pool in found:
        assert set(pool.rivals) == {other for other in found if other is not pool}
        assert pool.roots()
    return sorted(
        sorted((slot.state, Path(slot.device).name if slot.device else "-") for slot in pool.slots) for pool in found
    )


# --- ZFS --------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("now", "then"):
        (tmp_path / name).mkdir()
    return tmp_path / "now", tmp_path / "then"


def earlier(paths: Sequence[Path], back: int = 2) -> list[Path]:
    """The same disks as they were ``back`` transactions ago: without the uberblocks since then."""
    txgs = {one.txg for path in paths for _, one in label.uberblocks(FileDevice(str(path)), layout.ASHIFT_MIN)}
    gone = sorted(txgs)[-back:]
    for path in paths:
        places = [(at, one) for at, one in label.uberblocks(FileDevice(str(path)), layout.ASHIFT_MIN)]
        with path.open("r+b") as file:
            for at, one in places:
                if one.txg in gone:
                    file.seek(at)
                    file.write(bytes(len(one.raw)))
    return list(paths)


def test_an_older_copy_of_a_whole_pool(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    now, then = two
    first = zfs_recipes.unpack("single", now)
    second = earlier(zfs_recipes.unpack("single", then))
    (name,) = [path.name for path in first]
    assert slots([*first, *second]) == [[("online", name)], [("online", name)]]
    capsys.readouterr()
    assert cli.main(["ls", *(word for path in (*first, *second) for word in ("-a", str(path))), "/"]) == 1
    assert "is there more than once, each without need of the others" in capsys.readouterr().err


def test_a_second_path_to_one_disk_is_none(two: tuple[Path, Path]) -> None:
    now, then = two
    first, second = zfs_recipes.unpack("single", now), zfs_recipes.unpack("single", then)
    (found,) = slots([*first, *second])
    assert sorted(state for state, _ in found) == ["duplicate", "online"]


def test_an_older_copy_of_one_half_of_a_mirror_is_none(two: tuple[Path, Path]) -> None:
    """Somebody split it off with dd: it names the others, and is left out."""
    now, then = two
    first = zfs_recipes.unpack("mirror", now)
    second = earlier(zfs_recipes.unpack("mirror", then)[:1])
    (found,) = slots([*first, *second])
    assert sorted(state for state, _ in found) == ["duplicate", "online", "online", "online"]


def test_an_older_copy_of_all_of_a_mirror(two: tuple[Path, Path]) -> None:
    now, then = two
    first = zfs_recipes.unpack("mirror", now)
    second = earlier(zfs_recipes.unpack("mirror", then))
    assert [[state for state, _ in pool] for pool in slots([*first, *second])] == [["online"] * 3] * 2


# --- btrfs ------------------------------------------------------------------------------------


def unpack(name: str, directory: Path) -> list[Path]:
    """The disks of a committed btrfs."""
    with (Path(__file__).parent / "btrfs" / f"{name}.tar.zst").open("rb") as packed:
        reader = zstandard.ZstdDecompressor().stream_reader(packed)
        with tarfile.open(fileobj=reader, mode="r|") as archive:
            for member in archive:
                if member.name.endswith(".raw"):
                    archive.extract(member, directory)
    return sorted(directory.glob("disk*.raw"))


def newer(paths: Sequence[Path], by: int = 1000) -> list[Path]:
    """Raise the generation of a btrfs, as if it had been written to since."""
    (pool,) = pools.assemble(devices(paths))
    assert isinstance(pool, BtrfsPool)
    block, volume = pool.superblock, pool._opened().volume
    tops = [(leg.device.name, copy.offset, block.nodesize, 0x50)
            for part in volume.segments(block.root, block.nodesize) for leg, copy in volume.ranked(part)]  # fmt: skip
    supers = [(str(path), offset, 4096, 0x48) for path in paths for offset in (0x10000, 0x4000000)]
    for path, offset, size, field in (*tops, *supers):
        with open(path, "r+b") as file:
            file.seek(offset)
            data = bytearray(file.read(size))
            struct.pack_into("<Q", data, field, block.generation + by)
            data[:4] = crc32c(bytes(data[32:])).to_bytes(4, "little")
            file.seek(offset)
            file.write(data)
    return list(paths)


def test_a_newer_copy_of_a_whole_btrfs(two: tuple[Path, Path]) -> None:
    first, second = unpack("balance", two[0]), newer(unpack("balance", two[1]))
    assert slots([*first, *second]) == [[("online", "disk0.raw")], [("online", "disk0.raw")]]


def test_a_second_path_to_one_disk_of_btrfs_is_none(two: tuple[Path, Path]) -> None:
    (found,) = slots([*unpack("balance", two[0]), *unpack("balance", two[1])])
    assert sorted(state for state, _ in found) == ["duplicate", "online"]


def test_a_newer_copy_of_both_halves_and_of_one(two: tuple[Path, Path]) -> None:
    first, second = unpack("stripes-raid1", two[0]), unpack("stripes-raid1", two[1])
    newer(second)
    every = [[state for state, _ in pool] for pool in slots([*first, *second])]
    assert every == [["online"] * len(first)] * 2
    # What is left of a replace: the old disk has the uuid of the new one, and knows the other half.
    (found,) = slots([first[0], *second])
    assert sorted(state for state, _ in found) == ["duplicate", *["online"] * len(second)]


# --- disks that were made to be taken for another's ---------------------------------------------


def sealed(path: Path, **fields: object) -> Path:
    """Change fields of both superblocks of a btrfs, checksums repaired."""
    places = {"fsid": (0x20, "16s"), "flags": (0x38, "<Q"), "generation": (0x48, "<Q"),
              "incompat": (0xBC, "<Q"), "metadata_uuid": (0x23B, "16s"), "device": (0x10B, "16s"),
              "devid": (0xC9, "<Q")}  # fmt: skip
    with path.open("r+b") as file:
        for offset in (0x10000, 0x4000000):
            file.seek(offset)
            data = bytearray(file.read(4096))
            if data[0x40:0x48] != b"_BHRfS_M":
                continue
            for name, value in fields.items():
                struct.pack_into(places[name][1], data, places[name][0], value)
            data[:4] = crc32c(bytes(data[32:])).to_bytes(4, "little")
            file.seek(offset)
            file.write(data)
    return path


def block(path: Path) -> superblock.Superblock:
    found = superblock.find(FileDevice(str(path)))
    assert found is not None
    return found


def called(path: Path, uuid: bytes, **fields: object) -> Path:
    """The same btrfs under another UUID, as btrfstune -m makes it: its nodes stay as they are."""
    own = block(path)
    return sealed(path, fsid=uuid, metadata_uuid=own.metadata_uuid, incompat=own.incompat_flags | 1 << 10, **fields)


def junked(path: Path, generation: int) -> None:
    """A superblock that leads to no tree: all nodes there are another's."""
    sealed(path, generation=generation, metadata_uuid=b"J" * 16, incompat=block(path).incompat_flags | 1 << 10)


def own_of(found: Sequence[Pool], path: Path) -> Pool:
    """The pool of the honest disk alone, whatever the others say of themselves."""
    (pool,) = [pool for pool in found if [slot.device for slot in pool.slots if slot.state == "online"] == [str(path)]]
    assert pool.roots()
    return pool


def test_a_third_claim_that_leads_nowhere_hides_no_other(two: tuple[Path, Path], tmp_path: Path) -> None:
    (honest,), (evil,) = unpack("balance", two[0]), newer(unpack("balance", two[1]))
    (tmp_path / "junk").mkdir()
    (junk,) = unpack("balance", tmp_path / "junk")
    junked(junk, block(honest).generation + 500)
    for order in ([honest, evil, junk], [junk, evil, honest]):
        found = pools.assemble(devices(order))
        own = own_of(found, honest)
        assert own.rivals == tuple(pool for pool in found if pool is not own)
        own_of(found, evil)


def test_a_newer_claim_that_leads_nowhere_is_none(two: tuple[Path, Path]) -> None:
    (honest,), (junk,) = unpack("balance", two[0]), unpack("balance", two[1])
    junked(junk, block(honest).generation + 500)
    heard: list[FsError] = []
    (found,) = pools.assemble(devices([junk, honest]), heard.append)
    assert own_of([found], honest).rivals == ()
    assert heard


def test_a_newer_superblock_that_leads_to_our_trees_is_none(two: tuple[Path, Path]) -> None:
    """Its device is not in the list that it leads to; what it leads to is ours."""
    (honest,), copy = unpack("balance", two[0]), two[1] / "copy"
    own = block(honest)
    with copy.open("wb") as file:
        file.truncate(honest.stat().st_size)
        file.seek(0x10000)
        file.write(own.raw)
    sealed(copy, generation=own.generation + 1000, device=b"D" * 16)
    for order in ([copy, honest], [honest, copy]):
        (found,) = pools.assemble(devices(order))
        assert own_of([found], honest).rivals == ()
        assert found.missing == ()


def test_a_copy_of_the_same_generation_that_cannot_be_read(two: tuple[Path, Path]) -> None:
    (honest,), (evil,) = unpack("balance", two[0]), unpack("balance", two[1])
    sealed(evil, devid=7)
    for order in ([evil, honest], [honest, evil]):
        heard: list[FsError] = []
        (found,) = pools.assemble(devices(order), heard.append)
        assert own_of([found], honest).rivals == ()
        assert any(f"{evil}: left out" in str(error) for error in heard)


def test_what_only_looks_like_a_seed_hides_no_pool(two: tuple[Path, Path]) -> None:
    """A disk with two partitions: one that calls itself a seed with our UUID, and one that was built on that."""
    (honest,), (first, second, *_) = unpack("balance", two[0]), unpack("stripes-raid1", two[1])
    victim = block(honest).fsid
    called(second, victim, flags=1 | layout_btrfs.SUPER_FLAG_SEEDING)
    called(first, b"E" * 16)
    found = pools.assemble(devices([first, second, honest]))
    assert own_of(found, honest)
    assert any(pool.seeds == (block(honest).uuid,) for pool in found)


def test_who_is_trusted_less_hides_no_seed(two: tuple[Path, Path]) -> None:
    first, second, *_ = unpack("stripes-raid1", two[0])
    called(second, b"S" * 16, flags=1 | layout_btrfs.SUPER_FLAG_SEEDING)
    called(first, b"E" * 16)
    names = [pool.uuid for pool in pools.assemble(devices([first, second]))]
    assert names == [block(first).uuid]
    names = [pool.uuid for pool in pools.assemble(devices([first, second]), None, lambda one: one.name == str(first))]
    assert sorted(names) == sorted([block(first).uuid, block(second).uuid])


def test_who_names_our_device_as_his_in_the_same_generation(two: tuple[Path, Path]) -> None:
    (honest,), (evil, mate, *_) = unpack("balance", two[0]), unpack("stripes-raid1", two[1])
    own, known = block(honest), block(mate)
    # The honest disk has the device UUID that the other one lists as its second.
    data = bytearray(honest.read_bytes())
    for at in range(0, len(data) - own.nodesize, 4096):
        size = own.nodesize if data[at + 0x20 : at + 0x30] == own.fsid else 0
        if data[at + 0x40 : at + 0x48] == b"_BHRfS_M":
            size = 4096
        part = data[at : at + size]
        if size and part[:4] == crc32c(bytes(part[32:])).to_bytes(4, "little") and own.dev_uuid in part:
            part = part.replace(own.dev_uuid, known.dev_uuid)
            part[:4] = crc32c(bytes(part[32:])).to_bytes(4, "little")
            data[at : at + size] = part
    honest.write_bytes(data)
    called(evil, own.fsid)
    newer([evil], own.generation - block(evil).generation)
    assert block(evil).generation == block(honest).generation
    for order in ([evil, honest], [honest, evil]):
        assert own_of(pools.assemble(devices(order)), honest)


def relabelled(path: Path, children: int, number: int, further: int) -> Path:
    """A disk of a ZFS pool that says it is the top-level vdev ``number`` of ``children``, and whose uberblocks are
    ``further`` transactions ahead."""
    disk = FileDevice(str(path))
    own = label.read(disk)
    assert own is not None

    def pair(name: bytes, value: int) -> bytes:
        padded = len(name).to_bytes(4, "big") + name.ljust(-(-len(name) // 4) * 4, b"\0")
        return padded + struct.pack(">iiQ", 8, 1, value)

    with path.open("r+b") as file:
        for start in label.offsets(disk.size):
            at = start + layout.LABEL_NVLIST
            data = bytes(disk.read(at, layout.LABEL_NVLIST_SIZE))
            data = data.replace(own.guid.to_bytes(8, "big"), (own.guid ^ 0xFFFF).to_bytes(8, "big"))
            data = data.replace(pair(b"id", 0), pair(b"id", number))
            data = data.replace(pair(b"vdev_children", 1), pair(b"vdev_children", children))
            rewrite(file, data, at)
        size = label.slot_size(layout.ASHIFT_MIN)
        for at, one in list(label.uberblocks(disk, layout.ASHIFT_MIN)):
            data = bytearray(disk.read(at, size))
            struct.pack_into(one.order + "Q", data, 16, one.txg + further)
            rewrite(file, bytes(data), at)
    return path


def test_a_newer_label_without_anything_behind_it_renames_no_pool(two: tuple[Path, Path]) -> None:
    (honest,), (evil,) = zfs_recipes.unpack("single", two[0]), zfs_recipes.unpack("single", two[1])
    (pool,) = pools.assemble(devices([honest]))
    relabelled(evil, 1, 0, 0)
    disk, own = FileDevice(str(evil)), label.read(FileDevice(str(honest)))
    assert own is not None
    with evil.open("r+b") as file:
        for start in label.offsets(disk.size):
            data = bytes(disk.read(start + layout.LABEL_NVLIST, layout.LABEL_NVLIST_SIZE))
            data = data.replace(own.pool_name.encode(), b"evil"[: len(own.pool_name)].ljust(len(own.pool_name), b"!"))
            data = data.replace(own.txg.to_bytes(8, "big"), (own.txg + 1000).to_bytes(8, "big"))
            rewrite(file, data, start + layout.LABEL_NVLIST)
            file.seek(start + layout.LABEL_RING)
            file.write(bytes(layout.LABEL_RING_SIZE))
    newest = label.read(FileDevice(str(evil)))
    assert newest is not None
    assert (newest.pool_name, newest.txg) == ("evil", own.txg + 1000)
    for order in ([evil, honest], [honest, evil]):
        found = own_of(pools.assemble(devices(order)), honest)
        assert found.name == pool.name


def test_a_copy_with_a_newer_label_that_no_pool_can_have(two: tuple[Path, Path]) -> None:
    (honest,), (evil,) = zfs_recipes.unpack("single", two[0]), zfs_recipes.unpack("single", two[1])
    disk, own = FileDevice(str(evil)), label.read(FileDevice(str(honest)))
    assert own is not None
    kind = own.tree["type"].encode()
    with evil.open("r+b") as file:
        for start in label.offsets(disk.size):
            data = bytes(disk.read(start + layout.LABEL_NVLIST, layout.LABEL_NVLIST_SIZE))
            data = data.replace(b"\0\0\0\4" + kind, b"\0\0\0\4none")
            data = data.replace(own.txg.to_bytes(8, "big"), (own.txg + 1000).to_bytes(8, "big"))
            rewrite(file, data, start + layout.LABEL_NVLIST)
    for order in ([evil, honest], [honest, evil]):
        heard: list[FsError] = []
        (found,) = pools.assemble(devices(order), heard.append)
        assert own_of([found], honest).rivals == ()
        assert any("nothing on it can be read" in str(error) for error in heard)


def rewrite(file: BinaryIO, data: bytes, at: int) -> None:
    order = label.eck_order(data)
    if order is None:
        return
    eck = layout.ECK[order]
    file.seek(at)
    file.write(data[: -eck.size] + eck.pack(layout.ECK_MAGIC, *label.embedded_sum(data, at, order)))


@pytest.mark.parametrize(("children", "number"), [(1, 1), (2, 1), (2, 0)])
def test_a_disk_of_zfs_that_calls_itself_one_more_of_ours(two: tuple[Path, Path], children: int, number: int) -> None:
    (honest,), (evil,) = zfs_recipes.unpack("single", two[0]), zfs_recipes.unpack("single", two[1])
    relabelled(evil, children, number, 1000)
    for order in ([evil, honest], [honest, evil]):
        own = own_of(pools.assemble(devices(order)), honest)
        assert isinstance(own, ZfsPool)
        assert own.spa().txg < 1000


def test_a_pool_is_meant_by_its_uuid_before_another_by_its_name(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (honest,), (evil,) = zfs_recipes.unpack("single", two[0]), unpack("balance", two[1])
    (pool,) = pools.assemble(devices([honest]))
    with evil.open("r+b") as file:
        for offset in (0x10000, 0x4000000):
            file.seek(offset)
            data = bytearray(file.read(4096))
            if data[0x40:0x48] == b"_BHRfS_M":
                data[0x12B : 0x12B + 0x100] = pool.uuid.encode().ljust(0x100, b"\0")
                data[:4] = crc32c(bytes(data[32:])).to_bytes(4, "little")
                file.seek(offset)
                file.write(data)
    assert [one.name for one in pools.assemble(devices([evil]))] == [pool.uuid]
    assert cli.main(["probe", "-a", str(honest), "-a", str(evil), "--pool", pool.uuid]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith(f"zfs {pool.name} {pool.uuid} ")
