"""RAID5 and RAID6: the ways to compute a piece of data from the other columns of its row.

Source: fs/btrfs/raid56.c:recover_vertical, v6.12.  The kernel tries one reconstruction for each mirror number;
here every combination of columns that could be lying is tried, and the checksum decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

from fsdrivers import parity
from fsdrivers.btrfs import geometry
from fsdrivers.btrfs.geometry import Segment, Stripe
from fsdrivers.btrfs.layout import STRIPE_LEN
from fsdrivers.btrfs.leg import Leg
from fsdrivers.errors import ReadError
from fsdrivers.redundancy import Attempt


class Known:
    """What has been read and computed of one row, for all of its segments; unverified, so for first attempts only."""

    def __init__(self, segment: Segment | None = None) -> None:
        self._segment = segment
        self.columns: dict[int, bytes | memoryview] = {}
        self.solved: dict[tuple[int, ...], list[bytes]] = {}

    def fits(self, segment: Segment) -> bool:
        """Whether ``segment`` is the same stretch of the same row."""
        mine = self._segment
        return (
            mine is not None
            and (mine.chunk.start, mine.row, mine.length) == (segment.chunk.start, segment.row, segment.length)
            and (mine.start - segment.start) % STRIPE_LEN == 0
        )


class Row:
    """The columns beside one segment, read when first needed.  ``lost`` are those that cannot be had, and the
    segment's own, which is what has to be computed."""

    def __init__(self, segment: Segment, leg: Callable[[Stripe], Leg | None], known: Known | None = None) -> None:
        self._segment = segment
        self._known = known or Known()
        self._places = geometry.row_places(segment)
        self._legs = [leg(segment.chunk.stripes[place.stripe]) for place in self._places]
        self._columns = self._known.columns
        self._width = segment.chunk.data_stripes
        self.lost = {number for number, found in enumerate(self._legs) if found is None} | {segment.column}

    def attempts(self) -> Iterator[Attempt]:
        """Every reconstruction, those first that suspect the fewest columns."""
        tried: set[tuple[int, ...]] = set()
        offset = self._places[self._segment.column].offset
        cost = self._width * self._segment.length
        known, plans = self.lost.copy(), self._plans(tried)
        while True:
            if self.lost != known:  # since then: what was planned may need it
                known, plans = self.lost.copy(), self._plans(tried)
            plan = next(plans, None)
            if plan is None:
                return
            needed, suspects = plan
            tried.add(needed)
            without = ", ".join(self._name(number) for number in sorted(self.lost.union(suspects)))
            liars = tuple(self._name(number) for number in suspects)
            yield Attempt(f"reconstruction without {without}", offset, self._fetcher(needed), liars, cost)

    def _plans(self, tried: set[tuple[int, ...]]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        """What was not tried yet, given what is lost by now: (columns to compute from, columns taken for liars)."""
        count = self._segment.chunk.profile.parity
        others = [number for number in range(len(self._places)) if number not in self.lost]
        for more in range(count - len(self.lost) + 1):
            for suspects in combinations(others, more):
                dropped = self.lost.union(suspects)
                data = [number for number in range(self._width) if number not in dropped]
                checks = [number for number in range(self._width, self._width + count) if number not in dropped]
                needed = (*data, *checks[: self._width - len(data)])
                if len(needed) == self._width and needed not in tried:
                    yield needed, suspects

    def _fetcher(self, needed: tuple[int, ...]) -> Callable[[], bytes]:
        def fetch() -> bytes:
            columns = {number: self._column(number) for number in needed}
            solved = self._known.solved.get(needed)
            if solved is None:
                data = [columns.get(number) for number in range(self._width)]
                checks = [columns.get(number) for number in range(self._width, len(self._places))]
                solved = self._known.solved[needed] = parity.reconstruct(data, checks)
            return solved[self._segment.column]

        return fetch

    def _column(self, number: int) -> bytes:
        """Column ``number``; one that cannot be read is lost from now on."""
        if number not in self._columns:
            leg = self._legs[number]
            assert leg is not None
            try:
                self._columns[number] = leg.device.read(self._places[number].offset, self._segment.length)
            except ReadError:
                leg.failed()
                self.lost.add(number)
                raise
        return bytes(self._columns[number])

    def _name(self, number: int) -> str:
        leg = self._legs[number]
        return leg.device.name if leg else f"devid {self._segment.chunk.stripes[self._places[number].stripe].devid}"
