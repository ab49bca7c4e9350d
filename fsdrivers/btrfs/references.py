"""The way back from an inode to its names: INODE_REF and INODE_EXTREF items.

Source: include/uapi/linux/btrfs_tree.h:btrfs_inode_ref, btrfs_inode_extref; fs/btrfs/inode-item.h:btrfs_extref_hash,
v6.12.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fsdrivers.btrfs import layout
from fsdrivers.btrfs.tree import Item, Key, Tree
from fsdrivers.checksums.crc32c import crc32c
from fsdrivers.errors import Corrupt


class Reference(NamedTuple):
    """One name of an inode: ``name`` at ``position`` in the directory inode ``parent``."""

    parent: int
    position: int
    name: bytes


def parse(item: Item, name: str) -> Iterator[Reference]:
    """The references in ``item``, of either type; raises Corrupt naming the filesystem ``name``."""
    extended = item.type == layout.INODE_EXTREF
    shape = layout.INODE_EXTREF_ITEM if extended else layout.INODE_REF_ITEM
    raw, at, end = item.raw, item.start, item.start + item.size
    while at < end:
        if at + shape.size > end:
            raise Corrupt(name, f"inode reference of {item.objectid} (size)", item.offset)
        fields = shape.unpack_from(raw, at)
        parent, index, length = fields if extended else (item.offset, *fields)
        at += shape.size
        if not 0 < length <= layout.NAME_LEN or at + length > end:
            raise Corrupt(name, f"inode reference of {item.objectid} (name_len)", item.offset, None, length)
        yield Reference(parent, index, raw[at : at + length])
        at += length


def pack(kind: int, references: list[Reference]) -> bytes:
    """The data of an item of type ``kind`` with these references."""
    if kind == layout.INODE_EXTREF:
        return b"".join(
            layout.INODE_EXTREF_ITEM.pack(one.parent, one.position, len(one.name)) + one.name for one in references
        )
    return b"".join(layout.INODE_REF_ITEM.pack(one.position, len(one.name)) + one.name for one in references)


def extended_hash(parent: int, name: bytes) -> int:
    """The offset of the INODE_EXTREF key for ``name`` in ``parent``: CRC-32C, without the inversions at its ends."""
    return crc32c(name, parent & 0xFFFFFFFF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def keys(inode: int, parent: int, name: bytes) -> tuple[Key, Key]:
    """The keys under which the reference of ``inode`` to ``name`` in ``parent`` may be."""
    return (
        (inode, layout.INODE_REF, parent),
        (inode, layout.INODE_EXTREF, extended_hash(parent, name)),
    )


def find(tree: Tree, inode: int, parent: int, wanted: bytes, name: str) -> tuple[Key, Reference] | None:
    """The reference of ``inode`` to ``wanted`` in ``parent``, with the key of its item, or None."""
    for key in keys(inode, parent, wanted):
        item = tree.find(*key)
        if item is not None:
            for one in parse(item, name):
                if one.parent == parent and one.name == wanted:
                    return key, one
    return None


def of(tree: Tree, inode: int, name: str) -> Iterator[Reference]:
    """All references of ``inode``."""
    for item in tree.items((inode, layout.INODE_REF, 0), (inode, layout.INODE_EXTREF, layout.MAX_KEY[2])):
        if item.type in (layout.INODE_REF, layout.INODE_EXTREF):
            yield from parse(item, name)
