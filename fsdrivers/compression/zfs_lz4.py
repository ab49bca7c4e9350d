"""LZ4 as ZFS stores it: the length of the block in 4 big-endian bytes, then the block, then padding.

Source: OpenZFS module/zfs/lz4_zfs.c:zfs_lz4_decompress_buf, 2.3.
"""

from __future__ import annotations

from fsdrivers.errors import BadData
from fsdrivers.native.decoders import lz4


def decompress(data: bytes | memoryview, size: int) -> bytes:
    """Up to ``size`` bytes; raises BadData."""
    length = int.from_bytes(data[:4], "big")
    if len(data) < 4 or length > len(data) - 4:
        raise BadData("LZ4", f"a block of {length} bytes in {len(data)} bytes")
    return lz4(bytes(data[4 : 4 + length]), size)
