"""Zstandard as ZFS stores it: a header of 8 bytes, then a frame without its magic number, then padding.

The header is the length of the frame in 4 big-endian bytes, and version and level of the compressor, which
decompression does not need.
Source: OpenZFS include/sys/zstd/zstd.h:zfs_zstd_header, module/zstd/zfs_zstd.c:zfs_zstd_decompress_level_buf, 2.3.
"""

from __future__ import annotations

from fsdrivers.compression import zstd
from fsdrivers.errors import BadData

_HEADER = 8
_MAGIC = b"\x28\xb5\x2f\xfd"


def decompress(data: bytes | memoryview, size: int) -> bytes:
    """Up to ``size`` bytes; raises BadData."""
    length = int.from_bytes(data[:4], "big")
    if len(data) < _HEADER or length > len(data) - _HEADER:
        raise BadData("zstd", f"a frame of {length} bytes in {len(data)} bytes")
    return zstd.decompress(b"".join((_MAGIC, data[_HEADER : _HEADER + length])), size)
