"""The one way through a tree."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bounded import bounded
from memoryfs import MemoryFilesystem

from fsdrivers.errors import Corrupt, FsError
from fsdrivers.filesystem import DirEntry, Node, Stat
from fsdrivers.traverse import MAX_DEPTH, Links, creatable, relative, walk

TREE = {"b": {"z": b"", "a": b"1"}, "a": b"2", "c": "b/a", "B": {}}


def paths(tree: dict[str, object], start: str = "/") -> list[str]:
    return [found.path for found in walk(MemoryFilesystem(tree), start)]


@pytest.mark.parametrize(
    ("start", "wanted"),
    [
        ("/", ["/", "/B", "/a", "/b", "/b/a", "/b/z", "/c"]),
        ("/b", ["/b", "/b/a", "/b/z"]),
        ("/b/", ["/b", "/b/a", "/b/z"]),
        ("/c", ["/c"]),
    ],
)
def test_names_come_in_order_and_directories_before_what_is_in_them(start: str, wanted: list[str]) -> None:
    assert paths(TREE, start) == wanted


class Rotten(MemoryFilesystem):
    """What contains "rotten" is listed, but cannot be looked at."""

    def stat(self, node: Node) -> Stat:
        if self._value(node) == b"rotten":
            raise Corrupt("disk", "inode", 7)
        return super().stat(node)

    def entries(self, directory: Node) -> Iterator[DirEntry]:
        value = self._value(directory)
        assert isinstance(value, dict)
        return (DirEntry(name, "unknown", self._node(child)) for name, child in value.items())


def test_damage_and_names_that_cannot_be_end_no_walk() -> None:
    tree = Rotten({"a": b"rotten", "b": {"..": b"", "x": b""}, "c": b"good"})
    found = {one.path: one for one in walk(tree)}
    assert list(found) == ["/", "/a", "/b", "/c"]
    assert found["/a"].stat is None
    assert isinstance(found["/a"].error, Corrupt)
    assert found["/b"].stat is not None
    assert "directory entry named '..'" in str(found["/b"].error)
    assert found["/c"].error is None


def test_a_loop_and_a_shaft_have_an_end() -> None:
    loop: dict[str, object] = {"file": b""}
    loop["again"] = loop
    found = list(walk(MemoryFilesystem(loop)))
    assert [(one.path, bool(one.error)) for one in found] == [("/", False), ("/again", True), ("/file", False)]
    shaft: dict[str, object] = {}
    for _ in range(2 * MAX_DEPTH):
        shaft = {"d": shaft}
    found = list(walk(MemoryFilesystem(shaft)))
    assert isinstance(found[-1].error, FsError)
    assert len(found) <= MAX_DEPTH + 2


def test_directories_with_two_names_are_walked_once() -> None:
    """Each has the next one twice: 2^40 paths."""
    tree: dict[str, object] = {"file": b""}
    for _ in range(40):
        tree = {"a": tree, "b": tree}
    ended = bounded(lambda: [(one.path, bool(one.error)) for one in walk(MemoryFilesystem(tree))])
    assert isinstance(ended.value, list)
    assert len(ended.value) == 2 * 40 + 2
    assert sum(error for _, error in ended.value) == 40


def test_empty_directories_may_be_one() -> None:
    empty: dict[str, object] = {}
    assert [bool(one.error) for one in walk(MemoryFilesystem({"a": empty, "b": empty}))] == [False] * 3


def test_two_entries_of_one_name_are_damage() -> None:
    class Twice(MemoryFilesystem):
        def entries(self, directory: Node) -> Iterator[DirEntry]:
            yield from super().entries(directory)
            yield from super().entries(directory)

    (found,) = walk(Twice({"a": "/etc"}))
    assert "the second one, named 'a'" in str(found.error)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0"])
def test_names_that_no_kernel_would_create(name: str) -> None:
    assert not creatable(name)
    assert creatable(f"{name}x".replace("/", "").replace("\0", ""))


@pytest.mark.parametrize(
    ("path", "start", "wanted"),
    [
        ("/", "/", ""),
        ("/a", "/", "a"),
        ("/a", "/a", ""),
        ("/a", "/a/", ""),
        ("/a/b/c", "/a/", "b/c"),
        ("/ab", "/a", ""),
    ],
)
def test_paths_as_seen_from_the_start(path: str, start: str, wanted: str) -> None:
    assert relative(path, start) == wanted


def test_links_know_what_has_several_names_and_is_no_directory() -> None:
    tree, links = MemoryFilesystem({}), Links()
    file = tree.stat(tree.root())._replace(st_mode=0o100644)
    for node, status in ((1, file), (2, file._replace(nlink=2)), (3, tree.stat(tree.root())._replace(nlink=2))):
        assert links.before(node) is None
        links.add(node, status, f"/{node}")
    assert [links.before(node) for node in (1, 2, 3)] == [None, "/2", None]
