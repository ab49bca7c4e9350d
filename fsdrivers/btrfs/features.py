"""The feature flags of the superblock and what this reader does about each.

Three states: read, refused (with what would go wrong), and unknown.  An unknown bit of the incompat field is
refused by its number: it may change where or how anything is stored.  Unknown bits of compat_ro only forbid
writing, so they are read with a note.  Source: include/uapi/linux/btrfs.h, v6.12; bits above 16 from v6.19.
"""

from __future__ import annotations

from typing import NamedTuple

from fsdrivers.errors import Unsupported


class Feature(NamedTuple):
    """One bit; ``refused`` says what would go wrong, "" when the feature is read, since the test named in ``test``."""

    name: str
    refused: str = ""
    test: str = ""


INCOMPAT = {
    0: Feature("mixed_backref", test="every image"),
    1: Feature("default_subvol", test="dup"),
    2: Feature("mixed_groups", test="mixed"),
    3: Feature("compress_lzo", test="raid0"),
    4: Feature("compress_zstd", test="raid1"),
    5: Feature("big_metadata", test="every image"),
    6: Feature("extended_iref", test="every image"),
    7: Feature("raid56", test="raid5, raid6"),
    8: Feature("skinny_metadata", test="every image"),
    9: Feature("no_holes", test="every image"),
    10: Feature("metadata_uuid", test="metadata-uuid"),
    11: Feature("raid1c34", test="raid1c3, raid1c4"),
    12: Feature("zoned", "superblocks and data are laid out in zones of the device"),
    13: Feature("extent_tree_v2", "the trees that say where data and checksums are were split up"),
    14: Feature("raid_stripe_tree", test="stripes-raid0, stripes-raid1, stripes-raid1c3, stripes-raid10, stripes-dup"),
    15: Feature("encrypt", "names and data are encrypted by fscrypt"),
    16: Feature("simple_quota", test="simple-quota"),
    17: Feature("remap_tree", "block groups are relocated through a tree of their own"),
}

COMPAT_RO = {
    0: Feature("free_space_tree", test="every image"),
    1: Feature("free_space_tree_valid", test="every image"),
    2: Feature("verity", test="verity"),
    3: Feature("block_group_tree", test="block-group-tree"),
}


RAID_STRIPE_TREE = 1 << 14


def bits(flags: int) -> list[int]:
    """The numbers of the bits that are set in ``flags``."""
    return [bit for bit in range(flags.bit_length()) if flags >> bit & 1]


def check(incompat: int, compat_ro: int) -> list[str]:
    """Notes for the user about features that are read although unknown; raises Unsupported for the first other one."""
    for bit in bits(incompat):
        feature = INCOMPAT.get(bit)
        if feature is None:
            raise Unsupported(f"btrfs incompat bit {bit}", "newer than this program")
        if feature.refused:
            raise Unsupported(f"btrfs {feature.name}", feature.refused)
    return [
        f"unknown btrfs compat_ro bit {bit}: reading is safe, but the filesystem is newer than this program"
        for bit in bits(compat_ro)
        if bit not in COMPAT_RO
    ]
