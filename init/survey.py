"""What is on the disks: pools by their labels, and then what can be booted from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

from fsdrivers import bounds, pools
from fsdrivers.block import BlockDevice
from fsdrivers.bounds import disk_of
from fsdrivers.errors import Fault, FsError, OutOfBounds
from fsdrivers.notes import Notes
from fsdrivers.partitions import Partition
from fsdrivers.pool import Pool
from init import entries, roots
from init.config import BootConfig
from init.entries import mounts, policy, snapshots
from init.entries.entry import BootEntry
from init.entries.snapshots import Snapshot
from init.roots import BootRoot
from init.trust import Trust, disks_of

T = TypeVar("T")


MAX_ENTRIES = 1024  # of one pool, after which no further roots of it are looked into
MAX_NOTES = 200  # of all disks together: they are printed at each boot


class Survey:
    """The pools on some disks.  Labels are read at once, trees and entries when they are asked for."""

    def __init__(self, devices: Iterable[BlockDevice], config: BootConfig, trust: Trust | None = None) -> None:
        """``trust`` says which disks go first, and which need a person."""
        self.trust = trust or Trust()
        self.config = config
        self.wanted = roots.wanted(config.root)
        self.narrow = roots.wanted(config.narrow)  # leaves pools out, and is no reason to trust the others more
        self.notes = Notes([self.wanted.problem] if self.wanted.problem else [], MAX_NOTES)
        self._devices = tuple(sorted(devices, key=self.trust.rank_of))
        # Of equals the one on the first disk goes first: a label decides nothing, as anybody may call a pool "!".
        disks = [disk_of(device) for device in self._devices]
        self.pools: list[Pool] = sorted(
            pools.assemble(self._devices, self._complain, self.trust.rank_of),
            key=lambda pool: (self.trust.rank(pool), _first(disks, pool)),
        )
        self._entries: list[BootEntry] | None = None
        self.roots: list[BootRoot] = []
        self._incomplete: list[Pool] | None = None

    def note(self, text: str) -> None:
        """Remember something that a person may want to know, once."""
        self.notes.append(text)

    def _complain(self, error: FsError) -> None:
        self.note(str(error))

    def _attempt(self, where: str, what: str, pool: Pool, work: Callable[[], T]) -> T | None:
        """What ``work`` returns about ``what`` in ``where`` of ``pool``; what is wrong is a note, and others may do."""

        def complain(error: FsError) -> None:
            self.note(str(error) if isinstance(error, (OutOfBounds, Fault)) else f"{where}: {error}")

        return bounds.attempt(f"{where}: {what}", pool.devices, work, complain)

    @property
    def matching(self) -> list[Pool]:
        """The pools that root= may mean."""
        return [pool for pool in self.pools if self.wanted.matches(pool) and self.narrow.matches(pool)]

    @property
    def sought(self) -> roots.Wanted:
        """What is looked for, in words."""
        return self.wanted if self.wanted.key else self.narrow

    @property
    def incomplete(self) -> list[Pool]:
        """The pools with members absent on which it may depend what is booted, and how.

        Not among them: those that root= does not mean, and, when complete pools hold something to boot, those that
        can be read as they are and hold neither a root with a kernel nor the /boot of one.
        """
        if self._incomplete is None:
            self._incomplete = list(self._find_incomplete())
        return self._incomplete

    def _find_incomplete(self) -> Iterator[Pool]:
        absent = [pool for pool in self.pools if roots.absent(pool)]
        if not absent or not any(pool not in absent for pool in self.matching):
            yield from (pool for pool in absent if pool in self.matching)
            return
        parts = [_pools_of(entry) for entry in self.entries()]
        choice = any(not any(pool in absent for pool in one) for one in parts)
        for pool in absent:
            needed = any(pool in one for one in parts)
            if needed or (pool in self.matching and not (choice and _lists(pool))):
                yield pool

    def entries(self) -> list[BootEntry]:
        """What can be booted from the matching pools, as it is numbered."""
        if self._entries is None:
            found: list[BootEntry] = []
            for pool in self.matching:
                found += self._entries_of(pool)
            if not self.config.kernel:
                found += entries.on_partitions(self._devices, self.roots, self.config, self.note, found)
            self._entries = policy.arrange([self._judged(entry) for entry in found])
            self.look_for(self.config.entry)
        return self._entries

    def _judged(self, entry: BootEntry) -> BootEntry:
        """``entry`` with its disks, when there are several, and with the reason why only a person starts it."""
        trust, pool, part = self.trust, entry.place.pool, entry.partition or _boot_partition(entry)
        near = {*disks_of(pool), trust.origin} | _boot_disks(entry)
        disks = {*disks_of(pool), *({disk_of(part)} if part else ())}
        shown = trust.describe(disks) if len({device.name for device in self._devices}) > len(disks_of(pool)) else ""
        lender = {disk_of(part)} if part is not None else _lender(entry)
        lent = bool(lender) and all(map(trust.removable, lender)) and lender.isdisjoint(disks_of(pool))
        why = ""
        if part is not None and disk_of(part) not in near:
            why = f"it lies on {trust.describe([disk_of(part)])}, another disk than its root"
        elif lent:  # anybody can give a partition the id that fstab has, or have a dataset mount at /boot
            why = f"its /boot is on {trust.describe(lender)}, which can be unplugged"
        elif trust.foreign(pool) and self.wanted.key not in ("uuid", "device"):
            why = f"{trust.describe(disks_of(pool))} can be unplugged, and was not booted from before"
        elif any(trust.rank(other) <= trust.rank(pool) for other in pool.rivals):
            why = f"{trust.describe({disk for other in pool.rivals for disk in disks_of(other)})} claims to be the same"
        never = lent and part is not None and disk_of(part) not in near
        # A root= that nobody signed may leave out what would be booted, and must not make a stick all there is.
        never = never or bool(self.narrow.key and trust.foreign(pool))
        plugged = lent or trust.foreign(pool)
        notes = (*entry.notes, f"only a person starts this: {why}") if why else entry.notes
        return entry._replace(disk=shown, ask=why, plugged=plugged, never=never, notes=notes)

    def lenders(self, entry: BootEntry) -> list[BlockDevice]:
        """The disks whose boot partitions may add to what ``entry`` starts: where the EFI file came from, those of its
        root, others that are built in; what was plugged in only when the root is on it."""
        trust, own = self.trust, disks_of(entry.place.pool)
        found = [device for device in self._devices if disk_of(device) in own or not trust.removable(disk_of(device))]
        return sorted(found, key=lambda device: (trust.rank_of(device) != 0, disk_of(device) not in own))

    @property
    def doubts(self) -> list[str]:
        """What a person should look at before anything is booted: pools that claim to be the same, and their disks."""
        found = []
        for pool in self.matching:
            for other in pool.rivals:
                if (self.trust.rank(pool), id(pool)) <= (self.trust.rank(other), id(other)):
                    both = " and on ".join(self.trust.describe(disks_of(one)) for one in (pool, other))
                    told = self.trust.rank(pool) < self.trust.rank(other)
                    first = self.trust.describe(disks_of(pool))
                    end = f"{first} is trusted more" if told else "which one is meant, only you know"
                    found.append(f"{pool.kind} pool {pool.name or pool.uuid} is on {both}: {end}; detach one")
        return found

    @property
    def away(self) -> str:
        """The UUID of the pool that was booted from last when it is not here; "" when nobody waits."""
        return "" if self.wanted.key else self.trust.away(self.pools)

    @property
    def undecided(self) -> bool:
        """Whether only a person can say which of two pools is meant."""
        entries = self.entries()
        return bool(entries and entries[0].place.pool.rivals and all(
            entry.ask for entry in entries if entry.place.pool.uuid == entries[0].place.pool.uuid
        ))  # fmt: skip

    def snapshots(self, entry: BootEntry) -> list[Snapshot]:
        """The snapshots of ``entry``'s root, for a list."""
        return self._asked(f"{entry.place.where}: its snapshots", lambda: entries.snapshots_of(entry, self.note))

    def inside(self, snapshot: Snapshot, like: BootEntry) -> list[BootEntry]:
        """What can be booted from ``snapshot``, one of the root of ``like``."""
        look = partial(entries.of_snapshot, snapshot, like, self.config, self.note, self._devices)
        return [self._judged(entry) for entry in self._asked(f"{snapshot.where}: its entries", look)]

    def _asked(self, doing: str, work: Callable[[], list[T]]) -> list[T]:
        """What a person wants to see: it has time of its own, and what is wrong is told.  Raises FsError."""
        problems: list[FsError] = []
        found = bounds.attempt(doing, (), work, problems.append)
        if found is None:
            raise problems[0]
        return found

    def look_for(self, asked: str) -> BootEntry | None:
        """The entry that ``asked`` (as poolboot.entry= has it) means.

        Snapshots are looked into when it names one; what can be booted from it then stands behind the other entries.
        """
        known = self.entries()
        found = policy.find(known, asked) if asked else None
        if found is not None or not asked:
            return found
        for entry, snapshot in self._snapshots():
            if snapshot.named(asked):
                look = partial(entries.of_snapshot, snapshot, entry, self.config, self.note, self._devices)
                inside = self._attempt(snapshot.where, "its entries", snapshot.pool, look) or ()
                known += map(self._judged, inside)
                return policy.find(known, asked)
        return None

    def _snapshots(self) -> Iterator[tuple[BootEntry, Snapshot]]:
        """The snapshots of every root that has entries, with the first of these; not described."""
        seen = set()
        for entry in tuple(self.entries()):
            if entry.snapshot is None and entry.place.identity not in seen:
                seen.add(entry.place.identity)
                look = partial(snapshots.of, entry.place, self.note)
                listed = self._attempt(entry.place.where, "its snapshots", entry.place.pool, look)
                yield from ((entry, one) for one in listed or ())

    def _entries_of(self, pool: Pool) -> list[BootEntry]:
        found: list[BootEntry] = []
        name = pool.name or pool.uuid
        places = roots.candidates(pool, self.config, self.note)
        while place := self._attempt(name, "its roots", pool, lambda: next(places, None)):
            if len(found) >= MAX_ENTRIES:
                self.note(f"{name}: {len(found)} entries are enough: {place.where} and those behind it are passed over")
                break
            found += self._attempt(place.where, "its entries", pool, partial(self._of_root, place)) or ()
        return _as_the_loader_has_it(found)

    def _of_root(self, place: BootRoot) -> list[BootEntry]:
        place = mounts.mount(place, self.pools, self._devices, self.note, self.trust.rank_of)
        self.roots.append(place)
        return entries.find(place, self.config, self.note)


def _as_the_loader_has_it(found: list[BootEntry]) -> list[BootEntry]:
    """The entries of one pool; in one of ZFS without a bootfs, the root that its boot loader would start goes first."""
    if any(entry.place.pool.kind != "zfs" or entry.place.root.default for entry in found):
        return found
    stated = {entry.place.where for entry in found if entry.default}
    return sorted(found, key=lambda entry: entry.place.where not in stated)


def _boot_partition(entry: BootEntry) -> Partition | None:
    """The partition that the root itself names as its /boot, for an entry of what lies there."""
    boot = mounts.at_boot(entry.place.boot)
    return boot.partition if boot is not None and entry.files is entry.place.boot else None


def _lender(entry: BootEntry) -> set[str]:
    """The disks of another pool that has the root's /boot, for an entry of what lies there."""
    boot = mounts.at_boot(entry.place.boot)
    found = boot.pool if boot is not None and entry.files is entry.place.boot else None
    return disks_of(found) if found is not None and found is not entry.place.pool else set()


def _boot_disks(entry: BootEntry) -> set[str]:
    """The disk of a partition that the root itself names as its /boot."""
    boot = mounts.at_boot(entry.place.boot)
    return {disk_of(boot.partition)} if boot is not None and boot.partition is not None else set()


def _pools_of(entry: BootEntry) -> list[Pool]:
    """What ``entry`` is on: the pool of its root, and that of its /boot."""
    boot = mounts.at_boot(entry.place.boot)
    return [entry.place.pool, *([boot.pool] if boot and boot.pool else [])]


def _lists(pool: Pool) -> bool:
    """Whether the trees of ``pool`` can be listed without its absent members."""
    try:
        pool.roots()
    except FsError:
        return False
    return True


def pool_line(pool: Pool) -> str:
    """The console's line about a pool."""
    members = [slot for slot in pool.slots if slot.state not in ("duplicate", "removed")]
    online = sum(slot.state == "online" for slot in members)
    return f"pool {pool.kind} {pool.name or '-'} {pool.uuid} members {online}/{len(members)}"


def missing_text(pool: Pool) -> str:
    """Which members of ``pool`` are absent, for a sentence."""
    slots = roots.absent(pool)
    names = [f"{slot.id} (uuid {slot.uuid})" for slot in slots if slot.uuid]
    unknown = len(slots) - len(names)
    text = f"member{'s' if len(names) > 1 else ''} {', '.join(names)}" if names else ""
    if unknown:
        text += f"{' and ' if names else ''}{unknown} unknown member{'s' if unknown > 1 else ''}"
    return f"{text} of {pool.kind} pool {pool.name or pool.uuid}"


def health(places: Iterable[BootRoot], say: Callable[[str], None]) -> None:
    """Tell ``say`` what had to be healed while reading from ``places``."""
    for place in places:
        boot = mounts.at_boot(place.boot)
        also = boot.filesystem if boot else place.filesystem
        lines = [line for one in (place.filesystem, also) for line in one.health.report()]
        for line in dict.fromkeys(lines):
            say(line)


def _first(disks: list[str], pool: Pool) -> int:
    """The place in ``disks`` of the first one that ``pool`` lies on; behind all of them for what is on none."""
    on = {disk_of(device) for device in pool.devices}
    return next((place for place, disk in enumerate(disks) if disk in on), len(disks))
