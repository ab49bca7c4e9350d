"""The codecs of compressed extents.

Source: fs/btrfs/compression.c, zlib.c, zstd.c, lzo.c:lzo_decompress_bio and lzo_decompress, v6.12.
"""

from __future__ import annotations

from fsdrivers.btrfs import layout
from fsdrivers.errors import Unsupported

NAMES = {layout.COMPRESS_ZLIB: "zlib", layout.COMPRESS_LZO: "lzo", layout.COMPRESS_ZSTD: "zstd"}


def decompress(kind: int, data: memoryview, size: int, sectorsize: int) -> bytes:
    """The extent's bytes, exactly ``size``: the kernel too fills up what the stream does not deliver with zeros.

    Raises BadData, Unsupported.
    """
    if kind == layout.COMPRESS_ZSTD:
        from fsdrivers.compression import zstd

        plain = zstd.decompress(data, size)
    elif kind == layout.COMPRESS_ZLIB:
        from fsdrivers.compression import zlib_

        plain = zlib_.decompress(data, size)
    elif kind == layout.COMPRESS_LZO:
        from fsdrivers.compression import lzo

        plain = lzo.decompress(data, size, sectorsize)
    else:
        raise Unsupported(f"btrfs compression type {kind}")
    return plain if len(plain) == size else plain + bytes(size - len(plain))
