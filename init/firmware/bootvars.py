"""The firmware's boot menu: Boot####, BootOrder, BootNext.

Source: UEFI 2.10, sections 3.1.3 (load options), 3.3 (variables), 10.3 (device paths).
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from init.firmware.efivars import GLOBAL, FirmwareError, Variables, from_ucs2, ucs2

# EFI_LOAD_OPTION: 0x00 u32 attributes, 0x04 u16 bytes of device path; then description (UCS-2, NUL), path, data.
LOAD_OPTION = struct.Struct("<IH")
ACTIVE = 0x1
# Any node of a device path: 0x00 u8 type, 0x01 u8 subtype, 0x02 u16 length of the whole node.
NODE = struct.Struct("<BBH")
# Hard drive media node (4, 1): after the header 0x04 u32 partition number, 0x08 u64 first LBA, 0x10 u64 size in LBAs,
# 0x18 16 bytes signature, 0x28 u8 format (1 MBR, 2 GPT), 0x29 u8 kind of signature (1 disk id, 2 GUID).
HARD_DRIVE = struct.Struct("<IQQ16sBB")
MEDIA, MEDIA_HARD_DRIVE, MEDIA_FILE_PATH = 4, 1, 4
END = NODE.pack(0x7F, 0xFF, 4)

MAX_OPTIONS = 0x10000
_NAME = re.compile(r"Boot([0-9A-Fa-f]{4})")


class Partition(NamedTuple):
    """A partition as firmware recognises it."""

    number: int
    start: int  # in the disk's logical sectors
    size: int  # likewise
    signature: bytes  # the GUID as on disk, or the MBR's disk id and twelve zeros
    gpt: bool


class LoadOption(NamedTuple):
    """One line of the firmware's boot menu."""

    number: int
    description: str
    file: str  # path on the partition, with backslashes; "" when the option is of another kind
    data: bytes  # what the EFI program gets as its command line
    active: bool = True

    @property
    def name(self) -> str:
        """Of the variable."""
        return variable_name(self.number)


def variable_name(number: int) -> str:
    """Boot####, in upper case as the specification wants it."""
    return f"Boot{number:04X}"


def device_path(partition: Partition, file: str) -> bytes:
    """The short form that names a file on a partition of whatever disk has it."""
    body = HARD_DRIVE.pack(
        partition.number,
        partition.start,
        partition.size,
        partition.signature,
        2 if partition.gpt else 1,
        2 if partition.gpt else 1,
    )
    name = ucs2(file.replace("/", "\\"))
    return (
        NODE.pack(MEDIA, MEDIA_HARD_DRIVE, NODE.size + len(body))
        + body
        + NODE.pack(MEDIA, MEDIA_FILE_PATH, NODE.size + len(name))
        + name
        + END
    )


def encode(description: str, path: bytes, data: bytes) -> bytes:
    """An active load option."""
    return LOAD_OPTION.pack(ACTIVE, len(path)) + ucs2(description) + path + data


def decode(number: int, raw: bytes) -> LoadOption | None:
    """The load option in ``raw``, None when it is none."""
    if len(raw) < LOAD_OPTION.size:
        return None
    attributes, length = LOAD_OPTION.unpack_from(raw)
    description = from_ucs2(raw[LOAD_OPTION.size :])
    path = LOAD_OPTION.size + len(ucs2(description))
    if path + length > len(raw):
        return None
    return LoadOption(
        number,
        description,
        _file(raw[path : path + length]),
        raw[path + length :],
        bool(attributes & ACTIVE),
    )


def _file(path: bytes) -> str:
    """The file that a device path ends in."""
    name, offset = "", 0
    while offset + NODE.size <= len(path):
        kind, subkind, length = NODE.unpack_from(path, offset)
        if length < NODE.size or (kind, subkind) == (0x7F, 0xFF):
            break
        if (kind, subkind) == (MEDIA, MEDIA_FILE_PATH):
            name += from_ucs2(path[offset + NODE.size : offset + length])
        offset += length
    return name


class BootMenu:
    """The boot options in the variables of a machine."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables

    def options(self) -> list[LoadOption]:
        """All that can be understood, by number."""
        found = []
        for name in self.variables.names(GLOBAL):
            if not (match := _NAME.fullmatch(name)):
                continue
            value = self.variables.get(name, GLOBAL)
            option = decode(int(match[1], 16), value.data) if value else None
            if option is not None:
                found.append(option)
        return sorted(found)

    def put(self, description: str, path: bytes, data: bytes, own: str) -> int:
        """Make a boot option, in the place of one whose description begins with ``own``; returns its number.

        Raises FirmwareError.
        """
        taken = {option.number: option for option in self.options()}
        numbers = {int(match[1], 16) for name in self.variables.names(GLOBAL) if (match := _NAME.fullmatch(name))}
        number = next((n for n, option in taken.items() if option.description.startswith(own)), None)
        if number is None:
            number = next((n for n in range(MAX_OPTIONS) if n not in numbers), None)
        if number is None:
            raise FirmwareError("the firmware's boot menu is full")
        self.variables.set(variable_name(number), GLOBAL, encode(description, path, data))
        return number

    def remove(self, number: int) -> None:
        """Delete an option, and its number from BootOrder and BootNext.  Raises FirmwareError."""
        order = self.order()
        if number in order:
            self.set_order([other for other in order if other != number])
        if self.next() == number:
            self.variables.delete("BootNext", GLOBAL)
        self.variables.delete(variable_name(number), GLOBAL)

    def order(self) -> list[int]:
        """BootOrder."""
        value = self.variables.get("BootOrder", GLOBAL)
        return [number for (number,) in struct.iter_unpack("<H", value.data[: len(value.data) & ~1])] if value else []

    def set_order(self, numbers: list[int]) -> None:
        """Set BootOrder.  Raises FirmwareError."""
        self.variables.set("BootOrder", GLOBAL, b"".join(struct.pack("<H", number) for number in numbers))

    def next(self) -> int | None:
        """BootNext: what is started once, before BootOrder counts again."""
        value = self.variables.get("BootNext", GLOBAL)
        return int.from_bytes(value.data[:2], "little") if value and len(value.data) >= 2 else None

    def set_next(self, number: int) -> None:
        """Set BootNext.  Raises FirmwareError."""
        self.variables.set("BootNext", GLOBAL, struct.pack("<H", number))
