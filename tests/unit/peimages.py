"""PE files of any sections, well-formed or not: only what the format asks for is in them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

_AT, _OPTIONAL = 0x80, 0xF0  # where the PE header is, and the size of the optional header


def table(sections: Sequence[tuple[bytes, int, int, int]], machine: int = 0x8664) -> bytes:
    """The headers of a file with ``sections``: name, virtual size, size in the file, offset in the file."""
    dos = bytearray(_AT)
    dos[:2] = b"MZ"
    struct.pack_into("<I", dos, 0x3C, _AT)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", machine, len(sections), 0, 0, 0, _OPTIONAL, 0x22)
    optional = bytearray(_OPTIONAL)
    struct.pack_into("<H", optional, 0, 0x20B)  # PE32+
    struct.pack_into("<H", optional, 0x44, 10)  # an EFI application
    struct.pack_into("<I", optional, 0x6C, 16)  # data directories
    rows = [
        struct.pack("<8sIIIIIIHHI", name, virtual, 0x1000, size, offset, 0, 0, 0, 0, 0x60000020)
        for name, virtual, size, offset in sections
    ]
    return bytes(dos) + coff + bytes(optional) + b"".join(rows)


def pe(sections: Sequence[tuple[bytes, bytes]], machine: int = 0x8664) -> bytes:
    """A file with ``sections``, names and contents, one behind the other."""
    at = len(table([(name, 0, 0, 0) for name, _ in sections]))
    rows = []
    for name, data in sections:
        rows.append((name, len(data), len(data), at))
        at += len(data)
    return table(rows, machine) + b"".join(data for _, data in sections)
