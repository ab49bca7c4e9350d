"""A tree with changes laid over it in memory: what log replay works on, since nothing here writes to a disk."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator

from fsdrivers.btrfs import layout
from fsdrivers.btrfs.tree import HEADER_SIZE, Item, Key, Tree
from fsdrivers.errors import Corrupt

_PIECE = 1024
_SHIFT = 6  # bytes of an item that are one step, as a logarithm
_DESCENT = 8  # steps that a search in the tree below counts for


class Keys:
    """Keys in order, in pieces: in one long list every new one would move all that come after it."""

    def __init__(self) -> None:
        self._pieces: list[list[Key]] = []
        self._firsts: list[Key] = []

    def add(self, key: Key) -> None:
        """Put in ``key``, which is not there yet."""
        if not self._pieces:
            self._pieces, self._firsts = [[key]], [key]
            return
        index = max(bisect_right(self._firsts, key) - 1, 0)
        piece = self._pieces[index]
        insort(piece, key)
        self._firsts[index] = piece[0]
        if len(piece) > 2 * _PIECE:
            self._pieces[index : index + 1] = piece[:_PIECE], piece[_PIECE:]
            self._firsts.insert(index + 1, piece[_PIECE])

    def between(self, low: Key, high: Key) -> Iterator[Key]:
        """The keys from ``low`` to ``high``."""
        index = max(bisect_right(self._firsts, low) - 1, 0)
        for piece in self._pieces[index:]:
            first, stop = bisect_left(piece, low), bisect_right(piece, high)
            yield from piece[first:stop]
            if stop < len(piece):
                return

    def down(self, key: Key) -> Iterator[Key]:
        """The keys up to ``key``, the last one first."""
        index = bisect_right(self._firsts, key) - 1
        while index >= 0:
            piece = self._pieces[index]
            for at in range(bisect_right(piece, key) - 1, -1, -1):
                yield piece[at]
            index -= 1


class Overlay(Tree):
    """``base`` with items put over it and removed from it; reads as any other tree.

    Not to be changed while items() is being iterated.  Until settled() is called, ``spend`` is told of every step that
    looking and changing take: it may raise.
    """

    def __init__(self, base: Tree, spend: Callable[[int], None] | None = None) -> None:
        super().__init__(base._nodes, base.root)
        self._base = base
        self._changes: dict[Key, bytes | None] = {}  # None: removed
        self._keys = Keys()  # of _changes
        self._spend = spend
        # fs/btrfs/accessors.h:BTRFS_MAX_ITEM_SIZE, v6.12: what is larger could not be written either.
        self._room = base._nodes.volume.superblock.nodesize - HEADER_SIZE - layout.ITEM.size

    def settled(self) -> None:
        """Tell the tree that there will be no more changes."""
        self._spend = None

    def put(self, key: Key, data: bytes) -> None:
        """Insert the item ``key``, or replace its data; raises Corrupt when it is larger than items can be."""
        if len(data) > self._room:
            raise Corrupt(self._nodes.volume.name, f"item {key} (size)", key[0], self._room, len(data))
        self._change(key, data)

    def remove(self, key: Key) -> None:
        """Take the item ``key`` away, if it is there."""
        self._change(key, None)

    def _change(self, key: Key, data: bytes | None) -> None:
        if self._spend is not None:
            self._spend(1)
        if key not in self._changes:
            self._keys.add(key)
        self._changes[key] = data

    def find(self, objectid: int, kind: int, offset: int) -> Item | None:
        key = (objectid, kind, offset)
        found = _item(key, self._changes[key]) if key in self._changes else self._base.find(objectid, kind, offset)
        if self._spend is not None:
            self._spend(1 if found is None else 1 + (found.size >> _SHIFT))
        return found

    def at_or_before(self, objectid: int, kind: int, offset: int) -> Item | None:
        below = self._base.at_or_before(objectid, kind, offset)
        least = (objectid, kind, 0)
        for key in self._keys.down((objectid, kind, offset)):
            if self._spend is not None:
                self._spend(1)
            if key < least or (below is not None and (objectid, kind, below.offset) > key):
                break
            changed = _item(key, self._changes[key])
            if changed is not None:
                return changed
            if below is not None and below.offset == key[2]:
                below = self._base.at_or_before(objectid, kind, key[2] - 1) if key[2] else None
                if self._spend is not None:
                    self._spend(_DESCENT)
        return below

    def items(self, low: Key, high: Key) -> Iterator[Item]:
        found = self._merged(low, high)
        return found if self._spend is None else self._counted(found, self._spend)

    def _counted(self, found: Iterator[Item], spend: Callable[[int], None]) -> Iterator[Item]:
        for item in found:
            spend(item.size >> _SHIFT)
            yield item

    def _merged(self, low: Key, high: Key) -> Iterator[Item]:
        changes = self._changes
        changed = self._keys.between(low, high)
        key = next(changed, None)
        if key is None:
            yield from self._base.items(low, high)
            return
        spend = self._spend or _nothing
        for item in self._base.items(low, high):
            spend(1)
            here = (item.objectid, item.type, item.offset)
            while key is not None and key < here:
                new = _item(key, changes[key])
                key = next(changed, None)
                spend(1)
                if new is not None:
                    yield new
            if here not in changes:
                yield item
        while key is not None:
            new = _item(key, changes[key])
            key = next(changed, None)
            spend(1)
            if new is not None:
                yield new

    def inode(self, number: int) -> bytes | None:
        """The inode item of ``number``, or None."""
        item = self.find(number, layout.INODE_ITEM, 0)
        return item.data if item is not None and item.size >= layout.INODE.size else None


def _nothing(steps: int) -> None:
    """For trees that nobody counts the steps of any more."""


def _item(key: Key, data: bytes | None) -> Item | None:
    return None if data is None else Item(*key, data, 0, len(data))
