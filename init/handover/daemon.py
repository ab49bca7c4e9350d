"""The process that serves the root after PID 1 has become the init of the root: a child that keeps the drivers.

It follows the rules for root storage daemons of systemd (https://systemd.io/ROOT_STORAGE_DAEMONS): its argv[0] begins
with "@", by which the killing at shutdown knows to spare it, it runs as root, and nothing of it (working directory,
open files, program) is on the file system that it serves.
"""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable, Sequence

from fsdrivers import fuse
from fsdrivers.filesystem import Filesystem
from fsdrivers.shown import printable
from init.console.terminal import RECORD

NAME = "@poolboot"
# include/uapi/linux/oom.h:OOM_SCORE_ADJ_MIN, v6.12: without us nothing runs
_NEVER_KILL = "-1000"
_ARG_START, _ENV_END = 48, 51  # fields of /proc/PID/stat counted from 1; proc(5)

# All that somebody may send to every process, and what PID 1 itself uses.
_IGNORED = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD, signal.SIGALRM, signal.SIGUSR1,
    signal.SIGUSR2,
)  # fmt: skip

# Priorities in front of a line for /dev/kmsg; include/linux/kern_levels.h, v6.12
ERROR, WARNING = 3, 4


def start(mounts: Sequence[tuple[Filesystem, int]]) -> int:
    """Fork the daemon that answers for each tree on its descriptor of /dev/fuse; returns its process id.

    The descriptors stay open here, too.  No thread may run in this process.  Raises OSError when there can be no
    process, FsError when a root is damaged.
    """
    servers = [fuse.Server(filesystem, fd, log) for filesystem, fd in mounts]
    pid = os.fork()
    if pid == 0:
        _serve(servers, [filesystem for filesystem, _ in mounts])
    return pid


def _serve(servers: Sequence[fuse.Server], trees: Sequence[Filesystem]) -> None:
    """The life of the daemon."""
    status = 1
    try:
        _detach({server.fd for server in servers})
        fuse.serve_all(servers, Reporter(trees, log).look)
        status = 0
    except BaseException as error:
        log(f"the root file system is gone: {type(error).__name__}: {error}")
    finally:
        os._exit(status)


def _detach(needed: set[int]) -> None:
    """Become nobody's: no terminal, no standard streams, a name that is spared, out of the OOM killer's reach.

    Of what PID 1 has open only the descriptors ``needed`` and the disks stay: a second hand on the watchdog, say, would
    keep the root's init from it.
    """
    os.setsid()
    for ignored in _IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    close_others(needed)
    _open_log()
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    if null > 2:
        os.close(null)
    os.chdir("/")
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(_NEVER_KILL)
    rename(NAME)


def close_others(needed: set[int]) -> None:
    """Close what is neither a disk (or an image of one) nor in ``needed``."""
    for text in os.listdir("/proc/self/fd"):
        fd = int(text)
        try:
            kind = os.fstat(fd).st_mode
            if fd not in needed and not stat.S_ISBLK(kind) and not stat.S_ISREG(kind):
                os.close(fd)
        except OSError:  # the one that the listing was read with
            continue


def rename(name: str) -> None:
    """Make ``name`` the command line of this process, over the arguments and, if they are too short, the environment
    that it was started with.

    Source: fs/proc/base.c:get_mm_cmdline, v6.12.  Raises OSError, or ValueError when there is no room.
    """
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()  # from field 3 on
    start, arg_end, env_start, env_end = (int(field) for field in fields[_ARG_START - 3 : _ENV_END - 2])
    end = env_end if env_start == arg_end else arg_end
    data = os.fsencode(name) + b"\0"
    if not 0 < start < start + len(data) <= end:
        raise ValueError(f"no room for the name {name}")
    # Zeros to the end: the kernel goes on reading where the old arguments ended.
    data = data.ljust(end - start, b"\0")
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(start)
        memory.write(data)
    with open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write(name.lstrip("@"))


class Reporter:
    """Tells what had to be healed since the last look."""

    def __init__(self, trees: Sequence[Filesystem], tell: Callable[[str, int], None]) -> None:
        self._trees, self._tell = trees, tell
        self._told = {line for tree in trees for line in tree.health.report()}

    def look(self) -> None:
        """Tell what is new."""
        for tree in self._trees:
            for line in tree.health.report():
                if line not in self._told:
                    self._told.add(line)
                    self._tell(f"health: {line}", WARNING)


_kmsg = -1


def _open_log() -> None:
    global _kmsg
    _kmsg = os.open("/dev/kmsg", os.O_WRONLY | os.O_CLOEXEC)


def log(text: str, priority: int = ERROR) -> None:
    """A line in the kernel's log, where dmesg and the journal of the root's system find it, and consoles show it."""
    if _kmsg < 0:
        _open_log()
    line = f"<{priority}>poolboot: {printable(text, '')}"
    try:
        os.write(_kmsg, line.encode("utf-8", "backslashreplace")[:RECORD])
    except OSError:  # there is nobody left to tell
        return
