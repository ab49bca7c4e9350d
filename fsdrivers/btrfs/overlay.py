"""A tree with changes laid over it in memory: what log replay works on, since nothing here writes to a disk."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

from fsdrivers.btrfs import layout
from fsdrivers.btrfs.tree import Item, Key, Tree


class Overlay(Tree):
    """``base`` with items put over it and removed from it; reads as any other tree.

    Not to be changed while items() is being iterated.
    """

    def __init__(self, base: Tree) -> None:
        super().__init__(base._nodes, base.root)
        self._base = base
        self._changes: dict[Key, bytes | None] = {}  # None: removed
        self._keys: list[Key] = []  # of _changes, in order

    def put(self, key: Key, data: bytes) -> None:
        """Insert the item ``key``, or replace its data."""
        self._change(key, data)

    def remove(self, key: Key) -> None:
        """Take the item ``key`` away, if it is there."""
        self._change(key, None)

    def _change(self, key: Key, data: bytes | None) -> None:
        if key not in self._changes:
            insort(self._keys, key)
        self._changes[key] = data

    def find(self, objectid: int, kind: int, offset: int) -> Item | None:
        key = (objectid, kind, offset)
        if key in self._changes:
            return _item(key, self._changes[key])
        return self._base.find(objectid, kind, offset)

    def at_or_before(self, objectid: int, kind: int, offset: int) -> Item | None:
        below = self._base.at_or_before(objectid, kind, offset)
        while below is not None and (below.objectid, below.type, below.offset) in self._changes:
            below = self._base.at_or_before(objectid, kind, below.offset - 1) if below.offset else None
        least = (objectid, kind, below.offset if below else 0)
        index = bisect_right(self._keys, (objectid, kind, offset)) - 1
        while index >= 0 and self._keys[index] >= least:
            changed = _item(self._keys[index], self._changes[self._keys[index]])
            if changed is not None:
                return changed
            index -= 1
        return below

    def items(self, low: Key, high: Key) -> Iterator[Item]:
        keys, changes = self._keys, self._changes
        index, stop = bisect_left(keys, low), bisect_right(keys, high)
        if index == stop:
            yield from self._base.items(low, high)
            return
        for item in self._base.items(low, high):
            key = (item.objectid, item.type, item.offset)
            while index < stop and keys[index] < key:
                changed = _item(keys[index], changes[keys[index]])
                index += 1
                if changed is not None:
                    yield changed
            if key not in changes:
                yield item
        for key in keys[index:stop]:
            changed = _item(key, changes[key])
            if changed is not None:
                yield changed

    def inode(self, number: int) -> bytes | None:
        """The inode item of ``number``, or None."""
        item = self.find(number, layout.INODE_ITEM, 0)
        return item.data if item is not None and item.size >= layout.INODE.size else None


def _item(key: Key, data: bytes | None) -> Item | None:
    return None if data is None else Item(*key, data, 0, len(data))
