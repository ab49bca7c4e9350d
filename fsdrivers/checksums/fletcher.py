"""Fletcher-2 and Fletcher-4 of ZFS: ``fletcherN(data, big) -> four 64-bit words``.

The words are those of zio_cksum_t as numbers; ``big`` says that a big-endian machine wrote ``data``.
"""

from __future__ import annotations

from fsdrivers.native.fletcher import Words
from fsdrivers.native.fletcher import fletcher2 as _fletcher2
from fsdrivers.native.fletcher import fletcher4 as _fletcher4

__all__ = ["Words", "fletcher2", "fletcher4"]


def fletcher2(data: bytes | bytearray | memoryview, big: bool = False) -> Words:
    """See fsdrivers.native.fletcher.fletcher2."""
    return _fletcher2(data if type(data) is bytes else bytes(data), big)


def fletcher4(data: bytes | bytearray | memoryview, big: bool = False) -> Words:
    """See fsdrivers.native.fletcher.fletcher4."""
    return _fletcher4(data if type(data) is bytes else bytes(data), big)
