"""Mounting: a descriptor of /dev/fuse that a server answers on, and the mount(2) that ties it to a directory."""

from __future__ import annotations

import os
from collections.abc import Callable

FSTYPE = "fuse.fsdrivers"  # "fuse" with a subtype, as /proc/mounts shows it
DEVICE = "/dev/fuse"
# include/uapi/linux/mount.h, v6.12
MS_RDONLY, MS_NOSUID, MS_NODEV = 0x1, 0x2, 0x4
READ_AHEAD = 1 << 10  # KiB: what one READ request can carry at most (256 pages of 4 KiB)

# mount(2): source, target, filesystem type, flags, data; raises OSError
SystemMount = Callable[[str, str, str, int, str], None]


def attach(
    directory: str, source: str, system_mount: SystemMount, *, shared: bool, flags: int = MS_NOSUID | MS_NODEV
) -> int:
    """Mount on ``directory``, read-only; returns the descriptor that Server answers on.

    ``source`` is what /proc/mounts shows as the device.  ``shared``: every user may look in, with the permission
    bits checked by the kernel, as on any disk; else only the one who mounts, whatever the bits say.  Until a server
    answers, whoever touches the directory waits.  Raises OSError.
    """
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        system_mount(source, directory, FSTYPE, flags | MS_RDONLY, mount_data(fd, shared))
    except BaseException:
        os.close(fd)
        raise
    return fd


def mount_data(fd: int, shared: bool) -> str:
    """The last argument of mount(2).  Source: fs/fuse/inode.c:fuse_fs_parameters, v6.12."""
    words = [f"fd={fd}", "rootmode=40000", f"user_id={os.getuid()}", f"group_id={os.getgid()}"]
    return ",".join(words + (["default_permissions", "allow_other"] if shared else []))


def set_read_ahead(directory: str, kibibytes: int = READ_AHEAD) -> bool:
    """Let the kernel read that far ahead on the mount at ``directory``; whether it could be set (root only).

    INIT can only lower the default of 128 KiB (fs/fuse/inode.c:process_init_reply, v6.12), and many small requests
    are what a server in Python is slowest at.  Only to be called when the server runs.
    """
    try:
        device = os.stat(directory).st_dev
        path = f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb"
        with open(path, "w", encoding="ascii") as file:
            file.write(str(kibibytes))
    except OSError:
        return False
    return True
