"""Structures of btrfs that no reader needs, declared as the driver's own are (fsdrivers/btrfs/layout.py).

Source: include/uapi/linux/btrfs_tree.h, v6.12.
"""

from __future__ import annotations

from struct import Struct

# struct btrfs_extent_item; for tree blocks without the flag of the skinny ones a btrfs_tree_block_info follows, then
# references inside of the item
EXTENT_ITEM = Struct("<QQQ")
EXTENT_ITEM_FIELDS = "0x00 refs  0x08 generation  0x10 flags"
TREE_BLOCK_INFO = Struct("<QBQB")
TREE_BLOCK_INFO_FIELDS = "0x00 key.objectid  0x08 key.type  0x09 key.offset  0x11 level"
# struct btrfs_extent_inline_ref; of data references the structure begins where the offset would be
INLINE_REF = Struct("<BQ")
INLINE_REF_FIELDS = "0x00 type  0x01 offset"
EXTENT_DATA_REF = Struct("<QQQI")
EXTENT_DATA_REF_FIELDS = "0x00 root  0x08 objectid  0x10 offset  0x18 count"
SHARED_DATA_REF = Struct("<I")
SHARED_DATA_REF_FIELDS = "0x00 count"

# struct btrfs_block_group_item
BLOCK_GROUP = Struct("<QQQ")
BLOCK_GROUP_FIELDS = "0x00 used  0x08 chunk_objectid  0x10 flags"
# struct btrfs_dev_extent
DEV_EXTENT = Struct("<QQQQ16s")
DEV_EXTENT_FIELDS = "0x00 chunk_tree  0x08 chunk_objectid  0x10 chunk_offset  0x18 length  0x20 chunk_tree_uuid"
# struct btrfs_dev_stats_item
DEV_STATS = Struct("<5Q")
DEV_STATS_FIELDS = """0x00 write_errs  0x08 read_errs  0x10 flush_errs  0x18 corruption_errs  0x20 generation_errs"""
# struct btrfs_free_space_info
FREE_SPACE_INFO = Struct("<II")
FREE_SPACE_INFO_FIELDS = "0x00 extent_count  0x04 flags"

# key types
EXTENT_ITEM_KEY, METADATA_ITEM, TREE_BLOCK_REF, EXTENT_DATA_REF_KEY = 168, 169, 176, 178
SHARED_BLOCK_REF, SHARED_DATA_REF_KEY, BLOCK_GROUP_ITEM = 182, 184, 192
FREE_SPACE_INFO_KEY, FREE_SPACE_EXTENT, FREE_SPACE_BITMAP, DEV_EXTENT_KEY = 198, 199, 200, 204
TEMPORARY_ITEM, PERSISTENT_ITEM, UUID_SUBVOL, UUID_RECEIVED = 248, 249, 251, 252

EXTENT_FLAG_TREE_BLOCK = 1 << 1
