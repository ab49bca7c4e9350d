"""UEFI variables, read and written through efivarfs.

Sources: UEFI 2.10, section 8.2 (variable services); Documentation/filesystems/efivarfs.rst and
fs/efivarfs/file.c, inode.c, v6.12.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import NamedTuple

from fsdrivers.errors import FsError

ROOT = "/sys/firmware/efi/efivars"

BOOT_PARAMS = "/sys/kernel/boot_params/data"
# u8 secure_boot of struct boot_params, of x86 alone: arch/x86/include/uapi/asm/bootparam.h; its value "enabled":
# include/linux/efi.h:efi_secureboot_mode, v6.12
_SECURE_AT, _SECURE = 0x1EC, b"\3"

# Attributes: MdePkg/Include/Uefi/UefiMultiPhase.h
NON_VOLATILE, BOOTSERVICE_ACCESS, RUNTIME_ACCESS = 0x1, 0x2, 0x4
DEFAULT = NON_VOLATILE | BOOTSERVICE_ACCESS | RUNTIME_ACCESS
"""The only set that firmware takes from a running operating system: volatile variables are read-only by then."""

# Vendors
GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"  # EFI_GLOBAL_VARIABLE, UEFI 2.10 section 3.3
LOADER = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"  # systemd's boot loader interface
POOLBOOT = "6ac1d0c5-3f0c-4f8e-9f43-5b1c9b2d7f66"  # our own

MAX_SIZE = 1 << 20  # bytes; firmware's own limits are far below

# efivarfs guards variables against "rm -rf" by the inode flag: include/uapi/linux/fs.h, v6.12
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS, _FS_IMMUTABLE_FL = 0x80086601, 0x40086602, 0x10

_ADVICE = {
    errno.ENOSPC: "the firmware's variable store is full: delete what is not needed (python -m loader nvram clear)",
    errno.EROFS: "efivarfs is mounted read-only, or the kernel was started with efi=noruntime",
    errno.EPERM: "the firmware protects it, or root rights are missing",
    errno.EACCES: "the firmware protects it, or root rights are missing",
    errno.EINVAL: "the firmware does not take this name, value or set of attributes",
    errno.ENOENT: "this machine has no EFI variables: it was not started by UEFI firmware, or efivarfs is not mounted",
}


class FirmwareError(FsError):
    """The firmware's variables cannot be used as wanted; the message names the variable and what to do."""


class Variable(NamedTuple):
    """What a variable holds."""

    attributes: int
    data: bytes

    @property
    def text(self) -> str:
        """The value as the UCS-2 text that firmware uses."""
        return from_ucs2(self.data)


class Variables:
    """The variables of this machine, or of a directory that looks like efivarfs."""

    def __init__(self, root: str = ROOT) -> None:
        self.root = root

    @property
    def available(self) -> bool:
        """Whether there are any."""
        try:
            return bool(os.listdir(self.root))
        except OSError:
            return False

    def names(self, vendor: str) -> list[str]:
        """The names of all variables of ``vendor``, sorted; none where there are no variables."""
        suffix = f"-{vendor}"
        try:
            found = os.listdir(self.root)
        except OSError:
            return []
        return sorted(name[: -len(suffix)] for name in found if name.endswith(suffix))

    def get(self, name: str, vendor: str) -> Variable | None:
        """The variable, or None when there is none or it cannot be read."""
        try:
            fd = os.open(self._path(name, vendor), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            data = b""
            while len(data) <= MAX_SIZE and (more := os.read(fd, 65536)):
                data += more
        except OSError:
            return None
        finally:
            os.close(fd)
        if not 4 <= len(data) <= MAX_SIZE:
            return None
        return Variable(int.from_bytes(data[:4], "little"), data[4:])

    def set(self, name: str, vendor: str, data: bytes, attributes: int = DEFAULT) -> bool:
        """Give the variable a value; what it holds already is not written again: NVRAM wears out.

        Returns whether it was written.  Raises FirmwareError.
        """
        if self.get(name, vendor) == Variable(attributes, data):
            return False
        path = self._path(name, vendor)
        try:
            _make_mutable(path)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                # Attributes and value in one write(2): each is a SetVariable() of its own.
                os.write(fd, struct.pack("<I", attributes) + data)
            finally:
                os.close(fd)
        except OSError as error:
            raise FirmwareError(_explain("written", name, error)) from error
        return True

    def delete(self, name: str, vendor: str) -> bool:
        """Remove the variable; whether it was there.  Raises FirmwareError."""
        path = self._path(name, vendor)
        try:
            _make_mutable(path)
            os.unlink(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise FirmwareError(_explain("deleted", name, error)) from error
        return True

    def _path(self, name: str, vendor: str) -> str:
        return f"{self.root}/{name}-{vendor}"


def secure_boot(variables: Variables, boot_params: str = BOOT_PARAMS) -> bool:
    """Whether the firmware insists on signatures now; what the kernel's EFI stub has seen of that where there are no
    variables to be read (efi=noruntime, or no efivarfs).  ``boot_params``: the file that tells."""
    enabled, setup = variables.get("SecureBoot", GLOBAL), variables.get("SetupMode", GLOBAL)
    if enabled is None and not variables.available:
        return _stub_saw(boot_params)
    return bool(enabled and enabled.data == b"\1" and not (setup and setup.data == b"\1"))


def _stub_saw(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(_SECURE_AT + 1)[_SECURE_AT:] == _SECURE
    except OSError:
        return False


def ucs2(text: str) -> bytes:
    """Text with its NUL as firmware wants it."""
    return text.encode("utf-16-le", "replace") + b"\0\0"


def from_ucs2(data: bytes) -> str:
    """Text up to its NUL."""
    return data[: len(data) & ~1].decode("utf-16-le", "replace").partition("\0")[0]


def _make_mutable(path: str) -> None:
    """Take the guard off a variable that is there."""
    import fcntl

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        flags = bytearray(8)
        fcntl.ioctl(fd, _FS_IOC_GETFLAGS, flags)
        (value,) = struct.unpack_from("<I", flags)
        if value & _FS_IMMUTABLE_FL:
            fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("<Q", value & ~_FS_IMMUTABLE_FL))
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EOPNOTSUPP):  # no efivarfs: an ordinary directory has no guard
            raise
    finally:
        os.close(fd)


def _explain(what: str, name: str, error: OSError) -> str:
    advice = _ADVICE.get(error.errno or 0, "")
    reason = errno.errorcode.get(error.errno or 0, str(error.errno))
    return f"EFI variable {name} cannot be {what}: {reason}: {error.strerror}" + (f"; {advice}" if advice else "")
