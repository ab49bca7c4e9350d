"""Boot environments: the file systems of a pool that say of themselves that they are root file systems.

Sources: zfsbootmenu(7) of ZFSBootMenu 2.3, "Boot Environments" and "ZFS Properties"; contrib/initramfs/scripts/zfs
and contrib/dracut of OpenZFS 2.3.4 for bootfs and root=zfs:AUTO.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fsdrivers.errors import TooMany
from fsdrivers.zfs.dsl import Directory, as_text

PREFIX = "org.zfsbootmenu:"
PARENT = "%{parent}"
MAX_COMMAND_LINE = 8192
MAX_MOUNTED = 16 << 20  # characters of mount points


class Environment(NamedTuple):
    """What one file system says about being booted.  Texts are "" where nothing is set."""

    name: str
    mountpoint: str
    canmount: str  # "on", "off", "noauto"
    active: bool  # a root file system by ZFSBootMenu's rule
    bootfs: bool  # the pool's own choice
    commandline: str  # for the kernel; "%{parent}" in it stands for what the dataset above has
    kernel: str  # a version or name that the kernel's file name has to hold
    rootprefix: str  # what comes before the dataset in the kernel's root argument, "root=ZFS=" for instance
    locked: str | None  # the format of the key that it is encrypted with


def environments(root: Directory, bootfs: int | None) -> Iterator[Environment]:
    """The file systems with a mount point that could be a root's: "/", or "legacy" if they are marked active."""
    for directory in root.walk():
        mountpoint = directory.mountpoint()
        chosen = directory.head == bootfs
        mark = directory.string(PREFIX + "active") or ""
        active = mark != "off" if mountpoint == "/" else mountpoint == "legacy" and mark == "on"
        if not directory.head or not (active or chosen):
            continue
        yield Environment(
            directory.name,
            mountpoint,
            directory.canmount(),
            active,
            chosen,
            command_line(directory),
            directory.string(PREFIX + "kernel") or "",
            directory.string(PREFIX + "rootprefix") or "",
            directory.key_format(),
        )


def mounted(root: Directory, canmount: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The names and mount points of the datasets whose property canmount is one of ``canmount``: with "on" those that
    ``zfs mount -a`` would mount, could it read them; volumes, which have nothing to mount, are among them.

    Source: lib/libzfs/libzfs_mount.c:zfs_iter_cb, OpenZFS 2.3.4.
    """
    left = MAX_MOUNTED
    for directory in root.walk():
        mountpoint = directory.mountpoint()
        left -= len(mountpoint)
        if left < 0:
            raise TooMany(f"characters in the mount points of {root.name}", MAX_MOUNTED)
        if directory.head and directory.canmount() in canmount and mountpoint.startswith("/"):
            yield directory.name, mountpoint


def command_line(directory: Directory) -> str:
    """The property org.zfsbootmenu:commandline with every "%{parent}" replaced by what the parent would use."""
    text = PARENT
    here: Directory | None = directory
    while here is not None and PARENT in text:
        found = here.inherited(PREFIX + "commandline")
        value = as_text(found[0]) if found else ""
        if len(text) + text.count(PARENT) * len(value) > MAX_COMMAND_LINE:
            break  # each level may name the one above a thousand times
        text = text.replace(PARENT, value)
        here = found[1].parent if found else None
    return text.replace(PARENT, "").strip()
