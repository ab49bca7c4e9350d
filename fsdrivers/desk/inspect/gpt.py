"""Partition tables for `fsdrivers inspect`: the MBR, both headers of a GPT, and the entries of each.

Sources: UEFI specification 2.10, chapter 5; the UAPI group's Discoverable Partitions Specification for types and
attributes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

from fsdrivers import partitions
from fsdrivers.block import BlockDevice
from fsdrivers.desk.inspect import words
from fsdrivers.desk.inspect.derived import Structures
from fsdrivers.desk.inspect.report import Field, Nothing, Report, Words, fields
from fsdrivers.errors import FsError

disk = Structures(partitions)

_TYPES = {
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system partition",
    "bc13c2ff-59e6-4262-a352-b275fd6f7172": "extended boot loader partition",
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot partition",
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux file system",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root, x86-64",
    "b921b045-1df0-41c3-af44-4c6f280d3fae": "Linux root, arm64",
    "933ac7e1-2eb4-4f13-b844-0e14e2aef915": "Linux home",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
    "ca7d7ccb-63ed-4c53-861c-1742536059cc": "LUKS",
    "e6d6d379-f507-44c2-a23c-238f2a3df928": "LVM",
    "a19d880f-05fc-4d3b-a006-743f0f84911e": "Linux RAID",
    "6a898cc3-1dd2-11b2-99a6-080020736631": "ZFS",
    "6a945a3b-1dd2-11b2-99a6-080020736631": "ZFS, reserved",
    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "Microsoft basic data",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
}
_ATTRIBUTES = {
    0: "required by the platform", 1: "no block I/O protocol", 2: "legacy BIOS bootable", 59: "grow file system",
    60: "read-only", 62: "hidden", 63: "no automount",
}  # fmt: skip
_MBR_TYPES = {
    0x00: "empty", 0x05: "extended", 0x06: "FAT16", 0x07: "NTFS or exFAT", 0x0B: "FAT32", 0x0C: "FAT32, LBA",
    0x0E: "FAT16, LBA", 0x0F: "extended, LBA", 0x82: "Linux swap", 0x83: "Linux", 0x85: "Linux extended", 0x8E: "LVM",
    0xEE: "protective, of a GPT", 0xEF: "EFI system partition", 0xFD: "Linux RAID",
}  # fmt: skip


def _type(raw: bytes) -> tuple[object, str]:
    text = partitions.guid_text(raw)
    return text, f"{text} ({_TYPES.get(text, 'unknown type')})"


_HEADER: dict[str, Words] = {
    "signature": words.magic(partitions.GPT_SIGNATURE),
    "revision": lambda value: (value, f"{value >> 16}.{value & 0xFFFF}"),
    "disk_guid": words.guid,
}
_ENTRY: dict[str, Words] = {
    "partition_type_guid": _type,
    "unique_partition_guid": words.guid,
    "attributes": words.flags(_ATTRIBUTES),
    "partition_name": words.utf16,
}
_MBR: dict[str, Words] = {
    "status": words.named({0: "not active", 0x80: "active"}),
    "type": lambda value: (value, f"{value:#04x} ({_MBR_TYPES.get(value, 'unknown type')})"),
}


def tables(devices: Sequence[BlockDevice]) -> Iterator[Report]:
    """The tables of those of ``devices`` that have any.  Raises Nothing when none has."""
    found = False
    for device in devices:
        for report in _device(device):
            found = True
            yield report
    if not found:
        raise Nothing(f"no partition table on {', '.join(device.name for device in devices)}")


def _device(device: BlockDevice) -> Iterator[Report]:
    first = _read(device, 0, 512)
    if first[0x1FE:] == partitions.MBR_SIGNATURE:
        yield _mbr(device, first)
    for sector in partitions.SECTOR_SIZES:
        last = device.size // sector - 1
        headers = {lba: _read(device, lba * sector, 512) for lba in (1, last) if lba > 0}
        if not any(raw.startswith(partitions.GPT_SIGNATURE) for raw in headers.values()):
            continue
        primary = headers[1]
        if primary.startswith(partitions.GPT_SIGNATURE):
            # The other one may be elsewhere: the image of a smaller disk on a larger one.
            other = disk.GPT_HEADER.parse(primary[: disk.GPT_HEADER.size]).alternate_lba
            if 1 < other < last and _read(device, other * sector, 512).startswith(partitions.GPT_SIGNATURE):
                headers[other] = _read(device, other * sector, 512)
        for lba, raw in sorted(headers.items()):
            yield from _gpt(device, sector, lba, raw)


def _read(device: BlockDevice, offset: int, length: int) -> bytes:
    """The bytes there, nothing when they cannot be read."""
    try:
        return device.read(offset, length)
    except FsError:
        return b""


def _mbr(device: BlockDevice, raw: bytes) -> Report:
    size = disk.MBR_ENTRY.size
    identity = int.from_bytes(raw[0x1B8:0x1BC], "little")
    found = [Field("disk_id", identity, f"{identity:#010x}", 0x1B8, 4)]
    problems = []
    for number in range(4):
        at = partitions.MBR_ENTRIES + number * size
        if any(raw[at : at + size]):
            found.append(
                Field(f"entry {number + 1}", None, "", at, size, fields(disk.MBR_ENTRY, raw[at : at + size], _MBR, at))
            )
            if raw[at] not in partitions.MBR_FLAGS:
                problems.append(f"entry {number + 1}: its status is neither 0 nor 0x80 (a boot sector, and no table?)")
    return Report({"structure": "MBR", "device": device.name, "offset": 0}, tuple(found), tuple(problems))


def _gpt(device: BlockDevice, sector: int, lba: int, raw: bytes) -> Iterator[Report]:
    """One header, then the entries that it leads to."""
    title: dict[str, object] = {
        "structure": "GPT header" if lba == 1 else "GPT header, backup", "device": device.name, "offset": lba * sector,
        "sector size": sector,
    }  # fmt: skip
    if not raw.startswith(partitions.GPT_SIGNATURE):
        yield Report(title, (), ("there is none: the signature is missing",))
        return
    head = disk.GPT_HEADER.parse(raw)
    problems: list[str] = []
    size = head.header_size
    if not disk.GPT_HEADER.size <= size <= len(raw):
        problems.append(f"header_size: {size}")
        size = disk.GPT_HEADER.size
    whole = zlib.crc32(raw[:0x10] + bytes(4) + raw[0x14:size])
    if whole != head.header_crc32:
        problems.append("header_crc32")
    if head.my_lba != lba:
        problems.append(f"my_lba: it should be {lba}")
    table = _table(device, sector, head, problems)
    sums = zlib.crc32(table) if table else None
    if table and sums != head.partition_entry_array_crc32:
        problems.append("partition_entry_array_crc32")
    meanings = {**_HEADER, "header_crc32": _crc(whole), "partition_entry_array_crc32": _crc(sums)}
    yield Report(title, fields(disk.GPT_HEADER, raw, meanings), tuple(problems))
    width = head.sizeof_partition_entry
    for number in range(len(table) // width if table else 0):
        entry = table[number * width : number * width + disk.GPT_ENTRY.size]
        if any(entry[:16]):
            yield _entry(device, number, head.partition_entry_lba * sector + number * width, entry, head)


def _table(device: BlockDevice, sector: int, head: dict[str, int], problems: list[str]) -> bytes:
    """The entries that a header leads to; nothing, and one of ``problems`` more, when they cannot be had."""
    count, width = head["num_partition_entries"], head["sizeof_partition_entry"]
    if count > partitions.MAX_GPT_ENTRIES or not disk.GPT_ENTRY.size <= width <= partitions.MAX_GPT_ENTRY_SIZE:
        problems.append(f"{count} entries of {width} bytes")
        return b""
    table = _read(device, head["partition_entry_lba"] * sector, count * width)
    if len(table) < count * width:
        problems.append("its entries cannot be read")
    return table


def _crc(computed: int | None) -> Words:
    """A CRC-32 that should be ``computed`` (None: nobody knows)."""

    def shown(value: int) -> tuple[object, str]:
        text = f"{value:#010x}"
        return value, text if computed is None else words.checksum(text, f"{computed:#010x}")[1]

    return shown


def _entry(device: BlockDevice, number: int, offset: int, raw: bytes, head: dict[str, int]) -> Report:
    found = disk.GPT_ENTRY.parse(raw)
    inside = head["first_usable_lba"] <= found.starting_lba <= found.ending_lba <= head["last_usable_lba"]
    title = {"structure": f"GPT entry {number + 1}", "device": device.name, "offset": offset}
    return Report(
        title, fields(disk.GPT_ENTRY, raw, _ENTRY), () if inside else ("it lies outside of the usable blocks",)
    )
