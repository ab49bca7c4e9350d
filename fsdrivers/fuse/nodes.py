"""The numbers by which the kernel knows objects, and for how long."""

from __future__ import annotations

import zlib

from fsdrivers.filesystem import Node
from fsdrivers.fuse import layout

_MASK = (1 << 64) - 1


class Known:
    """An object that the kernel holds ``lookups`` references to.

    ``space`` keeps the inode numbers of nested trees apart.  ``xattrs`` are its extended attributes once somebody
    asked, unless they are large.
    """

    __slots__ = ("id", "lookups", "node", "space", "xattrs")

    def __init__(self, number: int, node: Node, space: int) -> None:
        self.id, self.node, self.space, self.lookups = number, node, space, 0
        self.xattrs: dict[str, bytes] | None = None


class Nodes:
    """All objects that the kernel knows.  Numbers are never used twice, so a generation is not needed."""

    def __init__(self, root: Node, root_inode: int) -> None:
        self._root_inode = root_inode
        self.root = Known(layout.ROOT_ID, root, 0)
        self._by_id = {layout.ROOT_ID: self.root}
        self._by_node: dict[Node, Known] = {root: self.root}
        self._next = layout.ROOT_ID + 1

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, number: int) -> Known:
        """The object with that number; KeyError when the kernel asks for one that it gave up."""
        return self._by_id[number]

    def know(self, node: Node, inode: int, parent: Known) -> Known:
        """The object for ``node``, found in ``parent``, with one more reference."""
        known = self._by_node.get(node)
        if known is None:
            known = Known(self._next, node, self.space(node, inode, parent))
            self._next += 1
            self._by_id[known.id] = self._by_node[node] = known
        known.lookups += 1
        return known

    def space(self, node: Node, inode: int, parent: Known) -> int:
        """What to add to the inode numbers below ``parent``.

        A nested btrfs subvolume numbers its inodes anew while all of the mount is one device here: a second object
        with the root's inode number opens a space of its own, which stays the same over mounts.
        """
        if inode == self._root_inode and node != self.root.node:
            return zlib.crc32(repr(node).encode()) << 32
        return parent.space

    def forget(self, number: int, lookups: int) -> None:
        """The kernel gave up that many references."""
        known = self._by_id.get(number)
        if known is None or known is self.root:
            return
        known.lookups -= lookups
        if known.lookups <= 0:
            del self._by_id[number], self._by_node[known.node]


def inode_number(inode: int, space: int) -> int:
    """The inode number to show: never 0, which the C library takes for a deleted entry."""
    return (inode + space) & _MASK or 1
