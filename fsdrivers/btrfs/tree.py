"""B-trees: verified nodes, a cache of them, searches and walks over ranges of keys.

Source: fs/btrfs/disk-io.c:btrfs_validate_extent_buffer, fs/btrfs/tree-checker.c (check_leaf, check_node,
btrfs_check_eb_owner), fs/btrfs/ctree.c:btrfs_search_slot, v6.12.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from operator import add, itemgetter, lt
from typing import NamedTuple

from fsdrivers.btrfs import layout
from fsdrivers.btrfs.volume import Volume
from fsdrivers.errors import Corrupt, FsError
from fsdrivers.redundancy import Attempt

Key = tuple[int, int, int]
HEADER_SIZE = layout.HEADER.size
_INFINITE = 1 << 64  # larger than any field of a key
_END = (_INFINITE, 0, 0)

_offsets, _sizes = itemgetter(3), itemgetter(4)


class Item(NamedTuple):
    """One item of a leaf: its key, and ``size`` bytes at ``start`` of the leaf ``raw``."""

    objectid: int
    type: int
    offset: int
    raw: bytes
    start: int
    size: int

    @property
    def data(self) -> bytes:
        return self.raw[self.start : self.start + self.size]


class Pointer(NamedTuple):
    """What is known about a node before it is read: everything that a parent, root item or superblock says."""

    bytenr: int
    level: int
    generation: int
    owner: int
    first: Key | None = None


class Node:
    """A verified node.  Leaves: ``items`` are (objectid, type, offset, data offset, data size); above them
    (objectid, type, offset, block address, generation)."""

    __slots__ = ("bytenr", "generation", "items", "level", "owner", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        _, _, self.bytenr, _, _, self.generation, self.owner, count, self.level = layout.HEADER.unpack_from(raw)
        shape = layout.KEY_PTR if self.level else layout.ITEM
        # Cut to what fits: the count is judged by verify().
        room = min(count, (len(raw) - HEADER_SIZE) // shape.size)
        self.items: list[tuple[int, int, int, int, int]] = list(
            shape.iter_unpack(memoryview(raw)[HEADER_SIZE : HEADER_SIZE + room * shape.size])
        )


class Nodes:
    """Reads nodes through a volume and keeps the most recently used ones, ``CACHE`` bytes of them."""

    CACHE = 8 << 20
    TREES = 16  # that remember where their last search ended, and so keep up to eight nodes each
    ITEMS = 200_000  # in all of them: decoded they are some 180 bytes each, however little is in them

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self._size = volume.superblock.nodesize
        self._fsid = volume.superblock.metadata_uuid
        # Nodes that were not rewritten since stay on the seed, as they were.
        seeds = {leg.superblock.metadata_uuid for leg in volume.legs.values() if leg.superblock.seeding}
        self._fsids = seeds | {self._fsid}
        self._cache: dict[int, Node] = {}
        self._most = max(self.CACHE // self._size, 64)
        self._items = 0  # in the nodes that are kept
        self._searched: dict[Tree, None] = {}  # the one that searched last at the end

    def load(self, pointer: Pointer) -> Node:
        """The node that ``pointer`` describes; raises Corrupt, ReadError, MissingDevices."""
        node = self._cache.pop(pointer.bytenr, None)
        if node is None or self._misfit(node, pointer):
            self._items -= len(node.items) if node is not None else 0
            node = self._read(pointer)
            self._items += len(node.items)
            while len(self._cache) >= self._most or (self._items > self.ITEMS and self._cache):
                self._items -= len(self._cache.pop(next(iter(self._cache))).items)
        self._cache[pointer.bytenr] = node
        return node

    def searched(self, tree: Tree) -> None:
        """``tree`` remembers a search now; of many trees the one whose search is the oldest forgets it."""
        self._searched.pop(tree, None)
        self._searched[tree] = None
        if len(self._searched) > self.TREES:
            oldest = next(iter(self._searched))
            del self._searched[oldest]
            oldest.forget()

    def _read(self, pointer: Pointer) -> Node:
        """The first copy of the node that passes every check."""
        good: list[Node] = []
        if pointer.bytenr % self.volume.sectorsize:
            raise Corrupt(self.volume.name, "tree node address", pointer.bytenr)

        def verify(raw: bytes, attempt: Attempt) -> FsError | None:
            return self.judge(raw, pointer, attempt.device, attempt.offset, good)

        self.volume.read_verified(pointer.bytenr, self._size, verify)
        return good[0]

    def judge(
        self, raw: bytes, pointer: Pointer, device: str, offset: int, good: list[Node] | None = None
    ) -> Corrupt | None:
        """What is wrong with ``raw``, the copy from ``offset`` of ``device``; a node that is right goes to ``good``."""
        problem = self._problem(raw, pointer, [] if good is None else good)
        if problem is None:
            return None
        what, wanted, got = problem
        return Corrupt(device, f"tree node {pointer.bytenr:#x} ({what})", offset, wanted, got)

    def _problem(self, raw: bytes, pointer: Pointer, good: list[Node]) -> tuple[str, object, object] | None:
        """What is wrong with ``raw`` as (what, wanted, got), or None after its node was put into ``good``."""
        kind = self.volume.checksum
        computed, stored = kind.sum(memoryview(raw)[layout.CSUM_FIELD :]), raw[: kind.size]
        if computed != stored:
            return "checksum", stored, computed
        if raw[0x20:0x30] not in self._fsids:
            return "fsid", self._fsid, raw[0x20:0x30]
        node = Node(raw)
        problem = self._misfit(node, pointer) or _malformed(node)
        if problem is None:
            good.append(node)
        return problem

    def _misfit(self, node: Node, pointer: Pointer) -> tuple[str, object, object] | None:
        """Whether ``node`` is another one than ``pointer`` means: an older version, another tree's, a wrong level."""
        if node.bytenr != pointer.bytenr:
            return "address", pointer.bytenr, node.bytenr
        if node.generation != pointer.generation:
            return "generation", pointer.generation, node.generation
        if node.level != pointer.level:
            return "level", pointer.level, node.level
        if node.owner != pointer.owner and not (is_file_tree(node.owner) and is_file_tree(pointer.owner)):
            return "owner", pointer.owner, node.owner
        if pointer.first is not None and (not node.items or node.items[0][:3] != pointer.first):
            return "first key", pointer.first, node.items[0][:3] if node.items else "none"
        return None


def is_file_tree(owner: int) -> bool:
    """Subvolumes share nodes, so any of them may be the owner (fs/btrfs/btrfs_inode.h:is_fstree, v6.12)."""
    return owner == layout.FS_TREE or layout.FIRST_FREE <= owner < 1 << 63


def _malformed(node: Node) -> tuple[str, object, object] | None:
    """What is wrong inside of ``node``, whose checksum is right, as (what, wanted, got)."""
    raw, items = node.raw, node.items
    count = int.from_bytes(raw[0x60:0x64], "little")
    if count != len(items):
        return "nritems", len(items), count
    if node.level >= layout.MAX_LEVEL:
        return "level", layout.MAX_LEVEL - 1, node.level
    if not items:
        return ("nritems", "at least one", 0) if node.level else None
    # Equal keys do not pass either: the data offsets of leaf items fall, and Tree._child() compares those of nodes.
    if not all(map(lt, items, items[1:])):
        return "order of keys", None, "not ascending"
    if node.level:
        return None
    # Item data is packed from the end of the leaf towards the item headers, without gaps.
    room = len(raw) - HEADER_SIZE
    starts = list(map(_offsets, items))
    ends = list(map(add, starts, map(_sizes, items)))
    if ends[0] != room or ends[1:] != starts[:-1] or starts[-1] < count * layout.ITEM.size:
        return "item offsets", None, "outside of the leaf or overlapping"
    return None


Step = tuple[Node, int, Key]  # a node on the way to a leaf, which child of it comes next, what all its keys lie below


class Tree:
    """One B-tree: ``root`` is the pointer to its top."""

    def __init__(self, nodes: Nodes, root: Pointer) -> None:
        self._nodes, self.root = nodes, root
        # Where the last search ended, and the keys [low, high) that would end there too.
        self._last: tuple[Key, Key, list[Step], Node] | None = None

    def find(self, objectid: int, kind: int, offset: int) -> Item | None:
        """The item with exactly this key, or None.  Raises Corrupt, ReadError, MissingDevices (as all methods)."""
        _, leaf = self._descend((objectid, kind, offset))
        items = leaf.items
        index = bisect_left(items, (objectid, kind, offset))
        if index < len(items):
            item = items[index]
            if item[:3] == (objectid, kind, offset):
                return Item(*item[:3], leaf.raw, HEADER_SIZE + item[3], item[4])
        return None

    def at_or_before(self, objectid: int, kind: int, offset: int) -> Item | None:
        """The item with the greatest key <= this one that has the same objectid and type, or None."""
        item = self.floor((objectid, kind, offset))
        return item if item is not None and item[:2] == (objectid, kind) else None

    def floor(self, key: Key) -> Item | None:
        """The item with the greatest key <= ``key``, or None; of the tree on disk, whatever lies over it."""
        _, leaf = self._descend(key)
        # The parents' keys are the first keys of their children, so the leaf of the search holds it if any does.
        index = bisect_right(leaf.items, (*key, _INFINITE)) - 1
        if index < 0:
            return None
        item = leaf.items[index]
        return Item(*item[:3], leaf.raw, HEADER_SIZE + item[3], item[4])

    def items(self, low: Key, high: Key) -> Iterator[Item]:
        """All items with low <= key <= high, in order."""
        path, leaf = self._descend(low)
        index = bisect_left(leaf.items, low)
        last = (*high, _INFINITE)
        while True:
            raw, items = leaf.raw, leaf.items
            stop = len(items) if not items or items[-1] <= last else bisect_right(items, last)
            for objectid, kind, offset, start, size in items[index:stop] if index or stop < len(items) else items:
                yield Item(objectid, kind, offset, raw, HEADER_SIZE + start, size)
            if stop < len(items):
                return
            following = self._next(path)
            if following is None:
                return
            leaf, index = following, 0

    def of(self, objectid: int, kind: int) -> Iterator[Item]:
        """All items of one object and one type, by offset."""
        return self.items((objectid, kind, 0), (objectid, kind, layout.MAX_KEY[2]))

    def forget(self) -> None:
        """Let go of the nodes of the last search."""
        self._last = None

    def _descend(self, key: Key) -> tuple[list[Step], Node]:
        """The leaf where ``key`` is or would be, and the steps that led to it."""
        known = self._last
        if known is not None and known[0] <= key < known[1]:
            return known[2].copy(), known[3]
        node = self._nodes.load(self.root)
        path: list[Step] = []
        last = (*key, _INFINITE)
        beyond = _END
        while node.level:
            index = max(bisect_right(node.items, last) - 1, 0)
            path.append((node, index, beyond))
            node, beyond = self._child(node, index, beyond)
        if node.items:
            self._last = node.items[0][:3], beyond, path.copy(), node
            self._nodes.searched(self)
        return path, node

    def _next(self, path: list[Step]) -> Node | None:
        """The leaf after the one at the end of ``path``, which is moved there; None at the end of the tree."""
        while path:
            node, index, beyond = path.pop()
            if index + 1 < len(node.items):
                path.append((node, index + 1, beyond))
                node, beyond = self._child(node, index + 1, beyond)
                while node.level:
                    path.append((node, 0, beyond))
                    node, beyond = self._child(node, 0, beyond)
                return node
        return None

    def _child(self, node: Node, index: int, beyond: Key) -> tuple[Node, Key]:
        """Child number ``index`` of ``node``, whose own keys lie below ``beyond``, and the key that its keys lie below:
        the first of the next child, of whatever node that is a child.

        That and the falling level bound every walk: no node can be met twice.
        """
        objectid, kind, offset, bytenr, generation = node.items[index]
        first = (objectid, kind, offset)
        child = self._nodes.load(Pointer(bytenr, node.level - 1, generation, self.root.owner, first))
        if index + 1 < len(node.items):
            beyond = node.items[index + 1][:3]
        if child.items[-1][:3] >= beyond:
            raise Corrupt(self._nodes.volume.name, "tree node (keys beyond those of the next node)", bytenr)
        return child, beyond
