"""LZO as btrfs frames it: segments of at most one sector each, with their lengths before them."""

from __future__ import annotations

from struct import unpack_from

from fsdrivers.errors import BadData
from fsdrivers.native.decoders import lzo1x

_LENGTH = 4  # bytes of a little-endian length: of the whole at the start, and before each segment


def decompress(data: bytes | memoryview, size: int, sectorsize: int = 4096) -> bytes:
    """Up to ``size`` bytes of the extent ``data``, inline or not; raises BadData.

    A segment decodes to ``sectorsize`` bytes, the last one perhaps to less.  A length never crosses a sector:
    the writer pads instead.  Source: fs/btrfs/lzo.c (comment at the top, lzo_decompress_bio), v6.12.
    """
    data = bytes(data)
    if len(data) < 2 * _LENGTH:
        raise BadData("LZO", "no room for the lengths")
    end: int = unpack_from("<I", data)[0]
    if end > len(data):
        raise BadData("LZO", f"{end} bytes of segments in {len(data)} bytes")
    parts = []
    at, done = _LENGTH, 0
    while done < size and at + _LENGTH <= end:
        length: int = unpack_from("<I", data, at)[0]
        at += _LENGTH
        if length > end - at:
            raise BadData("LZO", f"a segment of {length} bytes, {end - at} bytes before the end")
        part = lzo1x(data[at : at + length], sectorsize)
        if not part:
            raise BadData("LZO", "an empty segment")
        parts.append(part)
        done += len(part)
        at += length
        if sectorsize - at % sectorsize < _LENGTH:
            at += sectorsize - at % sectorsize
    return b"".join(parts)[:size]
