"""LZJB, ZFS's first compression; see fsdrivers.native.decoders.lzjb."""

from __future__ import annotations

from fsdrivers.native.decoders import lzjb


def decompress(data: bytes | memoryview, size: int) -> bytes:
    """Exactly ``size`` bytes, as the format has no end; raises BadData."""
    return lzjb(bytes(data), size)
