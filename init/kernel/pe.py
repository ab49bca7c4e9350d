"""What the headers of an EFI program say: what it is for, and the sections of it that are files to us.

Sources: Microsoft's "PE Format"; include/linux/pe.h, v6.12; UAPI.5 Unified Kernel Image and src/boot/pe.c of systemd
257 for sections and profiles.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from fsdrivers.errors import Corrupt, NotFound
from fsdrivers.filesystem import File, Filesystem
from init.kernel.files import Part

MZ, SIGNATURE = b"MZ", b"PE\0\0"
# 0x3C u32 where the PE header is.  From there: 0x00 "PE\0\0", 0x04 u16 machine, 0x14 u16 size of the optional header,
# 0x18 the optional header: in it 0x00 u16 magic (0x20B: 64 bits), 0x44 u16 subsystem, 0x6C u32 count of data
# directories, 0x70 those, 8 bytes each (u32 offset, u32 size); number 4 is the table of signatures.
PE_OFFSET, OPTIONAL, MAGIC_PE32_PLUS = 0x3C, 0x18, 0x20B
SUBSYSTEM, DIRECTORY_COUNT, DIRECTORIES, CERTIFICATES = 0x44, 0x6C, 0x70, 4
EFI_APPLICATION = 10
MACHINES = {0x8664: "x86_64", 0xAA64: "aarch64"}

MAX_SECTIONS = 96  # the PE format's own limit
MAX_PROFILES = 64
MARK = "#"  # between the path of a PE file and the name of its section

# DOS header: 0x00 "MZ", 0x3C u32 offset of the PE header.  PE header: "PE\0\0", then the COFF header: 0x00 machine u16,
# 0x02 number of sections u16, 0x10 size of the optional header u16, 0x12 characteristics u16.
_DOS_SIZE, _PE_AT = 0x40, struct.Struct("<I")
_COFF = struct.Struct("<4sHHIIIHH")
# Section header: 0x00 name, 0x08 virtual size u32, 0x0C virtual address u32, 0x10 raw size u32, 0x14 raw offset u32
_SECTION = struct.Struct("<8sIIIIIIHHI")


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


class Section(NamedTuple):
    """One section: where its bytes are in the file, in bytes."""

    name: str
    offset: int
    size: int


class Profile(NamedTuple):
    """What one profile of an image is made of: sections by name, its own in place of the shared ones."""

    number: int
    sections: dict[str, Section]


def sections(file: File) -> tuple[int, list[Section]]:
    """The machine and the sections of a PE file.  Raises Corrupt, or the driver's errors."""
    head = file.read(0, _DOS_SIZE)
    if len(head) < _DOS_SIZE or head[:2] != b"MZ":
        raise Corrupt(file.path, "PE file", 0, b"MZ", head[:2])
    (at,) = _PE_AT.unpack_from(head, 0x3C)
    raw = file.read(at, _COFF.size) if at < file.size else b""
    if len(raw) < _COFF.size or raw[:4] != b"PE\0\0":
        raise Corrupt(file.path, "PE header", at, b"PE\0\0", raw[:4])
    _, machine, count, _, _, _, optional, _ = _COFF.unpack(raw)
    if count > MAX_SECTIONS:
        raise Corrupt(file.path, "number of PE sections", at + 6, f"at most {MAX_SECTIONS}", count)
    start = at + _COFF.size + optional
    table = file.read(start, count * _SECTION.size) if start < file.size else b""
    if len(table) < count * _SECTION.size:
        raise Corrupt(file.path, "PE section table", start)
    found = []
    for name, virtual, _, size, offset, *_ in _SECTION.iter_unpack(table):
        # The raw size is rounded up to the file's alignment, the virtual one is what was put in.
        length = min(virtual, size) if virtual else size
        label = name.rstrip(b"\0").decode("ascii", "replace")
        if offset + length > file.size:
            raise Corrupt(file.path, f"PE section {label}", offset, f"{length} bytes", file.size - offset)
        found.append(Section(label, offset, length))
    return machine, found


def profiles(found: list[Section]) -> list[Profile]:
    """The profiles: sections before the first ".profile" are shared by all of them."""
    shared: dict[str, Section] = {}
    split: list[dict[str, Section]] = []
    for section in found:
        if section.name == ".profile":
            split.append({})
        (split[-1] if split else shared).setdefault(section.name, section)
    return [Profile(number, shared | own) for number, own in enumerate(split[:MAX_PROFILES] or [{}])]


def named(filesystem: Filesystem, path: str) -> tuple[str, str, str] | None:
    """The PE file, the section and the profile ("" for the first) that a path names; None when it is that of a file."""
    name, mark, wanted = path.rpartition(MARK)
    if not mark or not wanted.startswith(".") or filesystem.exists(path):
        return None
    section, _, number = wanted.partition("@")
    return name, section, number


def open_file(filesystem: Filesystem, path: str) -> File:
    """The file that an Item's kernel or initrd names: a whole file, or a section of a PE file ("x.efi#.initrd@1").

    Raises the driver's errors, NotFound for a section that is not there, and Corrupt.
    """
    parts = named(filesystem, path)
    if parts is None:
        return filesystem.open(path)
    name, section, number = parts
    file = filesystem.open(name)
    for profile in profiles(sections(file)[1]):
        if str(profile.number) == (number or "0") and section in profile.sections:
            found = profile.sections[section]
            return Part(file, path, found.offset, found.size)
    raise NotFound(path)
