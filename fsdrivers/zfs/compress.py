"""The compressions of blocks, by the number in a pointer.

Source: include/sys/zio_compress.h:enum zio_compress, module/zfs/zio_compress.c; OpenZFS 2.3.4.
"""

from __future__ import annotations

from collections.abc import Callable

from fsdrivers.errors import BadData, Unsupported

INHERIT, ON, OFF, LZJB, EMPTY, GZIP_1 = range(6)
GZIP_9, ZLE, LZ4, ZSTD = 13, 14, 15, 16
NAMES = (
    "inherit", "on", "off", "lzjb", "empty", *(f"gzip-{level}" for level in range(1, 10)), "zle", "lz4", "zstd",
)  # fmt: skip

_decoders: dict[int, Callable[[bytes, int], bytes]] = {}


def decompress(number: int, data: bytes, size: int) -> bytes:
    """The ``size`` bytes that ``data`` was compressed from.

    Raises BadData when it holds something else, Unsupported for an algorithm that no release of OpenZFS has.
    """
    decoder = _decoders.get(number)
    if decoder is None:
        decoder = _decoders[number] = _load(number)
    plain = decoder(data, size)
    if len(plain) != size:
        raise BadData(NAMES[number], f"{len(plain)} bytes instead of {size}")
    return plain


def _load(number: int) -> Callable[[bytes, int], bytes]:
    if number == LZ4:
        from fsdrivers.compression.zfs_lz4 import decompress as lz4

        return lz4
    if number == ZSTD:
        from fsdrivers.compression.zfs_zstd import decompress as zstd

        return zstd
    if GZIP_1 <= number <= GZIP_9:
        from fsdrivers.compression.zlib_ import decompress as gzip

        return gzip
    if number == LZJB:
        from fsdrivers.compression.lzjb import decompress as lzjb

        return lzjb
    if number == ZLE:
        from fsdrivers.compression.zle import decompress as zle

        return zle
    if number == EMPTY:
        return lambda data, size: bytes(size)
    raise Unsupported(f"compression {number}")
