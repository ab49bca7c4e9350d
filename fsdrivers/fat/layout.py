"""The on-disk declarations of FAT.

Sources: Microsoft's "FAT: General Overview of On-Disk Format" 1.03; include/uapi/linux/msdos_fs.h, v6.12.
Everything is little-endian.
"""

from __future__ import annotations

import struct

# Types of GPT partitions that hold a FAT file system for booting.
ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"  # UEFI 2.10, table 5.7
XBOOTLDR = "bc13c2ff-59e6-4262-a352-b275fd6f7172"  # UAPI.2 Discoverable Partitions Specification

# fat_boot_sector: 0x00 jump u8[3], 0x03 system_id u8[8], 0x0B sector_size u16, 0x0D sec_per_clus u8,
# 0x0E reserved u16 (sectors before the first FAT), 0x10 fats u8, 0x11 dir_entries u16 (of the root, FAT12/16),
# 0x13 sectors u16, 0x15 media u8, 0x16 fat_length u16 (sectors), 0x18 secs_track u16, 0x1A heads u16, 0x1C hidden u32,
# 0x20 total_sect u32
BOOT_SECTOR = struct.Struct("<3s8sHBHBHHBHHHII")
BOOT_SIGNATURE, BOOT_SIGNATURE_AT = b"\x55\xaa", 0x1FE
# FAT12/16 from 0x24: drive_number u8, state u8, 0x26 signature u8 (0x29), 0x27 vol_id u32, 0x2B vol_label u8[11]
EXTENDED_16 = (0x24, struct.Struct("<BBBI11s"))
# FAT32 from 0x24: 0x24 length u32 (sectors of one FAT), 0x28 flags u16, 0x2A version u16, 0x2C root_cluster u32,
# 0x30 info_sector u16, 0x32 backup_boot u16
EXTENDED_32 = (0x24, struct.Struct("<IHHIHH"))
# FAT32 from 0x40: the same as FAT12/16 from 0x24
VOLUME_32 = (0x40, EXTENDED_16[1])
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

# msdos_dir_entry: 0x00 name u8[11], 0x0B attr u8, 0x0C lcase u8, 0x0D ctime_cs u8 (10 ms), 0x0E ctime u16,
# 0x10 cdate u16, 0x12 adate u16, 0x14 starthi u16, 0x16 time u16, 0x18 date u16, 0x1A start u16, 0x1C size u32
ENTRY = struct.Struct("<11sBBBHHHHHHHI")
# msdos_dir_slot: 0x00 id u8, 0x01 name0_4 u16[5], 0x0B attr u8, 0x0C reserved u8, 0x0D alias_checksum u8,
# 0x0E name5_10 u16[6], 0x1A start u16, 0x1C name11_12 u16[2]
SLOT = struct.Struct("<B10sBBB12sH4s")
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
