"""Inodes and their extended attributes.

Source: include/uapi/linux/btrfs_tree.h:btrfs_inode_item; fs/btrfs/inode.c:btrfs_read_locked_inode, v6.12.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from fsdrivers.btrfs import directory, layout
from fsdrivers.btrfs.tree import Item, Tree
from fsdrivers.errors import Corrupt, TooMany
from fsdrivers.filesystem import Stat

MAX_XATTRS = 8 << 20  # bytes of all extended attributes of an inode, names and some room for each included
_NANO = 1_000_000_000


class Inode(NamedTuple):
    """One inode: what stat() shows, and whether its data carries checksums."""

    stat: Stat
    checksummed: bool
    generation: int


def parse(item: Item, name: str) -> Inode:
    """The inode in ``item``; raises Corrupt naming the filesystem ``name``."""
    if item.size < layout.INODE.size:
        raise Corrupt(name, f"inode item of {item.objectid} (size)", item.start, layout.INODE.size, item.size)
    fields = layout.INODE.unpack_from(item.raw, item.start)
    generation, _, size, _, _, nlink, uid, gid, mode, rdev, flags, _ = fields[:12]
    if size >= 1 << 63:
        raise Corrupt(name, f"inode item of {item.objectid} (file size)", item.start, None, size)
    asec, ansec, csec, cnsec, msec, mnsec = fields[12:18]
    return Inode(
        Stat(
            mode,
            uid,
            gid,
            size,
            nlink,
            item.objectid,
            msec * _NANO + mnsec,
            asec * _NANO + ansec,
            csec * _NANO + cnsec,
            (rdev >> 20, rdev & 0xFFFFF),  # include/linux/kdev_t.h:MAJOR, MINOR
        ),
        not flags & layout.INODE_NODATASUM,
        generation,
    )


def xattrs(tree: Tree, number: int, name: str) -> dict[str, bytes]:
    """The extended attributes of inode ``number``; raises Corrupt naming the filesystem ``name``."""
    found = {}
    left = MAX_XATTRS
    for item in tree.of(number, layout.XATTR_ITEM):
        for entry in directory.parse(item, name):
            left -= len(entry.data) + 256
            if left < 0:
                raise TooMany(f"bytes of extended attributes of inode {number} of {name}", MAX_XATTRS)
            if b"\0" in entry.name:  # no system call takes it, and a list of names is cut there
                raise Corrupt(name, f"name of an extended attribute of inode {number}", item.offset, None, entry.name)
            found[os.fsdecode(entry.name)] = entry.data
    return found
