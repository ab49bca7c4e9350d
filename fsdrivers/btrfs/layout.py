"""The on-disk structures of btrfs, declared once; no logic in here.

Everything is little-endian and packed.  Offsets are in bytes.  Sources, all of Linux v6.12:
include/uapi/linux/btrfs_tree.h (structures, key types, object ids), fs/btrfs/fs.h (superblock offsets, limits),
include/uapi/linux/btrfs.h (feature bits).

The labels are declared field by field; what there may be thousands of (chunks too) with struct.Struct, and beside it
the offsets and names of its fields for who shows or makes such structures (fsdrivers/desk/inspect/derived.py).
"""

from __future__ import annotations

from struct import Struct

from fsdrivers.record import Record

# --- superblock (struct btrfs_super_block) ---------------------------------------------------

SUPER_OFFSETS = (0x10000, 0x4000000, 0x4000000000)  # btrfs_sb_offset(): 64 KiB, 64 MiB, 256 GiB
ZONED_OFFSET = 0  # sb_zone_number(): zoned filesystems start their first superblock log with the device
SUPER_SIZE = 0x1000
SUPER_MAGIC = b"_BHRfS_M"
SYS_CHUNK_ARRAY_SIZE = 2048
BACKUP_ROOTS = 4

DEV_ITEM = Record(
    ("devid", "Q"),  # 0x00
    ("total_bytes", "Q"),  # 0x08
    ("bytes_used", "Q"),  # 0x10
    ("io_align", "I"),  # 0x18
    ("io_width", "I"),  # 0x1c
    ("sector_size", "I"),  # 0x20
    ("type", "Q"),  # 0x24
    ("generation", "Q"),  # 0x2c
    ("start_offset", "Q"),  # 0x34
    ("dev_group", "I"),  # 0x3c
    ("seek_speed", "B"),  # 0x40
    ("bandwidth", "B"),  # 0x41
    ("uuid", "16s"),  # 0x42
    ("fsid", "16s"),  # 0x52
)

ROOT_BACKUP = Record(
    ("tree_root", "Q"),  # 0x00
    ("tree_root_gen", "Q"),  # 0x08
    ("chunk_root", "Q"),  # 0x10
    ("chunk_root_gen", "Q"),  # 0x18
    ("extent_root", "Q"),  # 0x20
    ("extent_root_gen", "Q"),  # 0x28
    ("fs_root", "Q"),  # 0x30
    ("fs_root_gen", "Q"),  # 0x38
    ("dev_root", "Q"),  # 0x40
    ("dev_root_gen", "Q"),  # 0x48
    ("csum_root", "Q"),  # 0x50
    ("csum_root_gen", "Q"),  # 0x58
    ("total_bytes", "Q"),  # 0x60
    ("bytes_used", "Q"),  # 0x68
    ("num_devices", "Q"),  # 0x70
    ("unused_64", "32s"),  # 0x78
    ("tree_root_level", "B"),  # 0x98
    ("chunk_root_level", "B"),  # 0x99
    ("extent_root_level", "B"),  # 0x9a
    ("fs_root_level", "B"),  # 0x9b
    ("dev_root_level", "B"),  # 0x9c
    ("csum_root_level", "B"),  # 0x9d
    ("unused_8", "10s"),  # 0x9e
)

SUPERBLOCK = Record(
    ("csum", "32s"),  # 0x000
    ("fsid", "16s"),  # 0x020
    ("bytenr", "Q"),  # 0x030
    ("flags", "Q"),  # 0x038
    ("magic", "8s"),  # 0x040
    ("generation", "Q"),  # 0x048
    ("root", "Q"),  # 0x050
    ("chunk_root", "Q"),  # 0x058
    ("log_root", "Q"),  # 0x060
    ("log_root_transid", "Q"),  # 0x068
    ("total_bytes", "Q"),  # 0x070
    ("bytes_used", "Q"),  # 0x078
    ("root_dir_objectid", "Q"),  # 0x080
    ("num_devices", "Q"),  # 0x088
    ("sectorsize", "I"),  # 0x090
    ("nodesize", "I"),  # 0x094
    ("leafsize", "I"),  # 0x098
    ("stripesize", "I"),  # 0x09c
    ("sys_chunk_array_size", "I"),  # 0x0a0
    ("chunk_root_generation", "Q"),  # 0x0a4
    ("compat_flags", "Q"),  # 0x0ac
    ("compat_ro_flags", "Q"),  # 0x0b4
    ("incompat_flags", "Q"),  # 0x0bc
    ("csum_type", "H"),  # 0x0c4
    ("root_level", "B"),  # 0x0c6
    ("chunk_root_level", "B"),  # 0x0c7
    ("log_root_level", "B"),  # 0x0c8
    ("dev_item", DEV_ITEM),  # 0x0c9
    ("label", "256s"),  # 0x12b
    ("cache_generation", "Q"),  # 0x22b
    ("uuid_tree_generation", "Q"),  # 0x233
    ("metadata_uuid", "16s"),  # 0x23b
    ("nr_global_roots", "Q"),  # 0x24b
    ("reserved", "216s"),  # 0x253
    ("sys_chunk_array", f"{SYS_CHUNK_ARRAY_SIZE}s"),  # 0x32b
    ("super_roots", (BACKUP_ROOTS, ROOT_BACKUP)),  # 0xb2b
    ("padding", "565s"),  # 0xdcb
)

SUPER_FLAG_ERROR = 1 << 2
SUPER_FLAG_SEEDING = 1 << 32
SUPER_FLAG_METADUMP = 1 << 33
SUPER_FLAG_METADUMP_V2 = 1 << 34
SUPER_FLAG_CHANGING_BG_TREE = 1 << 38
SUPER_FLAG_CHANGING_DATA_CSUM = 1 << 39
SUPER_FLAG_CHANGING_META_CSUM = 1 << 40

CSUM_CRC32C, CSUM_XXHASH64, CSUM_SHA256, CSUM_BLAKE2B = 0, 1, 2, 3
CSUM_FIELD = 32  # bytes that headers and superblocks keep for any checksum

# --- chunks --------------------------------------------------------------------------------------

# struct btrfs_stripe; offset: bytes from the start of the device
STRIPE = Struct("<QQ16s")
STRIPE_FIELDS = "0x00 devid  0x08 offset  0x10 dev_uuid"
# struct btrfs_chunk, then num_stripes stripes from 0x30
CHUNK = Struct("<QQQQIIIHH")
CHUNK_FIELDS = """0x00 length  0x08 owner  0x10 stripe_len  0x18 type  0x20 io_align  0x24 io_width  0x28 sector_size
    0x2c num_stripes  0x2e sub_stripes"""

STRIPE_LEN = 0x10000

BLOCK_GROUP_DATA, BLOCK_GROUP_SYSTEM, BLOCK_GROUP_METADATA = 1 << 0, 1 << 1, 1 << 2
BLOCK_GROUP_RAID0, BLOCK_GROUP_RAID1, BLOCK_GROUP_DUP, BLOCK_GROUP_RAID10 = 1 << 3, 1 << 4, 1 << 5, 1 << 6
BLOCK_GROUP_RAID5, BLOCK_GROUP_RAID6, BLOCK_GROUP_RAID1C3, BLOCK_GROUP_RAID1C4 = 1 << 7, 1 << 8, 1 << 9, 1 << 10
BLOCK_GROUP_PROFILES = 0x7F8

# struct btrfs_raid_stride; physical: bytes from the start of the device; a RAID_STRIPE item is an array
RAID_STRIDE = Struct("<QQ")
RAID_STRIDE_FIELDS = "0x00 devid  0x08 physical"

# --- tree nodes ----------------------------------------------------------------------------------

# struct btrfs_header
HEADER = Struct("<32s16sQQ16sQQIB")
HEADER_FIELDS = """0x00 csum  0x20 fsid  0x30 bytenr  0x38 flags  0x40 chunk_tree_uuid  0x50 generation  0x58 owner
    0x60 nritems  0x64 level"""
# struct btrfs_disk_key
KEY = Struct("<QBQ")
KEY_FIELDS = "0x00 objectid  0x08 type  0x09 offset"
# struct btrfs_item; offset: of the data, from the end of the header
ITEM = Struct("<QBQII")
ITEM_FIELDS = "0x00 key.objectid  0x08 key.type  0x09 key.offset  0x11 offset  0x15 size"
# struct btrfs_key_ptr
KEY_PTR = Struct("<QBQQQ")
KEY_PTR_FIELDS = "0x00 key.objectid  0x08 key.type  0x09 key.offset  0x11 blockptr  0x19 generation"

MAX_LEVEL = 8
MAX_KEY = (0xFFFFFFFFFFFFFFFF, 0xFF, 0xFFFFFFFFFFFFFFFF)

# key types
INODE_ITEM, INODE_REF, INODE_EXTREF, XATTR_ITEM = 1, 12, 13, 24
DIR_LOG_INDEX, DIR_ITEM, DIR_INDEX = 72, 84, 96
EXTENT_DATA, EXTENT_CSUM = 108, 128
ROOT_ITEM, ROOT_BACKREF, ROOT_REF = 132, 144, 156
DEV_ITEM_KEY, CHUNK_ITEM, RAID_STRIPE = 216, 228, 230

# object ids
ROOT_TREE, EXTENT_TREE, CHUNK_TREE, DEV_TREE, FS_TREE, ROOT_TREE_DIR, CSUM_TREE = 1, 2, 3, 4, 5, 6, 7
RAID_STRIPE_TREE = 12
DEV_ITEMS = 1
FIRST_CHUNK_TREE = 256
FIRST_FREE, LAST_FREE = 256, 0xFFFFFFFFFFFFFF00
EXTENT_CSUM_ID = 0xFFFFFFFFFFFFFFF6  # -10
TREE_RELOC = 0xFFFFFFFFFFFFFFF8  # -8
TREE_LOG = 0xFFFFFFFFFFFFFFFA  # -6
DEV_REPLACE = 0  # devid of the target of a running replace

# --- items -----------------------------------------------------------------------------------------

# struct btrfs_inode_item, 160 bytes; times are seconds since 1970 and nanoseconds
INODE = Struct("<QQQQQIIIIQQQ32xqIqIqIqI")
INODE_FIELDS = """0x00 generation  0x08 transid  0x10 size  0x18 nbytes  0x20 block_group  0x28 nlink  0x2c uid
    0x30 gid  0x34 mode  0x38 rdev  0x40 flags  0x48 sequence  0x70 atime.sec  0x78 atime.nsec  0x7c ctime.sec
    0x84 ctime.nsec  0x88 mtime.sec  0x90 mtime.nsec  0x94 otime.sec  0x9c otime.nsec"""
INODE_NODATASUM = 1 << 0
INODE_NODATACOW = 1 << 1

# struct btrfs_dir_item, then name and data
DIR = Struct("<QBQQHHB")
DIR_FIELDS = """0x00 location.objectid  0x08 location.type  0x09 location.offset  0x11 transid  0x19 data_len
    0x1b name_len  0x1d type"""
FT_UNKNOWN, FT_REG_FILE, FT_DIR, FT_CHRDEV, FT_BLKDEV, FT_FIFO, FT_SOCK, FT_SYMLINK, FT_XATTR = range(9)
FT_ENCRYPTED = 0x80
NAME_LEN = 255

# struct btrfs_inode_ref, then the name
INODE_REF_ITEM = Struct("<QH")
INODE_REF_ITEM_FIELDS = "0x00 index  0x08 name_len"
# struct btrfs_inode_extref, then the name
INODE_EXTREF_ITEM = Struct("<QQH")
INODE_EXTREF_ITEM_FIELDS = "0x00 parent_objectid  0x08 index  0x10 name_len"
# struct btrfs_root_ref, then the name
ROOT_REF_ITEM = Struct("<QQH")
ROOT_REF_ITEM_FIELDS = "0x00 dirid  0x08 sequence  0x10 name_len"

# struct btrfs_file_extent_item: the head, then inline data or the rest
EXTENT_HEAD = Struct("<QQBBHB")
EXTENT_HEAD_FIELDS = """0x00 generation  0x08 ram_bytes  0x10 compression  0x11 encryption  0x12 other_encoding
    0x14 type"""
EXTENT = Struct("<QQBBHBQQQQ")
EXTENT_FIELDS = EXTENT_HEAD_FIELDS + "  0x15 disk_bytenr  0x1d disk_num_bytes  0x25 offset  0x2d num_bytes"
EXTENT_INLINE, EXTENT_REGULAR, EXTENT_PREALLOC = 0, 1, 2
COMPRESS_NONE, COMPRESS_ZLIB, COMPRESS_LZO, COMPRESS_ZSTD = 0, 1, 2, 3
MAX_COMPRESSED = 128 * 1024  # BTRFS_MAX_COMPRESSED and BTRFS_MAX_UNCOMPRESSED

# struct btrfs_root_item, 439 bytes (239 before the fields from generation_v2 on were added in v3.6); 0x00 is an inode
# item, 0xdc the key drop_progress
ROOT = Struct("<160xQQQQQQQI17xBB")
ROOT_FIELDS = """0xa0 generation  0xa8 root_dirid  0xb0 bytenr  0xb8 byte_limit  0xc0 bytes_used  0xc8 last_snapshot
    0xd0 flags  0xd8 refs  0xed drop_level  0xee level"""
ROOT_V2 = Struct("<239xQ16s16s16sQQQQqIqIqIqI64x")
ROOT_V2_FIELDS = """0xef generation_v2  0xf7 uuid  0x107 parent_uuid  0x117 received_uuid  0x127 ctransid
    0x12f otransid  0x137 stransid  0x13f rtransid  0x147 ctime.sec  0x14f ctime.nsec  0x153 otime.sec  0x15b otime.nsec
    0x15f stime.sec  0x167 stime.nsec  0x16b rtime.sec  0x173 rtime.nsec"""
ROOT_SIZE_V1 = 239
ROOT_FLAG_READONLY = 1 << 0
