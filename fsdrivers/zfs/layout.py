"""On-disk structures of ZFS: declarations only.

ZFS writes in the byte order of the machine that wrote, and says so block by block, so most structures come in
both orders: ``STRUCT[order]`` with order "<" or ">".  ``STRUCT_FIELDS`` has the offsets (bytes from the structure's
start) and names of its fields, for who shows or makes such structures (fsdrivers/desk/inspect/derived.py).
Headers are those of OpenZFS 2.3.4 (include/sys/...).
"""

from __future__ import annotations

import struct

LITTLE, BIG = "<", ">"


def both(fields: str) -> dict[str, struct.Struct]:
    """The same fields in both byte orders, without padding of the compiler."""
    return {order: struct.Struct(order + fields) for order in (LITTLE, BIG)}


SECTOR_SHIFT = 9  # spa.h:SPA_MINBLOCKSHIFT; sizes and offsets in block pointers count such sectors
MAX_BLOCK = 16 << 20  # spa.h:SPA_MAXBLOCKSIZE; the pointer could say 32 MiB, no version writes that
ASHIFT_MIN, ASHIFT_MAX = 9, 16  # spa.h

# --- vdev labels: vdev_impl.h --------------------------------------------------------------------
LABELS = 4
LABEL_SIZE = 256 << 10  # sizeof(vdev_label_t)
LABEL_NVLIST = 16 << 10  # offset of vl_vdev_phys, after vl_pad1 and vl_be (8 KiB each)
LABEL_NVLIST_SIZE = 112 << 10  # VDEV_PHYS_SIZE, its last 40 bytes are a zio_eck_t
LABEL_RING = 128 << 10  # offset of vl_uberblock
LABEL_RING_SIZE = 128 << 10  # VDEV_UBERBLOCK_RING
DATA_START = 4 << 20  # VDEV_LABEL_START_SIZE: two labels and 3.5 MiB boot block; DVA offset 0 is here
DATA_END = 512 << 10  # VDEV_LABEL_END_SIZE
BOOT_SIZE = 7 << 19  # VDEV_BOOT_SIZE: scratch area of a RAID-Z expansion
MIN_DEVICE = 64 << 20  # SPA_MINDEVSIZE

# --- embedded checksum: zio.h:zio_eck_t, the tail of labels, uberblocks, gang headers --------------
ECK = both("Q4Q")
ECK_FIELDS = "0 zec_magic  8 zec_cksum[4]"
ECK_MAGIC = 0x0210DA7AB10C7A11  # ZEC_MAGIC

# --- uberblock: uberblock_impl.h:struct uberblock ---------------------------------------------------
UBERBLOCK = both("5Q128s6Q")
UBERBLOCK_FIELDS = """0 ub_magic  8 ub_version  16 ub_txg  24 ub_guid_sum  32 ub_timestamp  40 ub_rootbp
    168 ub_software_version  176 ub_mmp_magic  184 ub_mmp_delay  192 ub_mmp_config  200 ub_checkpoint_txg
    208 ub_raidz_reflow_info"""
UBERBLOCK_MAGIC = 0x00BAB10C
UBERBLOCK_SHIFT_MIN, UBERBLOCK_SHIFT_MAX = 10, 13  # UBERBLOCK_SHIFT, MAX_UBERBLOCK_SHIFT
MMP_MAGIC = 0xA11CEA11

# --- block pointer: spa.h:blkptr_t ----------------------------------------------------------------
BLKPTR_SIZE = 128
BLKPTR = both("16Q")
# An address (dva) is two words.  An embedded pointer keeps its payload in all words but blk_prop and the logical birth.
BLKPTR_FIELDS = """0 blk_dva[6]  48 blk_prop  56 blk_pad[2]  72 blk_phys_birth  80 blk_birth  88 blk_fill
    96 blk_cksum[4]"""
EMBEDDED_DATA, EMBEDDED_REDACTED = 0, 2  # bp_embedded_type_t
EMBEDDED_PAYLOAD = 112  # BPE_PAYLOAD_SIZE: 14 words

GANG_HEADER = 512  # zio.h:SPA_GANGBLOCKSIZE: three block pointers, padding, zio_eck_t
GANG_POINTERS = 3

# --- object sets and dnodes: dmu_objset.h:objset_phys_t, dnode.h:dnode_phys_t -----------------------
DNODE = both("8B2HB3x2Q32x")
DNODE_FIELDS = """0 dn_type  1 dn_indblkshift  2 dn_nlevels  3 dn_nblkptr  4 dn_bonustype  5 dn_checksum  6 dn_compress
    7 dn_flags  8 dn_datablkszsec  10 dn_bonuslen  12 dn_extra_slots  16 dn_maxblkid  24 dn_used"""
DNODE_CORE = 64  # DNODE_CORE_SIZE; block pointers follow, then the bonus buffer
DNODE_SIZE = 512  # DNODE_MIN_SIZE, one slot
DNODE_MAX_SLOTS = 32
DNODE_SPILL = 1 << 2  # DNODE_FLAG_SPILL_BLKPTR
DNODE_USED_BYTES = 1 << 0
MAX_LEVELS = 12  # DN_MAX_LEVELS: 64-bit offsets with indirect blocks of 4 KiB
INDIRECT_SHIFT_MIN, INDIRECT_SHIFT_MAX = 10, 17  # 1 KiB in pools of version 1, DN_MAX_INDBLKSHIFT

OBJSET_SIZES = (1024, 2048, 4096)  # OBJSET_PHYS_SIZE_V1..V3
OBJSET_TAIL = both("2Q")
OBJSET_TAIL_FIELDS = "0 os_type  8 os_flags"
OBJSET_TYPE_OFFSET = 704  # of the tail, after os_meta_dnode (512) and os_zil_header (192)
ZIL_HEADER_OFFSET = 512
ZIL_HEADER = both("2Q128s6Q")  # zil.h:zil_header_t
ZIL_HEADER_FIELDS = """0 zh_claim_txg  8 zh_replay_seq  16 zh_log  144 zh_claim_blk_seq  152 zh_flags
    160 zh_claim_lr_seq  168 zh_pad[3]"""
ZIL_CLAIM_SEQ_VALID = 2  # zil.h:ZIL_CLAIM_LR_SEQ_VALID, in zh_flags
ZIL_CHAIN = both("8x128sQ5Q")  # zil.h:zil_chain_t
ZIL_CHAIN_FIELDS = "8 zc_next_blk  136 zc_nused  144 zc_eck.zec_magic  152 zc_eck.zec_cksum[4]"
ZIL_BLOCK = 4096  # ZIL_MIN_BLKSZ
OST_META, OST_ZFS, OST_ZVOL = 1, 2, 3  # dmu_objset_type_t

# dmu.h:dmu_object_type_t, those that a reader has to know
OT_PACKED_NVLIST, OT_DNODE, OT_OBJSET = 3, 10, 11
OT_DSL_DIR, OT_DSL_DATASET, OT_ZNODE, OT_PLAIN_FILE, OT_DIRECTORY, OT_SA = 12, 16, 17, 19, 20, 44
OT_NEWTYPE = 0x80

# --- ZAP: zap_impl.h, zap_leaf.h ------------------------------------------------------------------
ZBT_LEAF, ZBT_HEADER, ZBT_MICRO = 1 << 63, (1 << 63) + 1, (1 << 63) + 3
MZAP_HEADER = both("3Q40x")
MZAP_HEADER_FIELDS = "0 mz_block_type  8 mz_salt  16 mz_normflags"
MZAP_ENTRY = both("QI2x50s")
MZAP_ENTRY_FIELDS = "0 mze_value  8 mze_cd  14 mze_name"
ZAP_HEADER = both("13Q")
ZAP_HEADER_FIELDS = """0 zap_block_type  8 zap_magic  16 zt_blk  24 zt_numblks  32 zt_shift  40 zt_nextblk
    48 zt_blks_copied  56 zap_freeblk  64 zap_num_leafs  72 zap_num_entries  80 zap_salt  88 zap_normflags
    96 zap_flags"""
ZAP_MAGIC = 0x2F52AB2AB
ZAP_LEAF_HEADER = both("3QI4HB11x")
ZAP_LEAF_HEADER_FIELDS = """0 lh_block_type  8 lh_pad1  16 lh_prefix  24 lh_magic  28 lh_nfree  30 lh_nentries
    32 lh_prefix_len  34 lh_freelist  36 lh_flags"""
ZAP_LEAF_MAGIC = 0x2AB1EAF
ZAP_CHUNK = 24
ZAP_LEAF_ENTRY = both("BB5HIQ")
ZAP_LEAF_ENTRY_FIELDS = """0 le_type  1 le_value_intlen  2 le_next  4 le_name_chunk  6 le_name_numints
    8 le_value_chunk  10 le_value_numints  12 le_cd  16 le_hash"""
ZAP_LEAF_ARRAY = both("B21sH")
ZAP_LEAF_ARRAY_FIELDS = "0 la_type  1 la_array  22 la_next"
ZAP_ARRAY_BYTES = 21
ZAP_CHUNK_ENTRY, ZAP_CHUNK_ARRAY, ZAP_CHUNK_FREE = 252, 251, 253
ZAP_CHAIN_END = 0xFFFF
ZAP_FLAG_HASH64, ZAP_FLAG_UINT64_KEY, ZAP_FLAG_PREHASHED = 1, 2, 4
CRC64_POLY = 0xC96C5795D7870F42  # spa.h:ZFS_CRC64_POLY

# --- DSL: dsl_dir.h:dsl_dir_phys_t (256 bytes), dsl_dataset.h:dsl_dataset_phys_t (320 bytes) --------
DSL_DIR = both("19Q104x")
DSL_DIR_FIELDS = """0 dd_creation_time  8 dd_head_dataset_obj  16 dd_parent_obj  24 dd_origin_obj
    32 dd_child_dir_zapobj  40 dd_used_bytes  48 dd_compressed_bytes  56 dd_uncompressed_bytes  64 dd_quota
    72 dd_reserved  80 dd_props_zapobj  88 dd_deleg_zapobj  96 dd_flags  104 dd_used_breakdown[5]  144 dd_clones"""
DSL_DATASET = both("16Q128s3Q40x")
DSL_DATASET_FIELDS = """0 ds_dir_obj  8 ds_prev_snap_obj  16 ds_prev_snap_txg  24 ds_next_snap_obj
    32 ds_snapnames_zapobj  40 ds_num_children  48 ds_creation_time  56 ds_creation_txg  64 ds_deadlist_obj
    72 ds_referenced_bytes  80 ds_compressed_bytes  88 ds_uncompressed_bytes  96 ds_unique_bytes  104 ds_fsid_guid
    112 ds_guid  120 ds_flags  128 ds_bp  256 ds_next_clones_obj  264 ds_props_obj  272 ds_userrefs_obj"""
DS_INCONSISTENT = 1

# --- ZPL: zfs_sa.h:znode_phys_t, sa_impl.h:sa_hdr_phys_t ---------------------------------------------
ZNODE = both("22Q")
ZNODE_FIELDS = """0 zp_atime[2]  16 zp_mtime[2]  32 zp_ctime[2]  48 zp_crtime[2]  64 zp_gen  72 zp_mode  80 zp_size
    88 zp_parent  96 zp_links  104 zp_xattr  112 zp_rdev  120 zp_flags  128 zp_uid  136 zp_gid  144 zp_zap
    152 zp_pad[3]"""
ZNODE_SIZE = 264  # with the 88 bytes of zp_acl; a short symlink follows
SA_HEADER = both("IH")  # then sa_lengths, two bytes each
SA_HEADER_FIELDS = "0 sa_magic  4 sa_layout_info"
SA_MAGIC = 0x2F505A
MASTER_NODE = 1  # zfs_znode.h:MASTER_NODE_OBJ
ZPL_VERSION_MAX = 5
DIRENT_OBJECT = (1 << 48) - 1  # zfs_znode.h:ZFS_DIRENT_OBJ; the type is in the top four bits

# --- device removal: vdev_indirect_mapping.h --------------------------------------------------------
MAPPING_ENTRY = both("3Q")  # bit 63 of vimep_src is a mark; vimep_dst is a DVA
MAPPING_ENTRY_FIELDS = "0 vimep_src  8 vimep_dst[2]"
MAPPING_BONUS = both("3Q")
MAPPING_BONUS_FIELDS = "0 vimp_max_offset  8 vimp_bytes_mapped  16 vimp_num_entries"

POOL_VERSION_FEATURES = 5000  # fs/zfs.h:SPA_VERSION_FEATURES
POOL_VERSION_MAX_OLD = 28
SALT_SIZE = 32  # zio_checksum.h:zio_cksum_salt_t
MOS_DIRECTORY = 1  # dmu.h:DMU_POOL_DIRECTORY_OBJECT
