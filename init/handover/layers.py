"""The trees of the new root as mounts: served by the daemon below a layer in RAM, or copied into RAM."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fsdrivers import fuse
from fsdrivers.filesystem import Filesystem
from init.handover import daemon, ramcopy
from init.machine import syscalls
from init.machine.devices import human
from init.machine.meminfo import memory_available, memory_total
from init.machine.syscalls import MNT_DETACH, MS_NODEV, MS_NOSUID

HOME = "/poolboot"
LOWER, UPPER = f"{HOME}/lower", f"{HOME}/upper"
SHARE = 50  # per cent of the memory that the upper layers may fill together


class Tree(NamedTuple):
    """One tree, what /proc/mounts calls it, where it is mounted for the time being, and with which flags."""

    filesystem: Filesystem
    name: str
    target: str
    flags: int = 0


def serve(trees: Sequence[Tree], say: Callable[[str], None]) -> None:
    """Start the daemon for all ``trees`` and mount each with a writable layer.  Raises OSError, FsError."""
    lowers = [f"{LOWER}{number}" for number in range(len(trees))]
    fds: list[int] = []
    try:
        for tree, lower in zip(trees, lowers, strict=True):
            os.makedirs(lower, exist_ok=True)
            fds.append(fuse.attach(lower, tree.name, syscalls.mount, shared=True, flags=0))
        daemon.start([(tree.filesystem, fd) for tree, fd in zip(trees, fds, strict=True)])
    finally:
        # Only the daemon may hold them: when that dies, who waits for the mount gets an error instead.
        for fd in fds:
            os.close(fd)
    os.makedirs(UPPER, exist_ok=True)
    syscalls.mount("poolboot", UPPER, "tmpfs", MS_NOSUID | MS_NODEV, f"mode=0755,size={SHARE}%")
    for number, (tree, lower) in enumerate(zip(trees, lowers, strict=True)):
        fuse.set_read_ahead(lower)
        upper, work = f"{UPPER}/{number}", f"{UPPER}/work{number}"
        for directory in (upper, work, tree.target):
            os.makedirs(directory, exist_ok=True)
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        syscalls.mount(tree.name, tree.target, "overlay", tree.flags, options)
        # The overlay holds both by itself; nobody needs to see them, least of all who unmounts all at shutdown.
        syscalls.umount(lower, MNT_DETACH)
    syscalls.umount(UPPER, MNT_DETACH)
    total = memory_total()
    limit = f"at most {human(total * SHARE // 100)}" if total else f"at most {SHARE} % of it"
    say(f"the root is served as it is on the disks; what is written goes to RAM ({limit}) and is lost at power-off")


def copy(trees: Sequence[Tree], say: Callable[[str], None]) -> None:
    """Copy all ``trees`` into RAM.  Raises TooLarge, Refused, OSError, FsError."""
    free = memory_available()
    views = [ramcopy.Tree(tree.filesystem) for tree in trees]
    say("measuring the root")
    needs = [ramcopy.measure(view, free, say) for view in views]
    total = ramcopy.Need(sum(need.data for need in needs), sum(need.objects for need in needs))
    ramcopy.check(total, free)
    say(f"copying {human(total.data)} into RAM, of which {human(free)} are free; what is written is lost at power-off")
    spare = (free - total.memory) // 2 // len(trees)
    for tree, view, need in zip(trees, views, needs, strict=True):
        os.makedirs(tree.target, exist_ok=True)
        options = f"mode=0755,size={need.data + spare},nr_inodes={need.objects + spare // ramcopy.PAGE}"
        syscalls.mount(tree.name, tree.target, "tmpfs", tree.flags, options)
        ramcopy.copy(view, tree.target, need, say)
    say("the disks are not needed any more")


def undo(targets: Sequence[str]) -> None:
    """Take back what was mounted; the daemon ends with its mounts."""
    lowers = [f"{HOME}/{name}" for name in _names(HOME) if name.startswith("lower")]
    for where in (*targets, UPPER, *lowers):
        try:
            while True:
                syscalls.umount(where, MNT_DETACH)
        except OSError:  # not mounted, or not there
            continue


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
