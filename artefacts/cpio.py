"""The initramfs archive: cpio "newc", the same bytes for the same input, packed with zstd as the kernel unpacks it.

Source of the format: Documentation/driver-api/early-userspace/buffer-format.rst and init/initramfs.c, v6.12.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

import zstandard

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_MAX_FILE = 0xFFFFFFFF  # bytes; the size is a field of 8 hex digits

# The kernel's unpacker allocates the window that the frame asks for: 8 MiB, what level 19 wants at most anyway.
_ZSTD_LEVEL = 19
_ZSTD_WINDOW_LOG = 23


class Entry(NamedTuple):
    """One object of the archive."""

    mode: int
    """Type and permission bits, as in struct stat."""
    data: bytes = b""
    """A file's content or a symlink's target."""
    device: tuple[int, int] = (0, 0)
    """Major and minor number of a device node."""


class Archive:
    """A tree in memory.  Everything belongs to root and has one time stamp; parents are made as needed."""

    def __init__(self, mtime: int | None = None) -> None:
        """``mtime`` is in seconds; the default is ``SOURCE_DATE_EPOCH``, else 0."""
        self.mtime = int(os.environ.get("SOURCE_DATE_EPOCH") or 0) if mtime is None else mtime
        self._entries: dict[str, Entry] = {}

    def file(self, path: str, data: bytes, permissions: int = 0o644) -> None:
        """Add a regular file."""
        self._add(path, Entry(stat.S_IFREG | permissions, data))

    def directory(self, path: str, permissions: int = 0o755) -> None:
        """Add a directory; one that is there already gets the new permissions."""
        self._add(path, Entry(stat.S_IFDIR | permissions))

    def symlink(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(path, Entry(stat.S_IFLNK | 0o777, os.fsencode(target)))

    def character_device(self, path: str, major: int, minor: int, permissions: int) -> None:
        """Add a device node: no right is needed for it, it is only a line of the archive."""
        self._add(path, Entry(stat.S_IFCHR | permissions, b"", (major, minor)))

    def update(self, other: Archive) -> None:
        """Take over everything that ``other`` holds."""
        self._entries.update(other._entries)

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        """Path without leading slash, and entry, sorted by path: parents come before what they hold."""
        return iter(sorted(self._entries.items()))

    def __contains__(self, path: str) -> bool:
        return path.strip("/") in self._entries

    def pack(self) -> bytes:
        """The cpio archive, not compressed."""
        parts = []
        for inode, (path, entry) in enumerate(self, 1):
            parts.append(self._record(inode, path, entry))
        parts.append(self._record(0, _TRAILER, Entry(0)))
        return b"".join(parts)

    def _record(self, inode: int, path: str, entry: Entry) -> bytes:
        name = os.fsencode(path) + b"\0"
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        mtime = self.mtime if entry.mode else 0
        # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        fields = (inode, entry.mode, 0, 0, links, mtime, len(entry.data), 0, 0, *entry.device, len(name), 0)
        head = _MAGIC + b"".join(b"%08X" % field for field in fields) + name
        return _padded(head) + _padded(entry.data)

    def _add(self, path: str, entry: Entry) -> None:
        parts = path.strip("/").split("/")
        if not all(part not in ("", ".", "..") for part in parts):
            raise ValueError(f"not a path of an archive: {path!r}")
        if len(entry.data) > _MAX_FILE:
            raise ValueError(f"{path} is larger than a cpio archive can hold")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            known = self._entries.setdefault(parent, Entry(stat.S_IFDIR | 0o755))
            if not stat.S_ISDIR(known.mode):
                raise ValueError(f"{path} lies below {parent}, which is no directory")
        known = self._entries.get("/".join(parts), entry)
        if stat.S_IFMT(known.mode) != stat.S_IFMT(entry.mode):
            raise ValueError(f"{path} is already there as another type of file")
        self._entries["/".join(parts)] = entry


def compress(archive: bytes) -> bytes:
    """One zstd frame that the kernel takes (lib/decompress_unzstd.c, v6.12); one thread, so always the same bytes."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _ZSTD_LEVEL, window_log=_ZSTD_WINDOW_LOG, source_size=len(archive), threads=0, write_checksum=True
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(archive)


def _padded(data: bytes) -> bytes:
    """To a multiple of 4 bytes."""
    return data + bytes(-len(data) % 4)
