"""The system calls that ``os`` lacks: three-line wrappers over one primitive, with the kernel's names.

In the binary the primitive is the C module ``_sysc``; uncompiled it is ctypes, imported at the first call.
Every wrapper raises OSError with the kernel's errno.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

# include/uapi/linux/mount.h, v6.12
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_STRICTATIME = 0x1000000
# include/linux/fs.h, v6.12
MNT_DETACH = 2

# include/uapi/linux/reboot.h, v6.12
LINUX_REBOOT_MAGIC1 = 0xFEE1DEAD
LINUX_REBOOT_MAGIC2 = 672274793
LINUX_REBOOT_CMD_RESTART = 0x01234567
LINUX_REBOOT_CMD_CAD_OFF = 0x00000000
LINUX_REBOOT_CMD_POWER_OFF = 0x4321FEDC
LINUX_REBOOT_CMD_KEXEC = 0x45584543

# include/uapi/linux/kexec.h, v6.12
KEXEC_FILE_NO_INITRAMFS = 0x4

# include/uapi/linux/module.h, v6.12
MODULE_INIT_COMPRESSED_FILE = 0x4

# kernel/printk/printk.c:do_syslog, include/linux/syslog.h, v6.12
SYSLOG_ACTION_READ_ALL = 3
SYSLOG_ACTION_CONSOLE_LEVEL = 8
SYSLOG_ACTION_SIZE_BUFFER = 10

# include/uapi/asm-generic/resource.h, v6.12
RLIMIT_DATA = 2
RLIM64_INFINITY = (1 << 64) - 1

# arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h, v6.12
_NUMBERS = {
    "x86_64": {
        "syslog": 103, "mount": 165, "umount2": 166, "reboot": 169, "prlimit64": 302, "finit_module": 313,
        "kexec_file_load": 320,
    },
    "aarch64": {
        "umount2": 39, "mount": 40, "syslog": 116, "reboot": 142, "prlimit64": 261, "finit_module": 273,
        "kexec_file_load": 294,
    },
}  # fmt: skip

Argument = int | bytes | bytearray | None

_primitive: Callable[..., int] | None = None


def syscall(name: str, *args: Argument) -> int:
    """Call ``name``; bytes go as pointers (NUL-terminated by CPython), a bytearray may be written to by the kernel."""
    global _primitive
    if _primitive is None:
        _primitive = _find_primitive()
    return _primitive(_number(name), *args)


def mount(what: str, where: str, fstype: str, flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    syscall("mount", os.fsencode(what), os.fsencode(where), fstype.encode(), flags, os.fsencode(data))


def umount(where: str, flags: int = 0) -> None:
    """umount2(2)."""
    syscall("umount2", os.fsencode(where), flags)


def finit_module(fd: int, parameters: str = "", flags: int = 0) -> None:
    """finit_module(2): load the kernel module open as ``fd``."""
    syscall("finit_module", fd, os.fsencode(parameters), flags)


def kexec_file_load(kernel: int, initrd: int | None, cmdline: str) -> None:
    """kexec_file_load(2): stage the kernel and initrd open as those descriptors, for reboot(KEXEC)."""
    text = os.fsencode(cmdline) + b"\0"
    flags = KEXEC_FILE_NO_INITRAMFS if initrd is None else 0
    syscall("kexec_file_load", kernel, -1 if initrd is None else initrd, len(text), text, flags)


def reboot(command: int) -> None:
    """reboot(2); most commands do not return."""
    syscall("reboot", LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, command, None)


def limit_data(value: int) -> int:
    """prlimit64(2): at most ``value`` bytes of memory of our own from now on, -1 for no end; returns what it was."""
    before, unsigned = bytearray(16), 1 << 64
    syscall("prlimit64", 0, RLIMIT_DATA, None, before)
    wanted = (value % unsigned).to_bytes(8, sys.byteorder) + before[8:]
    syscall("prlimit64", 0, RLIMIT_DATA, wanted, None)
    soft = int.from_bytes(before[:8], sys.byteorder)
    return -1 if soft == RLIM64_INFINITY else soft


def console_loglevel(level: int) -> None:
    """syslog(2): kernel messages with a level number below ``level`` (1..8) go to the consoles from now on."""
    syscall("syslog", SYSLOG_ACTION_CONSOLE_LEVEL, None, level)


def kernel_log() -> bytes:
    """syslog(2): all of the kernel's ring buffer, as ``dmesg`` has it."""
    buffer = bytearray(max(syscall("syslog", SYSLOG_ACTION_SIZE_BUFFER, None, 0), 1))
    return bytes(buffer[: syscall("syslog", SYSLOG_ACTION_READ_ALL, buffer, len(buffer))])


def _number(name: str) -> int:
    machine = os.uname().machine
    try:
        return _NUMBERS[machine][name]
    except KeyError:
        raise OSError(38, f"system call {name} has no known number on {machine}") from None  # ENOSYS


def _find_primitive() -> Callable[..., int]:
    try:
        from _sysc import syscall as compiled
    except ImportError:
        return _ctypes_primitive()
    return compiled  # type: ignore[no-any-return]


def _ctypes_primitive() -> Callable[..., int]:
    import ctypes

    function = ctypes.CDLL(None, use_errno=True).syscall
    function.restype = ctypes.c_long

    def convert(value: Argument) -> object:
        if isinstance(value, int):
            return ctypes.c_long(value)
        if isinstance(value, bytearray):
            return (ctypes.c_char * len(value)).from_buffer(value)
        return ctypes.c_char_p(value)

    def primitive(number: int, *args: Argument) -> int:
        result: int = function(ctypes.c_long(number), *map(convert, args))
        if result == -1:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result

    return primitive
