"""A /boot of its own: found through fstab, partitions and mount points of datasets, and put into its place in the root.

The parsers then see the tree that the running system sees.  Sources: fstab(5); util-linux's blkid tags;
grub-core/fs/zfs and the root-on-ZFS layouts of OpenZFS's documentation (bpool/BOOT/NAME with mountpoint=/boot).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from fsdrivers.block import BlockDevice
from fsdrivers.bounds import around, disk_of
from fsdrivers.errors import Ambiguous, FsError, NotFound
from fsdrivers.filesystem import DirEntry, Filesystem, Node, Piece, Stat
from fsdrivers.partitions import Partition, partitions
from fsdrivers.pool import Pool
from init import config as _config
from init.entries import fstab
from init.entries.fstab import Line
from init.roots import BootRoot, looks_like_root, path_of, tree_name

FSTAB = "/etc/fstab"
BOOT = "/boot"
MAX_FSTAB = 1 << 18  # bytes
MAX_LINES = 1000
MAX_PARTITIONS = 64  # that are looked at for one line of fstab

Note = Callable[[str], None]
Rank = Callable[[BlockDevice], int]

# Kinds of file systems that could be read here; the others are named when they hold /boot.
_READ = ("btrfs", "zfs", "vfat", "msdos", "auto")
_TAGS = {"by-uuid": "UUID", "by-label": "LABEL", "by-partuuid": "PARTUUID", "by-partlabel": "PARTLABEL"}


class Found(NamedTuple):
    """What lies at /boot, opened, and what it is on: a FAT ``partition`` or a ``pool``."""

    filesystem: Filesystem
    name: str
    partition: Partition | None = None
    pool: Pool | None = None


class Mounted(Filesystem):
    """A tree with another one on its /boot.  Nodes are (which of the two, its node)."""

    def __init__(self, below: Filesystem, found: Found) -> None:
        self.below, self.found = below, found
        self.kind, self.label, self.uuid, self.root_name = below.kind, below.label, below.uuid, below.root_name
        self.health = below.health
        self._trees = (below, found.filesystem)
        self._top = below.root()

    def _of(self, node: Node) -> tuple[Filesystem, Node, int]:
        assert isinstance(node, tuple)
        return self._trees[node[0]], node[1], node[0]

    def root(self) -> Node:
        return (0, self._top)

    def stat(self, node: Node) -> Stat:
        tree, inner, number = self._of(node)
        status = tree.stat(inner)
        # Two file systems may have the same inode numbers.
        return status._replace(inode=status.inode | number << 63)

    def lookup(self, directory: Node, name: str) -> Node | None:
        tree, inner, number = self._of(directory)
        if not number and inner == self._top and name == BOOT[1:]:
            return (1, self.found.filesystem.root())
        found = tree.lookup(inner, name)
        return None if found is None else (number, found)

    def entries(self, directory: Node) -> Iterator[DirEntry]:
        tree, inner, number = self._of(directory)
        for entry in tree.entries(inner):
            yield entry._replace(node=(number, entry.node))

    def link_target(self, node: Node) -> str:
        tree, inner, _ = self._of(node)
        return tree.link_target(inner)

    def pieces(self, node: Node, offset: int, length: int) -> Iterator[Piece]:
        tree, inner, _ = self._of(node)
        return tree.pieces(inner, offset, length)

    def xattrs(self, node: Node) -> dict[str, bytes]:
        tree, inner, _ = self._of(node)
        return tree.xattrs(inner)


def at_boot(filesystem: Filesystem | None) -> Found | None:
    """What lies at the /boot of ``filesystem``, when that is a file system of its own."""
    return filesystem.found if isinstance(filesystem, Mounted) else None


def parse(text: str) -> list[Line]:
    """The lines of an fstab, as many as are looked at."""
    found = map(fstab.parse, text.split("\n")[:MAX_LINES])
    return [_plain(line) for line in found if line is not None]


def _plain(line: Line) -> Line:
    """Without the quotes around a tag's value and the slash behind a directory, which mean nothing."""
    return line._replace(what=line.what.replace('"', ""), where=line.where.rstrip("/") or "/")


def mount(
    place: BootRoot, pools: Sequence[Pool], devices: Iterable[BlockDevice], note: Note, rank: Rank = lambda device: 0
) -> BootRoot:
    """``place`` with its /boot in it, when that is a file system of its own that is here and can be read.

    ``rank``: the smaller, the further a device is trusted."""
    if not looks_like_root(place.filesystem):
        return place
    pools = sorted(pools, key=lambda pool: pool is not place.pool)
    try:
        found = _find(place, pools, devices, note, rank)
    except FsError as error:
        note(f"{place.where}: its /boot: {error}")
        return place
    if found is None:
        return place
    note(f"{place.where}: its /boot is {found.name}")
    return place._replace(boot=Mounted(place.filesystem, found))


def with_snapshot(place: BootRoot, live: BootRoot, note: Note) -> BootRoot:
    """``place``, a snapshot of the root ``live``, with that snapshot of live's /boot in it that has the same name."""
    boot = at_boot(live.boot)
    name = place.root.name.partition("@")[2]
    if boot is None or boot.pool is None or boot.pool.kind != "zfs" or not name:
        return place
    exact = f"{boot.filesystem.root_name.partition('@')[0]}@{name}"
    try:
        found = Found(boot.pool.open(exact), tree_name(boot.pool, exact), pool=boot.pool)
    except NotFound:
        return place
    except FsError as error:
        note(f"{place.where}: its /boot: {error}")
        return place
    note(f"{place.where}: its /boot is {found.name}")
    return place._replace(boot=Mounted(place.filesystem, found))


def _find(
    place: BootRoot, pools: Sequence[Pool], devices: Iterable[BlockDevice], note: Note, rank: Rank
) -> Found | None:
    try:
        text = place.filesystem.read_file(FSTAB, MAX_FSTAB).decode("utf-8", "surrogateescape")
    except NotFound:
        text = ""
    line = next((line for line in parse(text) if line.where == BOOT), None)
    if line is None:
        # What was plugged in only when no other has one: any pool may say that it mounts there.
        own = _rank_of(place.pool, rank)
        near = [pool for pool in pools if pool is place.pool or _rank_of(pool, rank) <= max(own, 1)]
        return _dataset_on_boot(place, near) or _dataset_on_boot(place, [pool for pool in pools if pool not in near])
    if line.has("bind"):
        return None
    if line.fstype not in _READ:
        note(
            f"{place.where}: {FSTAB} has /boot on {line.what}, which is {line.fstype}: that cannot be read here; "
            "move /boot into the root, or onto an EFI system partition"
        )
        return None
    found = _dataset(line.what, pools) if line.fstype == "zfs" else _tagged(line, place, pools, devices, rank)
    if found is None:
        note(f"{place.where}: {FSTAB} has /boot on {line.what}, which is not here")
    return found


def _rank_of(pool: Pool, rank: Rank) -> int:
    return min(map(rank, pool.devices), default=0)


def _dataset(name: str, pools: Sequence[Pool]) -> Found | None:
    for pool in pools:
        if pool.kind == "zfs" and pool.name == name.partition("/")[0]:
            return Found(pool.open(name), tree_name(pool, name), pool=pool)
    return None


def _dataset_on_boot(place: BootRoot, pools: Sequence[Pool]) -> Found | None:
    """The dataset of some pool that says that it mounts at /boot: the one that is called as the root is, if several.

    That one may leave it to the boot environment to mount it (canmount=noauto).
    """
    if place.pool.kind != "zfs" or _filled(place.filesystem):
        return None
    root, _, snapshot = place.root.name.partition("@")
    found = [(name, pool) for pool in pools for name in _on_boot(pool)]
    own = [*found, *((name, pool) for pool in pools for name in _on_boot(pool, "noauto"))]
    found = [(name, pool) for name, pool in own if name.startswith(f"{root}/")] or [
        (name, pool) for name, pool in own if name.rpartition("/")[2] == root.rpartition("/")[2]
    ] or (found if len(found) == 1 else [])  # fmt: skip
    for name, pool in found[:1]:
        for exact in (f"{name}@{snapshot}", name) if snapshot else (name,):
            try:
                return Found(pool.open(exact), tree_name(pool, exact), pool=pool)
            except NotFound:
                continue
    return None


def _on_boot(pool: Pool, *canmount: str) -> list[str]:
    """The datasets of ``pool`` whose mount point is /boot."""
    listing: Callable[..., list[tuple[str, str]]] | None = getattr(pool, "mounted", None)
    if listing is None:
        return []
    with around(f"{pool.name}: its mount points", pool.devices):
        return [name for name, where in listing(*canmount) if where == BOOT]


def _filled(filesystem: Filesystem) -> bool:
    """Whether the tree's own /boot has anything in it."""
    try:
        return any(True for _ in filesystem.entries(filesystem.resolve(f"{BOOT}/")))
    except FsError:
        return False


def _tagged(
    line: Line, place: BootRoot, pools: Sequence[Pool], devices: Iterable[BlockDevice], rank: Rank
) -> Found | None:
    tag, value = _tag(line.what)
    if line.fstype in ("btrfs", "auto"):
        for pool in pools:
            if pool.kind == "btrfs" and _is_pool(pool, tag, value):
                return _subvolume(pool, line.options, place)
    if line.fstype == "btrfs":
        return None
    found = [partition for partition in _partitions(devices) if _answers(partition, tag, value)]
    own = {disk_of(device) for device in place.pool.devices}
    # Anybody can give a partition an id of 32 bits: the one beside the root is meant, else that of the disk that is
    # trusted most, and no guess is made between several of those.
    best = min(map(rank, found), default=0)
    found = [one for one in found if disk_of(one) in own] or [one for one in found if rank(one) == best]
    if len(found) > 1:
        names = ", ".join(partition.name for partition in found)
        raise Ambiguous(f"{FSTAB} has /boot on {line.what}, which is {names}: none of them is taken; detach others")
    if not found:
        return None
    from fsdrivers import fat

    with around(f"{found[0].name}: its file system", found):
        return Found(fat.open(found[0]), found[0].name, found[0])


def _answers(partition: Partition, tag: str, value: str) -> bool:
    """Whether a partition is the FAT file system that a line of fstab names."""
    from fsdrivers import fat

    if tag not in ("UUID", "LABEL"):
        known = {"PARTUUID": partition.uuid.lower(), "PARTLABEL": partition.label, "": partition.name}[tag]
        if known != (value.lower() if tag == "PARTUUID" else value):
            return False
    try:
        with around(f"{partition.name}: its file system", [partition]):
            filesystem = fat.open(partition)
            same = {
                "UUID": filesystem.uuid.lower() == value.lower(),
                "LABEL": filesystem.label.strip() == value.strip(),
            }
    except FsError:
        return False
    return same.get(tag, True)


def _tag(what: str) -> tuple[str, str]:
    """("UUID", value) and the like, ("", path) for the name of a device."""
    for directory, tag in _TAGS.items():
        if what.startswith(f"/dev/disk/{directory}/"):
            return tag, what.rpartition("/")[2].replace("\\x20", " ")
    key, equals, value = what.partition("=")
    return (key.upper(), value) if equals and key.upper() in _TAGS.values() else ("", what)


def _is_pool(pool: Pool, tag: str, value: str) -> bool:
    if tag == "UUID":
        return pool.uuid.lower() == value.lower()
    if tag == "LABEL":
        return pool.name == value
    return not tag and any(slot.device == value for slot in pool.slots)


def _subvolume(pool: Pool, options: str, place: BootRoot) -> Found | None:
    subvol, number = _config.flag(options, "subvol"), _config.flag(options, "subvolid")
    for root in pool.roots():
        named = path_of(root) == subvol.strip("/") if subvol is not None else str(root.id) == number
        if named or (subvol is None and number is None and root.default):
            if pool is place.pool and root.id == place.root.id:
                return None
            return Found(pool.open(root.name), tree_name(pool, root.name), pool=pool)
    raise NotFound(f"subvolume {subvol or number} of {pool.name or pool.uuid}")


def _partitions(devices: Iterable[BlockDevice]) -> Iterator[Partition]:
    count = 0
    for device in devices:
        try:
            found = partitions(device)
        except FsError:  # told by who looks for entries on partitions
            continue
        for partition in found:
            count += 1
            if count > MAX_PARTITIONS:
                return
            yield partition
