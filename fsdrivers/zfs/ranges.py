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
        self._ranges = [Range(0, base, BASE, 0)] if base else []
        self._ranges.append(Range(base, self.END, ZERO, 0))

    def put(self, start: int, end: int, source: bytes | Blkptr | str, skip: int = 0) -> None:
        """Let [start, end) come from ``source``."""
        if not 0 <= start < end <= self.END:
            return
        first = bisect_right(self._ranges, start, key=lambda one: one.start) - 1
        last = first
        while self._ranges[last].end < end:
            last += 1
        new = [Range(start, end, source, skip)]
        before, after = self._ranges[first], self._ranges[last]
        if before.start < start:
            new.insert(0, before._replace(end=start))
        if after.end > end:
            new.append(after._replace(start=end, skip=after.skip + end - after.start))
        self._ranges[first : last + 1] = new

    def get(self, start: int, end: int) -> Iterator[Range]:
        """The ranges that make up [start, end), cut to it."""
        at = bisect_right(self._ranges, start, key=lambda one: one.start) - 1
        while start < end:
            here = self._ranges[at]
            stop = min(here.end, end)
            yield Range(start, stop, here.source, here.skip + start - here.start)
            start, at = stop, at + 1
