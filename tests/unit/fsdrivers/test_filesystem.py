"""Path walking, as the kernel does it, over a tree in memory."""

from __future__ import annotations

import errno

import pytest
from memoryfs import MemoryFilesystem

from fsdrivers.errors import (
    FsError,
    IsADirectory,
    NotADirectory,
    NotAFile,
    NotASymlink,
    NotFound,
    TooLarge,
    TooManyLinks,
)
from fsdrivers.filesystem import Filesystem


@pytest.fixture
def tree() -> Filesystem:
    links: dict[str, object] = {f"l{i}": f"l{i + 1}" for i in range(60)}
    return MemoryFilesystem(
        {
            "etc": {"passwd": b"root", "up": "..", "self": "."},
            "bin": "usr/bin",
            "usr": {"bin": {"sh": b"#!", "abs": "/etc/passwd", "rel": "../../etc/passwd", "out": "../../../../etc"}},
            "loop": "loop",
            "a": "b",
            "b": "a",
            "dangling": "nowhere",
            "empty": "",
            **links,
        }
    )


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "etc/passwd", "//etc//passwd", "/etc/./passwd", "/etc/../etc/passwd", "/../../etc/passwd",
     "/usr/bin/abs", "/bin/abs", "/bin/rel", "/bin/out/passwd", "/etc/up/etc/self/passwd"],
)  # fmt: skip
def test_every_way_to_one_file(tree: Filesystem, path: str) -> None:
    assert tree.open(path).read() == b"root"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/nope", NotFound),
        ("/etc/nope/x", NotFound),
        ("/etc/passwd/x", NotADirectory),
        ("/etc/passwd/", NotADirectory),
        ("/loop", TooManyLinks),
        ("/a/x", TooManyLinks),
        ("/l0", TooManyLinks),
        ("/dangling", NotFound),
        ("/empty", NotFound),
        ("/etc", IsADirectory),
        ("/", IsADirectory),
    ],
)
def test_open_refuses(tree: Filesystem, path: str, error: type[FsError]) -> None:
    with pytest.raises(error) as caught:
        tree.open(path)
    assert path in str(caught.value)


def test_errors_are_the_standard_librarys_too(tree: Filesystem) -> None:
    with pytest.raises(FileNotFoundError):
        tree.open("/nope")
    with pytest.raises(IsADirectoryError):
        tree.open("/etc")
    with pytest.raises(NotADirectoryError):
        tree.listdir("/etc/passwd")
    assert "Errno" not in str(NotFound("/x"))
    assert errno.ENOENT  # the message is ours, the class is theirs


def test_forty_links_are_followed_as_the_kernel_does() -> None:
    names: dict[str, object] = {f"l{i}": f"l{i + 1}" for i in range(40)}
    assert MemoryFilesystem({**names, "l40": b"end"}).open("/l0").read() == b"end"
    names["l40"] = "l41"
    with pytest.raises(TooManyLinks):
        MemoryFilesystem({**names, "l41": b"end"}).open("/l0")


def test_readlink_and_lstat_do_not_follow(tree: Filesystem) -> None:
    assert tree.readlink("/usr/bin/abs") == "/etc/passwd"
    assert tree.lstat("/usr/bin/abs").type == "symlink"
    assert tree.lstat("/bin/").type == "directory"
    with pytest.raises(NotASymlink):
        tree.readlink("/etc")


def test_exists_and_listdir(tree: Filesystem) -> None:
    assert tree.exists("/bin/sh")
    assert not tree.exists("/dangling")
    assert not tree.exists("/etc/passwd/x")
    assert [entry.name for entry in tree.listdir("/etc")] == ["passwd", "self", "up"]


def test_read_file_has_a_limit(tree: Filesystem) -> None:
    assert tree.read_file("/etc/passwd", 4) == b"root"
    with pytest.raises(TooLarge):
        tree.read_file("/etc/passwd", 3)


def test_only_regular_files_are_opened() -> None:
    class Odd(MemoryFilesystem):
        def stat(self, node: object):  # type: ignore[no-untyped-def]
            status = super().stat(node)  # type: ignore[arg-type]
            return status if status.type == "directory" else status._replace(st_mode=0o010644)

    with pytest.raises(NotAFile):
        Odd({"fifo": b""}).open("/fifo")
