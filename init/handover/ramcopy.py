"""The whole root into RAM: a tmpfs with every object of the tree, after which no disk is needed any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from fsdrivers import copyout
from fsdrivers.errors import FsError, TooLarge
from fsdrivers.filesystem import FILE, DirEntry, File, Filesystem, Node, Piece, Stat
from fsdrivers.traverse import Links, walk
from init.machine.devices import human
from init.refused import Refused

PAGE = 4096
OBJECT = 1024  # bytes of kernel memory for an inode, its name and its attributes; mm/shmem.c, fs/dcache.c
MARGIN = 64 << 20  # bytes left for the system that is started
SPEAK = 5.0  # seconds between two lines about the progress
SNAPSHOTS = (".snapshots", ".zfs", "timeshift-btrfs")  # in the root: copies of what is copied already


class Need(NamedTuple):
    """What a tree takes in RAM: ``data`` in bytes, page by page, and how many ``objects`` it has."""

    data: int
    objects: int

    @property
    def memory(self) -> int:
        """In bytes, with what the kernel keeps about each object."""
        return self.data + self.objects * OBJECT


class Tree(Filesystem):
    """A tree without the snapshots of itself that snapper and timeshift keep in its root."""

    def __init__(self, inner: Filesystem) -> None:
        self._inner = inner
        self.kind, self.label, self.uuid = inner.kind, inner.label, inner.uuid
        self.root_name, self.health = inner.root_name, inner.health

    def root(self) -> Node:
        return self._inner.root()

    def stat(self, node: Node) -> Stat:
        return self._inner.stat(node)

    def lookup(self, directory: Node, name: str) -> Node | None:
        return None if self._hidden(directory, name) else self._inner.lookup(directory, name)

    def entries(self, directory: Node) -> Iterator[DirEntry]:
        return (entry for entry in self._inner.entries(directory) if not self._hidden(directory, entry.name))

    def link_target(self, node: Node) -> str:
        return self._inner.link_target(node)

    def pieces(self, node: Node, offset: int, length: int) -> Iterator[Piece]:
        return self._inner.pieces(node, offset, length)

    def xattrs(self, node: Node) -> dict[str, bytes]:
        return self._inner.xattrs(node)

    def _hidden(self, directory: Node, name: str) -> bool:
        return name in SNAPSHOTS and directory == self._inner.root()


def measure(
    tree: Filesystem,
    free: int,
    say: Callable[[str], None] = lambda text: None,
    clock: Callable[[], float] = time.monotonic,
) -> Need:
    """What ``tree`` takes; files that alone are larger than ``free`` bytes are counted without their holes.

    Now and then ``say`` is told how far that is.  Raises the first FsError: half a system is none.
    """
    data = objects = 0
    links = Links()
    speak = clock() + SPEAK
    for found in walk(tree):
        if clock() >= speak:
            speak = clock() + SPEAK
            say(f"measured {objects} objects so far, {human(data)}")
        if found.error is not None or found.stat is None:
            raise found.error or FsError(found.path)
        if links.before(found.node) is not None:
            continue
        links.add(found.node, found.stat, found.path)
        objects += 1
        if found.stat.type == FILE:
            size = found.stat.size
            if size > free:
                size = _stored(File(tree, found.node, found.path, size), free)
            data += -(-size // PAGE) * PAGE
    return Need(data, objects)


def _stored(file: File, enough: int) -> int:
    """How many bytes of ``file`` are no holes; counted no further than a bit more than ``enough``."""
    total = 0
    for piece in file.pieces():
        total += 0 if piece.data is None else piece.length
        if total > enough:
            break
    return total


def check(need: Need, free: int) -> None:
    """Raise TooLarge when a tree that takes ``need`` does not fit into ``free`` bytes of memory."""
    wanted = need.memory + MARGIN
    if wanted > free:
        raise TooLarge(f"the root with {human(need.memory)} in RAM ({human(wanted - free)} are missing)", wanted, free)


class Progress(copyout.Progress):
    """Says now and then how far the copy is."""

    def __init__(self, need: Need, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.active = False
        self._need, self._say, self._clock = need, say, clock
        self._speak = clock() + SPEAK

    def advance(self, path: str, count: int) -> None:
        super().advance(path, count)
        if self._clock() >= self._speak:
            self._speak = self._clock() + SPEAK
            self._say(f"copied {human(self.bytes)} of {human(self._need.data)} into RAM")


def copy(tree: Filesystem, directory: str, need: Need, say: Callable[[str], None]) -> None:
    """Copy all of ``tree`` into ``directory``.  Raises Refused, saying what, if anything did not come through."""
    lost: list[str] = []
    if not copyout.copy(tree, "/", directory, True, lost.append, Progress(need, say)):
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise Refused(f"copying the root into RAM: {lost[0]}{more}")
