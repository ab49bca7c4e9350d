"""Two things at once that do not depend on each other: a long download or a guest with one processor leaves no other
processor idle.  When one fails, the other's commands are stopped: what it has in the cache is whole or not there."""

from __future__ import annotations

import subprocess
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")


class _Commands:
    """The programs that run on behalf of a :func:`both`, at any depth."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._running: weakref.WeakSet[subprocess.Popen[bytes]] = weakref.WeakSet()
        self._stopping = False

    def enter(self) -> None:
        with self._lock:
            self._depth += 1

    def leave(self) -> None:
        with self._lock:
            self._depth -= 1
            if not self._depth:
                self._stopping = False

    def add(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            if self._stopping:
                process.terminate()
            elif self._depth:
                self._running.add(process)

    def stop(self) -> None:
        with self._lock:
            self._stopping = True
            for process in list(self._running):
                process.terminate()  # does nothing when it has ended


_COMMANDS = _Commands()


def stoppable(process: subprocess.Popen[bytes]) -> None:
    """Let ``process`` end when it runs beside something that fails."""
    _COMMANDS.add(process)


def both(first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
    """Call both, each in a thread of its own, and return what they return.

    Raises what the first one to fail raises, when both have come to their ends.
    """
    _COMMANDS.enter()
    try:
        with ThreadPoolExecutor(2) as pool:
            one, other = pool.submit(first), pool.submit(second)
            jobs: tuple[Future[Any], ...] = (one, other)
            try:
                wait(jobs, return_when=FIRST_EXCEPTION)
                failed = next((job for job in jobs if job.done() and job.exception()), None)
            except BaseException:  # Ctrl-C
                _COMMANDS.stop()
                raise
            if failed is not None:
                _COMMANDS.stop()
        if failed is not None:
            failed.result()
        return one.result(), other.result()
    finally:
        _COMMANDS.leave()
