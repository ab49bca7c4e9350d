"""Log replay in memory: what was synced after the last commit, laid over a subvolume's tree.

The log keeps items of the inodes that were synced.  Each of them is worked into an overlay in the order of the kernel:
inodes and deletions first, then directory entries, then references, attributes and extents, at last link counts.

Source: fs/btrfs/tree-log.c:btrfs_recover_log_trees, replay_one_buffer and the functions it calls, v6.12.
"""

from __future__ import annotations

import stat as _stat
from collections.abc import Callable, Iterator
from heapq import heappop, heappush

from fsdrivers.btrfs import directory, layout, names, references
from fsdrivers.btrfs.extentmap import drop, put
from fsdrivers.btrfs.overlay import Overlay
from fsdrivers.btrfs.references import Reference
from fsdrivers.btrfs.tree import Item, Key, Tree
from fsdrivers.errors import Corrupt

_END = layout.MAX_KEY[2]
_REFERENCES = (layout.INODE_REF, layout.INODE_EXTREF)


def replay(tree: Tree, log: Tree, sectorsize: int, name: str, spend: Callable[[int], None]) -> Overlay:
    """``tree`` of a subvolume as it is after replaying ``log``; raises Corrupt naming the filesystem ``name``.

    ``spend`` is told how many steps it takes, and may raise.
    """
    return _Replay(tree, log, sectorsize, name, spend).run()


class _Replay:
    """One subvolume's replay.  ``fixup``: inodes whose links are to be counted at the end."""

    def __init__(self, tree: Tree, log: Tree, sectorsize: int, name: str, spend: Callable[[int], None]) -> None:
        self.tree, self.log, self.spend = Overlay(tree, spend), log, spend
        self.sectorsize, self.name = sectorsize, name
        self.fixup: set[int] = set()
        self._greatest: list[int] = []  # a heap of the numbers in fixup, negative

    def run(self) -> Overlay:
        for item in self._logged():
            if item.type == layout.INODE_ITEM:
                self._inode(item)
        for item in self._logged():
            if item.type == layout.DIR_INDEX:
                self._entry(item)
        for item in self._logged():
            if item.type == layout.XATTR_ITEM:
                self.tree.put(_key(item), item.data)
            elif item.type in _REFERENCES:
                self._references(item)
            elif item.type == layout.EXTENT_DATA and self.tree.inode(item.objectid) is not None:
                put(self.tree, item, self.sectorsize, self.name)
        while self._greatest:
            self._count_links(-heappop(self._greatest))
        self.tree.settled()
        return self.tree

    def _fix_up(self, number: int) -> None:
        if number not in self.fixup:
            self.fixup.add(number)
            heappush(self._greatest, -number)

    def _logged(self) -> Iterator[Item]:
        """The items of the log, without those of inodes that had no name left when they were synced."""
        nameless = None
        for item in self.log.items((layout.FIRST_FREE, 0, 0), (layout.LAST_FREE, 0xFF, _END)):
            self.spend(1)
            if item.type == layout.INODE_ITEM:
                if item.size != layout.INODE.size:
                    raise Corrupt(self.name, f"inode item of {item.objectid} in the log (size)", item.start)
                if not int.from_bytes(item.raw[item.start + 0x28 : item.start + 0x2C], "little"):
                    nameless = item.objectid
            if item.objectid != nameless:
                yield item

    # --- first pass: inodes, and what is gone from them

    def _inode(self, item: Item) -> None:
        number = item.objectid
        self._drop_xattrs(number)
        mode = names.mode_of(item.data)
        if _stat.S_ISDIR(mode):
            self._drop_entries(number)
        self._overwrite_inode(item, mode)
        if _stat.S_ISREG(mode):
            size = names.size_of(self.tree.inode(number) or item.data)
            # Preallocated extents behind the end of the file come from the log again.
            drop(self.tree, number, -(-size // self.sectorsize) * self.sectorsize, _END, self.sectorsize, self.name)
        self._fix_up(number)

    def _drop_xattrs(self, number: int) -> None:
        """All attributes of a synced inode are in the log: what is not there was removed."""
        for item in list(self.tree.of(number, layout.XATTR_ITEM)):
            logged = self.log.find(*_key(item))
            if logged is None:
                self.tree.remove(_key(item))
                continue
            stay = {entry.name for entry in directory.parse(logged, self.name)}
            if any(entry.name not in stay for entry in directory.parse(item, self.name)):
                self.tree.put(_key(item), logged.data)

    def _drop_entries(self, number: int) -> None:
        """Within the ranges of indexes that the log speaks for, entries it does not have were removed."""
        if self.tree.inode(number) is None:
            return
        reached = 0
        for item in self.log.of(number, layout.DIR_LOG_INDEX):
            if item.size < 8:
                raise Corrupt(self.name, f"log range of directory {number} (size)", item.start, 8, item.size)
            last = int.from_bytes(item.data[:8], "little")
            low = max(reached, item.offset)
            reached = max(reached, last + 1)
            for entry in list(self.tree.items((number, layout.DIR_INDEX, low), (number, layout.DIR_INDEX, last))):
                self._drop_unlogged(entry)

    def _drop_unlogged(self, item: Item) -> None:
        logged = self.log.find(*_key(item))
        kept = {entry.name for entry in directory.parse(logged, self.name)} if logged is not None else set()
        for entry in directory.parse(item, self.name):
            if entry.name not in kept:
                self._unlink(entry.location[0], item.objectid, entry.name)

    def _overwrite_inode(self, item: Item, mode: int) -> None:
        """fs/btrfs/tree-log.c:overwrite_item for inodes: a generation of 0 only says that the inode exists."""
        data, old = bytearray(item.data), self.tree.inode(item.objectid)
        generation, size = int.from_bytes(data[:8], "little"), names.size_of(item.data)
        if old is not None and not generation:
            if _stat.S_ISREG(mode) and _stat.S_ISREG(names.mode_of(old)) and size:
                names.set_inode(self.tree, item.objectid, size=size)
            return
        if _stat.S_ISDIR(mode):
            # The size of a directory follows from the names that are added and removed.
            kept = names.size_of(old) if old is not None and _stat.S_ISDIR(names.mode_of(old)) else 0
            data[0x10:0x18] = kept.to_bytes(8, "little")
        self.tree.put(_key(item), bytes(data))

    # --- second pass: entries of directories

    def _entry(self, item: Item) -> None:
        """fs/btrfs/tree-log.c:replay_one_name."""
        parent = item.objectid
        if self.tree.inode(parent) is None:
            raise Corrupt(self.name, f"log (entry {item.offset} of directory {parent}, which is not there)", item.start)
        for entry in directory.parse(item, self.name):
            inode, kind, _ = entry.location
            exists = kind == layout.INODE_ITEM and self.tree.inode(inode) is not None
            by_name = directory.lookup(self.tree, parent, entry.name, self.name)
            named = by_name is not None and self._settle(parent, by_name, entry, exists)
            by_index = names.at_index(self.tree, parent, item.offset, self.name)
            if by_index is not None and by_index.name != entry.name:
                by_index = None
            if by_index is not None and self._settle(parent, by_index, entry, exists) and named:
                continue
            if references.find(self.log, inode, parent, entry.name, self.name) is not None:
                continue  # the reference brings the name
            added = names.link(self.tree, inode, Reference(parent, item.offset, entry.name), True, self.name)
            if added and entry.type != layout.FT_DIR:
                self._fix_up(inode)

    def _settle(self, parent: int, found: directory.Entry, logged: directory.Entry, exists: bool) -> bool:
        """Whether ``found`` is the entry that was ``logged``; another one of that name makes room for it."""
        if found.location == logged.location and found.type == logged.type:
            return True
        if exists:
            self._unlink(found.location[0], parent, found.name)
        return False

    # --- third pass: references

    def _references(self, item: Item) -> None:
        """fs/btrfs/tree-log.c:add_inode_ref."""
        inode = item.objectid
        if self.tree.inode(inode) is None:
            raise Corrupt(self.name, f"log (reference of inode {inode}, which is not there)", item.start)
        logged = list(references.parse(item, self.name))
        if any(one.parent == inode for one in logged) or self.tree.inode(logged[0].parent) is None:
            return  # a subvolume's own root, or a directory that was not synced
        for one in logged:
            if self.tree.inode(one.parent) is not None and not self._in_place(inode, one):
                self._make_room(inode, one)
                names.link(self.tree, inode, one, False, self.name)
        before = self.tree.find(*_key(item))
        stay = {(one.parent, one.name) for one in logged}
        for one in list(references.parse(before, self.name)) if before is not None else ():
            if (one.parent, one.name) not in stay:
                self._unlink(inode, one.parent, one.name)
        self.tree.put(_key(item), item.data)

    def _in_place(self, inode: int, one: Reference) -> bool:
        """Whether both entries of the directory lead to the inode already."""
        by_index = names.at_index(self.tree, one.parent, one.position, self.name)
        by_name = directory.lookup(self.tree, one.parent, one.name, self.name)
        return (
            by_index is not None
            and by_name is not None
            and by_index.name == one.name
            and by_index.location[0] == by_name.location[0] == inode
        )

    def _make_room(self, inode: int, wanted: Reference) -> None:
        """Take away what the log does not have: old names of the inode in this directory, and another's name there."""
        for key in references.keys(inode, wanted.parent, wanted.name):
            item = self.tree.find(*key)
            for one in list(references.parse(item, self.name)) if item is not None else ():
                if one.parent == wanted.parent and references.find(self.log, inode, *one[::2], self.name) is None:
                    self._unlink(inode, one.parent, one.name)
        by_index = names.at_index(self.tree, wanted.parent, wanted.position, self.name)
        if by_index is not None and by_index.name == wanted.name:
            self._unlink(by_index.location[0], wanted.parent, wanted.name)
        by_name = directory.lookup(self.tree, wanted.parent, wanted.name, self.name)
        if by_name is not None:
            self._unlink(by_name.location[0], wanted.parent, wanted.name)

    # --- at the end: link counts

    def _count_links(self, number: int) -> None:
        """fs/btrfs/tree-log.c:fixup_inode_link_count: a directory without a name takes its content along."""
        self.fixup.discard(number)
        data = self.tree.inode(number)
        if data is None:
            return
        count = sum(1 for _ in references.of(self.tree, number, self.name))
        names.set_inode(self.tree, number, nlink=count)
        if not count and _stat.S_ISDIR(names.mode_of(data)):
            for item in list(self.tree.of(number, layout.DIR_INDEX)):
                for entry in directory.parse(item, self.name):
                    self._unlink(entry.location[0], number, entry.name)

    def _unlink(self, inode: int, parent: int, wanted: bytes) -> None:
        names.unlink(self.tree, inode, parent, wanted, self.name)
        self._fix_up(inode)


def _key(item: Item) -> Key:
    return item.objectid, item.type, item.offset
