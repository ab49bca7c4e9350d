"""The messages of the FUSE protocol: declarations only.

Source: include/uapi/linux/fuse.h, v6.12 (protocol 7.41), which keeps all of these since 7.23.  Native byte order, as
both ends are on one machine.
"""

from __future__ import annotations

import struct

MAJOR, MINOR = 7, 38  # what we speak; the kernel adapts to a lower minor
MIN_MINOR = 23  # the size of fuse_init_out changed there, Linux 3.15

ROOT_ID = 1

# fuse_in_header: 0x00 len u32, 0x04 opcode u32, 0x08 unique u64, 0x10 nodeid u64, 0x18 uid u32, 0x1C gid u32,
# 0x20 pid u32, 0x24 total_extlen u16, 0x26 padding u16
IN_HEADER = struct.Struct("=IIQQIIIHH")
# fuse_out_header: 0x00 len u32, 0x04 error s32 (negative errno), 0x08 unique u64
OUT_HEADER = struct.Struct("=IiQ")

# fuse_init_in: 0x00 major u32, 0x04 minor u32, 0x08 max_readahead u32, 0x0C flags u32 (and more since 7.36)
INIT_IN = struct.Struct("=IIII")
# fuse_init_out: 0x00 major u32, 0x04 minor u32, 0x08 max_readahead u32, 0x0C flags u32, 0x10 max_background u16,
# 0x12 congestion_threshold u16, 0x14 max_write u32, 0x18 time_gran u32, 0x1C max_pages u16, 0x1E map_alignment u16,
# 0x20 flags2 u32, 0x24 unused u32[7]
INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")

# fuse_attr: 0x00 ino u64, 0x08 size u64, 0x10 blocks u64 (of 512 bytes), 0x18 atime s64, 0x20 mtime s64,
# 0x28 ctime s64, 0x30 atimensec u32, 0x34 mtimensec u32, 0x38 ctimensec u32, 0x3C mode u32, 0x40 nlink u32,
# 0x44 uid u32, 0x48 gid u32, 0x4C rdev u32, 0x50 blksize u32, 0x54 flags u32
ATTR = struct.Struct("=QQQqqqIIIIIIIIII")
# fuse_attr_out before its attr: 0x00 attr_valid u64 (seconds), 0x08 attr_valid_nsec u32, 0x0C dummy u32
ATTR_OUT = struct.Struct("=QII")
# fuse_entry_out before its attr: 0x00 nodeid u64, 0x08 generation u64, 0x10 entry_valid u64 (seconds),
# 0x18 attr_valid u64, 0x20 entry_valid_nsec u32, 0x24 attr_valid_nsec u32
ENTRY_OUT = struct.Struct("=QQQQII")
# fuse_getattr_in is not looked at.

# fuse_read_in: 0x00 fh u64, 0x08 offset u64, 0x10 size u32, 0x14 read_flags u32 (and more)
READ_IN = struct.Struct("=QQII")
# fuse_open_out: 0x00 fh u64, 0x08 open_flags u32, 0x0C padding u32
OPEN_OUT = struct.Struct("=QII")
# fuse_dirent: 0x00 ino u64, 0x08 off u64 (where to go on behind it), 0x10 namelen u32, 0x14 type u32, 0x18 name,
# padded to 8 bytes.  fuse_direntplus: a fuse_entry_out, then a fuse_dirent
DIRENT = struct.Struct("=QQII")

# fuse_kstatfs: 0x00 blocks u64, 0x08 bfree u64, 0x10 bavail u64, 0x18 files u64, 0x20 ffree u64, 0x28 bsize u32,
# 0x2C namelen u32, 0x30 frsize u32, 0x34 padding u32, 0x38 spare u32[6]
STATFS_OUT = struct.Struct("=QQQQQIIII24x")
# fuse_getxattr_in and fuse_getxattr_out: 0x00 size u32, 0x04 padding u32
XATTR_SIZE = struct.Struct("=II")

# fuse_forget_in: 0x00 nlookup u64; fuse_batch_forget_in: 0x00 count u32, 0x04 dummy u32, then fuse_forget_one:
# 0x00 nodeid u64, 0x08 nlookup u64
FORGET_IN = struct.Struct("=Q")
BATCH_FORGET_IN = struct.Struct("=II")
FORGET_ONE = struct.Struct("=QQ")

# enum fuse_opcode
(LOOKUP, FORGET, GETATTR, SETATTR, READLINK, SYMLINK) = range(1, 7)
(MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK, OPEN, READ, WRITE, STATFS, RELEASE) = range(8, 19)
(FSYNC, SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR) = range(20, 30)
(FSYNCDIR, CREATE, INTERRUPT, DESTROY, BATCH_FORGET, FALLOCATE, READDIRPLUS) = (30, 35, 36, 38, 42, 43, 44)
(RENAME2, COPY_FILE_RANGE, TMPFILE) = (45, 47, 51)

# INIT flags
ASYNC_READ = 1 << 0
DO_READDIRPLUS = 1 << 13
NO_OPEN_SUPPORT = 1 << 17
PARALLEL_DIROPS = 1 << 18
POSIX_ACL = 1 << 20
MAX_PAGES = 1 << 22
CACHE_SYMLINKS = 1 << 23
NO_OPENDIR_SUPPORT = 1 << 24

# OPEN flags, for kernels that cannot do without the request
FOPEN_KEEP_CACHE = 1 << 1
FOPEN_CACHE_DIR = 1 << 3
