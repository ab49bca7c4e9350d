"""Partition tables and FAT."""

from __future__ import annotations

import struct
import zlib

import built
from built import tables
from target import Disk, Target, look_around
from test_fat_amplifiers import END, entry, volume

from fsdrivers import fat
from fsdrivers.fat import layout
from fsdrivers.partitions import GPT_HEADER, partitions

SECTOR = 512
SIZE = 64 << 20

_TYPE = bytes.fromhex("28732ac11ff8d211ba4b00a0c93ec93b")


def _mended(data: bytes) -> bytes:
    """A disk whose GPT's checksums are right, in whichever of its two usual sectors it is."""
    raw = bytearray(data)
    for at in (512, 4096):
        if raw[at : at + 8] != b"EFI PART" or at + GPT_HEADER.size > len(raw):
            continue
        size = min(struct.unpack_from("<I", raw, at + 12)[0], 4096)
        table, count, each = struct.unpack_from("<QII", raw, at + 72)
        entries = bytes(raw[table * at : table * at + count * each]) if count * each <= 1 << 20 else b""
        entries += bytes(max(0, min(count * each, 1 << 20) - len(entries)))
        struct.pack_into("<I", raw, at + 88, zlib.crc32(entries))
        raw[at + 16 : at + 20] = bytes(4)
        struct.pack_into("<I", raw, at + 16, zlib.crc32(raw[at : at + size]))
    return bytes(raw)


def _partitions(data: bytes) -> int:
    disk = Disk(_mended(data), SIZE)
    found = partitions(disk)
    assert len({part.number for part in found}) == len(found), "two partitions of one number"
    for part in found:
        assert part.start >= 0
        assert not part.size or part.start + part.size <= SIZE, "a partition beyond the disk's end"
    return len(found)


def _gpt(sector: int = SECTOR) -> bytes:
    last = SIZE // sector - 34
    header = tables.GPT_HEADER(
        signature=b"EFI PART", revision=0x10000, header_size=92, my_lba=1, alternate_lba=last + 33,
        first_usable_lba=34, last_usable_lba=last, partition_entry_lba=2, num_partition_entries=4,
        sizeof_partition_entry=128,
    )  # fmt: skip
    entries = [
        tables.GPT_ENTRY(
            partition_type_guid=_TYPE, unique_partition_guid=bytes([number] * 16), starting_lba=first,
            ending_lba=first + 999, partition_name=name.encode("utf-16-le"),
        )
        for number, first, name in ((1, 64, "EFI"), (2, 4096, "root"))
    ]  # fmt: skip
    protective = tables.MBR_ENTRY(
        first_chs=b"\0\2\0", type=0xEE, last_chs=b"\xff" * 3, first_lba=1, sectors=SIZE // sector - 1
    )
    parts = (_record(protective), header, b"".join(entries))
    return b"".join(part.ljust(sector, b"\0") for part in parts)


def _record(*entries: bytes) -> bytes:
    """A boot record with ``entries``."""
    return (bytes(446) + b"".join(entries)).ljust(510, b"\0") + b"\x55\xaa"


def _mbr() -> bytes:
    raw = bytearray(SECTOR * 16)
    for at, rows in ((0, ((0x83, 64, 100), (5, 8, 1000))), (8, ((0x83, 1, 50), (5, 4, 50))), (12, ((0x82, 1, 20),))):
        record = _record(*(tables.MBR_ENTRY(type=kind, first_lba=first, sectors=count) for kind, first, count in rows))
        raw[at * SECTOR : (at + 1) * SECTOR] = record
    return bytes(raw)


def _fat(data: bytes) -> int:
    return look_around(fat.open(Disk(data, SIZE)))


def _small_fat(bits: int) -> bytes:
    """A FAT12 or FAT16 with a file of three clusters, a directory and a file with a long name."""
    clusters = 40 if bits == 12 else 5000
    table = -(-(clusters + 2) * bits // 8 // SECTOR)
    raw = bytearray(SECTOR * (1 + table + 1 + 8))
    head = built.fat.BOOT_SECTOR(
        jump=b"\xeb\x3c\x90", system_id=b"MSDOS5.0", sector_size=SECTOR, sec_per_clus=1, reserved=1, fats=1,
        dir_entries=16, sectors=1 + table + 1 + clusters, media=0xF8, fat_length=table, secs_track=63, heads=255,
    )  # fmt: skip
    raw[: len(head)] = head
    raw[510:512] = layout.BOOT_SIGNATURE
    following = {0: 0xFFFF, 1: 0xFFFF, 2: 3, 3: 4, 4: 0xFFFF, 5: 0xFFFF, 6: 0xFFFF}
    packed = sum((value & (1 << bits) - 1) << bits * number for number, value in following.items())
    raw[SECTOR : SECTOR + 32] = packed.to_bytes(32, "little")
    root = SECTOR * (1 + table)
    slots = [entry(b"VMLINUZ    ", 2, 1100), entry(b"LOADER     ", 5, 0, 0x10), *_long("initrd.img-6.1", 6)]
    raw[root : root + 32 * len(slots)] = b"".join(slots)
    below = root + SECTOR * (1 + 3)
    raw[below : below + 64] = entry(b".          ", 5, 0, 0x10) + entry(b"..         ", 0, 0, 0x10)
    return bytes(raw)


def _long(name: str, first: int) -> list[bytes]:
    """The slots of a file with a long name."""
    from fsdrivers.fat.directory import alias_checksum

    short = b"INITRD~1IMG"
    text = (name + "\0").encode("utf-16-le")
    slots = []
    for number in range(-(-len(text) // 26), 0, -1):
        part = text[(number - 1) * 26 : number * 26].ljust(26, b"\xff")
        mark = number | (0x40 if not slots else 0)
        slots.append(
            bytes((mark,)) + part[:10] + bytes((15, 0, alias_checksum(short))) + part[10:22] + bytes(2) + part[22:]
        )
    return [*slots, entry(short, first, 512)]


def _fat32() -> bytes:
    listing = entry(b"VMLINUZ    ", 3, 1000) + b"".join(_long("initrd.img-6.1", 5)) + entry(b"EFI        ", 6, 0, 0x10)
    disk = volume({2: END, 3: 4, 4: END, 5: END, 6: END}, {2: listing}, 70_000)
    raw = bytearray(max(start for start in disk.parts) + SECTOR * 8)
    for start, part in disk.parts.items():
        assert isinstance(part, bytes)
        raw[start : start + len(part)] = part
    return bytes(raw)


TARGETS = (
    Target("partitions", _partitions, lambda: [_gpt(), _gpt(4096), _mbr()], 32 << 10),
    Target("fat", _fat, lambda: [_small_fat(12), _small_fat(16)], 16 << 10),
    Target("fat32", lambda data: _fat(_sparse(data)), lambda: [_dense(_fat32())], 26 << 10),
)


def _sparse(data: bytes) -> bytes:
    """A FAT32 has tables that are long and empty: ``data`` are its first sectors and those of its root."""
    head, rest = data[: 40 * SECTOR], data[40 * SECTOR :]
    return head.ljust(_ROOT, b"\0") + rest


def _dense(raw: bytes) -> bytes:
    return raw[: 40 * SECTOR] + raw[_ROOT:]


_ROOT = (32 + -(-(70_000 + 2) * 4 // SECTOR)) * SECTOR
