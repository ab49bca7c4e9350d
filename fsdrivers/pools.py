"""From devices to pools: ask every driver what a device is, group the members, hand each group to its driver."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from fsdrivers import btrfs, zfs
from fsdrivers.block import BlockDevice
from fsdrivers.bounds import attempt, disk_of
from fsdrivers.errors import FsError
from fsdrivers.partitions import Partition, partitions
from fsdrivers.pool import Driver, Member, Pool

DRIVERS: tuple[Driver, ...] = (btrfs, zfs)
NAMED = 8  # devices in a message
MAX_DEPTH = 64  # claims of one identity that are told apart one after the other


def probe(device: BlockDevice) -> Member | None:
    """The pool membership that ``device`` itself claims, or None.

    Raises FsError when a driver knows the label but cannot use it.
    """
    for driver in DRIVERS:
        member = driver.probe(device)
        if member is not None:
            return member
    return None


def assemble(
    devices: Iterable[BlockDevice],
    complain: Callable[[FsError], None] | None = None,
    rank: Callable[[BlockDevice], int] | None = None,
) -> list[Pool]:
    """All pools on ``devices`` and their partitions, sorted by kind, name and uuid.

    One bad device or pool does not hide the others: its error goes to ``complain`` and the search goes on, also when
    it breaks the bounds that there are (bounds.py).  Sets of members that claim to be the same pool and do not need
    each other become pools of their own, each with the others as its ``rivals``.  ``rank``: how little a device is
    trusted; members with a higher one count where those with lower ones leave the pool incomplete.
    """
    tell, rank = complain or _ignore, rank or (lambda device: 0)
    groups: dict[tuple[str, str], list[Member]] = {}
    for device in sorted(devices, key=rank):
        for member in _members(device, tell):
            groups.setdefault((member.kind, member.pool_uuid), []).append(member)
    pools: list[Pool] = []
    seeds = [member for members in groups.values() for member in members if member.seed]
    for (kind, uuid), members in groups.items():
        others = [seed for seed in seeds if seed.kind == kind and seed.pool_uuid != uuid]
        claims = list(_claims(members, others, tell, rank))
        for pool in claims if len(claims) > 1 else ():
            pool.rivals = tuple(other for other in claims if other is not pool)
        pools += claims
    built = _built_on(pools, {id(seed.device) for seed in seeds}, rank)
    return sorted((pool for pool in pools if pool not in built), key=lambda pool: (pool.kind, pool.name, pool.uuid))


def _built_on(pools: list[Pool], seeds: set[int], rank: Callable[[BlockDevice], int]) -> list[Pool]:
    """Those of ``pools`` that others are built on: who built on a seed wants what was built, which has its name, too.

    ``seeds`` are the ids of the devices that say they are one.  What only carries the uuid of a seed is none, and what
    lies on a disk that is trusted less hides nothing.
    """
    least: dict[str, int] = {}
    for pool in pools:
        for uuid in pool.seeds:
            own = max(map(rank, pool.devices), default=0)
            least[uuid] = min(least.get(uuid, own), own)
    return [
        pool
        for pool in pools
        if pool.uuid in least
        and all(id(device) in seeds and rank(device) >= least[pool.uuid] for device in pool.devices)
    ]


def _claims(
    members: list[Member], others: list[Member], tell: Callable[[FsError], None], rank: Callable[[BlockDevice], int]
) -> Iterator[Pool]:
    """The pools that ``members``, all with one uuid, make up: one, but for rivals.  The most trusted is the first."""
    for tier in sorted({rank(member.device) for member in members})[:-1]:
        near = [member for member in members if rank(member.device) <= tier]
        pool = _assemble(near, others, tell)
        if pool is None or any(slot.device is None for slot in pool.slots) or not _opens(pool, tell):
            continue
        # Complete without those that are trusted less, and so they are no members of it.
        far = [member for member in members if rank(member.device) > tier]
        names = ", ".join(member.device.name for member in far[:NAMED])
        rivals = [one for one in _claims(far, others, _ignore, rank) if _opens(one, _ignore)]
        if not rivals:
            tell(FsError(f"{names}: left out of pool {pool.name or pool.uuid}, which is complete without"))
        yield from (pool, *rivals)
        return
    yield from _apart(members, others, tell)


def _apart(
    members: list[Member], others: list[Member], tell: Callable[[FsError], None], depth: int = 0
) -> Iterator[Pool]:
    """As _claims(), of devices that are trusted alike: as the driver tells them apart."""
    pool = _assemble(members, others, tell)
    strangers: list[Member] | None = None
    if pool is not None:
        doing = f"{pool.kind} pool {pool.uuid}: its members"
        strangers = attempt(doing, pool.devices, partial(pool.strangers, members), tell)
    rest = [member for member in members if member not in strangers] if strangers else []
    if pool is not None and not rest:
        yield pool
        return
    # Some of the strangers may have nothing to do with the others, either.
    if pool is None or depth >= MAX_DEPTH:
        alone = _by_disk(strangers or members, others)
    else:
        alone = _apart(strangers or [], others, _ignore, depth + 1)
    found = [one for one in alone if all(slot.device for slot in one.slots) and _opens(one, _ignore)]
    # Of several devices others could make good what one that is not ours lacks: then nobody can know.
    alone_too = len(rest) == 1 and pool is not None and not _opens(pool, _ignore)
    own = _assemble(rest, others, tell) if rest and (found or alone_too) else None
    if pool is not None and (own is None or not (found or (_whole(own) and _opens(own, _ignore)))):
        yield pool  # what is left over of an earlier time of this pool's
        return
    if own is not None and (_waits(own) or _opens(own, _ignore)):
        yield own
        out = [] if found else strangers or []
    else:
        out = rest
    yield from found
    if out and pool is not None:
        names = ", ".join(member.device.name for member in out[:NAMED])
        tell(FsError(f"{names}: left out, as it claims to be pool {pool.uuid} and nothing on it can be read"))


def _whole(pool: Pool) -> bool:
    """Whether each slot of ``pool`` has a device."""
    return all(slot.device is not None for slot in pool.slots)


def _waits(pool: Pool) -> bool:
    """Whether members of ``pool`` may still come: some are there, others are not."""
    return any(slot.device is None for slot in pool.slots) and any(slot.state == "online" for slot in pool.slots)


def _by_disk(members: list[Member], others: list[Member]) -> Iterator[Pool]:
    """The pools that those of ``members`` make up that lie on one disk."""
    disks: dict[str, list[Member]] = {}
    for member in members:
        disks.setdefault(disk_of(member.device), []).append(member)
    for group in disks.values():
        pool = _assemble(group, others, _ignore)
        if pool is not None:
            yield pool


def _opens(pool: Pool, tell: Callable[[FsError], None]) -> bool:
    """Whether something can be read of ``pool``."""
    return bool(attempt(f"{pool.kind} pool {pool.name or pool.uuid}: its roots", pool.devices, pool.roots, tell))


def _assemble(members: list[Member], others: list[Member], tell: Callable[[FsError], None]) -> Pool | None:
    """One pool from ``members`` and what it may be built on."""
    driver = next(driver for driver in DRIVERS if members[0].kind == driver.KIND)
    devices = [member.device for member in members]
    doing = f"{driver.KIND} pool {members[0].pool_uuid} on {', '.join(device.name for device in devices[:NAMED])}"
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
