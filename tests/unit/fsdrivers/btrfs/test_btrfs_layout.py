"""Sizes and offsets of btrfs's structures against include/uapi/linux/btrfs_tree.h, v6.12."""

from __future__ import annotations

from struct import Struct

import pytest

from fsdrivers.btrfs import layout


@pytest.mark.parametrize(
    ("record", "size"),
    [(layout.SUPERBLOCK, 4096), (layout.DEV_ITEM, 98), (layout.ROOT_BACKUP, 168)],
)
def test_record_sizes(record: object, size: int) -> None:
    assert record.size == size  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (layout.HEADER, 0x65), (layout.KEY, 17), (layout.ITEM, 25), (layout.KEY_PTR, 33), (layout.STRIPE, 0x20),
        (layout.CHUNK, 0x30), (layout.INODE, 160), (layout.DIR, 30), (layout.INODE_REF_ITEM, 10),
        (layout.INODE_EXTREF_ITEM, 18), (layout.ROOT_REF_ITEM, 18), (layout.EXTENT_HEAD, 21), (layout.EXTENT, 53),
        (layout.ROOT, 239), (layout.ROOT_V2, 439),
    ],
)  # fmt: skip
def test_struct_sizes(shape: Struct, size: int) -> None:
    assert shape.size == size


@pytest.mark.parametrize(
    ("name", "offset"),
    [
        ("fsid", 0x20), ("bytenr", 0x30), ("magic", 0x40), ("generation", 0x48), ("root", 0x50), ("chunk_root", 0x58),
        ("log_root", 0x60), ("num_devices", 0x88), ("sectorsize", 0x90), ("nodesize", 0x94),
        ("sys_chunk_array_size", 0xA0), ("incompat_flags", 0xBC), ("csum_type", 0xC4), ("root_level", 0xC6),
        ("dev_item", 0xC9), ("label", 0x12B), ("metadata_uuid", 0x23B), ("sys_chunk_array", 0x32B),
        ("super_roots", 0xB2B),
    ],
)  # fmt: skip
def test_superblock_offsets(name: str, offset: int) -> None:
    assert layout.SUPERBLOCK.offset(name) == offset


def where(shape: Struct, index: int) -> int:
    """The offset of field number ``index`` of ``shape``: where changing bytes changes that field alone."""
    plain = shape.unpack(bytes(shape.size))
    return next(
        at
        for at in range(shape.size)
        if shape.unpack(bytes(at) + b"\1" + bytes(shape.size - at - 1))[index] != plain[index]
    )


@pytest.mark.parametrize(
    ("shape", "index", "offset"),
    [
        (layout.HEADER, 1, 0x20), (layout.HEADER, 2, 0x30), (layout.HEADER, 5, 0x50), (layout.HEADER, 6, 0x58),
        (layout.HEADER, 7, 0x60), (layout.HEADER, 8, 0x64), (layout.CHUNK, 3, 0x18), (layout.CHUNK, 7, 0x2C),
        (layout.STRIPE, 1, 0x08), (layout.STRIPE, 2, 0x10), (layout.ROOT, 0, 0xA0), (layout.ROOT, 2, 0xB0),
        (layout.ROOT, 6, 0xD0), (layout.ROOT, 7, 0xD8), (layout.ROOT, 9, 0xEE), (layout.ROOT_V2, 1, 0xF7),
        (layout.ROOT_V2, 10, 0x153), (layout.INODE, 2, 0x10), (layout.INODE, 5, 0x28), (layout.INODE, 8, 0x34),
        (layout.INODE, 9, 0x38), (layout.INODE, 10, 0x40), (layout.INODE, 12, 0x70), (layout.INODE, 16, 0x88),
        (layout.EXTENT, 5, 0x14), (layout.EXTENT, 6, 0x15), (layout.EXTENT, 9, 0x2D), (layout.DIR, 4, 0x19),
        (layout.DIR, 5, 0x1B),
    ],
)  # fmt: skip
def test_field_offsets(shape: Struct, index: int, offset: int) -> None:
    assert where(shape, index) == offset
