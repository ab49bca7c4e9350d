"""ZLE, ZFS's run lengths of zeros; see fsdrivers.native.decoders.zle."""

from __future__ import annotations

from fsdrivers.native.decoders import zle


def decompress(data: bytes | memoryview, size: int) -> bytes:
    """Up to ``size`` bytes; raises BadData."""
    return zle(bytes(data), size)
