"""The content of a file that a log has written to: a list of ranges, each with its source."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from fsdrivers.zfs.blkptr import Blkptr

BASE, ZERO = "base", "zero"  # sources: what the file system has at the same place, and a hole


class Range(NamedTuple):
    """Bytes [start, end) of the file; in ``source`` they begin at ``skip``."""

    start: int
    end: int
    source: bytes | Blkptr | str
    skip: int


class Ranges:
    """Ranges without gaps from 0 to infinity (that is, to END)."""

    END = 1 << 63

    def __init__(self, base: int) -> None:
        """``base`` is how many bytes the file system has."""
        self._puts = [Range(0, self.END, ZERO, 0)]
        if base:
            self._puts.append(Range(0, base, BASE, 0))
        self._ranges: list[Range] = []  # of all that was put, while it is known

    def put(self, start: int, end: int, source: bytes | Blkptr | str, skip: int = 0) -> None:
        """Let [start, end) come from ``source``."""
        if 0 <= start < end <= self.END:
            self._puts.append(Range(start, end, source, skip))
            self._ranges = []

    def get(self, start: int, end: int) -> Iterator[Range]:
        """The ranges that make up [start, end), cut to it."""
        if not self._ranges:
            self._ranges = self._merged()
        at = bisect_right(self._ranges, start, key=lambda one: one.start) - 1
        while start < end:
            here = self._ranges[at]
            stop = min(here.end, end)
            yield Range(start, stop, here.source, here.skip + start - here.start)
            start, at = stop, at + 1

    def _merged(self) -> list[Range]:
        """What is left of each range under those that came after it, in order.

        From the last one back, each takes what nobody has taken yet: no list is inserted into, however many there are.
        """
        places = sorted({place for one in self._puts for place in (one.start, one.end)})
        numbers = {place: number for number, place in enumerate(places)}
        owners = [-1] * len(places)  # of the stretches that begin at the places
        free = list(range(len(places)))  # where to look for the next stretch that nobody has, from each of them on
        for owner in range(len(self._puts) - 1, -1, -1):
            at, stop = _next(free, numbers[self._puts[owner].start]), numbers[self._puts[owner].end]
            while at < stop:
                owners[at] = owner
                free[at] = at + 1
                at = _next(free, at + 1)
        found: list[Range] = []
        last = -1
        for number, owner in enumerate(owners[:-1]):
            one, start, end = self._puts[owner], places[number], places[number + 1]
            if owner == last:
                found[-1] = found[-1]._replace(end=end)
            else:
                found.append(Range(start, end, one.source, one.skip + start - one.start))
            last = owner
        return found


def _next(free: list[int], at: int) -> int:
    """The first stretch from ``at`` on that nobody has; the way to it is shortened for the next who goes it."""
    while free[at] != at:
        free[at] = free[free[at]]
        at = free[at]
    return at
