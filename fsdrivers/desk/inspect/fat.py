"""The boot sector of FAT for `fsdrivers inspect`, its backup, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fsdrivers.block import BlockDevice
from fsdrivers.desk.inspect import words
from fsdrivers.desk.inspect.derived import Structures
from fsdrivers.desk.inspect.report import Field, Nothing, Report, Words, fields
from fsdrivers.errors import FsError
from fsdrivers.fat import layout
from fsdrivers.fat.volume import Volume

disk = Structures(layout)

_MEDIA = {0xF0: "removable", 0xF8: "hard disk"}
_BOOT: dict[str, Words] = {
    "system_id": words.text,
    "media": lambda value: (value, f"{value:#04x} ({_MEDIA.get(value, 'other')})"),
}
_VOLUME: dict[str, Words] = {
    "state": words.flags({0: "dirty", 1: "needs a test of its surface"}),
    "signature": words.hexadecimal,
    "vol_id": lambda value: (value, f"{value >> 16:04X}-{value & 0xFFFF:04X}"),
    "vol_label": lambda raw: words.text(raw.rstrip(b" ")),
}
_EXTENDED: dict[str, Words] = {
    "flags": lambda value: (
        value,
        f"{value:#06x} ({f'FAT {value & layout.ACTIVE_FAT} alone' if value & layout.NO_MIRROR else 'all FATs alike'})",
    ),
    "version": lambda value: (value, f"{value >> 8}.{value & 0xFF}"),
}


def boot_sectors(devices: Sequence[BlockDevice]) -> Iterator[Report]:
    """The boot sectors of those of ``devices`` that carry FAT.  Raises Nothing when none does."""
    found = False
    for device in devices:
        raw = _sector(device, 0)
        if _like_fat(raw):
            found = True
            yield from _volume(device, raw)
    if not found:
        raise Nothing(f"no FAT boot sector on {', '.join(device.name for device in devices)}")


def _sector(device: BlockDevice, offset: int) -> bytes:
    """The 512 bytes there, zeros when they cannot be read."""
    try:
        return device.read(offset, 512)
    except FsError:
        return bytes(512)


def _like_fat(raw: bytes) -> bool:
    """Whether a sector has two of the three things that say FAT, as damage may have taken one."""
    named = raw[0x36:0x39] == b"FAT" or raw[0x52:0x55] == b"FAT"
    signed = raw[layout.BOOT_SIGNATURE_AT :] == layout.BOOT_SIGNATURE
    jumps = raw[0] in (0xEB, 0xE9) and int.from_bytes(raw[0x0B:0x0D], "little") in layout.SECTOR_SIZES
    return named + signed + jumps >= 2


def _volume(device: BlockDevice, raw: bytes) -> Iterator[Report]:
    found, large = _fields(raw)
    problems: tuple[str, ...] = ()
    try:
        volume = Volume(device)
    except FsError as error:
        problems = (str(error),)
    else:
        found += tuple(
            Field(name, value, str(value))
            for name, value in (
                ("FAT bits", volume.bits), ("bytes per cluster", volume.cluster),
                ("clusters", volume.end - layout.FIRST_CLUSTER), ("data starts at", volume.data_start),
            )
        )  # fmt: skip
    yield Report({"structure": "FAT boot sector", "device": device.name, "offset": 0}, found, problems)
    head = disk.BOOT_SECTOR.parse(raw)
    at, structure = layout.EXTENDED_32[0], disk.EXTENDED_32
    backup = structure.parse(raw[at:]).backup_boot if large else 0
    if 0 < backup < head.reserved:
        offset = backup * head.sector_size
        copy = _sector(device, offset)
        title: dict[str, object] = {"structure": "FAT boot sector, backup", "device": device.name, "offset": offset}
        different = [index for index in range(512) if copy[index] != raw[index]]
        yield Report(title, _fields(copy)[0], (f"it differs from the first at {different[0]:#x}",) if different else ())


def _fields(raw: bytes) -> tuple[tuple[Field, ...], bool]:
    """The fields of a boot sector, and whether it is one of FAT32."""
    found = fields(disk.BOOT_SECTOR, raw, _BOOT)
    head = disk.BOOT_SECTOR.parse(raw)
    large = head.fat_length == 0
    if large:
        found += fields(disk.EXTENDED_32, raw[layout.EXTENDED_32[0] :], _EXTENDED)
        found += fields(disk.VOLUME_32, raw[layout.VOLUME_32[0] :], _VOLUME)
    else:
        found += fields(disk.EXTENDED_16, raw[layout.EXTENDED_16[0] :], _VOLUME)
    at = layout.BOOT_SIGNATURE_AT
    signature = raw[at:].hex()
    right = raw[at:] == layout.BOOT_SIGNATURE
    text = f"{signature} ({'right' if right else f'wrong, it should be {layout.BOOT_SIGNATURE.hex()}'})"
    return (*found, Field("boot_signature", signature, text, at, 2)), large
