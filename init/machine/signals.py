"""What PID 1 owes the kernel: it reaps every orphan, and answers Ctrl-Alt-Del with an orderly restart."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MAX_ENDED = 64  # children whose status is kept for who asks

_ended: dict[int, int] = {}
_busy: list[str] = []
_restart_wanted = False
_restart: Callable[[str], None] = print


def install(restart: Callable[[str], None]) -> None:
    """Take over the signals.  ``restart("")`` is called for Ctrl-Alt-Del; in the middle of something that must not be
    interrupted it is called with the name of that, only to tell, and again with "" when it is done."""
    global _restart
    _restart = restart
    # Explicitly, not by SIG_IGN: with that a child's status is lost to who started it.
    signal.signal(signal.SIGCHLD, lambda number, frame: reap())
    signal.signal(signal.SIGINT, lambda number, frame: ctrl_alt_del())
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)


def release() -> None:
    """Before another program becomes PID 1: signals as the kernel had them."""
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)


def reap() -> None:
    """Collect every child that ended: our own and the orphans that the kernel gave us."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _ended[pid] = status
        while len(_ended) > MAX_ENDED:
            del _ended[next(iter(_ended))]


def ended(pid: int) -> int | None:
    """The wait status of a child that was reaped (once: it is forgotten then), None while it runs."""
    reap()
    return _ended.pop(pid, None)


@contextmanager
def uninterrupted(doing: str) -> Iterator[None]:
    """In the body Ctrl-Alt-Del waits: ``doing`` leaves something half-written on a disk."""
    _busy.append(doing)
    try:
        yield
    finally:
        _busy.pop()
        if _restart_wanted and not _busy:
            _restart("")


def ctrl_alt_del() -> None:
    """Somebody pressed it."""
    global _restart_wanted
    _restart_wanted = True
    _restart(_busy[-1] if _busy else "")
