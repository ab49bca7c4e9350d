"""The early mounts: what PID 1 needs to see the machine, as one table."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from init.machine import syscalls
from init.machine.syscalls import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_STRICTATIME


class Mount(NamedTuple):
    """One early mount; ``data`` as mount(2) takes it.  What is not ``needed`` may be refused silently."""

    what: str
    where: str
    fstype: str
    flags: int
    data: str = ""
    needed: bool = True


MOUNTS = (
    Mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC),
    Mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC),
    Mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755"),
    Mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV | MS_STRICTATIME, "mode=0755"),
    # Only there when firmware of that kind started us.
    Mount("efivarfs", "/sys/firmware/efi/efivars", "efivarfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, needed=False),
)

# A kernel without devtmpfs: an empty /dev in which devices.py makes the nodes it needs itself.
_DEV_FALLBACK = Mount("tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=1m")


# What a program may expect in any /dev: name, major, minor (Documentation/admin-guide/devices.txt, v6.12)
_NODES = (("console", 5, 1), ("kmsg", 1, 11), ("null", 1, 3), ("tty0", 4, 0), ("urandom", 1, 9), ("fuse", 10, 229))


def hold_streams(null: str = "/dev/null") -> None:
    """Open descriptors 0 to 2 when the kernel could not: the next file would take their place, and what is printed
    would go into it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            try:
                fd = os.open(null, os.O_RDWR)
            except OSError:
                fd = os.memfd_create("nothing")
            if fd != number:
                os.dup2(fd, number)
                os.close(fd)


def make_nodes(dev: str) -> None:
    """The nodes that devtmpfs would have brought."""
    for name, major, minor in _NODES:
        try:
            os.mknod(f"{dev}/{name}", stat.S_IFCHR | 0o600, os.makedev(major, minor))
        except OSError:  # whoever misses it will say so
            continue


def mount_all(mounts: tuple[Mount, ...] = MOUNTS, mount: Callable[..., None] = syscalls.mount) -> list[str]:
    """Mount everything in ``mounts``; what is mounted already is fine.  Returns what went wrong, a line each."""
    problems = []
    for item in mounts:
        error = _mount(item, mount)
        if error is not None and item.fstype == "devtmpfs" and _mount(_DEV_FALLBACK, mount) is None:
            make_nodes(item.where)
            error = OSError(error.errno, f"{error.strerror}; using a tmpfs with our own nodes instead")
        if error is not None and item.needed:
            problems.append(f"mount {item.fstype} on {item.where}: {error.strerror}")
    return problems


def _mount(item: Mount, mount: Callable[..., None]) -> OSError | None:
    try:
        # efivarfs's directory belongs to sysfs: where it is absent it cannot be made.
        if item.needed:
            os.makedirs(item.where, exist_ok=True)
        mount(item.what, item.where, item.fstype, item.flags, item.data)
    except OSError as error:
        return None if error.errno == errno.EBUSY else error
    return None
