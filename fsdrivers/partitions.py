"""Partition tables: GPT with both of its headers, MBR with logical partitions.

Sources: UEFI specification 2.10, chapter 5 (GPT, protective MBR); block/partitions/efi.c and
block/partitions/msdos.c, v6.12 for what is accepted in practice.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from fsdrivers.block import BlockDevice, Slice
from fsdrivers.errors import Corrupt, ReadError

SECTOR_SIZES = (512, 4096)  # an image does not say which one its disk had: the GPT is found at either

# Master boot record: 0x1BE four entries of 16 bytes, 0x1FE u16 signature 0xAA55.
MBR_ENTRIES, MBR_ENTRY, MBR_SIGNATURE = 0x1BE, struct.Struct("<B3sB3sII"), b"\x55\xaa"
MBR_ENTRY_FIELDS = "0x00 status  0x01 first_chs  0x04 type  0x05 last_chs  0x08 first_lba  0x0C sectors"
MBR_EXTENDED = frozenset((0x05, 0x0F, 0x85))  # include/linux/msdos_partition.h, v6.12
MBR_PROTECTIVE = 0xEE
MBR_FLAGS = frozenset((0x00, 0x80))

# GPT header, 92 bytes at LBA 1 and at the last LBA; my_lba is that of this header, alternate_lba that of the other.
GPT_HEADER, GPT_SIGNATURE = struct.Struct("<8sIIIIQQQQ16sQIII"), b"EFI PART"
GPT_HEADER_FIELDS = """0x00 signature  0x08 revision  0x0C header_size  0x10 header_crc32  0x14 reserved  0x18 my_lba
    0x20 alternate_lba  0x28 first_usable_lba  0x30 last_usable_lba  0x38 disk_guid  0x48 partition_entry_lba
    0x50 num_partition_entries  0x54 sizeof_partition_entry  0x58 partition_entry_array_crc32"""
# GPT entry; ending_lba is inclusive, the name in UTF-16LE.
GPT_ENTRY = struct.Struct("<16s16sQQQ72s")
GPT_ENTRY_FIELDS = """0x00 partition_type_guid  0x10 unique_partition_guid  0x20 starting_lba  0x28 ending_lba
    0x30 attributes  0x38 partition_name"""
MAX_GPT_ENTRIES = 4096
MAX_NUMBER = 255  # of a partition; the kernel shows no more either: block/partitions/efi.c:efi_partition, v6.12
MAX_GPT_ENTRY_SIZE = 4096


class Partition(Slice):
    """A slice that knows its place in the table: ``number`` as the kernel counts, ``type`` and ``uuid`` as text."""

    def __init__(
        self, parent: BlockDevice, number: int, start: int, size: int, kind: str, uuid: str, label: str
    ) -> None:
        super().__init__(parent, start, size, partition_name(parent.name, number))
        self.number, self.type, self.uuid, self.label = number, kind, uuid, label


class _Header(NamedTuple):
    """The parts of a GPT header that are used, checked; ``entries`` is the raw table."""

    first: int
    last: int
    entry_size: int
    entries: bytes


def partition_name(disk: str, number: int) -> str:
    """The kernel's name for a partition: a "p" goes between when the disk's name ends in a digit (nvme0n1p1)."""
    return f"{disk}p{number}" if disk[-1:].isdigit() else f"{disk}{number}"


def partitions(device: BlockDevice) -> list[Partition]:
    """The partitions of ``device`` in table order; empty without a table.

    Raises Corrupt when there is a GPT and neither of its copies is intact.
    """
    if device.size < 512:
        return []
    try:
        mbr = device.read(0, 512)
    except ReadError:
        return []
    if mbr[0x1FE:] != MBR_SIGNATURE:
        # A disk may have lost its first sector: the backup GPT at the end is looked for all the same.
        return _gpt(device, required=False)
    entries = [MBR_ENTRY.unpack_from(mbr, MBR_ENTRIES + 16 * index) for index in range(4)]
    if any(entry[2] == MBR_PROTECTIVE for entry in entries):
        return _gpt(device, required=True)
    if any(entry[0] not in MBR_FLAGS for entry in entries):
        return []  # a boot sector of a file system (FAT, NTFS) has the same signature
    return list(_mbr(device, entries, int.from_bytes(mbr[0x1B8:0x1BC], "little")))


def _mbr(
    device: BlockDevice, entries: list[tuple[int, bytes, int, bytes, int, int]], disk_id: int
) -> Iterator[Partition]:
    """Primary partitions (1 to 4), then logical ones from 5 on."""
    for number, (_, _, kind, _, start, count) in enumerate(entries, 1):
        if kind and count and kind not in MBR_EXTENDED:
            yield _mbr_partition(device, number, start, count, kind, disk_id)
    number = 5
    for _, _, kind, _, start, count in entries:
        if kind in MBR_EXTENDED and count:
            for logical_start, logical_count, logical_kind in _logical(device, start):
                if number > MAX_NUMBER:
                    return
                yield _mbr_partition(device, number, logical_start, logical_count, logical_kind, disk_id)
                number += 1


def _logical(device: BlockDevice, extended: int) -> Iterator[tuple[int, int, int]]:
    """(start, count, type) in sectors of each logical partition: a chain of boot records in the extended one."""
    seen: set[int] = set()
    here = extended
    while here not in seen and len(seen) < MAX_NUMBER and (here + 1) * 512 <= device.size:
        seen.add(here)
        record = device.read(here * 512, 512)
        if record[0x1FE:] != MBR_SIGNATURE:
            return
        following = None
        for index in range(4):
            _, _, kind, _, start, count = MBR_ENTRY.unpack_from(record, MBR_ENTRIES + 16 * index)
            if kind in MBR_EXTENDED:
                following = extended + start
            elif kind and count:
                yield here + start, count, kind
        if following is None:
            return
        here = following


def _mbr_partition(device: BlockDevice, number: int, start: int, count: int, kind: int, disk_id: int) -> Partition:
    uuid = f"{disk_id:08x}-{number:02x}"
    return Partition(device, number, start * 512, count * 512, f"{kind:#04x}", uuid, "")


def _gpt(device: BlockDevice, required: bool) -> list[Partition]:
    """The partitions by the primary header, else by the backup at the device's end."""
    problem: Corrupt | None = None
    for sector in SECTOR_SIZES:
        for lba in (1, device.size // sector - 1):
            try:
                header = _gpt_header(device, sector, lba)
            except ReadError:
                continue
            except Corrupt as error:
                problem = problem or error
                continue
            if header is not None:
                return list(_gpt_entries(device, sector, header))
    if problem is not None:
        raise problem
    if required:
        raise Corrupt(device.name, "GPT header", 512, GPT_SIGNATURE, "neither the primary nor the backup")
    return []


def _gpt_header(device: BlockDevice, sector: int, lba: int) -> _Header | None:
    """The header at ``lba`` with its entries, None when there is none; Corrupt when one is there and damaged."""
    where = lba * sector
    raw = device.read(where, 512)
    if not raw.startswith(GPT_SIGNATURE):
        return None
    (_, _, size, crc, _, own_lba, _, first, last, _, table, count, entry_size, table_crc) = GPT_HEADER.unpack_from(raw)
    if not GPT_HEADER.size <= size <= 512:
        raise Corrupt(device.name, "GPT header size", where + 0x0C, GPT_HEADER.size, size)
    got = zlib.crc32(raw[:0x10] + bytes(4) + raw[0x14:size])
    if got != crc:
        raise Corrupt(device.name, "GPT header checksum", where + 0x10, crc, got)
    if own_lba != lba:
        raise Corrupt(device.name, "GPT header's own address", where + 0x18, lba, own_lba)
    if count > MAX_GPT_ENTRIES or not GPT_ENTRY.size <= entry_size <= MAX_GPT_ENTRY_SIZE:
        raise Corrupt(
            device.name, "GPT entry table geometry", where + 0x50, None, f"{count} entries of {entry_size} bytes"
        )
    entries = device.read(table * sector, count * entry_size)
    got = zlib.crc32(entries)
    if got != table_crc:
        raise Corrupt(device.name, "GPT entry table checksum", where + 0x58, table_crc, got)
    return _Header(first, last, entry_size, entries)


def _gpt_entries(device: BlockDevice, sector: int, header: _Header) -> Iterator[Partition]:
    for index in range(min(len(header.entries) // header.entry_size, MAX_NUMBER)):
        kind, uuid, first, last, _, name = GPT_ENTRY.unpack_from(header.entries, index * header.entry_size)
        # Entries that lie outside of the usable area are skipped, as block/partitions/efi.c:is_pte_valid does.
        if kind == bytes(16) or not header.first <= first <= last <= header.last:
            continue
        label = name.decode("utf-16-le", "replace").split("\0", 1)[0]
        yield Partition(
            device, index + 1, first * sector, (last - first + 1) * sector, guid_text(kind), guid_text(uuid), label
        )


def guid_text(raw: bytes) -> str:
    """A GUID as text: its first three fields are little-endian on disk."""
    a, b, c = struct.unpack_from("<IHH", raw)
    return f"{a:08x}-{b:04x}-{c:04x}-{raw[8:10].hex()}-{raw[10:16].hex()}"
