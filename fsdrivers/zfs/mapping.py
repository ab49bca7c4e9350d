"""Where the data of a removed vdev went.

Sources: module/zfs/vdev_indirect.c:vdev_indirect_remap, vdev_indirect_mapping.c; OpenZFS 2.3.4.

The mapping object is an array of (source offset, destination address) sorted by source, 24 bytes each; an
entry covers as many bytes as its destination was allocated.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from fsdrivers.errors import Corrupt
from fsdrivers.zfs import layout
from fsdrivers.zfs.dmu import Objset
from fsdrivers.zfs.vdevs import Segment, Vdev

MAX_ENTRIES = 1 << 21
MAX_DEPTH = 16  # removed vdevs may map to vdevs that were removed later


class Mapping:
    """The mapping in object ``number`` of the MOS, loaded at first use; ``vdevs`` are the pool's top-level ones."""

    def __init__(self, mos: Objset, number: int, vdevs: Sequence[Vdev]) -> None:
        self._mos, self._number, self._vdevs = mos, number, vdevs
        self._words: tuple[int, ...] | None = None
        self._busy = 0

    def resolve(self, offset: int, size: int) -> list[Segment]:
        """The segments that hold [offset, offset + size) of the removed vdev; raises Corrupt when some are not."""
        if self._busy > MAX_DEPTH:
            raise self._corrupt("mapping of a removed vdev needs itself", offset)
        self._busy += 1
        try:
            words = self._load()
        finally:
            self._busy -= 1
        segments: list[Segment] = []
        at = self._find(words, offset)
        end = offset + size
        while offset < end:
            if at >= len(words):
                raise self._corrupt("hole in the mapping of a removed vdev", offset)
            source = (words[at] & (1 << 63) - 1) << layout.SECTOR_SHIFT
            first, second = words[at + 1], words[at + 2]
            length = (first & 0xFFFFFF) << layout.SECTOR_SHIFT
            vdev, target = first >> 32 & 0xFFFFFF, (second & (1 << 63) - 1) << layout.SECTOR_SHIFT
            if not source <= offset < source + length or vdev >= len(self._vdevs):
                raise self._corrupt("entry in the mapping of a removed vdev", offset, vdev)
            skip = offset - source
            part = min(length - skip, end - offset)
            segments.append((self._vdevs[vdev], target + skip, part))
            offset += part
            at += 3
        return segments

    @staticmethod
    def _find(words: tuple[int, ...], offset: int) -> int:
        """The index of the last entry that starts at or before ``offset``."""
        low, high = 0, len(words) // 3
        while high - low > 1:
            middle = (low + high) // 2
            if (words[3 * middle] & (1 << 63) - 1) << layout.SECTOR_SHIFT <= offset:
                low = middle
            else:
                high = middle
        return 3 * low

    def _load(self) -> tuple[int, ...]:
        if self._words is None:
            dnode = self._mos.dnode(self._number)
            shape = layout.MAPPING_BONUS[dnode.order]
            if len(dnode.bonus) < shape.size:
                raise self._corrupt("mapping of a removed vdev: bonus", 0, len(dnode.bonus))
            count = shape.unpack_from(dnode.bonus)[2]
            if count > MAX_ENTRIES:
                raise self._corrupt("mapping of a removed vdev: entries", 0, count)
            data = dnode.whole(count * 24)
            self._words = struct.unpack(f"{dnode.order}{count * 3}Q", data)
        return self._words

    def _corrupt(self, what: str, offset: int, got: object = None) -> Corrupt:
        return Corrupt(self._mos.store.name, what, offset, got=got)
