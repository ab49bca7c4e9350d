"""From devices to pools: ask every driver what a device is, group the members, hand each group to its driver."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from fsdrivers import btrfs, zfs
from fsdrivers.block import BlockDevice
from fsdrivers.bounds import attempt
from fsdrivers.errors import FsError
from fsdrivers.partitions import Partition, partitions
from fsdrivers.pool import Driver, Member, Pool

DRIVERS: tuple[Driver, ...] = (btrfs, zfs)
NAMED = 8  # devices in a message


def probe(device: BlockDevice) -> Member | None:
    """The pool membership that ``device`` itself claims, or None.

    Raises FsError when a driver knows the label but cannot use it.
    """
    for driver in DRIVERS:
        member = driver.probe(device)
        if member is not None:
            return member
    return None


def assemble(devices: Iterable[BlockDevice], complain: Callable[[FsError], None] | None = None) -> list[Pool]:
    """All pools on ``devices`` and their partitions, sorted by kind, name and uuid.

    One bad device or pool does not hide the others: its error goes to ``complain`` and the search goes on, also when
    it breaks the bounds that there are (bounds.py).
    """
    tell = complain or _ignore
    groups: dict[tuple[str, str], list[Member]] = {}
    for device in devices:
        for member in attempt(f"{device.name}: its labels", [device], partial(_members, device, tell), tell) or ():
            groups.setdefault((member.kind, member.pool_uuid), []).append(member)
    pools = []
    seeds = [member for members in groups.values() for member in members if member.seed]
    for (kind, uuid), members in groups.items():
        others = [seed for seed in seeds if seed.kind == kind and seed.pool_uuid != uuid]
        found = _assemble(kind, members, others, tell)
        if found is not None:
            pools.append(found)
    # Who built on a seed wants what was built: it carries the seed's name too.
    built_on = {uuid for pool in pools for uuid in pool.seeds}
    pools = [pool for pool in pools if pool.uuid not in built_on]
    return sorted(pools, key=lambda pool: (pool.kind, pool.name, pool.uuid))


def _assemble(kind: str, members: list[Member], others: list[Member], tell: Callable[[FsError], None]) -> Pool | None:
    """One pool from ``members`` and what it may be built on."""
    driver = next(driver for driver in DRIVERS if kind == driver.KIND)
    devices = [member.device for member in members]
    doing = f"{kind} pool {members[0].pool_uuid} on {', '.join(device.name for device in devices[:NAMED])}"
    found = attempt(doing, devices, lambda: driver.assemble(members + others), tell)
    if found is not None:
        found.devices = tuple(devices)
    return found


def _members(device: BlockDevice, tell: Callable[[FsError], None]) -> list[Member]:
    """The memberships of a whole device, or else of each of its partitions.

    A label on the whole device wins: a pool on a bare disk often leaves the old partition table in place.
    """

    def look() -> tuple[Member | None, list[Partition]]:
        member = probe(device)
        return member, partitions(device) if member is None else []

    found = attempt(f"{device.name}: its labels", [device], look, tell)
    if found is None:
        return []
    member, parts = found
    if member is not None:
        return [member]
    inside = (attempt(f"{part.name}: its labels", [part], partial(probe, part), tell) for part in parts)
    return [member for member in inside if member is not None]


def _ignore(error: FsError) -> None:
    """For callers that only want what works."""
