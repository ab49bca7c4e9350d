"""The tree of a FAT volume."""

from __future__ import annotations

import stat as _stat
from collections.abc import Iterator

from fsdrivers import filesystem as fs
from fsdrivers.errors import Corrupt, NotThisFs
from fsdrivers.fat import directory, layout
from fsdrivers.fat.directory import Entry
from fsdrivers.fat.volume import Run, Volume
from fsdrivers.filesystem import DIRECTORY, FILE, DirEntry, Filesystem, Piece, Stat

CACHED = 64  # directories and chains that are kept

_ROOT = Entry(0, "/", "/", layout.ATTR_DIR, 0, 0, 0, 0, 0)
# What the kernel shows without mount options: root's, nobody else may write.
_MODE = 0o755


class FatFilesystem(Filesystem):
    """Names are found as vfat finds them: whatever the case, and by the short name, too.  Nodes are Entry."""

    kind = "fat"

    def __init__(self, volume: Volume) -> None:
        """Raises Corrupt when the root directory cannot be found."""
        self._volume, self.health = volume, volume.health
        self.uuid, self.root_name = volume.serial, volume.device.name
        self._directories: dict[Entry, list[Entry]] = {}
        self._chains: dict[Entry, list[Run]] = {}
        labels = (entry for entry in self._read(_ROOT) if entry.attributes & layout.ATTR_VOLUME)
        label = next(labels, None)
        self.label = label.alias.replace(".", "") if label is not None else volume.label

    def root(self) -> Entry:
        return _ROOT

    def stat(self, node: fs.Node) -> Stat:
        own = _own(node)
        mode = _MODE & ~0o222 if own.attributes & layout.ATTR_RO and not own.directory else _MODE
        size = self._directory_size(own) if own.directory else own.size
        kind = _stat.S_IFDIR if own.directory else _stat.S_IFREG
        inode = own.position // layout.ENTRY.size or 1
        return Stat(kind | mode, 0, 0, size, 1 + own.directory, inode, own.mtime, own.atime, own.ctime)

    def lookup(self, directory_: fs.Node, name: str) -> Entry | None:
        wanted = name.rstrip(".").upper()  # fs/fat/namei_vfat.c:vfat_striptail_len, v6.12
        children = self._children(_own(directory_))
        for entry in children:
            if entry.name.upper() == wanted:
                return entry
        return next((entry for entry in children if entry.alias.upper() == wanted), None)

    def entries(self, directory_: fs.Node) -> Iterator[DirEntry]:
        for entry in self._children(_own(directory_)):
            yield DirEntry(entry.name, DIRECTORY if entry.directory else FILE, entry)

    def link_target(self, node: fs.Node) -> str:
        raise NotThisFs("FAT has no symbolic links")

    def pieces(self, node: fs.Node, offset: int, length: int) -> Iterator[Piece]:
        own, size = _own(node), self._volume.cluster
        end = min(offset + length, own.size)
        if offset < 0 or offset >= end:
            return
        at = 0  # where the run starts in the file
        for run in self._chain(own):
            after = at + run.length * size
            start = self._volume.offset(run.first)
            while offset < min(after, end):
                count = min(after, end, offset + fs.CHUNK) - offset
                yield Piece(offset, count, self._volume.device.read(start + offset - at, count))
                offset += count
            at = after
            if offset >= end:
                return

    def _chain(self, entry: Entry) -> list[Run]:
        """The runs of a regular file: exactly as many clusters as its size needs, or more."""
        runs = self._chains.get(entry)
        if runs is None:
            need = -(-entry.size // self._volume.cluster)
            runs = self._volume.chain(entry.first, need, entry.name)
            got = sum(run.length for run in runs)
            if got < need:
                name = self._volume.device.name
                raise Corrupt(name, f"size of {entry.name}", entry.position, f"{need} clusters", got)
            if len(self._chains) >= CACHED:
                self._chains.clear()
            self._chains[entry] = runs
        return runs

    def _children(self, node: Entry) -> list[Entry]:
        """The objects of a directory, without labels and dots, each name once."""
        found = self._directories.get(node)
        if found is None:
            seen: set[str] = set()
            found = []
            for entry in self._read(node):
                name = entry.name.upper()
                if entry.attributes & layout.ATTR_VOLUME or entry.alias in (".", "..") or name in seen:
                    continue
                if not name or "/" in name or "\0" in name:
                    self.health.note(f"{self._volume.device.name}: a name that cannot be used: {entry.name!r}")
                    continue
                seen.add(name)
                found.append(entry)
            if len(self._directories) >= CACHED:
                self._directories.clear()
            self._directories[node] = found
        return found

    def _read(self, node: Entry) -> Iterator[Entry]:
        """All entries of a directory as they lie on the disk."""
        volume = self._volume
        if node == _ROOT and volume.bits != 32:
            raw = volume.device.read(volume.root_start, volume.root_size)
            return directory.entries(raw, [(0, volume.root_start)], is_32=False)
        raw = b""
        places = []
        for run in self._directory_runs(node):
            start, length = volume.offset(run.first), run.length * volume.cluster
            places.append((len(raw), start))
            raw += volume.device.read(start, min(length, layout.MAX_DIRECTORY - len(raw)))
        return directory.entries(raw, places, volume.bits == 32)

    def _directory_runs(self, node: Entry) -> list[Run]:
        first = self._volume.root_cluster if node == _ROOT else node.first
        return self._volume.chain(first, layout.MAX_DIRECTORY // self._volume.cluster, f"directory {node.name}", True)

    def _directory_size(self, node: Entry) -> int:
        if node == _ROOT and self._volume.bits != 32:
            return self._volume.root_size
        return sum(run.length for run in self._directory_runs(node)) * self._volume.cluster


def _own(node: fs.Node) -> Entry:
    if not isinstance(node, Entry):
        raise NotThisFs(f"{node!r} is no node of a FAT file system")
    return node
