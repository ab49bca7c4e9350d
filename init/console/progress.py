"""What a person hears while something large is read: how much of it is there, and how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Callable

from fsdrivers.bounds import progress
from init.machine.devices import human

MUTE = 1.0  # seconds of work without a word
SPEAK = 5.0  # seconds between further words


class Progress:
    """One piece of work of ``total`` bytes, called ``doing`` in messages."""

    def __init__(
        self, doing: str, total: int, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._doing, self._total, self._say, self._clock = doing, total, say, clock
        self._start, self._busy = clock(), time.process_time()
        self._speak = self._start + MUTE
        self._done = 0

    def advance(self, count: int) -> None:
        """So many more bytes are done."""
        self._done += count
        progress()
        now = self._clock()
        if now < self._speak or not self._done:
            return
        left = (self._total - self._done) * (now - self._start) / self._done
        if left >= MUTE:
            self._speak = now + SPEAK
            done = f"{human(self._done)} of {human(self._total)}"
            self._say(f"{self._doing}: {done}, about {round(left)} s more")

    @property
    def slow(self) -> bool:
        """Whether it takes, or took, so long that a person wonders."""
        return self._clock() - self._start >= MUTE

    def work(self, factor: float) -> int:
        """``factor`` times the seconds that the processor was busy with it, at least one: no disk slows that down."""
        return max(1, round(factor * (time.process_time() - self._busy)))
