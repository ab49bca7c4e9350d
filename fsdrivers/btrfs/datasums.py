"""The tree that keeps the checksums of the data.

Source: fs/btrfs/file-item.c:btrfs_lookup_csum, v6.12.
"""

from __future__ import annotations

from fsdrivers.btrfs import layout
from fsdrivers.btrfs.tree import Tree
from fsdrivers.errors import Corrupt


class DataSums:
    """The checksums of file data, from the checksum tree."""

    def __init__(self, tree: Tree, size: int, sectorsize: int, name: str) -> None:
        self._tree, self._size, self._sector, self._name = tree, size, sectorsize, name
        self._start = self._end = 0
        self._data: memoryview = memoryview(b"")

    def lookup(self, start: int, length: int) -> bytes | memoryview:
        """One checksum for each sector of [start, start + length); raises Corrupt when one is absent."""
        parts = []
        at, end = start, start + length
        while at < end:
            if not self._start <= at < self._end:
                self._seek(at)
            stop = min(end, self._end)
            first = (at - self._start) // self._sector * self._size
            last = (stop - self._start) // self._sector * self._size
            parts.append(self._data[first:last])
            at = stop
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _seek(self, address: int) -> None:
        """Make the item around ``address`` the current one."""
        item = self._tree.at_or_before(layout.EXTENT_CSUM_ID, layout.EXTENT_CSUM, address)
        if item is not None:
            covered = item.size // self._size * self._sector
            if item.offset % self._sector == 0 and address < item.offset + covered:
                self._start, self._end = item.offset, item.offset + covered
                self._data = memoryview(item.raw)[item.start : item.start + item.size]
                return
        raise Corrupt(self._name, "data checksums (there is none for this address)", address)
