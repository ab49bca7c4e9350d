"""The desk tool's manners: exit status, messages, what is copied and what never is."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest
from memoryfs import Damaged, MemoryFilesystem

from fsdrivers import copyout
from fsdrivers.block import BlockDevice
from fsdrivers.desk import cli
from fsdrivers.errors import Corrupt, FsError, NotFound
from fsdrivers.filesystem import Filesystem, Node, Stat
from fsdrivers.pool import Pool, Root, Slot

TREE: dict[str, object] = {
    "etc": {"passwd": b"root", "link": "passwd", "caf\udce9": b"latin"},
    "big": b"x" * 3_000_000,
    "bad": Damaged(Corrupt("d0.img", "extent", 0x1000, 1, 2)),
}


class MemoryPool(Pool):
    kind, uuid = "memory", "0-0"

    def __init__(self, name: str, tree: dict[str, object]) -> None:
        self.name, self.tree = name, tree
        self.slots = (Slot(1, "u1", "d0.img", "online"), Slot(2, "u2", None, "missing"))

    def roots(self) -> list[Root]:
        return [Root("@", 256, "u", True, False, 0)]

    def open(self, root: str | None = None) -> Filesystem:
        if root not in (None, "@", self.name):
            raise NotFound(root)
        return MemoryFilesystem(self.tree, root or "@")


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An image on which the memory pool is found."""

    def assemble(devices: list[BlockDevice], complain: object) -> list[Pool]:
        return [MemoryPool(device.name.rsplit("/", 1)[-1], TREE) for device in devices]

    monkeypatch.setattr(cli, "assemble", assemble)
    path = tmp_path / "d0.img"
    path.write_bytes(bytes(4096))
    return str(path)


def run(*arguments: str) -> int:
    try:
        return cli.main(list(arguments))
    except SystemExit as exit_:
        return int(exit_.code or 0)


def test_usage_is_2(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert run("ls", "/") == 2
    assert "-a" in capsys.readouterr().err
    assert run("frobnicate", "-a", image) == 2


def test_images_before_and_behind_the_command_all_count(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    other = Path(image).with_name("d1.img")
    other.write_bytes(bytes(512))
    assert run("-a", image, "probe", "--json", "-a", str(other)) == 0
    pools = json.loads(capsys.readouterr().out)["pools"]
    assert [pool["name"] for pool in pools] == ["d0.img", "d1.img"]
    assert pools[0]["present"] == 1
    assert pools[0]["total"] == 2
    assert pools[0]["state"] == "degraded"
    assert pools[0]["roots"][0]["name"] == "@"


def test_several_pools_need_a_name(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    other = Path(image).with_name("d1.img")
    other.write_bytes(bytes(512))
    both = ("-a", image, "-a", str(other))
    assert run("ls", *both) == 1
    assert "--pool" in capsys.readouterr().err
    assert run("ls", *both, "--pool", "d1.img") == 0
    assert run("ls", *both, "--fs", "d1.img") == 0
    assert run("ls", *both, "--fs", "@") == 1
    assert run("ls", *both, "--fs", "nope") == 1
    assert "fsdrivers: error: nope: no such" in capsys.readouterr().err


def test_a_foreign_disk_is_one_line_and_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.img"
    for content in (b"", b"hello", os.urandom(1 << 20)):
        path.write_bytes(content)
        assert run("probe", "-a", str(path)) == 1
        error = capsys.readouterr().err
        assert error.startswith("fsdrivers: error: ")
        assert error.count("\n") == 1
    assert run("probe", "-a", str(tmp_path / "missing.img")) == 1
    assert "missing.img" in capsys.readouterr().err


def test_cat_and_ls(image: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run("cat", "-a", image, "/etc/passwd") == 0
    assert capfdbinary.readouterr().out == b"root"
    assert run("ls", "-a", image, "/etc") == 0
    assert capfdbinary.readouterr().out == b"caf\xe9\nlink\npasswd\n"
    assert run("ls", "-l", "-a", image, "/etc/link") == 0
    assert capfdbinary.readouterr().out.endswith(b"/etc/link -> passwd\n")
    assert run("ls", "-R", "-a", image, "/etc") == 0
    assert b"/etc/passwd\n" in capfdbinary.readouterr().out
    assert run("cat", "-a", image, "/etc") == 1
    assert capfdbinary.readouterr().err == b"fsdrivers: error: /etc: is a directory\n"


def test_walk_reports_damage_and_goes_on(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("walk", "--sha256", "--json", "-a", image) == 1
    records = {line["path"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert list(records) == ["/", "/bad", "/big", "/etc", "/etc/caf\udce9", "/etc/link", "/etc/passwd"]
    assert "0x1000" in records["/bad"]["error"]
    assert "sha256" not in records["/bad"]
    assert records["/etc/passwd"]["sha256"] == "4813494d137e1631bba301d5acab6e7bb7aa74ce1185d456565ef51d737677b2"
    assert records["/etc/link"]["target"] == "passwd"
    assert records["/etc/passwd"]["mode"] == 0o644


def test_times_keep_their_nanoseconds(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("walk", "--json", "-a", image, "/etc/passwd") == 0
    assert '"mtime": 1000000000.000000005' in capsys.readouterr().out


HOSTILE = "a\x1b[2J\x9b31m\r\u202e\udc9bb"


@pytest.fixture
def hostile(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool whose label, device, tree, note and files are all called HOSTILE, with times that no calendar has."""

    class Late(MemoryFilesystem):
        def stat(self, node: object) -> Stat:
            status = super().stat(node)  # type: ignore[arg-type]
            return status._replace(mtime=((1 << 64) - 1) * 10**9, uid=1 << 40, st_mode=status.st_mode | 1 << 40)

    class HostilePool(MemoryPool):
        @property
        def notes(self) -> list[str]:
            return [HOSTILE]

        def roots(self) -> list[Root]:
            return [Root(HOSTILE, 5, HOSTILE, True, False, ((1 << 64) - 1) * 10**9)]

        def open(self, root: str | None = None) -> Filesystem:
            return Late({HOSTILE: b"x", "d": {HOSTILE: HOSTILE}, "bad": Damaged(Corrupt(HOSTILE, HOSTILE, 0))})

    def assemble(devices: list[BlockDevice], complain: object) -> list[Pool]:
        pool = HostilePool(HOSTILE, {})
        pool.slots = (Slot(0, HOSTILE, HOSTILE, "online"),)
        return [pool]

    monkeypatch.setattr(cli, "assemble", assemble)


COMMANDS = [["probe"], ["ls"], ["ls", "-lR"], ["walk"], ["walk", "--json"], ["cat", "/bad"], ["cat", HOSTILE + "gone"]]


@pytest.mark.parametrize("command", COMMANDS, ids=repr)
@pytest.mark.usefixtures("hostile")
def test_names_on_a_disk_do_not_drive_a_terminal(
    command: list[str], image: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    run("-a", image, *command)
    shown = capsys.readouterr()
    assert (shown.out + shown.err).replace("\n", "").isprintable()
    assert "2J" in shown.out + shown.err
    assert "internal" not in shown.err


@pytest.mark.usefixtures("hostile")
def test_names_stay_as_they_are_for_programs(image: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run("-a", image, "ls", "/d") == 0
    assert capfdbinary.readouterr().out == os.fsencode(HOSTILE) + b"\n"


@pytest.mark.usefixtures("hostile")
def test_times_that_no_calendar_has(image: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for command in (["probe"], ["ls", "-l"], ["walk", "--json"], ["probe", "--json"]):
        assert run("-a", image, *command) == 0
        assert b"18446744073709551615" in capfdbinary.readouterr().out
    assert run("-a", image, "cp", HOSTILE, str(tmp_path / "copy")) in (0, 1)
    assert run("-a", image, "tar", "/d") == 0
    assert b"mtime=18446744073709551615" in capfdbinary.readouterr().out


def test_the_line_of_progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    copyout.Progress().advance(HOSTILE, 1)
    assert capsys.readouterr().err.removeprefix("\r\033[K").isprintable()


def test_cp(image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("cp", "-a", image, "/etc", str(tmp_path / "out")) == 1
    assert run("cp", "-r", "-a", image, "/etc", str(tmp_path / "out")) == 0
    assert (tmp_path / "out" / "passwd").read_bytes() == b"root"
    assert os.readlink(tmp_path / "out" / "link") == "passwd"
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755
    assert run("cp", "-a", image, "/big", str(tmp_path / "out")) == 0
    assert (tmp_path / "out" / "big").stat().st_size == 3_000_000
    assert (tmp_path / "out" / "big").stat().st_mtime_ns == 10**18 + 5


def test_cp_leaves_nothing_half(image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("cp", "-r", "-a", image, "/", str(tmp_path / "all")) == 1
    assert not (tmp_path / "all" / "bad").exists()
    assert (tmp_path / "all" / "etc" / "passwd").exists()
    assert "/bad: not copied" in capsys.readouterr().err


def test_cp_does_not_follow_links_out_of_the_destination(
    image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "etc").symlink_to("../elsewhere")
    assert run("cp", "-r", "-a", image, "/etc", str(tmp_path / "out")) == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../../escape", ""])
def test_hostile_names_are_refused(
    name: str, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TREE, "etc", {name: b"x"})
    assert run("cp", "-r", "-a", image, "/etc", str(tmp_path / "out")) == 1
    assert run("ls", "-a", image, "/etc") == 1
    assert "corrupt directory entry" in capsys.readouterr().err


def test_cp_of_what_no_system_call_takes(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TREE, "etc", {"link": "a\0b", "passwd": b"root"})
    monkeypatch.setattr(MemoryFilesystem, "xattrs", lambda self, node: {"user.a\0b": b"value"})
    assert run("cp", "-r", "-a", image, "/etc", str(tmp_path / "out")) == 1
    assert "/etc/link: not copied: " in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["passwd"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_an_owner_who_is_nobody_does_not_become_root(tmp_path: Path) -> None:
    class Nobodys(MemoryFilesystem):
        def stat(self, node: Node) -> Stat:
            return super().stat(node)._replace(uid=(1 << 32) - 1, gid=(1 << 32) - 1)

    assert copyout.copy(Nobodys({"su": b"x"}), "/su", str(tmp_path / "su"), False, pytest.fail)
    found = (tmp_path / "su").stat()
    assert (found.st_uid, found.st_gid) == (65534, 65534)


def test_directory_loop_ends(image: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    loop: dict[str, object] = {}
    loop["again"] = loop
    monkeypatch.setitem(TREE, "etc", loop)
    assert run("walk", "-a", image, "/etc") == 1
    assert "a loop, or" in capsys.readouterr().out


def test_a_bug_of_ours_is_no_traceback(
    image: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def bug(*_: object) -> list[Pool]:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(cli, "assemble", bug)
    assert run("ls", "-a", image) == 1
    assert "internal: ZeroDivisionError" in capsys.readouterr().err


def test_complaints_do_not_hide_pools(
    image: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def assemble(devices: list[BlockDevice], complain) -> list[Pool]:  # type: ignore[no-untyped-def]
        complain(FsError("d9.img: broken label"))
        return [MemoryPool("p", TREE)]

    monkeypatch.setattr(cli, "assemble", assemble)
    assert run("ls", "-a", image, "/etc/passwd") == 0
    assert "warning: d9.img: broken label" in capsys.readouterr().err


def test_tar_is_what_tar_reads(image: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run("tar", "-a", image, "/etc") == 0
    archive = capfdbinary.readouterr().out
    subprocess.run(["tar", "-x", "-C", str(tmp_path)], input=archive, check=True)
    assert (tmp_path / "passwd").read_bytes() == b"root"
    assert (tmp_path / "passwd").stat().st_mtime_ns == 10**18 + 5
    assert os.readlink(tmp_path / "link") == "passwd"
    assert (os.fsencode(tmp_path) + b"/caf\xe9") in [
        os.path.join(os.fsencode(tmp_path), n) for n in os.listdir(os.fsencode(tmp_path))
    ]
    listing = subprocess.run(["tar", "-t"], input=archive, check=True, capture_output=True).stdout.split()
    assert listing[0] == b"./"
    assert b"./etc/" not in listing
    assert run("tar", "-a", image, "/etc/passwd") == 0
    archive = capfdbinary.readouterr().out
    assert subprocess.run(["tar", "-t"], input=archive, check=True, capture_output=True).stdout == b"./passwd\n"


def test_a_name_of_an_xattr_in_tar_ends_where_it_ends(
    image: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(MemoryFilesystem, "xattrs", lambda self, node: {"user.a=b%": b"value"})
    assert run("tar", "-a", image, "/etc/passwd") == 0
    assert b" SCHILY.xattr.user.a%3Db%25=value\n" in capfdbinary.readouterr().out


def test_tar_of_damage_stays_readable(image: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run("tar", "-a", image, "/") == 1
    captured = capfdbinary.readouterr()
    assert b"/bad: damaged from byte 0 on" in captured.err
    listing = subprocess.run(["tar", "-t"], input=captured.out, check=True, capture_output=True).stdout
    assert b"./etc/passwd" in listing
