"""What every driver offers, and what all of them share: path walking, symlinks, whole-file reads.

A driver implements the abstract methods of Filesystem, which speak of nodes.  A node is whatever the driver
needs to find an object again (hashable, cheap, valid as long as the Filesystem); nobody else looks inside.

Names and symlink targets are ``str`` in the convention of os.fsdecode(): bytes that are not UTF-8 become
surrogate escapes, so that every name that a disk can hold survives the round trip.
"""

from __future__ import annotations

import stat as _stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple

from fsdrivers.errors import (
    IsADirectory,
    NotADirectory,
    NotAFile,
    NotASymlink,
    NotFound,
    PathTooLong,
    TooLarge,
    TooManyLinks,
)
from fsdrivers.redundancy import Health

MAX_LINKS = 40  # include/linux/namei.h:MAXSYMLINKS, v6.12
MAX_PATH = 4096  # include/uapi/linux/limits.h:PATH_MAX, v6.12
MAX_STEPS = 1024  # components of one path with all of its links: 40 of these could make 80,000
USUAL_STEPS = 40  # what every path may have, whatever was walked before
MAX_LONG_STEPS = 1 << 16  # beyond those, of all paths in one tree: a maze has many entrances
MODE_BITS = 0xFFFF  # of st_mode that mean something; formats have room for more
MAX_LISTED = 1 << 18  # names that a sorted list may have
CHUNK = 1 << 20  # bytes that whole-file readers ask for at a time

Node = Hashable

FILE, DIRECTORY, SYMLINK, CHAR, BLOCK, FIFO, SOCKET = (
    "file", "directory", "symlink", "char", "block", "fifo", "socket",
)  # fmt: skip

_TYPES = {
    _stat.S_IFREG: FILE,
    _stat.S_IFDIR: DIRECTORY,
    _stat.S_IFLNK: SYMLINK,
    _stat.S_IFCHR: CHAR,
    _stat.S_IFBLK: BLOCK,
    _stat.S_IFIFO: FIFO,
    _stat.S_IFSOCK: SOCKET,
}


class Stat(NamedTuple):
    """The metadata of one object.  ``st_mode`` has type and permission bits, times are nanoseconds since 1970."""

    st_mode: int
    uid: int
    gid: int
    size: int  # bytes; for a symlink the length of its target
    nlink: int
    inode: int
    mtime: int
    atime: int
    ctime: int
    rdev: tuple[int, int] = (0, 0)  # major, minor

    @property
    def type(self) -> str:
        """One of "file", "directory", "symlink", "char", "block", "fifo", "socket" ("unknown" when damaged)."""
        return _TYPES.get(_stat.S_IFMT(self.st_mode & MODE_BITS), "unknown")

    @property
    def mode(self) -> int:
        """The permission bits alone, with setuid, setgid and sticky."""
        return _stat.S_IMODE(self.st_mode & MODE_BITS)


class DirEntry(NamedTuple):
    """One name in a directory; ``type`` as in Stat.type, from the directory entry alone ("unknown" if it is mute)."""

    name: str
    type: str
    node: Node


class Piece(NamedTuple):
    """A stretch of a file: ``data``, or None for ``length`` bytes of zeros that the disk does not store."""

    offset: int
    length: int
    data: bytes | memoryview | None


class Filesystem(ABC):
    """One mounted-for-reading tree: a btrfs subvolume, a ZFS dataset or snapshot."""

    kind: str  # "btrfs", "zfs"
    label: str
    uuid: str  # as root=UUID= or the pool's guid names it
    root_name: str  # the subvolume path or dataset that is served
    health: Health
    _long_steps = MAX_LONG_STEPS  # that are left for paths which take more than USUAL_STEPS

    @abstractmethod
    def root(self) -> Node:
        """The node of "/"."""

    @abstractmethod
    def stat(self, node: Node) -> Stat:
        """Metadata of ``node``."""

    @abstractmethod
    def lookup(self, directory: Node, name: str) -> Node | None:
        """The node called ``name`` in ``directory`` (never "." or ".."), or None.

        ``directory`` is known to be one.
        """

    @abstractmethod
    def entries(self, directory: Node) -> Iterator[DirEntry]:
        """The names in ``directory`` without "." and "..", in the disk's order."""

    @abstractmethod
    def link_target(self, node: Node) -> str:
        """Where the symlink ``node`` points to."""

    @abstractmethod
    def pieces(self, node: Node, offset: int, length: int) -> Iterator[Piece]:
        """The bytes [offset, offset + length) of the regular file ``node``, in order, without gaps.

        The range is cut at the end of the file.  No piece is larger than a few MiB, whatever the disk says.
        """

    def xattrs(self, node: Node) -> dict[str, bytes]:
        """All extended attributes of ``node`` with the names that the kernel would show."""
        return {}

    # --- shared by all drivers ---------------------------------------------------------------

    def resolve(self, path: str, follow: bool = True) -> Node:
        """Walk ``path`` (absolute, or relative to the root) to its node.

        Symlinks on the way are followed as after a chroot into this tree; ".." does not leave it.  The last
        component is followed if ``follow``.  Raises NotFound, NotADirectory, TooManyLinks (also for more steps than
        an honest tree takes), PathTooLong.
        Source: fs/namei.c:link_path_walk, v6.12.
        """
        if len(path) > MAX_PATH:
            raise PathTooLong(path)
        here = self.root()
        trail = [here]  # the directories from the root to where we are, for ".."
        inside = _stat.S_ISDIR(self.stat(here).st_mode & MODE_BITS)  # whether where we are has names in it
        links = steps = 0
        todo = self._ahead(path, path, steps)
        while todo:
            name = todo.pop()
            if not inside:
                raise NotADirectory(path)
            steps += 1
            if steps > USUAL_STEPS:
                self._long_steps -= 1
                if steps > MAX_STEPS or self._long_steps < 0:
                    raise TooManyLinks(path)
            if name == ".":
                continue
            if name == "..":
                if len(trail) > 1:
                    trail.pop()
                continue
            node = self.lookup(trail[-1], name)
            if node is None:
                raise NotFound(path)
            mode = self.stat(node).st_mode & MODE_BITS if todo or follow else 0
            if _stat.S_ISLNK(mode):
                links += 1
                target = self.link_target(node)
                if links > MAX_LINKS or len(target) > MAX_PATH:
                    raise TooManyLinks(path)
                if not target:
                    raise NotFound(path)
                if target.startswith("/"):
                    del trail[1:]
                todo += self._ahead(target, path, steps)
                continue
            trail.append(node)
            inside = _stat.S_ISDIR(mode)
        return trail[-1]

    def _ahead(self, text: str, path: str, steps: int) -> list[str]:
        """The components of ``text``, last one first, on the way of ``path`` behind ``steps`` of it."""
        count = steps + text.count("/")
        if count > USUAL_STEPS and (count > MAX_STEPS or self._long_steps < 0):
            raise TooManyLinks(path)  # before they are made: that is most of the work
        return _split(text)

    def lstat(self, path: str) -> Stat:
        """Metadata of ``path`` itself, also if it is a symlink."""
        return self.stat(self.resolve(path, follow=False))

    def exists(self, path: str) -> bool:
        """Whether ``path`` resolves to something; damage on the way is still raised."""
        try:
            self.resolve(path)
        except (NotFound, NotADirectory, TooManyLinks, PathTooLong):
            return False
        return True

    def listdir(self, path: str, wanted: Callable[[str], bool] | None = None) -> list[DirEntry]:
        """The entries of the directory ``path`` (those whose names are ``wanted``), sorted by name.

        Raises NotFound, NotADirectory, and TooLarge for more than MAX_LISTED of them.
        """
        node = self.resolve(path)
        if self.stat(node).type != DIRECTORY:
            raise NotADirectory(path)
        found: list[DirEntry] = []
        for entry in self.entries(node):
            if wanted is not None and not wanted(entry.name):
                continue
            if len(found) >= MAX_LISTED:
                raise TooLarge(f"the list of {path}", len(found) + 1, MAX_LISTED)
            found.append(entry)
        return sorted(found, key=lambda entry: entry.name)

    def readlink(self, path: str) -> str:
        """The target of the symlink ``path``.  Raises NotFound, NotASymlink."""
        node = self.resolve(path, follow=False)
        if self.stat(node).type != SYMLINK:
            raise NotASymlink(path)
        return self.link_target(node)

    def open(self, path: str) -> File:
        """The regular file ``path``, symlinks followed.  Raises NotFound, IsADirectory, NotAFile."""
        node = self.resolve(path)
        status = self.stat(node)
        if status.type == DIRECTORY:
            raise IsADirectory(path)
        if status.type != FILE:
            raise NotAFile(path)
        return File(self, node, path, status.size)

    def read_file(self, path: str, limit: int) -> bytes:
        """The whole file ``path``; raises TooLarge beyond ``limit`` bytes."""
        file = self.open(path)
        if file.size > limit:
            raise TooLarge(path, file.size, limit)
        return file.read()


class File:
    """An open regular file; ``size`` in bytes."""

    def __init__(self, filesystem: Filesystem, node: Node, path: str, size: int) -> None:
        self._filesystem, self._node = filesystem, node
        self.path, self.size = path, size

    def pieces(self, offset: int = 0, length: int | None = None) -> Iterator[Piece]:
        """As Filesystem.pieces: data and holes in order, to the end of the file by default."""
        return self._filesystem.pieces(self._node, offset, self.size - offset if length is None else length)

    def chunks(self, offset: int = 0, length: int | None = None) -> Iterator[bytes | memoryview]:
        """The bytes in order with holes written out as zeros, at most CHUNK of zeros at once."""
        zeros = bytes(0)
        for piece in self.pieces(offset, length):
            if piece.data is not None:
                yield piece.data
                continue
            zeros = zeros or bytes(CHUNK)
            for start in range(0, piece.length, CHUNK):
                yield memoryview(zeros)[: min(CHUNK, piece.length - start)]

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes [offset, offset + length) cut at the end of the file: for files known to be small."""
        return b"".join(self.chunks(offset, length))


def _split(path: str) -> list[str]:
    """The components of ``path``, last one first; a trailing slash asks for a directory and stays as "."."""
    parts = [part for part in path.split("/") if part]
    if path.endswith("/"):
        parts.append(".")
    parts.reverse()
    return parts
