"""Work done ahead of whoever asks for its results: disks, checksums and decoders run while the reader writes.

Only what releases the interpreter's lock gains: pread, CRC-32C, zstd, zlib.  `_thread` and `_queue` themselves, because
the modules around them take longer to import than a small file takes to read.
"""

from __future__ import annotations

import _thread
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

try:
    from _queue import SimpleQueue
except ImportError:  # a Python built without it reads all the same
    SimpleQueue = None  # type: ignore[assignment, misc]

T = TypeVar("T")

THREADS = 2
DEPTH = 4  # pieces of work under way or finished and not asked for


class _Task(Generic[T]):
    """One piece of work; ``result`` waits for it."""

    __slots__ = ("_done", "_error", "_value", "_work")

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._done = _thread.allocate_lock()
        self._done.acquire()
        self._error: BaseException | None = None
        self._value: T

    def run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as error:
            self._error = error
        finally:
            self._done.release()

    def result(self) -> T:
        self._done.acquire()
        if self._error is not None:
            raise self._error
        return self._value


def ahead(jobs: Iterable[Callable[[], T]]) -> Iterator[T]:
    """The results of ``jobs`` in their order; up to DEPTH of them are worked on before they are asked for.

    ``jobs`` itself is iterated by the caller's thread alone.  What a job raises is raised in its turn, and nothing
    after it is delivered.
    """
    if SimpleQueue is None:
        for job in jobs:
            yield job()
        return
    todo: SimpleQueue[_Task[T] | None] = SimpleQueue()
    started = 0
    pending: deque[_Task[T]] = deque()
    try:
        for job in jobs:
            task = _Task(job)
            pending.append(task)
            todo.put(task)
            if started < THREADS:
                _thread.start_new_thread(_serve, (todo,))
                started += 1
            if len(pending) >= DEPTH:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for _ in range(started):
            todo.put(None)


def _serve(todo: SimpleQueue[_Task[T] | None]) -> None:
    while (task := todo.get()) is not None:
        task.run()
