"""Where the data of a removed vdev went.

Sources: module/zfs/vdev_indirect.c:vdev_indirect_remap, vdev_indirect_mapping.c; OpenZFS 2.3.4.

The mapping object is an array of (source offset, destination address) sorted by source, 24 bytes each; an
entry covers as many bytes as its destination was allocated.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from fsdrivers.errors import Corrupt, TooMany
from fsdrivers.kept import Kept
from fsdrivers.zfs import layout
from fsdrivers.zfs.dmu import Objset
from fsdrivers.zfs.vdevs import MAX_SEGMENTS, Segment, Vdev

MAX_ENTRIES = 1 << 24
MAX_DEPTH = 16  # mappings may lie on vdevs that were removed later
ENTRY = 3  # words
RUN = 4096  # entries that are read at a time
_KEPT = 32  # runs, four times as large decoded as on the disk


class Mapping:
    """The mapping in object ``number`` of the MOS, loaded at first use; ``vdevs`` are the pool's top-level ones."""

    def __init__(self, mos: Objset, number: int, vdevs: Sequence[Vdev]) -> None:
        self._mos, self._number, self._vdevs = mos, number, vdevs
        self._count: int | None = None
        self._runs: Kept[int, tuple[int, ...]] = Kept(_KEPT)
        self._busy = 0

    def resolve(self, offset: int, size: int) -> list[Segment]:
        """The segments that hold [offset, offset + size) of the removed vdev; raises Corrupt when some are not."""
        if self._busy > MAX_DEPTH:
            raise self._corrupt("mapping of a removed vdev needs itself", offset)
        self._busy += 1
        try:
            return self._resolve(offset, offset + size)
        finally:
            self._busy -= 1

    def _resolve(self, offset: int, end: int) -> list[Segment]:
        segments: list[Segment] = []
        count = self._entries()
        index = self._find(offset, count)
        while offset < end:
            if index >= count:
                raise self._corrupt("hole in the mapping of a removed vdev", offset)
            source, first, second = self._entry(index)
            length = (first & 0xFFFFFF) << layout.SECTOR_SHIFT
            vdev, target = first >> 32 & 0xFFFFFF, (second & (1 << 63) - 1) << layout.SECTOR_SHIFT
            if not source <= offset < source + length or vdev >= len(self._vdevs):
                raise self._corrupt("entry in the mapping of a removed vdev", offset, vdev)
            skip = offset - source
            part = min(length - skip, end - offset)
            segments.append((self._vdevs[vdev], target + skip, part))
            if len(segments) > MAX_SEGMENTS:
                raise TooMany(f"pieces of a block of a removed vdev of {self._mos.store.name}", MAX_SEGMENTS)
            offset += part
            index += 1
        return segments

    def _find(self, offset: int, count: int) -> int:
        """The index of the last entry that starts at or before ``offset``."""
        low, high = 0, count
        while high - low > 1:
            middle = (low + high) // 2
            if self._entry(middle)[0] <= offset:
                low = middle
            else:
                high = middle
        return low

    def _entry(self, index: int) -> tuple[int, int, int]:
        """Entry ``index``: the byte that it starts at, and the two words of its destination."""
        run, at = divmod(index, RUN)
        words = self._runs.get(run)
        if words is None:
            words = self._load(run)
            self._runs.put(run, words)
        at *= ENTRY
        return (words[at] & (1 << 63) - 1) << layout.SECTOR_SHIFT, words[at + 1], words[at + 2]

    def _entries(self) -> int:
        """How many there are."""
        if self._count is None:
            dnode = self._mos.dnode(self._number)
            shape = layout.MAPPING_BONUS[dnode.order]
            if len(dnode.bonus) < shape.size:
                raise self._corrupt("mapping of a removed vdev: bonus", 0, len(dnode.bonus))
            count: int = shape.unpack_from(dnode.bonus)[2]
            if count > MAX_ENTRIES:
                raise TooMany(f"entries in the mapping of a removed vdev of {self._mos.store.name}", MAX_ENTRIES)
            self._count = count
        return self._count

    def _load(self, run: int) -> tuple[int, ...]:
        dnode = self._mos.dnode(self._number)
        words = ENTRY * (min(self._entries(), (run + 1) * RUN) - run * RUN)
        pieces = dnode.pieces(run * RUN * ENTRY * 8, words * 8)
        data = b"".join(bytes(piece.length) if piece.data is None else piece.data for piece in pieces)
        return struct.unpack(f"{dnode.order}{words}Q", data)

    def _corrupt(self, what: str, offset: int, got: object = None) -> Corrupt:
        return Corrupt(self._mos.store.name, what, offset, got=got)
