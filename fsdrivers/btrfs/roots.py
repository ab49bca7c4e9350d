"""The tree of trees: where the root of every tree is, and which subvolumes there are.

Source: fs/btrfs/root-tree.c:btrfs_find_root, fs/btrfs/disk-io.c:read_tree_root_path, fs/btrfs/super.c:
btrfs_get_subvol_name_from_objectid, get_default_subvol_objectid, v6.12.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from fsdrivers.btrfs import directory, layout
from fsdrivers.btrfs.superblock import uuid_text
from fsdrivers.btrfs.tree import Item, Nodes, Pointer, Tree
from fsdrivers.errors import Corrupt, FsError, TooMany
from fsdrivers.filesystem import MAX_PATH

MAX_SUBVOLUMES = 50_000  # that are listed
MAX_STEPS = 1 << 17  # names that are looked up to tell where all subvolumes are
MAX_COMPONENTS = 2048  # names in a path: of PATH_MAX every other byte is a slash
_NANO = 1_000_000_000
_ZERO = bytes(16)


class RootItem(NamedTuple):
    """Where a tree's root is; for subvolumes also who they are.  ``created`` in nanoseconds since 1970."""

    id: int
    pointer: Pointer
    directory: int  # inode number of the root directory
    readonly: bool
    dropped: bool  # deleted, and only its cleaning-up is pending
    uuid: str
    parent_uuid: str
    generation: int  # of the last change in the subvolume
    created: int


class Reference(NamedTuple):
    """The place of a subvolume: called ``name`` in directory inode ``directory`` of the subvolume ``parent``."""

    parent: int
    directory: int
    name: bytes


class Roots:
    """The root tree.  ``name`` is what errors call the filesystem, ``replayed`` puts a log over its subvolume."""

    def __init__(
        self, nodes: Nodes, pointer: Pointer, name: str, replayed: Callable[[int, Tree], Tree] | None = None
    ) -> None:
        self._nodes, self._name, self._replayed = nodes, name, replayed
        self.tree = Tree(nodes, pointer)
        self._items: dict[int, RootItem | None] = {}
        self._trees: dict[int, Tree] = {}
        self._places: dict[int, Reference | None] = {}
        self._paths: dict[int, str | FsError] = {layout.FS_TREE: ""}
        self._steps = MAX_STEPS

    def item(self, number: int) -> RootItem | None:
        """The root item of tree ``number``, or None when there is no such tree (any more)."""
        if number not in self._items:
            found = self.tree.at_or_before(number, layout.ROOT_ITEM, layout.MAX_KEY[2])
            parsed = self.parse(found) if found else None
            self._items[number] = None if parsed is None or parsed.dropped else parsed
        return self._items[number]

    def tree_of(self, number: int) -> Tree:
        """The tree ``number``; raises Corrupt when there is none."""
        if number not in self._trees:
            item = self.item(number)
            if item is None:
                raise Corrupt(self._name, f"root tree (no tree {number})", self.tree.root.bytenr)
            tree = Tree(self._nodes, item.pointer)
            self._trees[number] = self._replayed(number, tree) if self._replayed else tree
        return self._trees[number]

    def default(self) -> int:
        """The id of the default subvolume: what mount takes without subvol= (5, the top level, if none was set)."""
        entry = directory.lookup(self.tree, layout.ROOT_TREE_DIR, b"default", self._name)
        return entry.location[0] if entry else layout.FS_TREE

    def subvolumes(self) -> list[RootItem]:
        """The top level and all subvolumes and snapshots, by id; no more than MAX_SUBVOLUMES."""
        found: dict[int, RootItem] = {}
        low, high = (layout.FS_TREE, 0, 0), (layout.LAST_FREE, 0xFF, layout.MAX_KEY[2])
        for item in self.tree.items(low, high):
            number = item.objectid
            if item.type == layout.ROOT_ITEM and (number == layout.FS_TREE or number >= layout.FIRST_FREE):
                parsed = self.parse(item)
                if not parsed.dropped:
                    found[number] = parsed
                    if len(found) >= MAX_SUBVOLUMES:
                        break
        return list(found.values())

    def place(self, number: int) -> Reference | None:
        """Where subvolume ``number`` is, or None for the top level and for orphans."""
        if number not in self._places:
            self._places[number] = next(
                (
                    Reference(item.offset, *_reference(item, self._name))
                    for item in self.tree.of(number, layout.ROOT_BACKREF)
                ),
                None,
            )
        return self._places[number]

    def inside(self, number: int, parent: int, inode: int, name: bytes) -> bool:
        """Whether the entry ``name`` of directory ``inode`` in ``parent`` really leads to subvolume ``number``.

        It does not in a snapshot of the parent, where the kernel shows an empty directory instead.
        Source: fs/btrfs/inode.c:fixup_tree_root_location, v6.12.
        """
        item = self.tree.find(parent, layout.ROOT_REF, number)
        return item is not None and _reference(item, self._name) == (inode, name)

    def path(self, number: int) -> str:
        """The path of subvolume ``number`` from the top level, without leading slash; "" for the top level.

        Raises Corrupt when it lies in a loop of subvolumes, or nowhere.
        """
        chain: list[tuple[int, Reference]] = []  # from the subvolume up to one whose path is known
        seen: set[int] = set()
        above: str | FsError
        try:
            here = number
            while here not in self._paths:
                seen.add(here)
                place = self.place(here)
                if place is None:
                    raise Corrupt(self._name, f"subvolume {here} (it has no parent)", here)
                chain.append((here, place))
                here = place.parent
                if here in seen:
                    raise Corrupt(self._name, f"subvolume {here} (it lies in itself)", here)
            above = self._paths[here]
        except FsError as error:
            above = error
            self._paths.update((one, error) for one in seen)
        for here, place in reversed(chain):
            if isinstance(above, str):
                above = self._paths[here] = self._below(above, place)
            else:
                self._paths[here] = above  # what lies in something lost is lost too
        if isinstance(above, FsError):
            raise above.with_traceback(None)
        return above

    def _below(self, above: str, place: Reference) -> str | FsError:
        """The path of what is at ``place`` of the subvolume whose path is ``above``, or why there is none."""
        try:
            if self._steps < 0:
                raise TooMany(f"directories around the subvolumes of {self._name}", MAX_STEPS)
            parts = [*self.inner_path(place.parent, place.directory), os.fsdecode(place.name)]
        except FsError as error:
            self._steps -= MAX_COMPONENTS  # it may have been lost as late as that
            return error
        self._steps -= len(parts)
        path = "/".join((above, *parts) if above else parts)
        if len(path) > MAX_PATH:
            return Corrupt(self._name, f"path of a subvolume in {place.parent} (length)", place.directory)
        return path

    def inner_path(self, number: int, inode: int) -> list[str]:
        """The names from the root of subvolume ``number`` to its ``inode``, by one of its links; raises Corrupt."""
        item = self.item(number)
        tree = self.tree_of(number)
        parts: list[str] = []
        seen = set()
        while item is not None and inode != item.directory:
            ref = next(tree.of(inode, layout.INODE_REF), None)
            if ref is None or inode in seen or len(parts) > MAX_COMPONENTS:
                raise Corrupt(self._name, f"directory inode {inode} of subvolume {number} (lost)", inode)
            seen.add(inode)
            length = layout.INODE_REF_ITEM.unpack_from(ref.raw, ref.start)[1] if ref.size > 10 else 0
            start = ref.start + layout.INODE_REF_ITEM.size
            parts.append(os.fsdecode(ref.raw[start : min(start + length, ref.start + ref.size)]))
            inode = ref.offset
        parts.reverse()
        return parts

    def parse(self, item: Item) -> RootItem:
        """The root item in ``item``; raises Corrupt."""
        if item.size < layout.ROOT_SIZE_V1:
            raise Corrupt(self._name, f"root item {item.objectid} (size)", item.start, layout.ROOT_SIZE_V1, item.size)
        generation, root_dir, bytenr, _, _, _, flags, refs, _, level = layout.ROOT.unpack_from(item.raw, item.start)
        if level >= layout.MAX_LEVEL:
            raise Corrupt(self._name, f"root item {item.objectid} (level)", item.start, layout.MAX_LEVEL - 1, level)
        own = parent = _ZERO
        created = 0
        if item.size >= layout.ROOT_V2.size:
            newer = layout.ROOT_V2.unpack_from(item.raw, item.start)
            # Kernels before 3.6 leave stale bytes there: the doubled generation tells.
            if newer[0] == generation:
                own, parent, created = newer[1], newer[2], newer[10] * _NANO + newer[11]
        return RootItem(
            item.objectid,
            Pointer(bytenr, level, generation, item.objectid),
            root_dir or layout.FIRST_FREE,
            bool(flags & layout.ROOT_FLAG_READONLY),
            refs == 0,
            uuid_text(own) if own != _ZERO else "",
            uuid_text(parent) if parent != _ZERO else "",
            generation,
            created,
        )


def _reference(item: Item, name: str) -> tuple[int, bytes]:
    """(directory inode, name) of a ROOT_REF or ROOT_BACKREF; raises Corrupt."""
    size = layout.ROOT_REF_ITEM.size
    if item.size <= size:
        raise Corrupt(name, f"root reference of {item.objectid} (size)", item.start, size, item.size)
    inode, _, length = layout.ROOT_REF_ITEM.unpack_from(item.raw, item.start)
    if length != item.size - size or length > layout.NAME_LEN:
        raise Corrupt(name, f"root reference of {item.objectid} (name_len)", item.start, item.size - size, length)
    return inode, item.raw[item.start + size : item.start + item.size]
