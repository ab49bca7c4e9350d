"""One subvolume as a Filesystem: inodes, directories and data, subvolumes below it included."""

from __future__ import annotations

import os
import stat as _stat
from collections.abc import Iterator
from typing import NamedTuple

from fsdrivers import filesystem as fs
from fsdrivers.btrfs import directory, layout
from fsdrivers.btrfs import inode as inodes
from fsdrivers.btrfs.inode import Inode
from fsdrivers.btrfs.store import Store
from fsdrivers.btrfs.tree import Tree, is_file_tree
from fsdrivers.errors import Corrupt, NotFound, NotThisFs
from fsdrivers.filesystem import DirEntry, Filesystem, Piece, Stat

_CACHED = 4096  # inodes
_STUB_MODE = _stat.S_IFDIR | 0o755


class Node(NamedTuple):
    """An inode of a tree.  ``stub``: not the inode itself, but the empty directory that a snapshot shows where its
    origin has a nested subvolume; ``inode`` is then the directory it lies in."""

    tree: int
    inode: int
    stub: bool = False


def subvolume(store: Store, number: int) -> BtrfsFilesystem:
    """The subvolume ``number`` of ``store``; raises NotFound."""
    if not is_file_tree(number) or store.roots.item(number) is None:
        raise NotFound(f"id:{number}")
    return BtrfsFilesystem(store, number, store.roots.path(number))


class BtrfsFilesystem(Filesystem):
    """The subvolume ``number`` of a store, served from its root directory; ``path`` is its path from the top level."""

    kind = "btrfs"

    def __init__(self, store: Store, number: int, path: str) -> None:
        self._store = store
        self.label, self.uuid, self.health = store.superblock.label, store.superblock.uuid, store.volume.health
        self.root_name, self.root_id = path or "/", number
        item = store.roots.item(number)
        self._root = Node(number, item.directory if item else layout.FIRST_FREE)
        self._inodes: dict[Node, Inode] = {}

    def root(self) -> Node:
        return self._root

    def stat(self, node: fs.Node) -> Stat:
        return self._inode(node).stat

    def lookup(self, directory_: fs.Node, name: str) -> Node | None:
        node = _own(directory_)
        raw = os.fsencode(name)
        if node.stub or len(raw) > layout.NAME_LEN:
            return None
        entry = directory.lookup(self._tree(node), node.inode, raw, self._name)
        return self._target(node, entry) if entry else None

    def entries(self, directory_: fs.Node) -> Iterator[DirEntry]:
        node = _own(directory_)
        if node.stub:
            return
        for entry in directory.entries(self._tree(node), node.inode, self._name):
            kind = directory.TYPES.get(entry.type, "unknown")
            yield DirEntry(os.fsdecode(entry.name), kind, self._target(node, entry))

    def link_target(self, node: fs.Node) -> str:
        size = self.stat(node).size
        if size > fs.MAX_PATH:
            raise Corrupt(self._name, f"symlink inode {_own(node).inode} (size)", 0, fs.MAX_PATH, size)
        pieces = self.pieces(node, 0, size)
        target = b"".join(bytes(piece.length) if piece.data is None else piece.data for piece in pieces)
        if b"\0" in target:  # a hole where the target should be, for one
            raise Corrupt(self._name, f"symlink inode {_own(node).inode} (target)", 0, None, target)
        return os.fsdecode(target)

    def pieces(self, node: fs.Node, offset: int, length: int) -> Iterator[Piece]:
        own, inode = _own(node), self._inode(node)
        end = min(offset + length, inode.stat.size)
        if offset < 0 or offset >= end:
            return iter(())
        return self._store.reader.pieces(self._tree(own), own.inode, offset, end, inode.checksummed)

    def xattrs(self, node: fs.Node) -> dict[str, bytes]:
        own = _own(node)
        return {} if own.stub else inodes.xattrs(self._tree(own), own.inode, self._name)

    @property
    def _name(self) -> str:
        return self._store.volume.name

    def _tree(self, node: Node) -> Tree:
        return self._store.roots.tree_of(node.tree)

    def _inode(self, node: fs.Node) -> Inode:
        own = _own(node)
        inode = self._inodes.get(own)
        if inode is None:
            inode = self._stub(own) if own.stub else self._read_inode(own)
            if len(self._inodes) >= _CACHED:
                self._inodes.clear()
            self._inodes[own] = inode
        return inode

    def _read_inode(self, node: Node) -> Inode:
        item = self._tree(node).find(node.inode, layout.INODE_ITEM, 0)
        if item is None:
            raise Corrupt(self._name, f"inode {node.inode} of subvolume {node.tree} (it is not there)", node.inode)
        return inodes.parse(item, self._name)

    def _stub(self, node: Node) -> Inode:
        """fs/btrfs/inode.c:new_simple_dir, v6.12: owner and times from the directory around it, inode number 2."""
        above = self._inode(Node(node.tree, node.inode))
        return above._replace(stat=above.stat._replace(st_mode=_STUB_MODE, size=0, nlink=1, inode=2))

    def _target(self, node: Node, entry: directory.Entry) -> Node:
        """The node that ``entry`` of the directory ``node`` leads to."""
        number, kind, _ = entry.location
        if kind == layout.INODE_ITEM:
            return Node(node.tree, number)
        if kind != layout.ROOT_ITEM:
            raise Corrupt(self._name, f"directory inode {node.inode} (location key type)", node.inode, None, kind)
        roots = self._store.roots
        item = roots.item(number) if roots.inside(number, node.tree, node.inode, entry.name) else None
        return Node(number, item.directory) if item else Node(node.tree, node.inode, stub=True)


def _own(node: fs.Node) -> Node:
    if not isinstance(node, Node):
        raise NotThisFs(f"{node!r} is no node of a btrfs filesystem")
    return node
