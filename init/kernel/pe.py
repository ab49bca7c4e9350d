"""What the header of an EFI program says.

Source: Microsoft's "PE Format"; include/linux/pe.h, v6.12.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

MZ, SIGNATURE = b"MZ", b"PE\0\0"
# 0x3C u32 where the PE header is.  From there: 0x00 "PE\0\0", 0x04 u16 machine, 0x14 u16 size of the optional header,
# 0x18 the optional header: in it 0x00 u16 magic (0x20B: 64 bits), 0x44 u16 subsystem, 0x6C u32 count of data
# directories, 0x70 those, 8 bytes each (u32 offset, u32 size); number 4 is the table of signatures.
PE_OFFSET, OPTIONAL, MAGIC_PE32_PLUS = 0x3C, 0x18, 0x20B
SUBSYSTEM, DIRECTORY_COUNT, DIRECTORIES, CERTIFICATES = 0x44, 0x6C, 0x70, 4
EFI_APPLICATION = 10
MACHINES = {0x8664: "x86_64", 0xAA64: "aarch64"}


class Program(NamedTuple):
    """An EFI program: ``machine`` as uname -m has it."""

    machine: str
    signed: bool
    """Whether there is a signature at all; whose it is the firmware decides."""


def identify(header: bytes) -> Program | None:
    """What the first bytes of a file (4 KiB do) are; None when it is no EFI program."""
    if not header.startswith(MZ) or len(header) < 0x40:
        return None
    (start,) = struct.unpack_from("<I", header, PE_OFFSET)
    optional = start + OPTIONAL
    if header[start : start + 4] != SIGNATURE or optional + DIRECTORIES > len(header):
        return None
    (machine,) = struct.unpack_from("<H", header, start + 4)
    (magic,) = struct.unpack_from("<H", header, optional)
    (subsystem,) = struct.unpack_from("<H", header, optional + SUBSYSTEM)
    if magic != MAGIC_PE32_PLUS or subsystem != EFI_APPLICATION or machine not in MACHINES:
        return None
    (count,) = struct.unpack_from("<I", header, optional + DIRECTORY_COUNT)
    entry = optional + DIRECTORIES + 8 * CERTIFICATES
    size = struct.unpack_from("<II", header, entry)[1] if count > CERTIFICATES and entry + 8 <= len(header) else 0
    return Program(MACHINES[machine], size > 0)
