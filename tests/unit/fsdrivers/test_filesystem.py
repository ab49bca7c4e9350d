"""Path walking, as the kernel does it, over a tree in memory."""

from __future__ import annotations

import errno

import pytest
from bounded import bounded
from memoryfs import MemoryFilesystem

from fsdrivers.errors import (
    FsError,
    IsADirectory,
    NotADirectory,
    NotAFile,
    NotASymlink,
    NotFound,
    PathTooLong,
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


def maze(links: int, detours: int) -> dict[str, object]:
    """Links that lead to the next one, each over many steps."""
    tree: dict[str, object] = {"d": {}, f"l{links}": b"end"}
    return tree | {f"l{i}": "d/../" * detours + f"l{i + 1}" for i in range(links)}


def test_steps_are_counted_over_all_links() -> None:
    assert MemoryFilesystem(maze(40, 12)).open("/l0").read() == b"end"
    with pytest.raises(TooManyLinks):
        MemoryFilesystem(maze(40, 13)).open("/l0")
    assert not MemoryFilesystem(maze(40, 680)).exists("/l0")
    assert MemoryFilesystem({"d": {}, "f": b"x"}).open("/d/.." * 511 + "/f").read() == b"x"
    with pytest.raises(TooManyLinks):
        MemoryFilesystem({"d": {}, "f": b"x"}).open("/d/.." * 512 + "/f")


def test_thousands_of_walks_through_a_maze() -> None:
    tree = MemoryFilesystem({**maze(40, 12), **{f"n{i}": "l1" for i in range(4096)}, "usr": {"bin": {"sh": b"#!"}}})
    found = bounded(lambda: sum(tree.exists(f"/n{i}") for i in range(4096))).value
    assert isinstance(found, int)
    assert 50 < found < 100
    for i in range(4096):
        tree.exists(f"/n{i}")
    assert tree.open("/usr/bin/../bin/sh").read() == b"#!"  # others get where they want to


def test_paths_that_the_kernel_would_not_take(tree: Filesystem) -> None:
    long = "/" + "x" * 4096
    assert not tree.exists(long)
    with pytest.raises(PathTooLong, match=r"^/x{59}\.\.\. \(4097 characters\): path too long$"):
        tree.open(long)


def test_a_list_has_an_end() -> None:
    tree = MemoryFilesystem({"many": {f"{i}.conf" if i % 100 == 0 else f"{i}": b"" for i in range(300_000)}})
    assert len(tree.listdir("/many", lambda name: name.endswith(".conf"))) == 3000
    with pytest.raises(TooLarge, match="the list of /many"):
        tree.listdir("/many")


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
