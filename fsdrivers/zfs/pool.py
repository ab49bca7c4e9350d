"""A ZFS pool: its members and slots from the labels alone, its datasets once it has been opened."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from fsdrivers import pool
from fsdrivers.block import BlockDevice
from fsdrivers.errors import Corrupt, FsError, Locked, MissingDevices, NotFound, Unsupported
from fsdrivers.filesystem import DIRECTORY, SYMLINK
from fsdrivers.partitions import partitions
from fsdrivers.pool import Member, Root, Slot
from fsdrivers.redundancy import Health
from fsdrivers.zfs import label as labels
from fsdrivers.zfs import layout, tree, zil
from fsdrivers.zfs.dmu import Objset
from fsdrivers.zfs.dsl import Dataset, Directory
from fsdrivers.zfs.environments import Environment, environments, mounted
from fsdrivers.zfs.filesystem import ZfsFilesystem
from fsdrivers.zfs.label import Label
from fsdrivers.zfs.nvlist import NvList
from fsdrivers.zfs.replay import LoggedFilesystem
from fsdrivers.zfs.spa import Spa

if TYPE_CHECKING:
    from fsdrivers.damage import Damage, Totals

KIND = "zfs"

MAX_LOOKED = 1000  # file systems that are looked into for one that could be a root, when the pool names none
MAX_SNAPSHOTS = 100_000  # of a whole pool that are listed
_SECOND = 1_000_000_000
_LATEST = 1 << 36  # seconds since 1970: a year that calendars know


def probe(device: BlockDevice) -> Member | None:
    """The membership that ``device``'s labels claim, or None.

    Spares and cache devices carry labels that name no pool: they hold nothing that a reader wants, so None too.
    Raises Corrupt when a label is there, but none is whole, or it names no pool where it has to.
    """
    # A pool on the bare disk may be long gone: its inner labels survive the partition table that replaced it.
    try:
        label = labels.read(device)
    except Corrupt:
        if _partitioned(device):
            return None
        raise
    if label is None or label.state in (labels.SPARE, labels.L2CACHE):
        return None
    if 0 not in label.valid and _partitioned(device):
        return None
    if not label.pool_name:
        raise Corrupt(device.name, "label pool name", layout.LABEL_NVLIST, got="none")
    return Member(device, KIND, str(label.pool_guid), label)


def _partitioned(device: BlockDevice) -> bool:
    try:
        return bool(partitions(device))
    except FsError:
        return False


class ZfsPool(pool.Pool):
    """A pool assembled from labels.  Nothing but labels is read before roots() or open()."""

    kind = KIND

    def __init__(self, members: list[Member]) -> None:
        """``members`` all carry the same pool guid."""
        found = [(member.device, _label(member)) for member in members]
        # The newest label knows the pool's name; the name of the device breaks ties the same way on every run.
        found.sort(key=lambda one: (-one[1].txg, one[0].name))
        self._used, doubles = _one_each(found)
        if not _agree([label for _, label in self._used]):
            # Labels say when they were written, and are not written at each commit, as uberblocks are.
            self._used.sort(key=lambda one: _rank(_newest(*one)), reverse=True)
        self._newest = self._used[0][1]
        self.name = self._newest.pool_name
        self.uuid = str(self._newest.pool_guid)
        self.health = Health()
        self.label = self._newest
        self.slots = tuple(_slots(self._used, doubles, self._newest.config))
        # Uberblocks of a device that the newest labels do not know are another pool's, or of another time.
        known = {tree.number(leaf, "guid") for top in _tops(self._used).values() for leaf in tree.leaves(top)}
        self._known = [one for one in self._used if one[1].guid in known]
        self.use_log = True  # replay the intent logs of a pool that was not exported, in memory
        self._spa: Spa | None = None
        self._heads: list[Dataset] | None = None

    @property
    def notes(self) -> list[str]:
        """What a person should know before booting from it: exported, destroyed, or last used by another host."""
        newest = self._newest
        said = []
        if newest.state == labels.DESTROYED:
            said.append(f"pool {self.name} was destroyed")
        if newest.state == labels.EXPORTED:
            said.append(f"pool {self.name} was exported")
        elif newest.hostid:
            said.append(f"pool {self.name} was last used by {newest.hostname or 'a host'} (hostid {newest.hostid:08x})")
        return said

    @property
    def hostid(self) -> int:
        """The host that last imported the pool: what ``spl.spl_hostid=`` has to be for it to be imported again."""
        return self._newest.hostid

    def spa(self) -> Spa:
        """The open pool.  Raises MissingDevices, Unsupported, Corrupt."""
        if self._spa is None:
            self._require_tops()
            self._spa = Spa(self.name, self._known, self.health)
        return self._spa

    def roots(self) -> list[Root]:
        """File systems and snapshots; the default first, then in the order of the tree."""
        spa = self.spa()
        default = self._default(spa)
        datasets = list(self._datasets(spa))
        snapshots = {dataset.number: dataset.name for dataset in datasets if dataset.snapshot}
        found = []
        for dataset in datasets:
            directory = dataset.directory
            # What is no clone has the pool's own empty snapshot for its origin.
            parent = snapshots.get(directory.origin) or (directory.parent.name if directory.parent else "")
            created = dataset.created * _SECOND if dataset.created < _LATEST else 0
            found.append(
                Root(
                    dataset.name, dataset.number, str(dataset.guid), dataset.name == default, bool(dataset.snapshot),
                    created, directory.name if dataset.snapshot else parent, dataset.birth,
                )
            )  # fmt: skip
        return sorted(found, key=lambda root: not root.default)

    def _datasets(self, spa: Spa) -> Iterator[Dataset]:
        """The file systems, each followed by its snapshots; of more snapshots than anyone has, the first ones."""
        left = MAX_SNAPSHOTS
        for head in self._systems(spa):
            yield head
            if left < 0:
                continue
            try:
                for snapshot in head.snapshots():
                    left -= 1
                    if left < 0:
                        self.health.note(f"pool {self.name}: of its snapshots only {MAX_SNAPSHOTS} are listed")
                        break
                    yield snapshot
            except FsError as error:
                self.health.note(f"the snapshots of {head.name} cannot be listed: {error}")

    def environments(self) -> list[Environment]:
        """The boot environments, the pool's bootfs first.  Raises FsError when they cannot be listed."""
        spa = self.spa()
        found = environments(spa.root, spa.property("bootfs"))
        return sorted(found, key=lambda one: not one.bootfs)

    def mounted(self, *canmount: str) -> list[tuple[str, str]]:
        """The names and mount points of what ``zfs mount -a`` mounts, or of what has another ``canmount``.

        Raises FsError when they cannot be listed.
        """
        return list(mounted(self.spa().root, canmount or ("on",)))

    def open(self, root: str | None = None) -> ZfsFilesystem:
        spa = self.spa()
        if root is None:
            root = self._default(spa)
            if root is None:
                raise NotFound(f"{self.name}: a file system to start with")
        dataset = find(spa.root, root)
        if dataset is None:
            raise NotFound(root)
        _require_key(dataset)
        if dataset.redacted():
            # The kernel does not mount it either: what was left out may look like holes.
            raise Unsupported("redacted_datasets", f"{dataset.name} was received without some of its blocks")
        objset = dataset.objset()
        log = self._log(dataset, objset, spa.txg) if self.use_log and not dataset.snapshot else []
        if log:
            return LoggedFilesystem(objset, self.name, self.uuid, dataset.name, self.health, log)
        return self._filesystem(dataset, objset)

    def strangers(self, members: list[Member]) -> list[Member]:
        """See Pool: second devices with one guid and another label or newest uberblock, devices that the newest labels
        do not know, and those that know of fewer top-level vdevs; not the one with the newest itself."""
        tops = tree.number(self._newest.config, "vdev_children", 1)
        states = {slot.device: (slot.state, slot.uuid) for slot in self.slots if slot.device is not None}
        known = {slot.uuid for slot in self.slots if slot.state == "online"}
        using = {label.guid: (device, label) for device, label in self._used}
        found = []
        for member in members:
            if member.device is self._used[0][0]:
                continue
            label = _label(member)
            state, uuid = states[member.device.name]
            double = state == "duplicate" and (
                label.config != using[label.guid][1].config or _last(member.device, label) != _last(*using[label.guid])
            )
            unknown = state == "stale" and uuid not in known
            if double or unknown or tree.number(label.config, "vdev_children", 1) < tops:
                found.append(member)
        if not found and not _agree([label for _, label in self._used]):
            # Somebody knows us, and we do not know him: the newest state of all is his, or ours.
            last = {id(device): _newest(device, label) for device, label in self._used}
            best = max(last.values(), key=_rank)
            found = [one for one in members if id(one.device) in last and last[id(one.device)] != best]
        return found

    def verify(self, all_copies: bool, totals: Totals) -> Iterator[Damage]:
        from fsdrivers.zfs.scrub import Counted, Scrub

        self._require_tops()
        used: list[tuple[BlockDevice, Label]] = [(Counted(device, totals), label) for device, label in self._known]
        return Scrub(Spa(self.name, used, self.health), used, all_copies, totals).run()

    def _filesystem(self, dataset: Dataset, objset: Objset) -> ZfsFilesystem:
        return ZfsFilesystem(objset, self.name, self.uuid, dataset.name, self.health)

    def _log(self, dataset: Dataset, objset: Objset, txg: int) -> list[zil.Record]:
        """What programs wrote after ``txg``; a log that cannot be read is noted, not fatal.

        An exported pool may have a log too: of a crash, when it was imported since, but the dataset not mounted.
        """
        try:
            return list(zil.records(objset, txg))
        except FsError as error:
            self.health.note(f"{dataset.name}: the intent log cannot be read ({error}); this is the state before it")
            return []

    def _systems(self, spa: Spa) -> list[Dataset]:
        """All file systems; volumes, unfinished receives and what cannot be read (with a note) are left out."""
        if self._heads is None:
            self._heads = []
            for directory in spa.root.walk():
                try:
                    dataset = directory.dataset()
                    if dataset is None or dataset.hole or dataset.flags & layout.DS_INCONSISTENT:
                        continue
                    if dataset.objset().type == layout.OST_ZFS:
                        self._heads.append(dataset)
                except FsError as error:
                    self.health.note(f"{directory.name} cannot be read: {error}")
        return self._heads

    def _default(self, spa: Spa) -> str | None:
        """The pool's bootfs; else the only file system that looks like a root; else the root dataset."""
        bootfs = spa.property("bootfs")
        systems = self._systems(spa)
        for dataset in systems:
            if dataset.number == bootfs:
                return dataset.name
        roots = (dataset.name for dataset in systems[:MAX_LOOKED] if self._looks_like_root(dataset))
        alike = list(islice(roots, 2))
        if len(alike) == 1:
            return alike[0]
        return systems[0].name if systems else None

    def _looks_like_root(self, dataset: Dataset) -> bool:
        try:
            _require_key(dataset)
            filesystem = self._filesystem(dataset, dataset.objset())
            top = filesystem.root()
            found = [filesystem.lookup(top, name) for name in ("etc", "usr")]
            return all(node is not None and filesystem.stat(node).type in (DIRECTORY, SYMLINK) for node in found)
        except FsError:
            return False

    def _require_tops(self) -> None:
        """Name what is missing when the labels alone show that the pool cannot be read."""
        config = self._newest.config
        wanted = tree.number(config, "vdev_children", 1)
        holes = _holes(config)
        known = {tree.number(label.tree, "id") for _, label in self._used}
        missing = [
            f"vdev {number}" for number in range(min(wanted, 4096)) if number not in known and number not in holes
        ]
        if missing and len(missing) == wanted - len(holes):
            raise MissingDevices(self.name, [device.name for device, _ in self._used], missing)


def assemble(members: list[Member]) -> ZfsPool:
    """One pool from all members with the same guid."""
    return ZfsPool(members)


def find(root: Directory, name: str) -> Dataset | None:
    """The dataset or snapshot called ``name`` (from the pool's name down), None when there is none."""
    path, _, snapshot = name.partition("@")
    parts = path.strip("/").split("/")
    if parts[0] != root.name:
        return None
    here: Directory | None = root
    for part in parts[1:]:
        here = here.child(part) if here is not None else None
    dataset = here.dataset() if here is not None else None
    if dataset is None or "@" not in name:
        return dataset
    return dataset.find_snapshot(snapshot)


def _last(device: BlockDevice, label: Label) -> bytes:
    """The newest uberblock on a device; none looks the same on two pools."""
    best = _newest(device, label)
    return best.raw if best else b""


def _newest(device: BlockDevice, label: Label) -> labels.Uberblock | None:
    slots = labels.uberblocks(device, tree.number(label.tree, "ashift", layout.ASHIFT_MIN))
    return max((uberblock for _, uberblock in slots), key=_rank, default=None)


def _rank(uberblock: labels.Uberblock | None) -> tuple[int, int, int]:
    return uberblock.rank if uberblock else (-1, 0, 0)


def _agree(found: list[Label]) -> bool:
    """Whether the labels speak of as many top-level vdevs, and those below the same one of the same devices."""
    counts = {tree.number(label.config, "vdev_children", 1) for label in found}
    tops = {
        (tree.number(label.tree, "id"), frozenset(tree.number(leaf, "guid") for leaf in tree.leaves(label.tree)))
        for label in found
    }
    numbers = {number for number, _ in tops}
    return len(counts) == 1 and len(numbers) == len(tops) and max(numbers) < max(counts)


def _require_key(dataset: Dataset) -> None:
    key_format = dataset.directory.key_format()
    if key_format is not None:
        raise Locked(dataset.name, f"encrypted with a key of format {key_format}")


def _label(member: Member) -> Label:
    label = member.label
    if not isinstance(label, Label):
        raise Corrupt(member.device.name, "label", layout.LABEL_NVLIST)
    return label


def _one_each(
    found: list[tuple[BlockDevice, Label]],
) -> tuple[list[tuple[BlockDevice, Label]], list[tuple[BlockDevice, Label]]]:
    """The best device for every guid, and the others: clones and second paths to the same disk."""
    used: dict[int, tuple[BlockDevice, Label]] = {}
    doubles = []
    for device, label in found:
        if label.guid in used:
            doubles.append((device, label))
        else:
            used[label.guid] = (device, label)
    return list(used.values()), doubles


def _holes(config: NvList) -> set[int]:
    return set(tree.numbers(config, "hole_array"))


def _tops(used: list[tuple[BlockDevice, Label]]) -> dict[int, NvList]:
    """What the newest labels, which come first, say of each top-level vdev."""
    tops: dict[int, NvList] = {}
    for _, label in used:
        tops.setdefault(tree.number(label.tree, "id"), label.tree)
    return tops


def _slots(
    used: list[tuple[BlockDevice, Label]], doubles: list[tuple[BlockDevice, Label]], config: NvList
) -> Iterator[Slot]:
    """The places for devices that the labels know of, in the order of the vdev tree."""
    devices = {label.guid: device.name for device, label in used}
    stale = labels.behind(used)
    tops = _tops(used)
    index = 0
    known: set[int] = set()
    wanted = min(tree.number(config, "vdev_children", 1), 4096)
    for top in sorted({*tops, *range(wanted)} - _holes(config)):
        if top not in tops:
            yield Slot(index, "", None, "missing")
            index += 1
            continue
        for leaf in tree.leaves(tops[top]):
            guid = tree.number(leaf, "guid")
            known.add(guid)
            state = "stale" if guid in stale else "online" if guid in devices else "missing"
            yield Slot(index, str(guid), devices.get(guid), state)
            index += 1
    for device, label in used:
        if label.guid not in known:
            # Detached or replaced since: its own label is the last to remember it.
            yield Slot(index, str(label.guid), device.name, "stale")
            index += 1
    for device, label in doubles:
        yield Slot(index, str(label.guid), device.name, "duplicate")
        index += 1
