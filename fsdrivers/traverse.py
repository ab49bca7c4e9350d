"""The one way through a tree: what the desk's commands, scrubs, mounts and copies of a root have in common.

The order of names, damage that does not end a walk, trees nested in others, loops, names that no kernel would create,
objects with several names, paths as seen from where the walk began.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fsdrivers.errors import Corrupt, FsError
from fsdrivers.filesystem import DIRECTORY, DirEntry, Filesystem, Node, Stat

MAX_DEPTH = 1024  # directories below each other; PATH_MAX allows 2048 with names of one letter


class Found(NamedTuple):
    """One object on the way; ``error`` says why it, or (for a directory) what is in it, could not be read."""

    path: str
    node: Node
    stat: Stat | None
    error: FsError | None


def walk(filesystem: Filesystem, path: str = "/") -> Iterator[Found]:
    """``path`` and everything below it, depth first, names in code point order.

    Damage does not end the walk: the object comes with its ``error``.  Nested btrfs subvolumes are entered as the
    kernel does.  A hostile tree whose directories form a loop, have two names or go too deep yields Corrupt there:
    thirty of them, each of which has the next one twice, would have a billion paths.
    """
    node = filesystem.resolve(path, follow=path.endswith("/"))
    yield from _walk(filesystem, path.rstrip("/") or "/", node)


def _walk(filesystem: Filesystem, path: str, node: Node) -> Iterator[Found]:
    # An explicit stack: the depth of the tree is the disk's choice, not the interpreter's.
    stack = [(path, node, 0)]
    seen: set[Node] = set()  # directories in which there is something
    while stack:
        path, node, depth = stack.pop()
        try:
            status = filesystem.stat(node)
        except FsError as error:
            yield Found(path, node, None, error)
            continue
        if status.type != DIRECTORY:
            yield Found(path, node, status, None)
            continue
        try:
            if node in seen or depth > MAX_DEPTH:
                why = "it was met before: a loop, or a second name" if node in seen else "a loop, or too deep"
                raise Corrupt(filesystem.root_name or filesystem.kind, f"directory {path} ({why})", status.inode)
            children = sorted_entries(filesystem, node)
        except FsError as error:
            yield Found(path, node, status, error)
            continue
        yield Found(path, node, status, None)
        if children:  # an empty one may be any number of places where other trees would be: btrfs has one node for all
            seen.add(node)
        prefix = path.rstrip("/") + "/"
        stack += [(prefix + child.name, child.node, depth + 1) for child in reversed(children)]


def sorted_entries(filesystem: Filesystem, directory: Node) -> list[DirEntry]:
    """The entries of ``directory`` by name; raises Corrupt for names that no kernel would create, and for two alike."""
    children = sorted(filesystem.entries(directory), key=lambda entry: entry.name)
    before = None
    for child in children:
        name = child.name
        if not creatable(name) or name == before:
            which = "directory entry, the second one, named" if name == before else "directory entry named"
            raise Corrupt(filesystem.root_name or filesystem.kind, f"{which} {name!r}", 0)
        before = name
    return children


def creatable(name: str) -> bool:
    """Whether a kernel would create an entry of that name; used as a path, another could lead out of the tree."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def relative(path: str, start: str) -> str:
    """``path``, met on a walk from ``start``, as seen from there; "" for ``start`` itself."""
    base = start.rstrip("/") + "/"
    return path[len(base) :] if path.startswith(base) else ""


class Links:
    """Objects with several names, and the one of these under which each was met first."""

    def __init__(self) -> None:
        self._first: dict[Node, str] = {}

    def before(self, node: Node) -> str | None:
        """The name that ``node`` was added with; None when it was not."""
        return self._first.get(node)

    def add(self, node: Node, status: Stat, name: str) -> None:
        """``node`` has been dealt with as ``name``.  Only what may be met again is kept: directories never are."""
        if status.nlink > 1 and status.type != DIRECTORY:
            self._first[node] = name
