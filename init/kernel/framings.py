"""LZO and LZ4 as files: lzop's blocks, and LZ4's frames.

Sources: lzop 1.04, src/conf.h and p_lzo.c (the header, F_* flags), lib/decompress_unlzo.c:parse_header, v6.12;
lz4's doc/lz4_Frame_format.md, 1.9.4.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from fsdrivers.errors import BadData, Unsupported
from fsdrivers.filesystem import File
from fsdrivers.native.decoders import lz4, lzo1x

MAX_SMALL = 1024  # blocks of a file beyond those that it would have if each were as large as they get

LZOP_MAGIC = b"\x89LZO\0\r\n\x1a\n"
LZOP_USUAL, LZOP_BLOCK = 256 << 10, 16 << 20  # bytes that lzop and the kernel's build make, and that are taken
# Checksums of each block (of the plain data, of the compressed ones), and what moves the header's fields.
ADLER32_PLAIN, ADLER32_PACKED, CRC32_PLAIN, CRC32_PACKED = 0x1, 0x2, 0x100, 0x200
EXTRA_FIELD, FILTER, MULTIPART = 0x40, 0x800, 0x400
LZO1X = (1, 2, 3)  # methods: by the compressor's strength, all decoded alike

LZ4_LEGACY_BLOCK = 8 << 20  # bytes that a block of the legacy framing holds; lib/decompress_unlz4.c, v6.12
LZ4_LEGACY_PACKED = LZ4_LEGACY_BLOCK + LZ4_LEGACY_BLOCK // 255 + 16  # at most: LZ4_compressBound()
LZ4_SIZES = {4: 64 << 10, 5: 256 << 10, 6: 1 << 20, 7: 4 << 20}  # bytes of a block, by the descriptor's code
LZ4_INDEPENDENT, LZ4_BLOCK_CHECKSUM, LZ4_SIZE, LZ4_CHECKSUM, LZ4_DICTIONARY = 0x20, 0x10, 0x8, 0x4, 0x1
LZ4_STORED = 1 << 31


class _Reader:
    """The numbers at the start of a file, one after the other."""

    def __init__(self, file: File, kind: str, offset: int, limit: int) -> None:
        """``limit``: bytes of the whole, unpacked."""
        self.file, self.kind, self.offset = file, kind, offset
        self._blocks, self._limit = 0, limit

    def bytes(self, count: int) -> bytes:
        """The next ``count`` bytes.  Raises BadData at the end of the file."""
        if count > self.file.size - self.offset:
            raise BadData(self.kind, "it breaks off")
        data = self.file.read(self.offset, count)
        self.offset += count
        return bytes(data)

    def skip(self, count: int) -> None:
        """Pass over the next ``count`` bytes.  Raises BadData at the end of the file."""
        if count > self.file.size - self.offset:
            raise BadData(self.kind, "it breaks off")
        self.offset += count

    def block(self, most: int) -> None:
        """Count one more block of those of at most ``most`` bytes.  Raises BadData for too many: each costs its time,
        however small it is."""
        self._blocks += 1
        if self._blocks > MAX_SMALL + self._limit // most:
            raise BadData(self.kind, f"more than {self._blocks - 1} blocks")

    def big(self, count: int = 4) -> int:
        """The next number of ``count`` bytes, big-endian."""
        return int.from_bytes(self.bytes(count), "big")

    def little(self, count: int = 4) -> int:
        """The next number of ``count`` bytes, little-endian."""
        return int.from_bytes(self.bytes(count), "little")


def lzop(file: File, limit: int) -> Iterator[bytes]:
    """The blocks of an lzop file.  Raises BadData, Unsupported; ``limit`` bounds a block, too."""
    reader = _Reader(file, "lzo", len(LZOP_MAGIC), limit)
    flags = _lzop_header(reader)
    while size := reader.big():
        reader.block(LZOP_USUAL)
        packed = reader.big()
        if size > min(LZOP_BLOCK, limit) or not 0 < packed <= size:
            raise BadData("lzo", f"a block of {packed} bytes that stand for {size}")
        sums = {flag: reader.big() for flag in (ADLER32_PLAIN, CRC32_PLAIN) if flags & flag}
        for flag in (ADLER32_PACKED, CRC32_PACKED):
            if flags & flag and packed < size:
                reader.big()
        data = reader.bytes(packed)
        plain = lzo1x(data, size) if packed < size else data
        for flag, wanted in sums.items():
            if (zlib.adler32(plain) if flag == ADLER32_PLAIN else zlib.crc32(plain)) != wanted:
                raise BadData("lzo", "a block's checksum does not match")
        if len(plain) != size:
            raise BadData("lzo", f"a block has {len(plain)} bytes instead of {size}")
        yield plain


def _lzop_header(reader: _Reader) -> int:
    """The flags; the reader is at the first block then."""
    start = reader.offset
    version = reader.big(2)
    newer = version >= 0x940
    reader.bytes(4 if newer else 2)  # of the library, and what is needed to extract
    method = reader.big(1)
    if newer:
        reader.bytes(1)  # level
    flags = reader.big()
    if method not in LZO1X or flags & (FILTER | MULTIPART):
        raise Unsupported("lzop method", f"{reader.file.path}: method {method}, flags {flags:#x}")
    reader.bytes(12 if newer else 8)  # mode and time
    reader.bytes(reader.big(1))  # name
    header = reader.file.read(start, reader.offset - start)
    if reader.big() not in (zlib.adler32(header), zlib.crc32(header)):
        raise BadData("lzo", "the header's checksum does not match")
    if flags & EXTRA_FIELD:
        reader.skip(reader.big())
        reader.big()
    return flags


def lz4_legacy(file: File, limit: int) -> Iterator[bytes]:
    """The legacy framing, the kernel build's: a magic, then blocks, each with its compressed size in front (u32)."""
    reader = _Reader(file, "lz4", 4, limit)
    while reader.offset + 4 <= file.size:
        size = reader.little()
        if reader.offset > 8 and reader.offset == file.size:
            return  # the unwrapped size, which the kernel's build appends for some machines
        if not 0 < size <= LZ4_LEGACY_PACKED:
            raise BadData("lz4", f"a block of {size} bytes")
        reader.block(LZ4_LEGACY_BLOCK)
        yield lz4(reader.bytes(size), LZ4_LEGACY_BLOCK)
    if reader.offset != file.size or reader.offset == 4:
        raise BadData("lz4", "the blocks break off")


def lz4_frame(file: File, limit: int) -> Iterator[bytes]:
    """The blocks of an LZ4 frame, each of which stands for itself.  Raises BadData, Unsupported."""
    reader = _Reader(file, "lz4 frame", 4, limit)
    flags, room = reader.bytes(2)
    if flags >> 6 != 1 or room >> 4 & 7 not in LZ4_SIZES:
        raise BadData("lz4 frame", f"descriptor {flags:#x} {room:#x}")
    if flags & LZ4_DICTIONARY or not flags & LZ4_INDEPENDENT:
        raise Unsupported("lz4 frame", f"{file.path}: its blocks need a dictionary or each other")
    reader.bytes((8 if flags & LZ4_SIZE else 0) + 1)  # and the checksum of this
    most = LZ4_SIZES[room >> 4 & 7]
    while size := reader.little():
        reader.block(most)
        stored, size = size & LZ4_STORED, size & ~LZ4_STORED
        if size > most:
            raise BadData("lz4 frame", f"a block of {size} bytes")
        data = reader.bytes(size)
        yield data if stored else lz4(data, most)
        if flags & LZ4_BLOCK_CHECKSUM:
            reader.bytes(4)
    if flags & LZ4_CHECKSUM:
        reader.bytes(4)  # XXH32, of which there is no implementation here; a decoded kernel has its own checks
