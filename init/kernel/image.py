"""Kernel images: what format a file is, told by its magic, and what its header says."""

from __future__ import annotations

import struct
from typing import NamedTuple

from fsdrivers.errors import Corrupt, Unsupported
from fsdrivers.filesystem import File

# The x86 boot protocol's header, Documentation/arch/x86/boot.rst, v6.12:
#   0x1F1 u8 setup_sects (of 512 bytes, and one more)   0x1F4 u32 syssize (of 16 bytes)   0x1FE u16 boot_flag
#   0x202 u32 "HdrS"   0x206 u16 protocol version   0x20E u16 offset of the version string less 0x200
#   0x236 u16 xloadflags   0x238 u32 cmdline_size   0x260 u32 init_size
BOOT_FLAG, HDRS = b"\x55\xaa", b"HdrS"
XLF_KERNEL_64 = 0x1
# The arm64 header, Documentation/arch/arm64/booting.rst, v6.12: 0x10 u64 image_size, 0x38 magic
ARM64_MAGIC = b"ARM\x64"
_IMAGE_SIZE = struct.Struct("<Q")

HEADER_SIZE = 0x400
HEADER_END = 0x264  # of the fields that are looked at
DEFAULT_CMDLINE_SIZE = 2047  # bytes; arch/x86/include/asm/setup.h:COMMAND_LINE_SIZE less the NUL, v6.12


class Image(NamedTuple):
    """A kernel image that this machine's kexec takes: ``cmdline_size`` in bytes without the NUL."""

    format: str
    version: str  # as uname -r will show it, "" when the header does not say
    cmdline_size: int
    memory: int  # bytes that it takes where it starts, unpacked and with its bss


def identify(file: File, machine: str) -> Image:
    """What kernel image ``file`` is; ``machine`` as in uname -m.

    Raises Unsupported for a format or machine that cannot be started, Corrupt for a damaged header.
    """
    header = file.read(0, HEADER_SIZE)
    if header[0x202:0x206] == HDRS:
        if header[0x1FE:0x200] != BOOT_FLAG:
            raise Corrupt(file.path, "bzImage boot flag", 0x1FE, BOOT_FLAG, header[0x1FE:0x200])
        if machine != "x86_64":
            raise Unsupported("bzImage", f"{file.path} is a kernel for x86, this machine is {machine}")
        return _bzimage(file, header)
    if header[0x38:0x3C] == ARM64_MAGIC:
        if machine != "aarch64":
            raise Unsupported("arm64 Image", f"{file.path} is a kernel for arm64, this machine is {machine}")
        return Image("arm64 Image", "", DEFAULT_CMDLINE_SIZE, max(file.size, _IMAGE_SIZE.unpack_from(header, 0x10)[0]))
    kind = _other(header)
    raise Unsupported(f"kernel format {kind}", f"{file.path} is no bzImage or arm64 Image")


def _bzimage(file: File, header: bytes) -> Image:
    if len(header) < HEADER_END:
        raise Corrupt(file.path, "bzImage: the file ends in its header", len(header))
    (syssize,) = struct.unpack_from("<I", header, 0x1F4)
    end = ((header[0x1F1] or 4) + 1) * 512 + syssize * 16
    if file.size < end:  # kexec would load it, and the kernel would not come up
        raise Corrupt(file.path, f"bzImage: the file ends before its {end} bytes", file.size)
    (protocol,) = struct.unpack_from("<H", header, 0x206)
    xloadflags, cmdline_size = struct.unpack_from("<HI", header, 0x236)
    if protocol < 0x20C or not xloadflags & XLF_KERNEL_64:
        raise Unsupported("32-bit bzImage", f"{file.path} has no 64-bit entry point")
    (init_size,) = struct.unpack_from("<I", header, 0x260)
    (offset,) = struct.unpack_from("<H", header, 0x20E)
    version = ""
    if offset:
        text = file.read(offset + 0x200, 128).partition(b"\0")[0]
        version = text.split()[0].decode("ascii", "replace") if text.split() else ""
    return Image("bzImage", version, min(cmdline_size, 1 << 16) or DEFAULT_CMDLINE_SIZE, max(file.size, init_size))


_MAGICS = (
    (b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"),
    (b"\x02\x21\x4c\x18", "lz4"), (b"\x7fELF", "ELF"), (b"MZ", "PE"),
)  # fmt: skip


def _other(header: bytes) -> str:
    return next((name for magic, name in _MAGICS if header.startswith(magic)), "unknown")
