"""Mounting at a desk: with mount(2) as root, else through libfuse's setuid helper, and undoing it."""

from __future__ import annotations

import os
from collections.abc import Callable

from fsdrivers.filesystem import Filesystem
from fsdrivers.fuse.connection import FSTYPE, attach, set_read_ahead
from fsdrivers.fuse.server import Server

HELPERS = ("fusermount3", "fusermount")
MNT_DETACH = 2  # include/linux/fs.h, v6.12


def serve_at(filesystem: Filesystem, directory: str, log: Callable[[str], None]) -> None:
    """Mount ``filesystem`` on ``directory`` and answer until it is unmounted or a signal says to stop.

    SIGINT, SIGTERM and SIGHUP unmount.  Raises OSError when it cannot be mounted, FsError when its root is damaged.
    """
    import signal
    import threading

    filesystem.stat(filesystem.root())  # before anybody waits for it
    directory = os.path.realpath(directory)
    source = f"{filesystem.kind}:{filesystem.label or filesystem.uuid}:{filesystem.root_name}"
    stop, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [(number, signal.signal(number, lambda *_: None)) for number in signals]
    previous = signal.set_wakeup_fd(wake)
    try:
        shared = os.geteuid() == 0
        fd, unmount = _mount(directory, source, shared)
        try:
            server = Server(filesystem, fd, log, shared=shared)
            # In a thread, as looking at the mount waits for the server.
            threading.Thread(target=set_read_ahead, args=(directory,), daemon=True).start()
            server.serve(stop)
        finally:
            unmount()
            os.close(fd)
    finally:
        signal.set_wakeup_fd(previous)
        for number, handler in before:
            signal.signal(number, handler)
        os.close(stop)
        os.close(wake)


def _mount(directory: str, source: str, shared: bool) -> tuple[int, Callable[[], None]]:
    """The descriptor to answer on, and what undoes the mount."""
    if shared:
        return attach(directory, source, _system_mount, shared=True), lambda: _system_umount(directory)
    helper = _helper()
    return _helped_mount(helper, directory, source), lambda: _run([helper, "-u", "-z", "-q", "--", directory])


def _libc() -> object:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _system_mount(source: str, directory: str, fstype: str, flags: int, data: str) -> None:
    """mount(2)."""
    import ctypes

    words = [os.fsencode(word) for word in (source, directory, fstype)]
    if _libc().mount(*words, ctypes.c_ulong(flags), os.fsencode(data)) != 0:  # type: ignore[attr-defined]
        code = ctypes.get_errno()
        raise OSError(f"cannot mount on {directory}: {os.strerror(code)}")


def _system_umount(directory: str) -> None:
    """umount2(2), also when somebody still looks; that it is gone already is fine."""
    _libc().umount2(os.fsencode(directory), MNT_DETACH)  # type: ignore[attr-defined]


def _helper() -> str:
    import shutil

    for name in HELPERS:
        path = shutil.which(name)
        if path is not None:
            return path
    raise OSError("mounting as a user needs fusermount3 (Debian: apt install fuse3), or run this as root")


def _helped_mount(helper: str, directory: str, source: str) -> int:
    """Let the helper mount; it hands back the descriptor over a socket.

    Source: lib/mount.c:setup_auto_unmount, fuse_mount_fusermount and receive_fd of libfuse 3.14.
    """
    import socket
    import subprocess

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        # A comma would end the option, a backslash escape.
        name = "".join(char if char.isprintable() and char not in ",\\" else "_" for char in source)
        options = f"ro,nosuid,nodev,fsname={name},subtype={FSTYPE.partition('.')[2]}"
        environment = os.environ | {"_FUSE_COMMFD": str(theirs.fileno())}
        command = [helper, "-o", options, "--", directory]
        with subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()]) as process:
            theirs.close()
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        if process.returncode != 0 or not fds:
            raise OSError(f"{helper} could not mount on {directory}")
    os.set_inheritable(fds[0], False)
    return fds[0]


def _run(command: list[str]) -> None:
    import subprocess

    subprocess.run(command, check=False)
