"""Which files use an address of the filesystem: the names in what `fsdrivers verify` tells."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fsdrivers.btrfs import layout
from fsdrivers.btrfs.store import Store
from fsdrivers.btrfs.tree import HEADER_SIZE, Item, Node, Pointer
from fsdrivers.damage import Damage, Place
from fsdrivers.errors import FsError


class Top(NamedTuple):
    """The root of a tree, and the subvolume whose files are in it (0: none)."""

    pointer: Pointer
    subvolume: int = 0


class Users:
    """The files of a filesystem, by what they use."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys: list[int] = []  # of the places that are looked for, in order
        self._longest = 0  # bytes of the longest of them

    def named(self, places: list[Place], tops: Iterable[Top]) -> Iterator[Damage]:
        """The damages with the names of files that use them: one walk over the file trees among ``tops``."""
        places.sort(key=lambda place: place.key)
        self._keys = [place.key for place in places]
        self._longest = max((place.damage.length for place in places), default=0)
        names: dict[int, str] = {}
        seen: set[int] = set()
        for top in tops:
            if top.subvolume:
                self._find(top, places, names, seen)
        for index, place in enumerate(places):
            yield place.damage._replace(file=names.get(index, ""))

    def _find(self, top: Top, places: list[Place], names: dict[int, str], seen: set[int]) -> None:
        """Put into ``names`` (by index of ``places``) the files below ``top`` that use them."""
        root = top.pointer
        stack = [root]
        while stack:
            pointer = stack.pop()
            if pointer.bytenr in seen:
                continue
            seen.add(pointer.bytenr)
            try:
                node = self._store.nodes.load(pointer)
            except FsError:
                continue
            if node.level:
                stack += [Pointer(b, node.level - 1, g, root.owner, (o, k, f)) for o, k, f, b, g in node.items]
                continue
            for item in items(node):
                if item.type == layout.EXTENT_DATA:
                    self._match(top.subvolume, item, places, names)

    def _match(self, tree: int, item: Item, places: list[Place], names: dict[int, str]) -> None:
        try:
            extent = self._store.reader.parse(item)
        except FsError:
            return
        end = extent.address + extent.stored
        if not extent.address or end <= places[0].key or extent.address > places[-1].key:
            return
        for index in range(bisect_right(self._keys, extent.address - self._longest), bisect_left(self._keys, end)):
            place = places[index]
            if extent.address < place.key + place.damage.length and index not in names:
                names[index] = self.path(tree, item.objectid)

    def path(self, tree: int, inode: int) -> str:
        """A path from the top level of the filesystem."""
        roots = self._store.roots
        try:
            parts = [roots.path(tree), *roots.inner_path(tree, inode)]
            return "/" + "/".join(part for part in parts if part)
        except FsError:
            return f"inode {inode} of subvolume {tree}"


def items(leaf: Node) -> Iterator[Item]:
    """All items of a leaf."""
    for objectid, kind, offset, start, size in leaf.items:
        yield Item(objectid, kind, offset, leaf.raw, HEADER_SIZE + start, size)
