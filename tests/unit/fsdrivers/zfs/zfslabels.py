"""Labels as a hostile disk would have them: packed lists by hand, with a checksum that holds, on a disk of holes."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

from built import zfs

from fsdrivers.zfs import label, layout

ROOM = layout.LABEL_NVLIST_SIZE - layout.ECK["<"].size
SIZE = layout.MIN_DEVICE

HEADER = struct.pack(">iI", 0, 1)  # of an XDR list: version, flags
END = bytes(8)


def string(text: bytes) -> bytes:
    """An XDR string."""
    return struct.pack(">I", len(text)) + text + bytes(-len(text) % 4)


def pair(name: bytes, kind: int, value: bytes, count: int = 1, size: int | None = None) -> bytes:
    """One XDR pair; ``size`` is what it claims to have, when that is not the truth."""
    body = string(name) + struct.pack(">ii", kind, count) + value
    return struct.pack(">ii", 8 + len(body) if size is None else size, 1) + body


def packed(*pairs: bytes) -> bytes:
    """A whole XDR list."""
    return b"\1\1\0\0" + HEADER + b"".join(pairs) + END


def overlapping_lists(pairs: int) -> bytes:
    """Pairs with a list each, whose pairs begin where the parent's next pair does."""
    return packed(*(pair(b"", 19, HEADER, size=28) for _ in range(pairs)))


def overlapping_names(pairs: int) -> bytes:
    """Pairs of 20 bytes whose names reach over all that follows."""
    out = bytearray(b"\1\1\0\0" + HEADER)
    for _ in range(pairs):
        out += struct.pack(">iiI", 20, 1, (ROOM - 16 - (len(out) + 12)) & ~3) + bytes(8)
    return bytes((out + END).ljust(ROOM - 16, b"A")) + struct.pack(">iiii", 1, 1, 0, 0)


def disk(path: Path, content: bytes) -> Path:
    """An image at ``path`` with four labels that hold ``content``."""
    data = content.ljust(ROOM, b"\0")
    with path.open("wb") as file:
        file.truncate(SIZE)
        for start in label.offsets(SIZE):
            offset = start + layout.LABEL_NVLIST
            eck = zfs.ECK(zec_magic=layout.ECK_MAGIC, zec_cksum=[offset, 0, 0, 0])
            digest = struct.unpack(">4Q", hashlib.sha256(data + eck).digest())
            file.seek(offset)
            file.write(data + zfs.ECK(zec_magic=layout.ECK_MAGIC, zec_cksum=digest))
    return path
