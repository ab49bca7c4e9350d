"""What numbers on a btrfs mean: names of trees, key types and flags, and which field has which words.

Source: include/uapi/linux/btrfs_tree.h, include/uapi/linux/btrfs.h, v6.12.
"""

from __future__ import annotations

from fsdrivers.btrfs import features
from fsdrivers.btrfs.checksum import TYPES
from fsdrivers.btrfs.geometry import PROFILES
from fsdrivers.btrfs.layout import BLOCK_GROUP_PROFILES, SUPER_MAGIC
from fsdrivers.desk.inspect import words
from fsdrivers.desk.inspect.report import Words

TREES = {
    1: "ROOT_TREE", 2: "EXTENT_TREE", 3: "CHUNK_TREE", 4: "DEV_TREE", 5: "FS_TREE", 6: "ROOT_TREE_DIR",
    7: "CSUM_TREE", 8: "QUOTA_TREE", 9: "UUID_TREE", 10: "FREE_SPACE_TREE", 11: "BLOCK_GROUP_TREE",
    12: "RAID_STRIPE_TREE",
    2**64 - 4: "BALANCE", 2**64 - 5: "ORPHAN", 2**64 - 6: "TREE_LOG", 2**64 - 7: "TREE_LOG_FIXUP",
    2**64 - 8: "TREE_RELOC", 2**64 - 9: "DATA_RELOC_TREE", 2**64 - 10: "EXTENT_CSUM", 2**64 - 11: "FREE_SPACE",
    2**64 - 12: "FREE_INO",
}  # fmt: skip
"""Object ids of trees, and those that stand in the root tree for something else."""

KEYS = {
    1: "INODE_ITEM", 12: "INODE_REF", 13: "INODE_EXTREF", 24: "XATTR_ITEM", 36: "VERITY_DESC_ITEM",
    37: "VERITY_MERKLE_ITEM", 48: "ORPHAN_ITEM", 60: "DIR_LOG_ITEM", 72: "DIR_LOG_INDEX", 84: "DIR_ITEM",
    96: "DIR_INDEX", 108: "EXTENT_DATA", 128: "EXTENT_CSUM", 132: "ROOT_ITEM", 144: "ROOT_BACKREF", 156: "ROOT_REF",
    168: "EXTENT_ITEM", 169: "METADATA_ITEM", 172: "EXTENT_OWNER_REF", 176: "TREE_BLOCK_REF", 178: "EXTENT_DATA_REF",
    182: "SHARED_BLOCK_REF", 184: "SHARED_DATA_REF", 192: "BLOCK_GROUP_ITEM", 198: "FREE_SPACE_INFO",
    199: "FREE_SPACE_EXTENT", 200: "FREE_SPACE_BITMAP", 204: "DEV_EXTENT", 216: "DEV_ITEM", 228: "CHUNK_ITEM",
    230: "RAID_STRIPE", 240: "QGROUP_STATUS", 242: "QGROUP_INFO", 244: "QGROUP_LIMIT", 246: "QGROUP_RELATION",
    248: "TEMPORARY_ITEM", 249: "PERSISTENT_ITEM", 250: "DEV_REPLACE", 251: "UUID_KEY_SUBVOL",
    252: "UUID_KEY_RECEIVED_SUBVOL", 253: "STRING_ITEM",
}  # fmt: skip

SUPER_FLAGS = {
    0: "WRITTEN", 1: "RELOC", 2: "ERROR", 32: "SEEDING", 33: "METADUMP", 34: "METADUMP_V2", 35: "CHANGING_FSID",
    36: "CHANGING_FSID_V2", 38: "CHANGING_BG_TREE", 39: "CHANGING_DATA_CSUM", 40: "CHANGING_META_CSUM",
}  # fmt: skip
_INODE_FLAGS = {
    0: "NODATASUM", 1: "NODATACOW", 2: "READONLY", 3: "NOCOMPRESS", 4: "PREALLOC", 5: "SYNC", 6: "IMMUTABLE",
    7: "APPEND", 8: "NODUMP", 9: "NOATIME", 10: "DIRSYNC", 11: "COMPRESS", 31: "ROOT_ITEM_INIT", 32: "RO_VERITY",
}  # fmt: skip
_KINDS = {0: "DATA", 1: "SYSTEM", 2: "METADATA", 48: "AVAIL_ALLOC_BIT_SINGLE"}
_FILES = {
    0: "UNKNOWN", 1: "FILE", 2: "DIR", 3: "CHRDEV", 4: "BLKDEV", 5: "FIFO", 6: "SOCK", 7: "SYMLINK", 8: "XATTR",
    0x81: "FILE, encrypted name", 0x82: "DIR, encrypted name", 0x87: "SYMLINK, encrypted name",
}  # fmt: skip
EXTENT_TYPES = {0: "inline", 1: "regular", 2: "prealloc"}
COMPRESSIONS = {0: "none", 1: "zlib", 2: "lzo", 3: "zstd"}
_COMPAT: dict[int, str] = {}


def tree(number: int) -> str:
    """What a tree is called: its id for subvolumes."""
    return TREES.get(number, str(number))


_SPECIAL = {(0, 249): "DEV_STATS", (1, 216): "DEV_ITEMS", (256, 228): "FIRST_CHUNK_TREE"}
_UUIDS, _NUMBERS = (251, 252), (204, 246)  # types of keys that are halves of UUIDs, and whose object is a number


def key(objectid: int, kind: int, offset: int) -> str:
    """A key as the field's own tools write it."""
    if kind in _UUIDS:
        return f"({objectid:#018x} {KEYS[kind]} {offset:#018x})"
    first = _SPECIAL.get((objectid, kind)) or (str(objectid) if kind in _NUMBERS else tree(objectid))
    return f"({first} {KEYS.get(kind, f'UNKNOWN.{kind}')} {offset})"


def _key(value: dict[str, int]) -> tuple[object, str]:
    found = value["objectid"], value["type"], value["offset"]
    return list(found), key(*found)


def _owner(value: int) -> tuple[object, str]:
    return value, f"{value} ({tree(value)})" if value in TREES else str(value)


def block_group(value: int) -> tuple[object, str]:
    """Flags of a chunk: what is in it, and its profile."""
    profile = PROFILES.get(value & BLOCK_GROUP_PROFILES)
    kinds = words.flags(_KINDS, "nothing")(value & ~BLOCK_GROUP_PROFILES)[1]
    found = kinds[kinds.index("(") + 1 : -1].replace(" | ", "|")
    return value, f"{value:#x} ({found}|{profile.name if profile else 'unknown profile'})"


def _features(table: dict[int, features.Feature]) -> Words:
    return words.flags({bit: one.name.upper() for bit, one in table.items()})


_DEVICE: dict[str, Words] = {"uuid": words.uuid, "fsid": words.uuid}
_TIMES: dict[str, Words] = dict.fromkeys(("atime", "ctime", "mtime", "otime", "stime", "rtime"), words.timespec)

SUPERBLOCK: dict[str, Words] = {
    "fsid": words.uuid,
    "flags": words.flags(SUPER_FLAGS),
    "magic": words.magic(SUPER_MAGIC),
    "compat_flags": words.flags(_COMPAT),
    "compat_ro_flags": _features(features.COMPAT_RO),
    "incompat_flags": _features(features.INCOMPAT),
    "csum_type": words.named({number: one.name for number, one in TYPES.items()}),
    "label": words.text,
    "metadata_uuid": words.uuid,
    **{f"dev_item.{name}": shown for name, shown in _DEVICE.items()},
}
DEV_ITEM = _DEVICE
STRIPE: dict[str, Words] = {"dev_uuid": words.uuid}
CHUNK: dict[str, Words] = {"type": block_group, "owner": _owner}
HEADER: dict[str, Words] = {
    "fsid": words.uuid,
    # The top byte is the revision of back references (btrfs_tree.h:BTRFS_BACKREF_REV_SHIFT).
    "flags": lambda value: (
        value,
        f"{words.flags({0: 'WRITTEN', 1: 'RELOC'})(value & (1 << 56) - 1)[1]} backref revision {value >> 56}",
    ),
    "chunk_tree_uuid": words.uuid,
    "owner": _owner,
}
ITEM: dict[str, Words] = {"key": _key}
INODE: dict[str, Words] = {"mode": words.octal_mode, "flags": words.flags(_INODE_FLAGS), **_TIMES}
DIR: dict[str, Words] = {"location": _key, "type": words.named(_FILES)}
EXTENT: dict[str, Words] = {"compression": words.named(COMPRESSIONS), "type": words.named(EXTENT_TYPES)}
KEY: dict[str, Words] = {}
ROOT: dict[str, Words] = {"flags": words.flags({0: "RDONLY", 48: "DEAD"})}
ROOT_V2: dict[str, Words] = {
    "uuid": words.uuid, "parent_uuid": words.uuid, "received_uuid": words.uuid, **_TIMES,
}  # fmt: skip
EXTENT_ITEM: dict[str, Words] = {"flags": words.flags({0: "DATA", 1: "TREE_BLOCK", 8: "FULL_BACKREF"})}
INLINE_REF: dict[str, Words] = {"type": words.named(KEYS)}
EXTENT_DATA_REF: dict[str, Words] = {"root": _owner}
BLOCK_GROUP: dict[str, Words] = {"flags": block_group}
DEV_EXTENT: dict[str, Words] = {"chunk_tree_uuid": words.uuid}
FREE_SPACE_INFO: dict[str, Words] = {"flags": words.flags({0: "USING_BITMAPS"})}
