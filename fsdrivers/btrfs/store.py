"""An opened filesystem: volume, trees and reader put together from a superblock and the legs that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsdrivers.btrfs import chunks, features, layout
from fsdrivers.btrfs.datasums import DataSums
from fsdrivers.btrfs.extents import Reader
from fsdrivers.btrfs.leg import Leg
from fsdrivers.btrfs.roots import Roots
from fsdrivers.btrfs.superblock import Superblock
from fsdrivers.btrfs.tree import Nodes, Pointer, Tree
from fsdrivers.btrfs.volume import Volume
from fsdrivers.errors import Corrupt, FsError, ReadError, TooMany
from fsdrivers.redundancy import Health

if TYPE_CHECKING:
    from fsdrivers.btrfs.log import Log

MAX_DEVICES = 4096
MAX_CHUNKS = 1 << 18  # of a GiB each mostly


def opened(name: str, superblock: Superblock, legs: dict[bytes, Leg], health: Health) -> Store:
    """The store at the newest tree root that can be read: that of ``superblock``, or of its backups.

    Damage alone leads to a backup: missing devices may still turn up.  As the kernel's rescue=usebackuproot, an older
    root goes without the log.  Source: fs/btrfs/disk-io.c:init_tree_roots, v6.12.
    """
    store: Store | None = None
    try:
        store = Store(name, superblock, legs, health)
        store.check()
        return store
    except (Corrupt, ReadError) as error:
        newest = error
    for backup in sorted(superblock.backups, key=lambda one: -one.generation):
        if not backup.tree_root or backup.generation >= superblock.generation:
            continue
        block = superblock._replace(
            root=backup.tree_root,
            root_level=backup.tree_root_level,
            generation=backup.generation,
            chunk_root=backup.chunk_root,
            chunk_root_level=backup.chunk_root_level,
            chunk_root_generation=backup.chunk_root_generation,
            log_root=0,
        )
        try:
            older = Store(name, block, legs, health)
            older.check()
        except FsError:
            continue
        health.note(
            f"the newest tree root (generation {superblock.generation}) cannot be read ({newest}): "
            f"generation {backup.generation} is shown, without anything that changed after it"
        )
        return older
    if store is None:
        raise newest
    return store  # what can be read of it can still be read


class Device:
    """A DEV_ITEM of the chunk tree: a device that belongs to the filesystem.  ``size`` in bytes."""

    def __init__(self, devid: int, uuid: bytes, size: int) -> None:
        self.devid, self.uuid, self.size = devid, uuid, size


class Store:
    """Everything below a subvolume.  Raises Corrupt, ReadError, MissingDevices when the trees cannot be read."""

    def __init__(self, name: str, superblock: Superblock, legs: dict[bytes, Leg], health: Health) -> None:
        self.superblock = superblock
        self.volume = Volume(name, superblock, legs, health)
        self.nodes = Nodes(self.volume)
        self.devices: list[Device] = []
        for chunk in chunks.system_chunks(superblock, name):
            self.volume.chunks.add(chunk)
        self._read_chunk_tree()
        self._log: Log | None = None
        self.roots = self._roots()
        self._reader: Reader | None = None
        if superblock.incompat_flags & features.RAID_STRIPE_TREE:
            from fsdrivers.btrfs.stripetree import StripeTree  # few filesystems have one

            self.volume.stripes = StripeTree(self.roots.tree_of(layout.RAID_STRIPE_TREE), name, superblock.sectorsize)

    def _roots(self) -> Roots:
        block = self.superblock
        top = Pointer(block.root, block.root_level, block.generation, layout.ROOT_TREE)
        return Roots(self.nodes, top, self.volume.name, self._log.applied if self._log else None)

    @property
    def replays(self) -> bool:
        """Whether subvolumes are shown with the log replayed."""
        return self._log is not None

    def check(self) -> None:
        """Read the tops of the trees without which there is nothing to show."""
        for number in {layout.FS_TREE, layout.CSUM_TREE, self.roots.default()}:
            self.nodes.load(self.roots.tree_of(number).root)

    def replayed(self) -> Store:
        """The same store with the log replayed; itself when there is no log, or none that can be read."""
        if not self.superblock.log_root:
            return self
        try:
            from fsdrivers.btrfs.log import Log  # few filesystems have one

            log = Log(self.nodes, self.superblock)
        except FsError as error:
            self.volume.health.note(
                f"the log cannot be read ({error}): what was synced after the last commit is not shown"
            )
            return self
        from copy import copy

        other = copy(self)
        other._log = log
        other.roots = other._roots()
        other._reader = None
        return other

    @property
    def reader(self) -> Reader:
        """The reader of file data, made when first asked for."""
        if self._reader is None:
            tree = self.roots.tree_of(layout.CSUM_TREE)
            volume = self.volume
            sums = (
                self._log.sums(tree)
                if self._log
                else DataSums(tree, volume.checksum.size, volume.sectorsize, volume.name)
            )
            self._reader = Reader(self.volume, sums)
        return self._reader

    def _read_chunk_tree(self) -> None:
        """Add all chunks, and list the devices (fs/btrfs/volumes.c:btrfs_read_chunk_tree, v6.12)."""
        block = self.superblock
        top = Pointer(block.chunk_root, block.chunk_root_level, block.chunk_root_generation, layout.CHUNK_TREE)
        tree = Tree(self.nodes, top)
        for item in tree.items((0, 0, 0), layout.MAX_KEY):
            if item.type == layout.CHUNK_ITEM and item.objectid == layout.FIRST_CHUNK_TREE:
                chunk = chunks.parse(item.data, item.offset, block.sectorsize, self.volume.name)
                self.volume.chunks.add(chunk)
                if len(self.volume.chunks) > MAX_CHUNKS:
                    raise TooMany(f"chunks of {self.volume.name}", MAX_CHUNKS)
            elif item.type == layout.DEV_ITEM_KEY and item.objectid == layout.DEV_ITEMS:
                if item.size != layout.DEV_ITEM.size:
                    raise Corrupt(self.volume.name, f"device item {item.offset} (size)", item.start, None, item.size)
                device = layout.DEV_ITEM.parse(item.data)
                self.devices.append(Device(device.devid, device.uuid, device.total_bytes))
                if len(self.devices) > MAX_DEVICES:
                    raise TooMany(f"devices of {self.volume.name}", MAX_DEVICES)
