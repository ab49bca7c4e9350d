"""The log that fsync leaves behind: one tree for each subvolume, replayed when that subvolume is first read.

Source: fs/btrfs/disk-io.c:btrfs_replay_log, fs/btrfs/tree-log.c:btrfs_recover_log_trees, v6.12.
"""

from __future__ import annotations

from bisect import bisect_right

from fsdrivers.btrfs import layout
from fsdrivers.btrfs.datasums import DataSums
from fsdrivers.btrfs.replay import replay
from fsdrivers.btrfs.superblock import Superblock
from fsdrivers.btrfs.tree import Item, Nodes, Pointer, Tree
from fsdrivers.errors import Corrupt, FsError, TooMany

MAX_SUMS = 16 << 20  # bytes, some for each item included: those of 16 GiB of data by CRC-32C
MAX_TREES = 10_000
MAX_STEPS = 1 << 21  # items looked at and changed: some ten for each that was logged


def top(superblock: Superblock) -> Pointer:
    """The root of the tree of logs."""
    # The log belongs to the transaction that did not come to its end.
    generation = superblock.generation + 1
    return Pointer(superblock.log_root, superblock.log_root_level, generation, layout.TREE_LOG)


def pointer(item: Item, name: str) -> Pointer:
    """The log that the root item ``item`` of the tree of logs leads to; raises Corrupt naming the filesystem."""
    if item.size < layout.ROOT_SIZE_V1:
        raise Corrupt(name, f"log root {item.offset} (size)", item.start)
    written, _, bytenr, *_, level = layout.ROOT.unpack_from(item.raw, item.start)
    if level >= layout.MAX_LEVEL:
        raise Corrupt(name, f"log root {item.offset} (level)", item.start, None, level)
    return Pointer(bytenr, level, written, layout.TREE_LOG)


class Log:
    """All log trees of a filesystem.  Raises Corrupt, ReadError, MissingDevices when they cannot be read."""

    def __init__(self, nodes: Nodes, superblock: Superblock) -> None:
        self._nodes, self._volume = nodes, nodes.volume
        self._trees: dict[int, Tree] = {}
        self._steps = MAX_STEPS  # for the logs of all subvolumes together
        logged: list[tuple[int, bytes]] = []
        room = MAX_SUMS
        for item in Tree(nodes, top(superblock)).of(layout.TREE_LOG, layout.ROOT_ITEM):
            tree = Tree(nodes, pointer(item, self._volume.name))
            self._trees[item.offset] = tree
            if len(self._trees) > MAX_TREES:
                raise TooMany(f"subvolumes in the log of {self._volume.name}", MAX_TREES)
            for sums in tree.of(layout.EXTENT_CSUM_ID, layout.EXTENT_CSUM):
                room -= sums.size + 128
                if room < 0:
                    raise TooMany(f"bytes of checksums in the log of {self._volume.name}", MAX_SUMS)
                logged.append((sums.offset, sums.data))
        self._sums = self._apart(sorted(logged))

    def _apart(self, logged: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """The checksums in ``logged``, in order, without overlaps: two subvolumes may have synced the same extent."""
        size, sector = self._volume.checksum.size, self._volume.sectorsize
        apart: list[tuple[int, bytes]] = []
        reached = 0
        for start, data in logged:
            end = start + len(data) // size * sector
            if start < reached:
                data = data[(min(end, reached) - start) // sector * size :]
                start = reached
            if start < end:
                apart.append((start, data))
                reached = end
        return apart

    def applied(self, number: int, tree: Tree) -> Tree:
        """``tree`` of subvolume ``number`` with what its log has; as it is when that cannot be replayed."""
        log = self._trees.get(number)
        if log is None:
            return tree
        try:
            return replay(tree, log, self._volume.sectorsize, self._volume.name, self._spend)
        except FsError as error:
            self._volume.health.note(
                f"the log of subvolume {number} cannot be replayed ({error}): it is shown as of its last commit"
            )
            return tree

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise TooMany("steps to replay it", MAX_STEPS)

    def sums(self, tree: Tree) -> DataSums:
        """The checksums of ``tree`` and of the log."""
        volume = self._volume
        return LoggedSums(tree, volume.checksum.size, volume.sectorsize, volume.name, self._sums)


class LoggedSums(DataSums):
    """Checksums of which those of the log, ``logged`` as (address, checksums) in order, replace the committed ones."""

    def __init__(self, tree: Tree, size: int, sectorsize: int, name: str, logged: list[tuple[int, bytes]]) -> None:
        super().__init__(tree, size, sectorsize, name)
        self._width, self._unit = size, sectorsize
        self._logged, self._starts = logged, [start for start, _ in logged]

    def lookup(self, start: int, length: int) -> bytes | memoryview:
        parts: list[bytes | memoryview] = []
        at, end = start, start + length
        while at < end:
            index = bisect_right(self._starts, at)
            stop = min(end, self._starts[index]) if index < len(self._starts) else end
            if index:
                first, data = self._logged[index - 1]
                reach = first + len(data) // self._width * self._unit
                if at < reach:
                    stop = min(stop, reach)
                    low, high = (at - first) // self._unit, (stop - first) // self._unit
                    parts.append(data[low * self._width : high * self._width])
                    at = stop
                    continue
            parts.append(super().lookup(at, stop - at))
            at = stop
        return parts[0] if len(parts) == 1 else b"".join(parts)
