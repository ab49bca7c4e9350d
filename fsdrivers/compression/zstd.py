"""Zstandard frames (RFC 8878), as btrfs stores them; ZFS's framing of them is in zfs_zstd.py."""

from __future__ import annotations

from typing import Any

from fsdrivers.errors import BadData
from fsdrivers.native import core

_core: Any = core("_zstd_core", "zstandard.backend_c")
_UNKNOWN = -1  # what frame_content_size() answers when the header does not tell

# The largest window that a writer of our formats can ask for: 16 MiB, the largest ZFS record (btrfs: 128 KiB,
# fs/btrfs/zstd.c:ZSTD_BTRFS_MAX_WINDOWLOG, v6.12).  The library allocates what the frame's header says.
MAX_WINDOW = 1 << 24

# Contexts cost 20 us to make and may serve one thread at a time: whoever needs one takes it from here.
_idle: list[Any] = []


def decompress(data: bytes | memoryview, size: int) -> bytes:
    """Up to ``size`` bytes of the frame at the start of ``data``; raises BadData."""
    if size <= 0:
        return b""
    try:
        context = _idle.pop()
    except IndexError:
        context = _core.ZstdDecompressor(max_window_size=MAX_WINDOW)
    try:
        claimed = _core.frame_content_size(data)
        if claimed == _UNKNOWN or 0 <= claimed <= size:
            try:
                return bytes(context.decompress(data, max_output_size=size, read_across_frames=False))
            except _core.ZstdError:
                if claimed != _UNKNOWN:
                    raise
        # The frame holds more than was asked for, or is damaged; its header's word allocates nothing here.
        plain = bytes(context.stream_reader(data, read_across_frames=False).read(size))
    except _core.ZstdError as error:
        raise BadData("zstd", str(error)) from None
    finally:
        _idle.append(context)
    if len(plain) < size:
        raise BadData("zstd", f"the frame breaks off after {len(plain)} of {size} bytes")
    return plain
