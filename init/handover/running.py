"""The modules of the running kernel, on their way from the initramfs into a root that has its own kernels' only."""

from __future__ import annotations

import os
import signal
import stat as _stat
import time
from collections.abc import Callable

from init.machine import signals

CHUNK = 1 << 20
DEPMOD = ("/sbin/depmod", "/usr/sbin/depmod", "/usr/bin/depmod")
PATIENCE = 60.0  # seconds for depmod; it takes one, or ten under emulation
MUTE = 1.0  # seconds of waiting without a word
MAX_DEPTH = 16  # directories below each other
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def bring(initramfs: int, release: str, say: Callable[[str], None], root: str = "") -> None:
    """Copy the modules for kernel ``release`` from the directory open as ``initramfs`` below ``root``.

    A root that has modules for this kernel, and an initramfs without any, are left alone.  depmod is run where there is
    one.  Raises OSError.
    """
    target = f"{root}/lib/modules/{release}"
    if os.path.isdir(target) and os.listdir(target):
        return
    try:
        source = os.open(f"lib/modules/{release}", _READ | os.O_DIRECTORY, dir_fd=initramfs)
    except FileNotFoundError:
        return
    try:
        os.makedirs(target, 0o755, exist_ok=True)
        count = _copy(source, target, 0)
    finally:
        os.close(source)
    depmod = next((path for path in DEPMOD if os.access(root + path, os.X_OK)), None)
    if depmod is None:
        say(f"{count} modules for {release} are in the root; it has no depmod, so modprobe will not find them")
    elif run([root + depmod, *(["-b", root] if root else []), "-a", release], PATIENCE, say) != 0:
        say(f"warning: {depmod} failed: modprobe may not find the modules for {release}")


def _copy(source: int, target: str, depth: int) -> int:
    """Copy the files and directories in the directory ``source``; returns how many files."""
    count = 0
    for name in os.listdir(source):
        kind = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
        if _stat.S_ISDIR(kind) and depth < MAX_DEPTH:
            below = os.open(name, _READ | os.O_DIRECTORY, dir_fd=source)
            try:
                os.makedirs(f"{target}/{name}", 0o755, exist_ok=True)
                count += _copy(below, f"{target}/{name}", depth + 1)
            finally:
                os.close(below)
        elif _stat.S_ISREG(kind):
            fd = os.open(name, _READ, dir_fd=source)
            with open(fd, "rb") as reader, open(f"{target}/{name}", "wb") as writer:
                while data := reader.read(CHUNK):
                    writer.write(data)
            count += 1
    return count


def run(argv: list[str], patience: float, say: Callable[[str], None] = lambda text: None) -> int:
    """Run a program without streams; its exit status, or -1 when it is not done after ``patience`` seconds."""
    pid = os.fork()
    if pid == 0:
        _become(argv)
    deadline, told = time.monotonic() + patience, False
    while (left := deadline - time.monotonic()) > 0:
        if (status := signals.ended(pid)) is not None:
            return os.waitstatus_to_exitcode(status)
        if not told and patience - left > MUTE:
            told = True
            say(f"waiting up to {left:.0f} s more for {argv[0]}; then it goes on without")
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return -1  # PID 1 reaps it


def _become(argv: list[str]) -> None:
    """In the child: execute ``argv``."""
    try:
        null = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        os.execve(argv[0], argv, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    finally:
        os._exit(127)
