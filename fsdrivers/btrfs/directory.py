"""Directory items: names by their order of creation (DIR_INDEX) and by hash (DIR_ITEM).

Source: include/uapi/linux/btrfs_tree.h:btrfs_dir_item; fs/btrfs/dir-item.c:btrfs_match_dir_item_name;
fs/btrfs/tree-checker.c:check_dir_item, v6.12.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fsdrivers import filesystem as fs
from fsdrivers.btrfs import layout
from fsdrivers.btrfs.checksum import name_hash
from fsdrivers.btrfs.tree import Item, Key, Tree
from fsdrivers.errors import Corrupt, Unsupported

TYPES = {
    layout.FT_REG_FILE: fs.FILE,
    layout.FT_DIR: fs.DIRECTORY,
    layout.FT_CHRDEV: fs.CHAR,
    layout.FT_BLKDEV: fs.BLOCK,
    layout.FT_FIFO: fs.FIFO,
    layout.FT_SOCK: fs.SOCKET,
    layout.FT_SYMLINK: fs.SYMLINK,
}


class Entry(NamedTuple):
    """One directory item: ``location`` is the key of what it names (an inode, or the root of a subvolume)."""

    name: bytes
    location: Key
    type: int
    data: bytes


def parse(item: Item, name: str) -> Iterator[Entry]:
    """The entries in ``item``: several when hashes collide.  Raises Corrupt, Unsupported (encrypted names)."""
    raw, at, end = item.raw, item.start, item.start + item.size
    while at < end:
        if at + layout.DIR.size > end:
            raise Corrupt(name, f"directory item of inode {item.objectid} (size)", item.offset)
        objectid, kind, offset, _, data_length, name_length, what = layout.DIR.unpack_from(raw, at)
        at += layout.DIR.size
        if not 0 < name_length <= layout.NAME_LEN or at + name_length + data_length > end:
            raise Corrupt(name, f"directory item of inode {item.objectid} (name_len)", item.offset, None, name_length)
        if what & layout.FT_ENCRYPTED:
            raise Unsupported("btrfs encrypt", f"names in directory inode {item.objectid} are encrypted")
        middle = at + name_length
        yield Entry(raw[at:middle], (objectid, kind, offset), what, raw[middle : middle + data_length])
        at = middle + data_length


def entries(tree: Tree, number: int, name: str) -> Iterator[Entry]:
    """All entries of directory inode ``number`` in the order of creation, as the kernel's readdir gives them."""
    for item in tree.of(number, layout.DIR_INDEX):
        yield from parse(item, name)


def lookup(tree: Tree, number: int, wanted: bytes, name: str) -> Entry | None:
    """The entry ``wanted`` of directory inode ``number``, or None."""
    item = tree.find(number, layout.DIR_ITEM, name_hash(wanted))
    if item is None:
        return None
    for entry in parse(item, name):
        if entry.name == wanted:
            return entry
    return None
