"""How far a disk is trusted: what order there is among pools, and which of two that claim to be the same is meant.

Not by name, as anybody may call a stick "!".  The disk that the firmware started us from comes first, then pools that
were booted from before and went well, then disks that are built in, then those that somebody plugged in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fsdrivers.block import BlockDevice
from fsdrivers.bounds import disk_of
from fsdrivers.pool import Pool
from init.machine.devices import About, human

NAMED = 4  # disks in a message
PLUGGED = "+plugged"
"""Stands among the UUIDs of a known pool's members when it was on disks that somebody plugged in: a stick that repeats
the UUIDs of what is built in is not that, however slow the latter is.  Sorts before all of them."""

Pools = dict[str, frozenset[str]]
"""UUIDs of pools, and those of the members that they had."""


class Trust:
    """What is known of the disks of this machine, and of its earlier boots."""

    def __init__(self, disks: Mapping[str, About] | None = None, origin: str = "", known: Pools | None = None) -> None:
        """``disks`` by the names of their devices; ``origin``: the one that the EFI file came from, "" when none did;
        ``known``: the pools that were booted from before."""
        self._disks, self.origin, self._known = disks or {}, origin, known or {}

    def rank_of(self, device: BlockDevice) -> int:
        """The smaller, the further a disk (or what lies on it) is trusted."""
        disk = disk_of(device)
        return 0 if disk == self.origin else 2 if self.removable(disk) else 1

    def removable(self, disk: str) -> bool:
        """Whether somebody plugged it in."""
        about = self._disks.get(disk)
        return about is not None and about.removable and disk != self.origin

    def plugged(self, pool: Pool) -> bool:
        """Whether all that there is of a pool was plugged in."""
        return bool(pool.devices) and all(self.removable(disk_of(device)) for device in pool.devices)

    def knows(self, pool: Pool) -> bool:
        """Whether this very pool was booted from before: not one that only calls itself so."""
        members = self._known.get(pool.uuid.lower(), frozenset())
        if self.plugged(pool) and PLUGGED not in members:
            return False
        return any(slot.uuid in members for slot in pool.slots if slot.state == "online")

    def away(self, pools: Iterable[Pool]) -> str:
        """The UUID of the pool that was booted from last when it is not among ``pools``, else ""."""
        last = next(reversed(self._known), "") if self._known else ""
        return "" if any(self.knows(pool) for pool in pools if pool.uuid.lower() == last) else last

    def rank(self, pool: Pool) -> tuple[int, int, int]:
        """The order of pools, the most trusted first."""
        ranks = [self.rank_of(device) for device in pool.devices] or [1]
        return min(ranks) != 0, not self.knows(pool), min(ranks)

    def foreign(self, pool: Pool) -> bool:
        """Whether a person has to say that ``pool`` may be booted from: it was plugged in, and never was before."""
        return self.rank(pool) >= (1, 1, 2)

    def describe(self, disks: Iterable[str]) -> str:
        """Some disks for a person: name, size, model, and how they are attached."""
        return ", ".join(self._one(disk) for disk in sorted({*disks})[:NAMED])

    def _one(self, disk: str) -> str:
        name, about = disk.removeprefix("/dev/"), self._disks.get(disk)
        if about is None:
            return name
        return " ".join(filter(None, (name, human(about.size) if about.size else "", about.model, about.bus)))


def disks_of(pool: Pool) -> set[str]:
    """The names of the whole disks that a pool's members lie on: those that are used, not a copy that is left out."""
    used = {slot.device for slot in pool.slots if slot.state in ("online", "stale")}
    return {disk_of(device) for device in pool.devices if device.name in used}
