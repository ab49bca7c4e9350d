"""From devices to pools: ask every driver what a device is, group the members, hand each group to its driver."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from fsdrivers import btrfs, zfs
from fsdrivers.block import BlockDevice
from fsdrivers.errors import FsError
from fsdrivers.partitions import partitions
from fsdrivers.pool import Driver, Member, Pool

DRIVERS: tuple[Driver, ...] = (btrfs, zfs)


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

    One bad device or pool does not hide the others: its error goes to ``complain`` and the search goes on.
    """
    groups: dict[tuple[str, str], list[Member]] = {}
    for device in devices:
        for member in _members(device, complain or _ignore):
            groups.setdefault((member.kind, member.pool_uuid), []).append(member)
    drivers = {driver.KIND: driver for driver in DRIVERS}
    pools = []
    seeds = [member for members in groups.values() for member in members if member.seed]
    for (kind, uuid), members in groups.items():
        others = [seed for seed in seeds if seed.kind == kind and seed.pool_uuid != uuid]
        try:
            pools.append(drivers[kind].assemble(members + others))
        except FsError as error:
            (complain or _ignore)(error)
    # Who built on a seed wants what was built: it carries the seed's name too.
    built_on = {uuid for pool in pools for uuid in pool.seeds}
    pools = [pool for pool in pools if pool.uuid not in built_on]
    return sorted(pools, key=lambda pool: (pool.kind, pool.name, pool.uuid))


def _members(device: BlockDevice, complain: Callable[[FsError], None]) -> Iterator[Member]:
    """The memberships of a whole device, or else of each of its partitions.

    A label on the whole device wins: a pool on a bare disk often leaves the old partition table in place.
    """
    try:
        member = probe(device)
    except FsError as error:
        complain(error)
        return
    if member is not None:
        yield member
        return
    try:
        parts = partitions(device)
    except FsError as error:
        complain(error)
        return
    for part in parts:
        try:
            member = probe(part)
        except FsError as error:
            complain(error)
            continue
        if member is not None:
            yield member


def _ignore(error: FsError) -> None:
    """For callers that only want what works."""
