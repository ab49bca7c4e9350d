"""Copies of pools that went their own ways are claims of their own; what is left over of a pool's past is not."""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import zfs_recipes
import zstandard

from fsdrivers import pools
from fsdrivers.block import BlockDevice, FileDevice
from fsdrivers.btrfs.pool import BtrfsPool
from fsdrivers.checksums.crc32c import crc32c
from fsdrivers.desk import cli
from fsdrivers.errors import FsError
from fsdrivers.zfs import label, layout

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
