"""zlib streams (RFC 1950), in btrfs and in ZFS ("gzip-N")."""

from __future__ import annotations

import zlib

from fsdrivers.errors import BadData


def decompress(data: bytes | memoryview, size: int) -> bytes:
    """Up to ``size`` bytes of the stream at the start of ``data``; raises BadData.

    Sources: fs/btrfs/zlib.c:zlib_decompress_bio, v6.12; OpenZFS module/zfs/gzip.c, 2.3.
    """
    if size <= 0:
        return b""
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(data, size)
    except zlib.error as error:
        raise BadData("zlib", str(error)) from None
    if len(plain) < size and not stream.eof:
        raise BadData("zlib", f"the stream ends after {len(plain)} of {size} bytes")
    return plain
