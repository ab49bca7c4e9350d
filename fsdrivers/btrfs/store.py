"""An opened filesystem: volume, trees and reader put together from a superblock and the legs that are there."""

from __future__ import annotations

from fsdrivers.btrfs import chunks, layout
from fsdrivers.btrfs.checksum import DataSums
from fsdrivers.btrfs.extents import Reader
from fsdrivers.btrfs.filesystem import BtrfsFilesystem
from fsdrivers.btrfs.roots import Roots
from fsdrivers.btrfs.superblock import Superblock
from fsdrivers.btrfs.tree import Nodes, Pointer, Tree, is_file_tree
from fsdrivers.btrfs.volume import Leg, Volume
from fsdrivers.errors import Corrupt, NotFound
from fsdrivers.redundancy import Health


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
        top = Pointer(superblock.root, superblock.root_level, superblock.generation, layout.ROOT_TREE)
        self.roots = Roots(self.nodes, top, name)
        self._reader: Reader | None = None

    @property
    def reader(self) -> Reader:
        """The reader of file data, made when first asked for."""
        if self._reader is None:
            tree = self.roots.tree_of(layout.CSUM_TREE)
            sums = DataSums(tree, self.volume.checksum.size, self.volume.sectorsize, self.volume.name)
            self._reader = Reader(self.volume, sums)
        return self._reader

    def filesystem(self, number: int) -> BtrfsFilesystem:
        """The subvolume ``number``; raises NotFound."""
        if not is_file_tree(number) or self.roots.item(number) is None:
            raise NotFound(f"id:{number}")
        return BtrfsFilesystem(self, number, self.roots.path(number))

    def _read_chunk_tree(self) -> None:
        """Add all chunks, and list the devices (fs/btrfs/volumes.c:btrfs_read_chunk_tree, v6.12)."""
        block = self.superblock
        top = Pointer(block.chunk_root, block.chunk_root_level, block.chunk_root_generation, layout.CHUNK_TREE)
        tree = Tree(self.nodes, top)
        for item in tree.items((0, 0, 0), layout.MAX_KEY):
            if item.type == layout.CHUNK_ITEM and item.objectid == layout.FIRST_CHUNK_TREE:
                chunk = chunks.parse(item.data, item.offset, block.sectorsize, self.volume.name)
                self.volume.chunks.add(chunk)
            elif item.type == layout.DEV_ITEM_KEY and item.objectid == layout.DEV_ITEMS:
                if item.size != layout.DEV_ITEM.size:
                    raise Corrupt(self.volume.name, f"device item {item.offset} (size)", item.start, None, item.size)
                device = layout.DEV_ITEM.parse(item.data)
                self.devices.append(Device(device.devid, device.uuid, device.total_bytes))
