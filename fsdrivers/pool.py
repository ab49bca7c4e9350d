"""What a pool is: members with labels, slots for devices, roots to open.  The drivers fill it in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from fsdrivers.block import BlockDevice
from fsdrivers.errors import Unsupported
from fsdrivers.filesystem import Filesystem

if TYPE_CHECKING:
    from fsdrivers.damage import Damage, Totals


class Member(NamedTuple):
    """What a label on one device says: it belongs to the pool ``pool_uuid`` of the driver ``kind``."""

    device: BlockDevice
    kind: str
    pool_uuid: str
    label: object  # the driver's own, parsed and verified
    seed: bool = False  # pools with other uuids may be built on top of this one


class Slot(NamedTuple):
    """One place in a pool for a device, filled or not."""

    id: int
    uuid: str
    device: str | None  # name of the device in it, None when it is missing
    state: str  # "online", "missing", or why the device that is there is not used ("stale", "duplicate")


class Root(NamedTuple):
    """One file system tree in a pool that ``Pool.open`` takes by name: a subvolume, a dataset or a snapshot."""

    name: str
    id: int
    uuid: str
    default: bool
    readonly: bool
    created: int  # nanoseconds since 1970, 0 where the format does not keep it
    parent: str = ""  # the name of the root it lies in or was cloned from, "" for none
    generation: int = 0  # btrfs generation or ZFS txg of its last change
    origin: str = ""  # the uuid of the btrfs subvolume that it was made from as a snapshot, "" for none


class Pool(ABC):
    """A set of members that make up one store of data."""

    kind: str
    name: str  # the label; "" when the pool has none
    uuid: str
    slots: tuple[Slot, ...]
    devices: tuple[BlockDevice, ...] = ()  # whose labels claim to belong to it, used or not
    rivals: tuple[Pool, ...] = ()  # others that claim to be the same one, and can be opened without it
    seeds: tuple[str, ...] = ()  # uuids of the pools that this one is built on
    use_log: bool = True  # show what programs had synced before a crash, replayed from the log in memory

    @property
    def missing(self) -> tuple[Slot, ...]:
        """The slots without a usable device."""
        return tuple(slot for slot in self.slots if slot.state != "online")

    @property
    def state(self) -> str:
        """ "online", or "degraded" when members are missing; whether data can be read shows when it is opened."""
        return "degraded" if self.missing else "online"

    @property
    def notes(self) -> list[str]:
        """What a person should know of the pool as a whole (that it was exported, say), from the labels alone."""
        return []

    def strangers(self, members: list[Member]) -> list[Member]:
        """Those of ``members``, from which this pool was assembled, that may be another one with the same uuid: a copy
        that went its own way.  They are, when they are complete without the rest.  Raises FsError."""
        return []

    @abstractmethod
    def roots(self) -> list[Root]:
        """The trees in this pool, the default one first.  Raises FsError when they cannot be listed."""

    @abstractmethod
    def open(self, root: str | None = None) -> Filesystem:
        """The tree called ``root``, or the default one.

        Raises NotFound for an unknown root, MissingDevices, Corrupt, Unsupported, Locked.
        """

    def verify(self, all_copies: bool, totals: Totals) -> Iterator[Damage]:
        """Read everything and check every checksum; what is wrong is yielded, what was done is counted in ``totals``.

        Without ``all_copies`` a second copy is read only where the first one is bad.  Raises FsError when the pool
        cannot be read at all, Unsupported by drivers that cannot do this.
        """
        raise Unsupported(f"verify of {self.kind}")


class Driver(Protocol):
    """What a driver package offers to this module."""

    KIND: str

    def probe(self, device: BlockDevice) -> Member | None:
        """The membership that ``device``'s label claims, or None when it is not ours.

        Raises Corrupt or Unsupported when it is ours but cannot be used.
        """

    def assemble(self, members: list[Member]) -> Pool:
        """One pool from all members with the same uuid; behind them are the seeds of other pools, to build on."""
