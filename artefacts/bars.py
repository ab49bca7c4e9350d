"""What a person sees of the steps that are under way: bars on a terminal, lines in a log.

On a terminal every running step has a bar in place (drawn by rich, which keeps other lines above the bars).  Everywhere
else a step prints a line when it starts, one when it ends, and one every 20 seconds in between.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from artefacts.counters import Count, Counter

BEAT = 20.0  # seconds between two lines of a step in a log
_FRAME = 0.5  # seconds between two looks at what a bar counts


def say(line: str) -> None:
    """Print a line of the build; above the bars when there are any."""
    print(line, flush=True)


@contextmanager
def shown(what: str, log: Path | None, counter: Counter, where: str = "") -> Iterator[None]:
    """Show the step ``what`` until the block ends, and how long it took if it ended well; ``where`` its log is."""
    reader, start, over = _Reader(log, counter), time.monotonic(), threading.Event()
    bar = _TERMINAL.bar(what) if on_terminal() else None
    if bar is None:
        say(f"build: {what}{where} ...")

    def watch() -> None:
        while not over.wait(BEAT if bar is None else _FRAME):
            count = reader.count()
            if bar is not None:
                bar.show(count)
            else:
                far = f"{count}, " if count else ""
                say(f"build: {what}: {far}{time.monotonic() - start:.0f} s")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        if bar is not None:
            bar.remove()
    say(f"build: {what}: done in {time.monotonic() - start:.1f} s")


def on_terminal() -> bool:
    """Whether lines can be drawn anew: standard output is a terminal that can, and nothing else stands for it."""
    genuine = sys.stdout is sys.__stdout__ and sys.stdout is not None
    return genuine and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class _Reader:
    """Feeds a counter with what is new in a log."""

    def __init__(self, log: Path | None, counter: Counter) -> None:
        self._log, self._counter = log, counter
        self._offset, self._rest = 0, b""

    def count(self) -> Count | None:
        """None when there is nothing to say, or what should be counted is going away under our hands."""
        try:
            if self._log is not None:
                with self._log.open("rb") as file:
                    file.seek(self._offset)
                    *lines, self._rest = (self._rest + file.read()).split(b"\n")
                    self._offset = file.tell()
                self._counter.feed(line.decode(errors="replace").rstrip("\r") for line in lines)
            return self._counter.count()
        except OSError:
            return None


class _Bar:
    """The bar of one step."""

    def __init__(self, terminal: _Terminal, task: Any) -> None:
        self._terminal, self._task = terminal, task

    def show(self, count: Count | None) -> None:
        self._terminal.update(self._task, count)

    def remove(self) -> None:
        self._terminal.remove(self._task)


class _Terminal:
    """The bars of all steps that are under way, as a whole there while there is one of them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._progress: Any = None
        self._bars = 0

    def bar(self, what: str) -> _Bar:
        with self._lock:
            if self._progress is None:
                self._progress = _progress()
                self._progress.start()
            self._bars += 1
            return _Bar(self, self._progress.add_task(what, total=None, count=""))

    def update(self, task: Any, count: Count | None) -> None:
        with self._lock:
            if count and self._progress is not None:
                known = {"total": max(count.done, count.total)} if count.total else {}
                self._progress.update(task, completed=count.done, count=count.bare(), **known)

    def remove(self, task: Any) -> None:
        with self._lock:
            self._progress.remove_task(task)
            self._bars -= 1
            if not self._bars:
                self._progress.stop()
                self._progress = None


def _progress() -> Any:
    """Imported here: only a person at a terminal has a use for it, and rich is no small thing to import."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    def text(what: str, **column: Any) -> TextColumn:
        return TextColumn(what, markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", **column))

    columns = (
        text("{task.description}", ratio=3, min_width=20),
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=8)),
        text("{task.fields[count]}", min_width=27),
        TimeElapsedColumn(),
    )
    return Progress(*columns, transient=True, expand=True, refresh_per_second=4)


_TERMINAL = _Terminal()
