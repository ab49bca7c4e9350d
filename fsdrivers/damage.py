"""What is wrong on the devices of a pool, in terms that all drivers share: `fsdrivers verify` tells of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from fsdrivers.errors import Corrupt, FsError

_BATCH = 4096  # damaged places whose files are looked up together


class Damage(NamedTuple):
    """One damaged stretch of one copy.

    ``device`` and ``offset`` (bytes) say where the bad bytes are; for what no device holds ``device`` names the pool
    and ``offset`` is in its address space.  ``what`` is the structure ("data", "tree node 0x1234 of tree 5", "P"),
    ``file`` the path of a file that uses it ("" when none does, or metadata).  ``lost`` is whether no good copy is
    left, so that a reader fails there.
    """

    device: str
    offset: int
    length: int
    what: str
    file: str
    lost: bool
    error: str

    def __str__(self) -> str:
        where = f" of {self.file}" if self.file else ""
        state = "LOST" if self.lost else "good elsewhere"
        return (
            f"{self.device}: offset {self.offset:#x}: {self.length} bytes of {self.what}{where}: {self.error} ({state})"
        )


class Place(NamedTuple):
    """A damaged place, and by what the driver finds the files that use it: an address, an object (0: none does)."""

    damage: Damage
    key: int


class Totals:
    """What was read and what was wrong, by device; ``read`` and ``damaged`` in bytes, ``copies`` counts lines."""

    def __init__(self) -> None:
        self.read: dict[str, int] = {}
        self.damaged: dict[str, int] = {}
        self.copies: dict[str, int] = {}
        self.lost = 0

    def add_read(self, device: str, count: int) -> None:
        """``count`` more bytes of ``device`` were read and checked."""
        self.read[device] = self.read.get(device, 0) + count

    def add(self, damage: Damage) -> None:
        """Count one ``damage``."""
        self.damaged[damage.device] = self.damaged.get(damage.device, 0) + damage.length
        self.copies[damage.device] = self.copies.get(damage.device, 0) + 1
        self.lost += damage.lost

    def report(self) -> list[str]:
        """One line for each device."""
        return [
            f"{device}: {self.read.get(device, 0)} bytes checked, {self.copies.get(device, 0)} damaged places, "
            f"{self.damaged.get(device, 0)} bytes damaged"
            for device in sorted({*self.read, *self.damaged})
        ]


def named(
    places: Iterable[Place], totals: Totals, look_up: Callable[[list[Place]], Iterator[Damage]]
) -> Iterator[Damage]:  # fmt: skip
    """Count ``places`` as they are found and tell of them with the names of files.

    To look up names takes a walk over everything: ``look_up`` gets many places with a key at a time.
    """
    waiting: list[Place] = []
    for place in places:
        totals.add(place.damage)
        if not place.key:
            yield place.damage
            continue
        waiting.append(place)
        if len(waiting) >= _BATCH:
            yield from look_up(waiting)
            waiting = []
    if waiting:
        yield from look_up(waiting)


def cause(error: FsError) -> str:
    """The part of an error that the line of a damage does not say already."""
    return error.structure if isinstance(error, Corrupt) else str(error)
