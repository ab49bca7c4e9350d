"""Partition tables written by sfdisk, and what damage does to them."""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest
from bounded import bounded
from built import tables

from fsdrivers.block import FileDevice, Slice
from fsdrivers.errors import Corrupt, ReadError
from fsdrivers.partitions import Partition, guid_text, partition_name, partitions

MIB = 1 << 20
SFDISK = shutil.which("sfdisk") or "/usr/sbin/sfdisk"

GPT = """label: gpt
first-lba: 34
start=2048, size=4096, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name="EFI system"
start=8192, size=8192, type=L, uuid=01234567-89AB-CDEF-0123-456789ABCDEF, name="Wurzel ü"
"""

MBR = """label: dos
label-id: 0x12345678
start=2048, size=2048, type=83
start=4096, size=20480, type=5
start=6144, size=2048, type=83
start=10240, size=4096, type=82
start=16384, size=1024, type=8e
"""


def make(path: Path, script: str, sector: int = 512) -> Path:
    with path.open("wb") as image:
        image.truncate(32 * MIB)
    subprocess.run(
        [SFDISK, "--no-reread", "--no-tell-kernel", f"--sector-size={sector}", "-q", str(path)] if sector != 512
        else [SFDISK, "-q", str(path)],
        input=script, text=True, check=True, capture_output=True,
    )  # fmt: skip
    return path


def read(path: Path) -> list[Partition]:
    return partitions(FileDevice(str(path), path.name))


def damage(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as image:
        image.seek(offset)
        image.write(data)


def assert_gpt(found: list[Partition]) -> None:
    assert [(p.number, p.start, p.size, p.label) for p in found] == [
        (1, MIB, 2 * MIB, "EFI system"),
        (2, 4 * MIB, 4 * MIB, "Wurzel ü"),
    ]
    assert found[0].type == "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
    assert found[1].uuid == "01234567-89ab-cdef-0123-456789abcdef"


def test_gpt(tmp_path: Path) -> None:
    found = read(make(tmp_path / "d.img", GPT))
    assert_gpt(found)
    assert [p.name for p in found] == ["d.img1", "d.img2"]


@pytest.mark.parametrize("where", [512, 512 + 0x18, 1024], ids=["signature", "header", "entries"])
def test_gpt_falls_back_to_the_backup(tmp_path: Path, where: int) -> None:
    path = make(tmp_path / "d.img", GPT)
    damage(path, where, b"\xa5" * 16)
    assert_gpt(read(path))


def test_gpt_survives_the_loss_of_its_first_sectors(tmp_path: Path) -> None:
    path = make(tmp_path / "d.img", GPT)
    damage(path, 0, bytes(34 * 512))
    assert_gpt(read(path))


def test_gpt_with_both_copies_gone_is_one_clear_error(tmp_path: Path) -> None:
    path = make(tmp_path / "d.img", GPT)
    damage(path, 512 + 0x30, b"\xa5")
    damage(path, 32 * MIB - 512 + 0x30, b"\xa5")
    with pytest.raises(Corrupt, match=r"d\.img: corrupt GPT header checksum at offset 0x210"):
        read(path)


def test_truncated_image_gives_what_is_left(tmp_path: Path) -> None:
    path = make(tmp_path / "d.img", GPT)
    with path.open("r+b") as image:
        image.truncate(5 * MIB)
    found = read(path)
    assert [p.size for p in found] == [2 * MIB, MIB]
    with pytest.raises(ReadError, match="outside of the device"):
        found[1].read(MIB - 1, 2)


def test_mbr_with_logical_partitions(tmp_path: Path) -> None:
    found = read(make(tmp_path / "d.img", MBR))
    assert [(p.number, p.start // 512, p.size // 512, p.type) for p in found] == [
        (1, 2048, 2048, "0x83"),
        (5, 6144, 2048, "0x83"),
        (6, 10240, 4096, "0x82"),
        (7, 16384, 1024, "0x8e"),
    ]
    assert found[0].uuid == "12345678-01"


def test_chain_of_logical_partitions_that_bites_its_tail(tmp_path: Path) -> None:
    path = make(tmp_path / "d.img", MBR)
    record = FileDevice(str(path)).read(4096 * 512, 512)
    # the second entry of the first extended boot record points back at its own sector
    damage(path, 4096 * 512 + 0x1CE, record[0x1CE:0x1D6] + bytes(4) + record[0x1DA:0x1DE])
    assert [p.number for p in read(path)] == [1, 5]


@pytest.mark.parametrize("size", [0, 100, 512, 4096])
def test_no_table(tmp_path: Path, size: int) -> None:
    path = tmp_path / "d.img"
    path.write_bytes(bytes(size))
    assert read(path) == []


def test_a_fat_boot_sector_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "d.img"
    path.write_bytes(b"\xeb\x3c\x90mkfs.fat" + b"This is not a bootable disk" * 16 + bytes(512))
    damage(path, 510, b"\x55\xaa")
    assert read(path) == []


def test_names_are_the_kernels() -> None:
    assert partition_name("/dev/vda", 1) == "/dev/vda1"
    assert partition_name("/dev/nvme0n1", 12) == "/dev/nvme0n1p12"


def test_guid_text_swaps_the_first_three_fields() -> None:
    assert guid_text(bytes(range(16))) == "03020100-0504-0706-0809-0a0b0c0d0e0f"


def test_slices_keep_to_themselves(tmp_path: Path) -> None:
    path = tmp_path / "d.img"
    path.write_bytes(bytes(range(256)) * 16)
    part = Slice(FileDevice(str(path)), 256, 512, "part")
    assert part.read(255, 2) == b"\xff\x00"
    for offset, length in ((512, 1), (-1, 2), (0, 513), (1 << 70, 1)):
        with pytest.raises(ReadError, match="part"):
            part.read(offset, length)


def table(entries: bytes, count: int, size: int, sectors: int = 1 << 20) -> bytes:
    """The first sectors of a disk with a GPT of these entries, which need not be well-formed."""
    fields = {
        "signature": b"EFI PART", "revision": 0x10000, "header_size": 92, "my_lba": 1, "alternate_lba": sectors - 1,
        "first_usable_lba": 34, "last_usable_lba": sectors - 34, "disk_guid": b"d" * 16, "partition_entry_lba": 2,
        "num_partition_entries": count, "sizeof_partition_entry": size,
        "partition_entry_array_crc32": zlib.crc32(entries),
    }  # fmt: skip
    header = tables.GPT_HEADER(**fields, header_crc32=zlib.crc32(tables.GPT_HEADER(**fields)))
    return mbr((0xEE, 1, 0xFFFFFFFF)) + header.ljust(512, b"\0") + entries


def mbr(*entries: tuple[int, int, int]) -> bytes:
    """A boot record with entries of (type, first sector, sectors)."""
    raw = bytes(0x1BE) + b"".join(tables.MBR_ENTRY(type=one[0], first_lba=one[1], sectors=one[2]) for one in entries)
    return raw.ljust(510, b"\0") + b"\x55\xaa"


@pytest.mark.parametrize("size", [128, 4096])
def test_thousands_of_partitions_in_the_same_place(tmp_path: Path, size: int) -> None:
    """As many are listed as the kernel has numbers for, whatever the table has."""
    one = tables.GPT_ENTRY(
        partition_type_guid=b"t" * 16, unique_partition_guid=b"u" * 16, starting_lba=2048, ending_lba=1 << 19,
        partition_name="\x1b[2J".encode("utf-16-le"),
    )  # fmt: skip
    path = tmp_path / "d.img"
    path.write_bytes(table(one.ljust(size, b"\0") * 4096, 4096, size))
    os.truncate(path, 1 << 29)
    assert bounded(lambda: [part.number for part in read(path)]).value == list(range(1, 256))


def test_a_chain_of_logical_partitions_that_does_not_end(tmp_path: Path) -> None:
    """Each record has three partitions and a link to the next one, the last one back to the first."""
    path = tmp_path / "d.img"
    first = mbr((5, 1, 60_000))
    one = mbr(*[(0x83, 1, 1)] * 3, (5, 0, 1))
    at = 0x1BE + 3 * tables.MBR_ENTRY.size + tables.MBR_ENTRY.offset("first_lba")
    records = (one[:at] + (number % 50_000).to_bytes(4, "little") + one[at + 4 :] for number in range(1, 50_001))
    path.write_bytes(first + b"".join(records))
    assert bounded(lambda: [part.number for part in read(path)]).value == list(range(5, 256))
