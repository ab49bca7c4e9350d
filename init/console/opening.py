"""Which terminals there are, each opened so that none can hold up the others."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from init.console.terminal import KernelLog, Terminal


def terminals(sys: str = "/sys", dev: str = "/dev", term: str = "") -> list[Terminal]:
    """All active consoles of the kernel, or /dev/console when they cannot be had, or else the kernel's log.

    ``term`` is what TERM= on the command line says of serial lines: "dumb" for those that obey nothing, "" unknown.
    """
    try:
        with open(f"{sys}/class/tty/console/active", encoding="ascii") as file:
            names = file.read().split()
    except (OSError, ValueError):
        names = []
    # tty0 is whatever virtual terminal is in front: it cannot be read from on its own when hung up.
    paths = [_node(sys, dev, name) for name in names]
    found = [one for path in paths if (one := terminal(path, term)) is not None]
    if not found:
        found = [one for one in (terminal(f"{dev}/console", term),) if one is not None]
    if not found and (log := _open(f"{dev}/kmsg", os.O_WRONLY)) is not None:
        found = [KernelLog(log)]
    _standard_streams(found, dev)
    return found


def terminal(path: str, term: str = "") -> Terminal | None:
    """The terminal at ``path``, None when it cannot be opened."""
    # O_NONBLOCK: a serial line without a carrier, or one that is held up, must not hold us up.
    fd = _open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    if fd is None:
        return None
    name = path.rpartition("/")[2]
    opened = Terminal(fd, fd, path, full=name.startswith("tty") and name[3:].isdecimal())
    if not opened.tty:
        opened.path = ""  # a file that only stands for a terminal does not come back
    elif not opened.full and term not in ("", "dumb"):
        opened.full, opened.colour = True, not term.startswith("vt")
    opened.asked, opened.term = term == "dumb", term
    opened.raw()
    return opened


def _node(sys: str, dev: str, name: str) -> str:
    """The path of a terminal's node, made here when the kernel has no devtmpfs to do it."""
    path = f"{dev}/{name}"
    if not os.path.exists(path):
        try:
            with open(f"{sys}/class/tty/{name}/dev", encoding="ascii") as file:
                major, minor = file.read().split(":")
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(int(major), int(minor)))
        except (OSError, ValueError):
            return path
    return path


def _open(path: str, flags: int) -> int | None:
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError:
        return None


def _standard_streams(terminals: Sequence[Terminal], dev: str) -> None:
    """Point descriptors 0 to 2 at a console, so that whatever Python itself prints is seen; at least at something, as
    the next file that is opened would take their place."""
    # A description of its own: ours does not block, and print() cannot cope with that.
    path = next((terminal.path for terminal in terminals if terminal.path), "")
    fd = _open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK) if path else None
    if fd is not None:
        os.set_blocking(fd, True)
    elif terminals and terminals[0].sink is not None:
        fd = terminals[0].sink
    else:
        fd = _open(f"{dev}/null", os.O_RDWR)
    for number in (0, 1, 2) if fd is not None else ():
        try:
            if fd != number:
                os.dup2(fd, number)  # type: ignore[arg-type]
        except OSError:
            continue
    if fd is not None and fd > 2 and fd not in [terminal.sink for terminal in terminals]:
        os.close(fd)
