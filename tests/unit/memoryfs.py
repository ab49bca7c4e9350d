"""A file system in memory: a double of the driver protocol for tests of what stands above the drivers."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from fsdrivers.errors import FsError
from fsdrivers.filesystem import DirEntry, Filesystem, Node, Piece, Stat
from fsdrivers.redundancy import Health

_TYPES = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "symlink"}


class Damaged:
    """Stands for the content of a file that cannot be read."""

    def __init__(self, error: FsError) -> None:
        self.error = error


class MemoryFilesystem(Filesystem):
    """``tree`` maps names to bytes (file), str (symlink), dict (directory) or Damaged."""

    kind = "memory"

    def __init__(self, tree: dict[str, object], root_name: str = "") -> None:
        self.label, self.uuid, self.root_name, self.health = "memory", "0-0", root_name, Health()
        self._objects: list[object] = [tree]
        self._numbers: dict[int, int] = {id(tree): 0}

    def _node(self, value: object) -> int:
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)
        return self._numbers[id(value)]

    def _value(self, node: Node) -> object:
        assert isinstance(node, int)
        return self._objects[node]

    def root(self) -> Node:
        return 0

    def stat(self, node: Node) -> Stat:
        value = self._value(node)
        kind, mode, size = stat.S_IFREG, 0o644, 0
        if isinstance(value, dict):
            kind, mode = stat.S_IFDIR, 0o755
        elif isinstance(value, str):
            kind, mode, size = stat.S_IFLNK, 0o777, len(value)
        elif isinstance(value, bytes):
            size = len(value)
        elif isinstance(value, Damaged):
            size = 1
        assert isinstance(node, int)
        return Stat(kind | mode, 0, 0, size, 1, node, 10**18 + 5, 0, 0)

    def lookup(self, directory: Node, name: str) -> Node | None:
        value = self._value(directory)
        assert isinstance(value, dict)
        return self._node(value[name]) if name in value else None

    def entries(self, directory: Node) -> Iterator[DirEntry]:
        value = self._value(directory)
        assert isinstance(value, dict)
        for name, child in value.items():
            node = self._node(child)
            yield DirEntry(name, self.stat(node).type, node)

    def link_target(self, node: Node) -> str:
        value = self._value(node)
        assert isinstance(value, str)
        return value

    def pieces(self, node: Node, offset: int, length: int) -> Iterator[Piece]:
        value = self._value(node)
        if isinstance(value, Damaged):
            raise value.error
        assert isinstance(value, bytes)
        data = value[offset : offset + length]
        if data:
            yield Piece(offset, len(data), data)
