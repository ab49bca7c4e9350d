"""The address space of one filesystem: members, chunk map, and reads that are verified and healed.

Source: fs/btrfs/volumes.c:btrfs_map_block, fs/btrfs/bio.c:btrfs_check_read_bio (repair from other mirrors), v6.12.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Protocol

from fsdrivers import redundancy
from fsdrivers.block import BlockDevice, Rooms
from fsdrivers.btrfs import checksum, geometry
from fsdrivers.btrfs.chunks import ChunkMap
from fsdrivers.btrfs.geometry import Chunk, Copy, Segment, Stripe
from fsdrivers.btrfs.layout import STRIPE_LEN
from fsdrivers.btrfs.leg import Leg
from fsdrivers.btrfs.rebuild import Known, Row
from fsdrivers.btrfs.superblock import Superblock
from fsdrivers.errors import Corrupt, FsError, MissingDevices, ReadError
from fsdrivers.redundancy import Attempt, Health

ROOM = 1 << 20  # bytes that are read at a time, mostly

Verify = Callable[[bytes, Attempt], FsError | None]
_Piece = tuple[Segment, memoryview, Known]  # a segment, where its bytes go, and what is known of its row


class Places(Protocol):
    """Where data is in chunks that only set the space aside: a raid-stripe-tree, which is read through a volume."""

    @staticmethod
    def covers(chunk: Chunk) -> bool:
        """Whether the data of ``chunk`` is where this says."""

    def segments(self, chunk: Chunk, start: int, length: int) -> Iterator[Segment]:
        """As geometry.segments(); raises Corrupt where nothing is known."""


class Plan:
    """What is to be read first: neighbours on one device in one go."""

    def __init__(self) -> None:
        self._runs: list[tuple[Leg, int, list[_Piece]]] = []
        self._ends: dict[Leg, tuple[int, list[_Piece]]] = {}

    def add(self, leg: Leg, offset: int, piece: _Piece) -> None:
        """``piece`` can be had from byte ``offset`` of ``leg``."""
        end, pieces = self._ends.get(leg, (-1, []))
        if end != offset:
            pieces = []
            self._runs.append((leg, offset, pieces))
        pieces.append(piece)
        self._ends[leg] = offset + piece[0].length, pieces

    def read(self) -> list[_Piece]:
        """Read all; the pieces of runs that could not be read."""
        failed: list[_Piece] = []
        for leg, offset, pieces in self._runs:
            try:
                leg.device.read_scattered(offset, [buffer for _, buffer, _ in pieces])
            except ReadError:
                leg.failed()
                failed += pieces
                continue
            for segment, buffer, known in pieces:
                if segment.chunk.profile.parity:
                    known.columns[segment.column] = buffer
        return failed


class Volume:
    """Reads by logical address.  ``name`` is what errors call the filesystem, ``legs`` is keyed by device uuid."""

    def __init__(self, name: str, superblock: Superblock, legs: dict[bytes, Leg], health: Health) -> None:
        self.name, self.superblock, self.legs, self.health = name, superblock, legs, health
        self.chunks = ChunkMap(name)
        self.stripes: Places | None = None
        self.sectorsize = superblock.sectorsize
        self._rooms = Rooms(ROOM)
        self.checksum = checksum.TYPES[superblock.csum_type]

    def leg(self, stripe: Stripe) -> Leg | None:
        """The device behind ``stripe``, or None when it is missing."""
        leg = self.legs.get(stripe.dev_uuid)
        return leg if leg is not None and leg.superblock.devid == stripe.devid else None

    def read_verified(self, start: int, length: int, verify: Verify) -> bytes:
        """``length`` bytes at ``start``, the first copy that ``verify`` accepts: for tree nodes and single sectors.

        Raises Corrupt, ReadError or MissingDevices.
        """
        segments = self.segments(start, length)
        ways = [self._attempts(segment) for segment in segments]
        attempts = ways[0] if len(ways) == 1 else _joined(ways)
        return redundancy.read(attempts, self._noting(verify), self.health, lambda: self._missing(segments))

    def read_data(
        self, segments: list[Segment], start: int, length: int, sums: bytes | memoryview | None
    ) -> memoryview:
        """File data: ``length`` bytes at ``start``, both multiples of the sector size, checked against ``sums``.

        ``segments`` are those of the range; looking them up may read trees, which belong to one thread.  ``sums`` is
        one checksum for each sector, or None for data that has none (nodatasum).  Raises Corrupt, ReadError or
        MissingDevices.
        """
        data, unread = self._fetch(segments, start, length)
        if sums is None:
            return self._unchecked(segments, data, unread)
        sector, size = self.sectorsize, self.checksum.size
        got = self.checksum.sums(data, sector)
        if got == sums and not unread:
            return data
        healed = memoryview(bytearray(data))
        for segment in segments:
            for at in range(segment.start, segment.start + segment.length, sector):
                place = at - start
                index = place // sector * size
                wanted = bytes(sums[index : index + size])
                if got[index : index + size] != wanted or any(first <= place < last for first, last in unread):
                    healed[place : place + sector] = self.heal(geometry.part(segment, at, sector), wanted)
        return healed

    def segments(self, start: int, length: int) -> list[Segment]:
        """The range cut into segments, across chunks; raises Corrupt when part of it lies in no chunk."""
        found: list[Segment] = []
        end = start + length
        while start < end:
            chunk = self.chunks.at(start)
            stop = min(end, chunk.end)
            cut = self.stripes.segments if self.stripes and self.stripes.covers(chunk) else geometry.segments
            found += cut(chunk, start, stop - start)
            start = stop
        return found

    def _fresh(self, stripe: Stripe) -> Leg | None:
        """The device behind ``stripe`` unless it missed writes."""
        leg = self.leg(stripe)
        return None if leg is None or leg.stale else leg

    def ranked(self, segment: Segment, fresh: bool = False) -> Iterator[tuple[Leg, Copy]]:
        """The copies of ``segment`` that exist, the most trustworthy first."""
        stripes = segment.chunk.stripes
        find = self._fresh if fresh else self.leg
        found = [(leg, copy) for copy in segment.copies if (leg := find(stripes[copy.stripe])) is not None]
        if len(found) > 1 and any(leg.rank for leg, _ in found):
            found.sort(key=_rank)
        return iter(found)

    def _fetch(self, segments: list[Segment], start: int, length: int) -> tuple[memoryview, list[tuple[int, int]]]:
        """The bytes of ``segments``, unverified, from whichever copy comes first; and the ranges (relative to
        ``start``) that no device delivered."""
        if len(segments) == 1 and length <= STRIPE_LEN:  # most small files: no need to plan
            for leg, copy in self.ranked(segments[0]):
                try:
                    return memoryview(leg.device.read(copy.offset, length)), []
                except ReadError:
                    leg.failed()
        data = self._rooms.take(length)
        plan = Plan()
        pieces, known = [], Known()
        for segment in segments:
            first = segment.start - start
            if not known.fits(segment):
                known = Known(segment)
            piece = (segment, data[first : first + segment.length], known)
            best = next(self.ranked(segment), None)
            if best is None:
                pieces.append(piece)
            else:
                plan.add(best[0], best[1].offset, piece)
        # Last, because reconstructions want the other columns of their rows.
        pieces += plan.read()
        unread = []
        for segment, buffer, known in pieces:
            if not self._fill(segment, buffer, known):
                unread.append((segment.start - start, segment.start - start + segment.length))
        return data, unread

    def _fill(self, segment: Segment, buffer: memoryview, known: Known) -> bool:
        """Read ``segment`` into ``buffer`` from the first copy that can be read; ``known`` is what its row gave."""
        if segment.column in known.columns and segment.chunk.profile.parity:
            buffer[:] = known.columns[segment.column]
            return True
        for leg, copy in self.ranked(segment):
            try:
                leg.device.read_into(copy.offset, buffer)
            except ReadError:
                leg.failed()
                continue
            if segment.chunk.profile.parity:
                known.columns[segment.column] = buffer
            return True
        if segment.chunk.profile.parity:
            for attempt in Row(segment, self.leg, known).attempts():
                try:
                    buffer[:] = attempt.fetch()
                except ReadError:
                    continue
                return True
        return False

    def heal(self, segment: Segment, wanted: bytes) -> bytes:
        """One sector from any copy or reconstruction whose checksum is ``wanted``."""
        kind = self.checksum

        def verify(data: bytes, attempt: Attempt) -> FsError | None:
            got = kind.sum(data)
            return None if got == wanted else Corrupt(attempt.device, "data checksum", attempt.offset, wanted, got)

        return redundancy.read(
            self._attempts(segment), self._noting(verify), self.health, lambda: self._missing([segment])
        )

    def _unchecked(self, segments: list[Segment], data: memoryview, unread: list[tuple[int, int]]) -> memoryview:
        """Data without checksums.

        From chunks with redundancy nothing is taken from a stale leg: the filesystem went on without it, and
        nothing can tell which of its sectors are old.  Without redundancy it could not have gone on.
        """
        if not unread and not any(leg.stale for leg in self.legs.values()):
            return data
        parts = []
        for segment in segments:
            fresh = bool(segment.chunk.profile.tolerated)
            parts.append(self._first(segment, fresh))
        return memoryview(b"".join(parts))

    def _first(self, segment: Segment, fresh: bool) -> bytes:
        """Whatever copy of ``segment`` can be read first."""
        return redundancy.read(
            self._attempts(segment, fresh), _accept, self.health, lambda: self._missing([segment], fresh)
        )

    def _attempts(self, segment: Segment, fresh: bool = False) -> Iterator[Attempt]:
        """Every way to get the bytes of ``segment``: its copies, then reconstructions.

        ``fresh`` leaves out the legs that missed writes.
        """
        for leg, copy in self.ranked(segment, fresh):
            yield Attempt(leg.device.name, copy.offset, _fetcher(leg.device, copy.offset, segment.length))
        if segment.chunk.profile.parity:
            yield from Row(segment, self._fresh if fresh else self.leg).attempts()

    def _noting(self, verify: Verify) -> Verify:
        """``verify`` that also remembers which legs deliver rubbish."""

        def noting(data: bytes, attempt: Attempt) -> FsError | None:
            wrong = verify(data, attempt)
            if wrong is not None:
                for leg in self.legs.values():
                    if leg.device.name == attempt.device:
                        leg.failed()
            return wrong

        return noting

    def _missing(self, segments: Iterable[Segment], fresh: bool = False) -> MissingDevices:
        """The error for ``segments`` of which no copy is on a present device (``fresh``: one without missed writes)."""
        stripes = chain.from_iterable(segment.chunk.stripes for segment in segments)
        find = self._fresh if fresh else self.leg
        gone = {stripe.devid for stripe in stripes if find(stripe) is None}
        present = [leg.device.name for leg in self.legs.values()]
        segment = next(iter(segments))
        return MissingDevices(
            self.name,
            present,
            [f"devid {devid}" for devid in sorted(gone)],
            f"no copy of address {segment.start:#x} in a {segment.chunk.profile.name} chunk is left",
        )


def _accept(data: bytes, attempt: Attempt) -> FsError | None:
    return None


def _rank(found: tuple[Leg, Copy]) -> int:
    return found[0].rank


def _fetcher(device: BlockDevice, offset: int, length: int) -> Callable[[], bytes]:
    return lambda: device.read(offset, length)


def _joined(ways: list[Iterator[Attempt]]) -> Iterator[Attempt]:
    """Attempts for a range of several segments: the first of each, the second of each ..., until none has more."""
    current: list[Attempt] = []
    while True:
        fresh = [next(way, None) for way in ways]
        if not any(fresh) or (not current and not all(fresh)):
            return
        current = [new or current[index] for index, new in enumerate(fresh)]
        fetches = [attempt.fetch for attempt in current]
        yield Attempt(current[0].device, current[0].offset, lambda fetches=fetches: b"".join(f() for f in fetches))  # type: ignore[misc]
