"""The tree of virtual devices: from an address in a top-level vdev to ways of getting its bytes.

Sources: module/zfs/vdev_mirror.c, vdev_raidz.c:vdev_raidz_combrec, vdev_indirect.c, vdev_label.c; OpenZFS 2.3.4.

Offsets are bytes in the vdev's data area, that is, without the labels and the boot block at its front.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from fsdrivers.block import BlockDevice
from fsdrivers.errors import Corrupt, ReadError, TooMany
from fsdrivers.redundancy import Attempt
from fsdrivers.zfs.layout import BOOT_SIZE, DATA_START

SECTOR = 512  # what damage is counted in
MAX_SEGMENTS = 4096  # pieces of one block of a removed vdev
MAX_CHAIN = 64  # removed vdevs on the way to one that is there
MAX_CHOICES = 64  # copies of one piece that are combined with those of others
FETCH = 16 << 10  # bytes that fetching one piece counts for


class Mismatch(NamedTuple):
    """A stretch of a device that does not hold what it should; ``offset`` and ``length`` in bytes of the device."""

    device: str
    offset: int
    length: int
    error: str
    parity: str = ""  # "P", "Q" or "R" when it is not data


class Vdev(ABC):
    """One node of the tree."""

    name: str
    ashift: int = 9
    stale: bool = False
    """Whether nothing below is up to date: missing, or away while others were written to."""

    @abstractmethod
    def attempts(self, offset: int, size: int, birth: int) -> Iterator[Attempt]:
        """The ways to get ``size`` bytes at ``offset``, cheapest first; none when too much is missing.

        ``birth`` is the txg in which the block was written.
        """

    @abstractmethod
    def compare(self, offset: int, good: bytes, birth: int) -> Iterator[Mismatch]:
        """Where the present devices below do not hold their parts of the block ``good`` at ``offset``.

        ``good`` is whole sectors, ``birth`` the txg in which the block was written.
        """

    @abstractmethod
    def leaves(self) -> Iterator[Leaf]:
        """The devices below."""


class Leaf(Vdev):
    """A disk, partition or file; ``device`` is None while it is missing, ``stale`` when its label is behind."""

    def __init__(self, name: str, guid: int, device: BlockDevice | None, stale: bool = False) -> None:
        self.name, self.guid, self.device, self.stale = name, guid, device, stale or device is None

    def attempts(self, offset: int, size: int, birth: int) -> Iterator[Attempt]:
        # Only the scratch area of a RAID-Z expansion lies before the data.
        if self.device is not None and offset >= -BOOT_SIZE:
            at = DATA_START + offset
            yield Attempt(self.device.name, at, partial(self.device.read, at, size))

    def compare(self, offset: int, good: bytes, birth: int) -> Iterator[Mismatch]:
        # A device that was away for a while is no witness: the next import brings it up to date.
        if self.device is None or self.stale or not good:
            return
        at = DATA_START + offset
        try:
            stored = self.device.read(at, len(good))
        except ReadError as error:
            yield Mismatch(self.device.name, at, len(good), str(error))
            return
        if stored != good:
            bad = [at for at in range(0, len(good), SECTOR) if stored[at : at + SECTOR] != good[at : at + SECTOR]]
            length = min(bad[-1] + SECTOR, len(good)) - bad[0]
            yield Mismatch(self.device.name, at + bad[0], length, f"{len(bad)} sectors differ from what was written")

    def leaves(self) -> Iterator[Leaf]:
        yield self


class Mirror(Vdev):
    """Every child has all of it: mirror, and replacing and spare while they last.  The stale ones are asked last."""

    def __init__(self, name: str, children: Sequence[Vdev]) -> None:
        self.name, self.children = name, sorted(children, key=lambda child: child.stale)
        self.stale = all(child.stale for child in children)

    def attempts(self, offset: int, size: int, birth: int) -> Iterator[Attempt]:
        for child in self.children:
            yield from child.attempts(offset, size, birth)

    def compare(self, offset: int, good: bytes, birth: int) -> Iterator[Mismatch]:
        for child in self.children:
            yield from child.compare(offset, good, birth)

    def leaves(self) -> Iterator[Leaf]:
        for child in self.children:
            yield from child.leaves()


class Absent(Vdev):
    """A top-level vdev of which no member was found, or a hole where one was removed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def attempts(self, offset: int, size: int, birth: int) -> Iterator[Attempt]:
        return iter(())

    def compare(self, offset: int, good: bytes, birth: int) -> Iterator[Mismatch]:
        return iter(())

    def leaves(self) -> Iterator[Leaf]:
        return iter(())


Segment = tuple[Vdev, int, int]  # vdev, offset in it, length in bytes


class Indirect(Vdev):
    """A removed vdev: ``resolve(offset, size)`` tells where its data went, in one or more segments."""

    def __init__(self, name: str, resolve: Callable[[int, int], list[Segment]]) -> None:
        self.name, self.resolve = name, resolve

    def segments(self, offset: int, size: int) -> list[Segment]:
        """The segments that hold [offset, offset + size), on vdevs that were not removed.  Raises Corrupt, TooMany."""
        found: list[Segment] = []
        todo: list[tuple[Vdev, int, int, int]] = [(self, offset, size, 0)]
        while todo:
            vdev, at, length, chain = todo.pop()
            if not isinstance(vdev, Indirect):
                found.append((vdev, at, length))
                continue
            if chain >= MAX_CHAIN:
                raise Corrupt(self.name, "mapping of a removed vdev (it leads on without end)", offset)
            todo += ((*segment, chain + 1) for segment in reversed(vdev.resolve(at, length)))
            if len(found) + len(todo) > MAX_SEGMENTS:
                raise TooMany(f"pieces of a block of the removed vdev {self.name}", MAX_SEGMENTS)
        return found

    def attempts(self, offset: int, size: int, birth: int) -> Iterator[Attempt]:
        segments = self.segments(offset, size)
        if len(segments) == 1:
            vdev, at, length = segments[0]
            yield from vdev.attempts(at, length, birth)
            return
        choices = [list(islice(vdev.attempts(at, length, birth), MAX_CHOICES)) for vdev, at, length in segments]
        if not all(choices):
            return
        # The checksum covers the whole block: vary one segment at a time, then all of them together.
        first = [options[0] for options in choices]
        yield self._joined(first, offset)
        for number, options in enumerate(choices):
            for option in options[1:]:
                yield self._joined([*first[:number], option, *first[number + 1 :]], offset)
        for rank in range(1, max(map(len, choices))):
            yield self._joined([options[min(rank, len(options) - 1)] for options in choices], offset)

    def compare(self, offset: int, good: bytes, birth: int) -> Iterator[Mismatch]:
        done = 0
        for vdev, at, length in self.segments(offset, len(good)):
            yield from vdev.compare(at, good[done : done + length], birth)
            done += length

    def _joined(self, parts: list[Attempt], offset: int) -> Attempt:
        names = " + ".join(dict.fromkeys(part.device for part in parts))
        return Attempt(names, offset, lambda: b"".join(part.fetch() for part in parts), cost=FETCH * len(parts))

    def leaves(self) -> Iterator[Leaf]:
        return iter(())
