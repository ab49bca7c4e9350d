"""Opening a pool for reading: the newest uberblock whose tree verifies, and what the MOS says.

Sources: module/zfs/spa.c:spa_ld_select_uberblock, spa_ld_trusted_config, spa_ld_check_features;
vdev_label.c:vdev_uberblock_load; OpenZFS 2.3.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from fsdrivers.block import BlockDevice
from fsdrivers.errors import Corrupt, FsError, MissingDevices, ReadError, TooMany, Unsupported
from fsdrivers.redundancy import Health
from fsdrivers.zfs import blkptr, dsl, features, layout, mapping, nvlist, tree
from fsdrivers.zfs.dmu import Objset
from fsdrivers.zfs.label import Label, Uberblock, behind, uberblock_holds, uberblocks
from fsdrivers.zfs.nvlist import NvList
from fsdrivers.zfs.store import Store
from fsdrivers.zfs.vdevs import Absent, Leaf, Vdev
from fsdrivers.zfs.zap import Zap

MAX_TOPS = 4096
MAX_TRIES = 64  # uberblocks tried before the pool counts as lost
MAX_KEPT = 4096  # uberblocks while they are looked for
MAX_TRIED = 64 << 20  # bytes of blocks read for uberblocks that led to nothing, after which no other is tried
MAX_FEATURES = 1024  # in one table; OpenZFS 2.3 knows 45

Used = Sequence[tuple[BlockDevice, Label]]


class Candidate(NamedTuple):
    """An uberblock and all the places where it was found: (device, byte offset, ashift of its vdev)."""

    uberblock: Uberblock
    places: list[tuple[BlockDevice, int, int]]


class Spa:
    """An open pool: its blocks, its meta object set and the root of its datasets."""

    def __init__(self, name: str, used: Used, health: Health) -> None:
        """Open the pool from the devices ``used``.

        Raises MissingDevices, Unsupported, Corrupt when no uberblock leads to a tree that can be read.
        """
        self.name, self.health = name, health
        self._used = used
        self._leaves = _leaves(used)
        self.store = Store(name, health)
        first: FsError | None = None
        newest = tried = 0
        for number, candidate in enumerate(_candidates(used)):
            if number >= MAX_TRIES or tried > MAX_TRIED:
                break
            try:
                if not _holds(candidate):
                    continue
                self._open(candidate.uberblock)
            except (MissingDevices, Unsupported):
                raise
            except FsError as error:
                tried += self.store.loaded
                if first is None:
                    first, newest = error, candidate.uberblock.txg
                continue
            if first is not None:
                self.health.note(
                    f"pool {name}: the newest state (txg {newest}) cannot be read ({first}); "
                    f"this is the one of txg {candidate.uberblock.txg}"
                )
            return
        raise first or Corrupt(name, "uberblocks: none verifies", layout.LABEL_RING)

    def _open(self, uberblock: Uberblock) -> None:
        self.uberblock, self.txg = uberblock, uberblock.txg
        version = uberblock.version
        if not (1 <= version <= layout.POOL_VERSION_MAX_OLD or version == layout.POOL_VERSION_FEATURES):
            raise Unsupported(f"pool version {version}", f"pool {self.name}")
        # Labels list the active features that one has to know to read the MOS at all.
        for _, label in self._used:
            wanted = label.config.get("features_for_read")
            features.check_read(wanted if isinstance(wanted, dict) else ())
        self.store = Store(self.name, self.health)
        # A label knows its own top-level vdev, and how many there are.
        count = max((tree.number(label.config, "vdev_children") for _, label in self._used), default=0)
        self._place(_label_tree(self._used), min(count, MAX_TOPS))
        root = blkptr.parse(uberblock.raw, 40, uberblock.order)
        self.mos = Objset(self.store, root, "MOS")
        self.directory = Zap(self.mos.dnode(layout.MOS_DIRECTORY))
        self._check_features()
        self.config = self._read_config()
        trusted = self.config.get("vdev_tree")
        if not isinstance(trusted, dict):
            raise Corrupt(self.name, "pool configuration: no vdev_tree", 0)
        tops = tree.children(trusted)
        if len(tops) > MAX_TOPS:
            raise TooMany(f"top-level vdevs in pool {self.name}", MAX_TOPS)
        self._place(dict(enumerate(tops)))
        salt = self.directory.get(b"org.illumos:checksum_salt")  # DMU_POOL_CHECKSUM_SALT
        if salt:
            if len(salt) != layout.SALT_SIZE:
                raise Corrupt(self.name, "pool directory: checksum_salt", 0, layout.SALT_SIZE, len(salt))
            self.store.salt = bytes(byte & 0xFF for byte in salt)
        number = self.directory.number("root_dataset")
        if number is None:
            raise Corrupt(self.name, "pool directory: no root_dataset", 0)
        self.root = dsl.Directory(self.mos, number, self.name, None)

    def _place(self, tops: Mapping[int, NvList], count: int = 0) -> None:
        """Make the top-level vdevs, at least ``count`` of them, from their configurations by id."""
        context = tree.Context(self.name, self._leaves, self._resolver, self.uberblock.reflow)
        vdevs: list[Vdev] = [Absent(f"vdev-{number}") for number in range(max(count, max(tops, default=-1) + 1))]
        for number, config in tops.items():
            vdevs[number] = tree.build(config, context)
        self.store.vdevs = vdevs
        members = [leaf for config in tops.values() for leaf in tree.leaves(config)]
        self.store.missing = tuple(
            tree.describe(leaf) for leaf in members if tree.number(leaf, "guid") not in self._leaves
        ) + tuple(vdev.name for number, vdev in enumerate(vdevs) if number not in tops)
        self.store.present = tuple(device.name for device, _ in self._used)

    def _resolver(self, number: int) -> tree.Resolver:
        def resolve(offset: int, size: int) -> list[tuple[Vdev, int, int]]:
            found = self._mappings.get(number)
            if found is None:
                found = self._mappings[number] = mapping.Mapping(self.mos, number, self.store.vdevs)
            return found.resolve(offset, size)

        self._mappings: dict[int, mapping.Mapping] = {}
        return resolve

    def _check_features(self) -> None:
        if self.uberblock.version < layout.POOL_VERSION_FEATURES:
            return
        features.check_read(self._active("features_for_read"))
        features.note_writers(self._active("features_for_write"), self.health)

    def _active(self, table: str) -> Iterator[str]:
        """The names in a table of features whose count of uses is not zero."""
        number = self.directory.number(table)
        if number is None:
            return
        for count, (name, value) in enumerate(Zap(self.mos.dnode(number)).items()):
            if count >= MAX_FEATURES:
                raise TooMany(f"features of pool {self.name}", MAX_FEATURES)
            if value and value[0]:
                yield nvlist.text(name)

    def _read_config(self) -> NvList:
        number = self.directory.number("config")
        if number is None:
            raise Corrupt(self.name, "pool directory: no config", 0)
        try:
            return nvlist.parse(dsl.packed_list(self.mos, number))
        except nvlist.NvError as error:
            raise Corrupt(self.name, f"pool configuration ({error})", 0) from error

    def property(self, name: str) -> int | None:
        """A property of the pool itself that is one integer ("bootfs" is the number of a dataset object)."""
        number = self.directory.number("pool_props")
        return Zap(self.mos.dnode(number)).number(name) if number else None


def _leaves(used: Used) -> dict[int, Leaf]:
    stale = behind(used)
    return {label.guid: Leaf(device.name, label.guid, device, label.guid in stale) for device, label in used}


def _label_tree(used: Used) -> dict[int, NvList]:
    """The top-level vdevs that labels describe, by id; of several descriptions of one, the newest."""
    found: dict[int, tuple[int, NvList]] = {}
    for _, label in used:
        number = tree.number(label.tree, "id")
        if 0 <= number < MAX_TOPS and (number not in found or found[number][0] < label.txg):
            found[number] = (label.txg, label.tree)
    return {number: config for number, (_, config) in found.items()}


def _candidates(used: Used) -> list[Candidate]:
    """The uberblocks on all devices, best first."""
    found: dict[bytes, Candidate] = {}
    for device, label in used:
        ashift = tree.number(label.tree, "ashift", layout.ASHIFT_MIN)
        for offset, uberblock in uberblocks(device, ashift):
            found.setdefault(uberblock.raw, Candidate(uberblock, [])).places.append((device, offset, ashift))
        if len(found) > MAX_KEPT:  # only the best are tried, and each of a thousand devices has room for hundreds
            found = {one.uberblock.raw: one for one in _ranked(found)[:MAX_TRIES]}
    return _ranked(found)


def _ranked(found: dict[bytes, Candidate]) -> list[Candidate]:
    return sorted(found.values(), key=lambda one: one.uberblock.rank, reverse=True)


def _holds(candidate: Candidate) -> bool:
    """Whether the uberblock is undamaged in at least one of its places."""
    for device, offset, ashift in candidate.places:
        try:
            if uberblock_holds(device, offset, ashift):
                return True
        except ReadError:
            continue
    return False
