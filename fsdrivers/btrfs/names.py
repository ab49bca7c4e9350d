"""Names put into and taken out of the directories of an overlay, as link and unlink do it.

Source: fs/btrfs/inode.c:btrfs_add_link, __btrfs_unlink_inode, v6.12.
"""

from __future__ import annotations

import stat as _stat

from fsdrivers.btrfs import directory, layout, references
from fsdrivers.btrfs.checksum import name_hash
from fsdrivers.btrfs.overlay import Overlay
from fsdrivers.btrfs.references import Reference

_TYPES = {
    _stat.S_IFREG: layout.FT_REG_FILE,
    _stat.S_IFDIR: layout.FT_DIR,
    _stat.S_IFCHR: layout.FT_CHRDEV,
    _stat.S_IFBLK: layout.FT_BLKDEV,
    _stat.S_IFIFO: layout.FT_FIFO,
    _stat.S_IFSOCK: layout.FT_SOCK,
    _stat.S_IFLNK: layout.FT_SYMLINK,
}


def set_inode(tree: Overlay, number: int, size: int | None = None, nlink: int | None = None) -> None:
    """Change the size or the link count in the inode item of ``number``, if there is one."""
    data = tree.inode(number)
    if data is None:
        return
    changed = bytearray(data)
    if size is not None:
        changed[0x10:0x18] = (size & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little")
    if nlink is not None:
        changed[0x28:0x2C] = (nlink & 0xFFFFFFFF).to_bytes(4, "little")
    tree.put((number, layout.INODE_ITEM, 0), bytes(changed))


def size_of(inode: bytes) -> int:
    """The file size in the inode item ``inode``."""
    return int.from_bytes(inode[0x10:0x18], "little")


def mode_of(inode: bytes) -> int:
    """The type and permission bits in the inode item ``inode``."""
    return int.from_bytes(inode[0x34:0x38], "little")


def grow(tree: Overlay, number: int, by: int) -> None:
    """Change the size of directory ``number``: twice the length of all names in it."""
    data = tree.inode(number)
    if data is not None:
        set_inode(tree, number, size=max(0, size_of(data) + by))


def at_index(tree: Overlay, parent: int, index: int, name: str) -> directory.Entry | None:
    """The entry ``index`` of directory ``parent``, or None."""
    item = tree.find(parent, layout.DIR_INDEX, index)
    return next(directory.parse(item, name), None) if item is not None else None


def link(tree: Overlay, inode: int, reference: Reference, back: bool, name: str) -> bool:
    """Put a name of ``inode`` into its directory; with the reference in the inode if ``back``.

    False, and nothing is done, when the name is taken.
    """
    parent, index, wanted = reference
    data = tree.inode(inode)
    if data is None or directory.lookup(tree, parent, wanted, name) is not None:
        return False
    kind = _TYPES.get(_stat.S_IFMT(mode_of(data)), layout.FT_UNKNOWN)
    entry = layout.DIR.pack(inode, layout.INODE_ITEM, 0, 0, 0, len(wanted), kind) + wanted
    key = (parent, layout.DIR_ITEM, name_hash(wanted))
    before = tree.find(*key)
    tree.put(key, (before.data if before else b"") + entry)
    tree.put((parent, layout.DIR_INDEX, index), entry)
    if back:
        _add_reference(tree, inode, reference, name)
    grow(tree, parent, 2 * len(wanted))
    return True


def unlink(tree: Overlay, inode: int, parent: int, wanted: bytes, name: str) -> None:
    """Take the name ``wanted`` of ``inode`` out of directory ``parent``, and its reference out of the inode."""
    key = (parent, layout.DIR_ITEM, name_hash(wanted))
    item = tree.find(*key)
    if item is not None:
        entries = list(directory.parse(item, name))
        left = [entry for entry in entries if entry.name != wanted]
        if len(left) < len(entries):
            grow(tree, parent, -2 * len(wanted))
            _put_or_remove(tree, key, b"".join(map(_packed, left)))
    found = references.find(tree, inode, parent, wanted, name)
    if found is None:
        return
    where, reference = found
    entry = at_index(tree, parent, reference.position, name)
    if entry is not None and entry.name == wanted:
        tree.remove((parent, layout.DIR_INDEX, reference.position))
    item = tree.find(*where)
    rest = [one for one in references.parse(item, name) if one != reference] if item is not None else []
    _put_or_remove(tree, where, references.pack(where[1], rest))


def _add_reference(tree: Overlay, inode: int, reference: Reference, name: str) -> None:
    """Only INODE_REF items are made: no leaf has to have room for them."""
    key = references.keys(inode, reference.parent, reference.name)[0]
    item = tree.find(*key)
    known = list(references.parse(item, name)) if item is not None else []
    if reference not in known:
        tree.put(key, references.pack(layout.INODE_REF, [*known, reference]))


def _put_or_remove(tree: Overlay, key: tuple[int, int, int], data: bytes) -> None:
    if data:
        tree.put(key, data)
    else:
        tree.remove(key)


def _packed(entry: directory.Entry) -> bytes:
    head = layout.DIR.pack(*entry.location, 0, len(entry.data), len(entry.name), entry.type)
    return head + entry.name + entry.data
