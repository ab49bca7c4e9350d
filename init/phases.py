"""Where the time from the kernel's start of /init to the jump went: each second belongs to one phase."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from init import BEGAN

START, DEVICES, POOLS, ENTRIES, PERSON, READ, LOAD = "start", "devices", "pools", "entries", "asked", "read", "load"

# kernel/../init/main.c:run_init_process, v6.12
_MARK = b"Run /init as init process"


class Phases:
    """A stopwatch with one hand: enter() stops the phase that ran so far."""

    def __init__(self, began: float = BEGAN) -> None:
        self.began = self._since = began
        self.seconds: dict[str, float] = {}
        self._current = START

    def enter(self, phase: str, now: float | None = None) -> str:
        """From now on time belongs to ``phase``; returns the one before."""
        now = time.monotonic() if now is None else now
        before = self._current
        self.seconds[before] = self.seconds.get(before, 0.0) + now - self._since
        self._current, self._since = phase, now
        return before

    @contextmanager
    def of(self, phase: str) -> Iterator[None]:
        """The body belongs to ``phase``, what follows to the one before."""
        before = self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)

    def summary(self, loading: float = 0.0) -> str:
        """All phases so far in one line; ``loading`` are the seconds that the program itself took to start."""
        self.enter(self._current)
        total = self._since - self.began
        parts = [f"{name} {seconds:.2f}" for name, seconds in self.seconds.items()]
        if loading:
            parts.insert(0, f"program {loading:.2f}")
        return f"{total + loading:.2f} s: {', '.join(parts)}"


CLOCK = Phases()


def loading(log: bytes, began: float = BEGAN) -> float:
    """Seconds from the kernel's execution of /init to our first line, by the kernel's log; 0 when it does not say."""
    for line in log.splitlines():
        if _MARK in line:
            stamp = line.partition(b"[")[2].partition(b"]")[0]
            try:
                seconds = began - float(stamp)
            except ValueError:
                return 0.0
            return seconds if 0 < seconds < began else 0.0
    return 0.0
