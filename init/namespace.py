"""The early mounts: what PID 1 needs to see the machine, as one table."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import NamedTuple

from init import syscalls
from init.syscalls import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_STRICTATIME


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


def mount_all(mounts: tuple[Mount, ...] = MOUNTS, mount: Callable[..., None] = syscalls.mount) -> list[str]:
    """Mount everything in ``mounts``; what is mounted already is fine.  Returns what went wrong, a line each."""
    problems = []
    for item in mounts:
        error = _mount(item, mount)
        if error is not None and item.fstype == "devtmpfs" and _mount(_DEV_FALLBACK, mount) is None:
            error = OSError(error.errno, f"{error.strerror}; using an empty tmpfs instead")
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
