"""Reading RAID-Z: the data columns as they are, else rebuilt from parity without whatever is missing or lies.

Source: module/zfs/vdev_raidz.c:vdev_raidz_io_done, vdev_raidz_combrec, raidz_reconstruct; OpenZFS 2.3.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from fsdrivers import parity
from fsdrivers.errors import ReadError
from fsdrivers.redundancy import Attempt
from fsdrivers.zfs import raidz
from fsdrivers.zfs.raidz import Column, Row
from fsdrivers.zfs.vdevs import Leaf, Mismatch, Vdev

MAX_LOOKS = 1 << 21  # columns that are looked at to find out which children a block can do without


class RaidZ(Vdev):
    """A RAID-Z group.

    ``widths`` are the expansions that it has been through, as (txg, width from then on) in order; ``moved`` is the
    progress in bytes of one that has not ended, ``scratch`` whether what has moved is still in the scratch area.
    """

    def __init__(
        self,
        name: str,
        children: Sequence[Vdev],
        nparity: int,
        ashift: int,
        widths: Sequence[tuple[int, int]] = (),
        moved: int | None = None,
        scratch: bool = False,
    ) -> None:
        self.name, self.children, self.nparity, self.ashift = name, children, nparity, ashift
        self.widths, self.moved, self.scratch = widths, moved, scratch

    def width(self, birth: int) -> int:
        """The number of columns that a block born in txg ``birth`` was laid out for."""
        original = len(self.children) - len(self.widths) - (self.moved is not None)
        return next((width for txg, width in reversed(self.widths) if txg <= birth), original)

    def attempts(self, offset: int, size: int, birth: int) -> Iterator[Attempt]:
        return self._stripes(offset, size, birth).attempts()

    def compare(self, offset: int, good: bytes, birth: int) -> Iterator[Mismatch]:
        return self._stripes(offset, len(good), birth).compare(good)

    def _stripes(self, offset: int, size: int, birth: int) -> Stripes:
        width = self.width(birth)
        if width == len(self.children):
            columns = raidz.columns(offset, size, self.ashift, width, self.nparity)
            rows: tuple[Row, ...] = (Row(columns, ()),)
        else:
            rows = raidz.rows(
                offset, size, self.ashift, len(self.children), width, self.nparity, self.moved, self.scratch
            )
        return Stripes(self.name, self.children, self.nparity, rows, offset, size, birth)

    def leaves(self) -> Iterator[Leaf]:
        for child in self.children:
            yield from child.leaves()


class Stripes:
    """The columns of one block, read at most once each."""

    def __init__(
        self,
        name: str,
        children: Sequence[Vdev],
        nparity: int,
        rows: tuple[Row, ...],
        offset: int,
        size: int,
        birth: int,
    ) -> None:
        self.name, self.children, self.nparity, self.rows = name, children, nparity, rows
        self.offset, self.size, self.birth = offset, size, birth
        self._fetched: dict[tuple[Column, int], bytes | None] = {}
        self._looks = MAX_LOOKS

    def attempts(self) -> Iterator[Attempt]:
        used = sorted({column.child for row in self.rows for column in row.columns if column.size})
        stale = frozenset(child for child in used if self.children[child].stale)
        seen: set[tuple[tuple[int, ...], ...]] = set()
        # What was away while others were written to is no witness: only when nothing else is left.
        for base in (stale, frozenset[int]()) if stale else (stale,):
            yield from self._variants(base, used, seen)

    def _variants(
        self, base: frozenset[int], used: list[int], seen: set[tuple[tuple[int, ...], ...]]
    ) -> Iterator[Attempt]:  # fmt: skip
        """The ways to do without the children ``base``, and more than these; ``seen`` are the plans of former ones."""
        if not self._possible(base):
            return
        if not seen or self._plan(base) not in seen:
            yield self._attempt(base, ())
            seen.add(self._plan(base))
        rest = [child for child in used if child not in base]
        # A child that is being replaced has two devices: the other one may be the good one.
        for child in rest:
            for choice in range(1, sum(1 for _ in self.children[child].leaves())):
                yield self._attempt(base, ((child, choice),))
        for count in range(1, self.nparity - len(base) + 1):
            for distrusted in combinations(rest, count):
                without = base | frozenset(distrusted)
                if self._looks < 0:
                    return
                if not self._possible(without):
                    continue
                plan = self._plan(without)
                if plan not in seen:
                    seen.add(plan)
                    yield self._attempt(without, ())

    def compare(self, good: bytes) -> Iterator[Mismatch]:
        """Where the children do not hold the columns, parity included, that belong to the block ``good``."""
        done = 0
        for row in self.rows:
            data = []
            for number, column in enumerate(row.columns[self.nparity :]):
                start = row.places[number] if row.places else done
                data.append(good[start : start + column.size])
                done += column.size
            parities = parity.generate(data, self.nparity, raidz=True)
            for number, (column, wanted) in enumerate(zip(row.columns, [*parities, *data], strict=True)):
                name = "PQR"[number] if number < self.nparity else ""
                for found in self.children[column.child].compare(column.offset, wanted[: column.size], self.birth):
                    yield found._replace(parity=name)

    def _attempt(self, without: frozenset[int], choices: tuple[tuple[int, int], ...]) -> Attempt:
        leaves = [leaf for child in sorted(without) for leaf in self.children[child].leaves()]
        suspects = tuple(leaf.device.name for leaf in leaves if leaf.device and not leaf.stale)
        name = self.name + (f" without {', '.join(suspects)}" if suspects else "")
        return Attempt(name, self.offset, lambda: self._assemble(without, dict(choices)), suspects)

    def _bad(self, row: Row, without: frozenset[int], choices: dict[int, int]) -> list[int]:
        """The indices of the columns of ``row`` that cannot or must not be used."""
        self._looks -= len(row.columns)
        return [
            number
            for number, column in enumerate(row.columns)
            if column.child in without
            or (number >= self.nparity and self._fetch(column, choices.get(column.child, 0)) is None)
        ]

    def _plan(self, without: frozenset[int]) -> tuple[tuple[int, ...], ...]:
        """What would be rebuilt from what: attempts with the same plan give the same bytes."""
        plan = []
        for row in self.rows:
            bad = self._bad(row, without, {})
            data = [number for number in bad if number >= self.nparity]
            plan.append((*data, -1, *self._parities(row, bad, len(data))))
        return tuple(plan)

    def _possible(self, without: frozenset[int]) -> bool:
        for row in self.rows:
            bad = self._bad(row, without, {})
            data = sum(number >= self.nparity for number in bad)
            if len(self._parities(row, bad, data)) < data:
                return False
        return True

    def _parities(self, row: Row, bad: list[int], count: int) -> list[int]:
        """The first ``count`` parity columns of ``row`` that can be read."""
        found: list[int] = []
        for number in range(self.nparity):
            if len(found) == count:
                break
            if number not in bad and self._fetch(row.columns[number], 0) is not None:
                found.append(number)
        return found

    def _fetch(self, column: Column, choice: int) -> bytes | None:
        """The bytes of ``column`` from the ``choice``-th device of its child or the first one that can be read."""
        key = column, choice
        if key not in self._fetched:
            self._fetched[key] = self._read(column, choice)
        return self._fetched[key]

    def _read(self, column: Column, choice: int) -> bytes | None:
        if not column.size:
            return b""
        attempts = list(self.children[column.child].attempts(column.offset, column.size, self.birth))
        for attempt in attempts[choice:] + attempts[:choice]:
            try:
                return attempt.fetch()
            except ReadError:
                continue
        return None

    def _assemble(self, without: frozenset[int], choices: dict[int, int]) -> bytes:
        if len(self.rows) == 1:
            return b"".join(self._data(self.rows[0], without, choices))
        block = bytearray(self.size)
        for row in self.rows:
            for place, data in zip(row.places, self._data(row, without, choices), strict=True):
                block[place : place + len(data)] = data
        return bytes(block)

    def _data(self, row: Row, without: frozenset[int], choices: dict[int, int]) -> list[bytes]:
        """The data columns of ``row`` in order, rebuilt where needed."""
        bad = self._bad(row, without, choices)
        lost = [number - self.nparity for number in bad if number >= self.nparity]
        data = [
            None if number in bad else self._fetch(row.columns[number], choices.get(row.columns[number].child, 0))
            for number in range(self.nparity, len(row.columns))
        ]
        if lost:
            good = self._parities(row, bad, len(lost))
            if len(good) < len(lost):
                raise ReadError(self.name, self.offset, self.size, "too many columns are missing")
            known = [self._fetch(row.columns[number], 0) if number in good else None for number in range(self.nparity)]
            sizes = [column.size for column in row.columns[self.nparity :]]
            return parity.reconstruct(data, known, sizes, raidz=True)
        return [piece for piece in data if piece is not None]
