"""Extents of a file replaced in an overlay: ranges dropped, what sticks out of them cut.

Source: fs/btrfs/file.c:btrfs_drop_extents, fs/btrfs/tree-log.c:replay_one_extent, v6.12.
"""

from __future__ import annotations

from fsdrivers.btrfs import layout
from fsdrivers.btrfs.overlay import Overlay
from fsdrivers.btrfs.tree import Item, Key
from fsdrivers.errors import Corrupt


def put(tree: Overlay, item: Item, sectorsize: int, name: str) -> None:
    """Put the extent ``item`` of a log over what the file has there; raises Corrupt naming the filesystem ``name``."""
    drop(tree, item.objectid, item.offset, _end(item, sectorsize, name), sectorsize, name)
    tree.put((item.objectid, item.type, item.offset), item.data)


def drop(tree: Overlay, inode: int, start: int, end: int, sectorsize: int, name: str) -> None:
    """Forget the extents of ``inode`` in [start, end), both multiples of the sector size or the end of all files."""
    before = tree.at_or_before(inode, layout.EXTENT_DATA, start)
    low = before.offset if before is not None else start
    if low >= end:
        return
    for item in list(tree.items((inode, layout.EXTENT_DATA, low), (inode, layout.EXTENT_DATA, end - 1))):
        key: Key = (inode, layout.EXTENT_DATA, item.offset)
        stop = _end(item, sectorsize, name)
        if stop <= start:
            continue
        tree.remove(key)
        if item.raw[item.start + 0x14] == layout.EXTENT_INLINE:
            continue
        if item.offset < start:
            tree.put(key, _cut(item, item.offset, start))
        if stop > end:
            tree.put((inode, layout.EXTENT_DATA, end), _cut(item, end, stop))


def _end(item: Item, sectorsize: int, name: str) -> int:
    """Where the extent ``item`` ends in its file, in bytes; raises Corrupt."""
    inline = item.size >= layout.EXTENT_HEAD.size and item.raw[item.start + 0x14] == layout.EXTENT_INLINE
    if not inline and item.size != layout.EXTENT.size:
        raise Corrupt(name, f"extent of inode {item.objectid} (item size)", item.start, layout.EXTENT.size, item.size)
    field = 0x08 if inline else 0x2D
    length = int.from_bytes(item.raw[item.start + field : item.start + field + 8], "little")
    return item.offset + (-(-length // sectorsize) * sectorsize if inline else length)


def _cut(item: Item, start: int, end: int) -> bytes:
    """The extent ``item`` with only [start, end) of the file left."""
    *head, address, stored, skip, _ = layout.EXTENT.unpack(item.data)
    if address:
        skip += start - item.offset
    return layout.EXTENT.pack(*head, address, stored, skip, end - start)
