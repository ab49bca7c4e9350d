"""RAID5 and RAID6: whether the parity of each row belongs to its data.

Source: fs/btrfs/scrub.c:scrub_raid56_parity_stripe, v6.12.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fsdrivers import parity
from fsdrivers.btrfs import geometry, layout
from fsdrivers.btrfs.geometry import Chunk, Segment
from fsdrivers.btrfs.volume import Volume
from fsdrivers.damage import Damage, Place, Totals, cause
from fsdrivers.errors import FsError


class Rows:
    """The rows of ``volume``.  ``bad`` are (device, offset) of bad sectors: parity over them proves nothing."""

    def __init__(self, volume: Volume, totals: Totals, bad: set[tuple[str, int]]) -> None:
        self._volume, self._totals, self._bad = volume, totals, bad
        self._sector = volume.sectorsize

    def check(self, ranges: Iterable[tuple[int, int]]) -> Iterator[Place]:
        """P and Q of every row in which one of ``ranges``, (address, length) in bytes, is stored."""
        rows: dict[tuple[int, int], set[int]] = {}
        for start, length in sorted(ranges):
            try:
                segments = self._volume.segments(start, length)
            except FsError:
                continue
            for segment in segments:
                if not segment.chunk.profile.parity:
                    continue
                key = (segment.chunk.start, segment.row)
                if key not in rows:
                    yield from self._rows(rows)
                inside = (segment.start - segment.chunk.start) % layout.STRIPE_LEN
                rows.setdefault(key, set()).update(range(inside, inside + segment.length, self._sector))
        yield from self._rows(rows)

    def _rows(self, rows: dict[tuple[int, int], set[int]]) -> Iterator[Place]:
        for (start, row), depths in rows.items():
            yield from self._row(self._volume.chunks.at(start), row, sorted(depths))
        rows.clear()

    def _row(self, chunk: Chunk, row: int, depths: list[int]) -> Iterator[Place]:
        """The parity of one row, at the ``depths`` (of sectors) where something is stored."""
        width, sector = chunk.data_stripes, self._sector
        first = chunk.start + row * width * layout.STRIPE_LEN
        places = geometry.row_places(Segment(chunk, first, layout.STRIPE_LEN, (), row, 0))
        legs = [self._volume.leg(chunk.stripes[place.stripe]) for place in places]
        if any(leg is None or leg.stale for leg in legs[:width]):
            return  # without all data there is nothing to compare with
        try:
            data = [
                leg.device.read(place.offset, layout.STRIPE_LEN) for leg, place in zip(legs, places, strict=True) if leg
            ][:width]
        except FsError:
            return  # told of where that data was read
        wanted = parity.generate(data, chunk.profile.parity)
        for number, (leg, place) in enumerate(zip(legs[width:], places[width:], strict=True)):
            if leg is None:
                continue
            try:
                stored = leg.device.read(place.offset, layout.STRIPE_LEN)
            except FsError as error:
                yield self._wrong(number, leg.device.name, place.offset, layout.STRIPE_LEN, cause(error))
                continue
            self._totals.add_read(leg.device.name, len(depths) * sector)
            for at in depths:
                columns = zip(legs[:width], places[:width], strict=True)
                suspect = any(one and (one.device.name, other.offset + at) in self._bad for one, other in columns)
                if stored[at : at + sector] != wanted[number][at : at + sector] and not suspect:
                    why = "it does not belong to the data of its row"
                    yield self._wrong(number, leg.device.name, place.offset + at, sector, why)

    def _wrong(self, number: int, device: str, offset: int, length: int, why: str) -> Place:
        return Place(Damage(device, offset, length, f"parity {'PQ'[number]}", "", False, why), 0)
