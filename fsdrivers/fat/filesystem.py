"""The tree of a FAT volume."""

from __future__ import annotations

import stat as _stat
from collections.abc import Iterator
from typing import NoReturn

from fsdrivers import filesystem as fs
from fsdrivers.errors import Corrupt, NotThisFs, TooLarge
from fsdrivers.fat import directory, layout
from fsdrivers.fat.directory import Entry
from fsdrivers.fat.volume import Chain, Run, Volume
from fsdrivers.filesystem import DIRECTORY, FILE, DirEntry, Filesystem, Piece, Stat

CACHED, CACHED_SIZES = 64, 4096  # directories and chains, and sizes of directories, that are kept
MAX_SLOTS = 3 << 16  # of all directories that are read: three times what one may have

_ROOT = Entry(0, "/", "/", layout.ATTR_DIR, 0, 0, b"")
# What the kernel shows without mount options: root's, nobody else may write.
_MODE = 0o755


class FatFilesystem(Filesystem):
    """Names are found as vfat finds them: whatever the case, and by the short name, too.  Nodes are Entry."""

    kind = "fat"

    def __init__(self, volume: Volume) -> None:
        """Raises Corrupt when the root directory cannot be found."""
        self._volume, self.health = volume, volume.health
        self.uuid, self.root_name = volume.serial, volume.device.name
        self._directories: dict[int, dict[str, Entry]] = {}  # by their first cluster
        self._sizes: dict[int, int] = {}  # likewise
        self._chains: dict[Entry, Chain] = {}
        self._left = MAX_SLOTS
        label = directory.label(self._raw(_ROOT)[0])
        self.label = volume.label if label is None else label

    def root(self) -> Entry:
        return _ROOT

    def stat(self, node: fs.Node) -> Stat:
        own = _own(node)
        mode = _MODE & ~0o222 if own.attributes & layout.ATTR_RO and not own.directory else _MODE
        size = self._directory_size(own) if own.directory else own.size
        kind = _stat.S_IFDIR if own.directory else _stat.S_IFREG
        inode = own.position // layout.ENTRY.size or 1
        return Stat(kind | mode, 0, 0, size, 1 + own.directory, inode, *own.times)

    def lookup(self, directory_: fs.Node, name: str) -> Entry | None:
        wanted = name.rstrip(".").upper()  # fs/fat/namei_vfat.c:vfat_striptail_len, v6.12
        return self._children(_own(directory_)).get(wanted)

    def entries(self, directory_: fs.Node) -> Iterator[DirEntry]:
        for entry in dict.fromkeys(self._children(_own(directory_)).values()):
            yield DirEntry(entry.name, DIRECTORY if entry.directory else FILE, entry)

    def link_target(self, node: fs.Node) -> str:
        raise NotThisFs("FAT has no symbolic links")

    def pieces(self, node: fs.Node, offset: int, length: int) -> Iterator[Piece]:
        own, size = _own(node), self._volume.cluster
        end = min(offset + length, own.size)
        if offset < 0 or offset >= end:
            return
        for start, count in self._stretches(own, offset // size, -(-end // size)):
            at = self._volume.offset(start.first) + offset - count * size
            length = min(end, (count + start.length) * size) - offset
            yield Piece(offset, length, self._volume.device.read(at, length))
            offset += length

    def _stretches(self, entry: Entry, first: int, last: int) -> Iterator[tuple[Run, int]]:
        """The runs of the clusters number ``first`` to ``last`` (exclusive) of a regular file, cut where a piece is
        large enough, each with the number of its first cluster."""
        chain, most = self._chain(entry), max(1, fs.CHUNK // self._volume.cluster)
        number = first
        for run in chain.runs(last - first, first, most):
            yield run, number
            number += run.length
        if number < last:
            self._too_short(entry, number)

    def _chain(self, entry: Entry) -> Chain:
        """The clusters of a regular file."""
        chain = self._chains.get(entry)
        if chain is None:
            if -(-entry.size // self._volume.cluster) > self._volume.end:
                self._too_short(entry, self._volume.end)
            if len(self._chains) >= CACHED:
                self._chains.clear()
            self._chains[entry] = chain = Chain(self._volume, entry.first, entry.name)
        return chain

    def _too_short(self, entry: Entry, clusters: int) -> NoReturn:
        name, need = self._volume.device.name, -(-entry.size // self._volume.cluster)
        raise Corrupt(name, f"size of {entry.name}", entry.position, f"{need} clusters", clusters)

    def _children(self, node: Entry) -> dict[str, Entry]:
        """The objects of a directory, without labels and dots, by their names in capital letters, the first of each;
        then by the short names that are nobody else's name."""
        first = self._first(node)
        found = self._directories.get(first)
        if found is None:
            found, others = {}, 0
            for entry in self._read(node):
                name = entry.name.upper()
                if entry.attributes & layout.ATTR_VOLUME or entry.alias in (".", ".."):
                    continue
                if not name or "/" in name or "\0" in name:
                    others += 1
                    continue
                found.setdefault(name, entry)
            if others:
                self.health.note(f"{self._volume.device.name}: {node.name} has {others} names that cannot be used")
            for entry in list(found.values()):
                found.setdefault(entry.alias.upper(), entry)
            if len(self._directories) >= CACHED:
                self._directories.clear()
            self._directories[first] = found
        return found

    def _read(self, node: Entry) -> Iterator[Entry]:
        """All entries of a directory as they lie on the disk."""
        raw, places = self._raw(node)
        # Directories may share their clusters: a few of these would make thousands of large ones.
        self._left -= directory.slots(raw)
        if self._left < 0:
            name = self._volume.device.name
            raise TooLarge(f"{name}: all directories that are read", MAX_SLOTS - self._left, MAX_SLOTS)
        return directory.entries(raw, places, self._volume.bits == 32)

    def _raw(self, node: Entry) -> tuple[bytes, list[tuple[int, int]]]:
        """The bytes of a directory, and its parts as directory.entries() has them."""
        volume = self._volume
        parts: list[bytes] = []
        places, at = [], 0
        if node == _ROOT and volume.bits != 32:
            parts, places = [volume.device.read(volume.root_start, volume.root_size)], [(0, volume.root_start)]
        else:
            for run in self._directory_runs(node):
                start, length = volume.offset(run.first), run.length * volume.cluster
                places.append((at, start))
                parts.append(volume.device.read(start, min(length, layout.MAX_DIRECTORY - at)))
                at += len(parts[-1])
        return b"".join(parts), places

    def _first(self, node: Entry) -> int:
        """The cluster that a directory begins in, -1 for the root of a FAT12 or FAT16, which lies in none."""
        if node != _ROOT:
            return node.first
        return self._volume.root_cluster if self._volume.bits == 32 else -1

    def _directory_runs(self, node: Entry) -> list[Run]:
        most = layout.MAX_DIRECTORY // self._volume.cluster
        return self._volume.chain(self._first(node), most, f"directory {node.name}")

    def _directory_size(self, node: Entry) -> int:
        if node == _ROOT and self._volume.bits != 32:
            return self._volume.root_size
        first = self._first(node)
        size = self._sizes.get(first)
        if size is None:
            size = sum(run.length for run in self._directory_runs(node)) * self._volume.cluster
            if len(self._sizes) >= CACHED_SIZES:
                self._sizes.clear()
            self._sizes[first] = size
        return size


def _own(node: fs.Node) -> Entry:
    if not isinstance(node, Entry):
        raise NotThisFs(f"{node!r} is no node of a FAT file system")
    return node
