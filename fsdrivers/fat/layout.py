"""The on-disk declarations of FAT.

Sources: Microsoft's "FAT: General Overview of On-Disk Format" 1.03; include/uapi/linux/msdos_fs.h, v6.12.
Everything is little-endian.  ``STRUCT_FIELDS`` has offsets and names of the fields, for who shows or makes such
structures (fsdrivers/desk/inspect/derived.py).
"""

from __future__ import annotations

import struct

# Types of GPT partitions that hold a FAT file system for booting.
ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"  # UEFI 2.10, table 5.7
XBOOTLDR = "bc13c2ff-59e6-4262-a352-b275fd6f7172"  # UAPI.2 Discoverable Partitions Specification

# fat_boot_sector; reserved: sectors before the first FAT; dir_entries: of the root, FAT12/16; fat_length: in sectors
BOOT_SECTOR = struct.Struct("<3s8sHBHBHHBHHHII")
BOOT_SECTOR_FIELDS = """0x00 jump  0x03 system_id  0x0B sector_size  0x0D sec_per_clus  0x0E reserved  0x10 fats
    0x11 dir_entries  0x13 sectors  0x15 media  0x16 fat_length  0x18 secs_track  0x1A heads  0x1C hidden
    0x20 total_sect"""
BOOT_SIGNATURE, BOOT_SIGNATURE_AT = b"\x55\xaa", 0x1FE
# FAT12/16 from 0x24; the signature is 0x29
EXTENDED_16 = (0x24, struct.Struct("<BBBI11s"))
EXTENDED_16_FIELDS = "0x24 drive_number  0x25 state  0x26 signature  0x27 vol_id  0x2B vol_label"
# FAT32 from 0x24; length: sectors of one FAT
EXTENDED_32 = (0x24, struct.Struct("<IHHIHH"))
EXTENDED_32_FIELDS = "0x24 length  0x28 flags  0x2A version  0x2C root_cluster  0x30 info_sector  0x32 backup_boot"
# FAT32 from 0x40: the same as FAT12/16 from 0x24
VOLUME_32 = (0x40, EXTENDED_16[1])
VOLUME_32_FIELDS = "0x40 drive_number  0x41 state  0x42 signature  0x43 vol_id  0x47 vol_label"
EXTENDED_SIGNATURES = (0x28, 0x29)
NO_MIRROR, ACTIVE_FAT = 0x80, 0x0F  # in EXTENDED_32's flags

SECTOR_SIZES = (512, 1024, 2048, 4096)
MIN_MEDIA = 0xF0  # 0xF0 and 0xF8..0xFF are valid

MAX_FAT12 = 0xFF4  # clusters; more means FAT16
MAX_FAT16 = 0xFFF4
MAX_FAT32 = 0x0FFFFFF6
FIRST_CLUSTER = 2
BAD, END = {12: 0xFF7, 16: 0xFFF7, 32: 0x0FFFFFF7}, {12: 0xFF8, 16: 0xFFF8, 32: 0x0FFFFFF8}
MASK_32 = 0x0FFFFFFF

# msdos_dir_entry; ctime_cs counts 10 ms
ENTRY = struct.Struct("<11sBBBHHHHHHHI")
ENTRY_FIELDS = """0x00 name  0x0B attr  0x0C lcase  0x0D ctime_cs  0x0E ctime  0x10 cdate  0x12 adate  0x14 starthi
    0x16 time  0x18 date  0x1A start  0x1C size"""
# msdos_dir_slot; names in UTF-16
SLOT = struct.Struct("<B10sBBB12sH4s")
SLOT_FIELDS = """0x00 id  0x01 name0_4  0x0B attr  0x0C reserved  0x0D alias_checksum  0x0E name5_10  0x1A start
    0x1C name11_12"""
LAST_SLOT, SLOT_NUMBER = 0x40, 0x1F
SLOT_UNITS = 13  # UTF-16 units of the name in one slot
MAX_SLOTS = 20

FREE, DELETED, ESCAPED_E5 = 0x00, 0xE5, 0x05
ATTR_RO, ATTR_VOLUME, ATTR_DIR, ATTR_EXT = 0x01, 0x08, 0x10, 0x0F
ATTR_MASK = 0x3F
LOWER_BASE, LOWER_EXT = 0x08, 0x10  # in lcase

MAX_DIRECTORY = 65536 * ENTRY.size  # bytes; include/linux/msdos_fs.h:FAT_MAX_DIR_SIZE, v6.12

# The upper half of code page 437, which short names are in unless somebody said otherwise.
CP437 = (
    "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐"
    "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0"
)
