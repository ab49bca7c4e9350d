"""switch_root: a root in RAM, other trees of its pool, modules of the running kernel."""

from __future__ import annotations

import os
import signal
import stat
import sys
import time
from pathlib import Path

import pytest
from init_doubles import UUID, MemoryPool
from memoryfs import Damaged, MemoryFilesystem

from fsdrivers.errors import Corrupt, NotFound, NotThisFs, TooLarge
from fsdrivers.filesystem import Node, Stat
from fsdrivers.zfs.environments import Environment
from init.handover import Refused, branches, daemon, fstab, ramcopy, running
from init.machine.syscalls import MS_NODEV, MS_RDONLY
from init.roots import BootRoot

# --- what it takes ----------------------------------------------------------------------------


class Linked(MemoryFilesystem):
    """Files with the same content are one file with several names."""

    def _node(self, value: object) -> int:
        for number, known in enumerate(self._objects):
            if isinstance(known, bytes) and known == value:
                return number
        return super()._node(value)

    def stat(self, node: Node) -> Stat:
        status = super().stat(node)
        return status._replace(nlink=2) if status.type == "file" else status


def test_files_count_by_pages_and_hard_links_once() -> None:
    tree = Linked({"a": b"x", "b": b"y" * 4097, "sub": {"c": b"x"}, "link": "a"})
    need = ramcopy.measure(tree, 1 << 30)
    assert need == ramcopy.Need(3 * 4096, 5)
    assert need.memory == 3 * 4096 + 5 * ramcopy.OBJECT


def test_a_file_larger_than_memory_counts_without_its_holes() -> None:
    class Holes(MemoryFilesystem):
        def stat(self, node: Node) -> Stat:
            status = super().stat(node)
            return status._replace(size=1 << 40) if status.type == "file" else status

    assert ramcopy.measure(Holes({"image": b"z" * 5000}), 1 << 30).data == 8192


def test_a_tree_that_cannot_be_read_is_no_system(tmp_path: Path) -> None:
    damage = Corrupt("vda", "extent", 0)
    broken = MemoryFilesystem({"a": b"x", "b": Damaged(damage)})
    assert ramcopy.measure(broken, 1 << 30).objects == 3  # sizes are metadata
    with pytest.raises(Refused, match=r"copying the root into RAM: /b: not copied: .*extent"):
        ramcopy.copy(broken, str(tmp_path), ramcopy.Need(0, 0), print)


def test_too_large_says_how_much_is_missing() -> None:
    need = ramcopy.Need(512 << 20, 0)
    ramcopy.check(need, (512 << 20) + ramcopy.MARGIN)
    with pytest.raises(TooLarge, match=r"the root with 512 MiB in RAM \(164 MiB are missing\)") as caught:
        ramcopy.check(need, 412 << 20)
    assert caught.value.limit == 412 << 20


def test_everything_but_its_own_snapshots_arrives(tmp_path: Path) -> None:
    tree = ramcopy.Tree(
        MemoryFilesystem({"a": b"data", "d": {"l": "../a", ".snapshots": {"kept": b"k"}}, ".snapshots": {"1": {}}})
    )
    said: list[str] = []
    ramcopy.copy(tree, str(tmp_path), ramcopy.measure(tree, 1 << 30), said.append)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "a", "d", "d/.snapshots", "d/.snapshots/kept", "d/l",
    ]  # fmt: skip
    assert (tmp_path / "d/l").read_bytes() == b"data"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644
    assert tree.lookup(tree.root(), ".snapshots") is None


def test_a_long_measurement_tells_how_far_it_is() -> None:
    now, said = [0.0], []

    def clock() -> float:
        now[0] += 1
        return now[0]

    tree = MemoryFilesystem({f"file{number}": b"x" for number in range(9)})
    assert ramcopy.measure(tree, 1 << 30, said.append, clock).objects == 10
    assert said[0] == "measured 4 objects so far, 12.0 KiB"


def test_a_long_copy_tells_how_far_it_is() -> None:
    now = [0.0]
    said: list[str] = []
    progress = ramcopy.Progress(ramcopy.Need(200 << 20, 9), said.append, lambda: now[0])
    for second in range(12):
        now[0] = float(second)
        progress.advance("/file", 10 << 20)
    assert said == ["copied 60.0 MiB of 200 MiB into RAM", "copied 110 MiB of 200 MiB into RAM"]


# --- other trees ------------------------------------------------------------------------------


def find(pool: MemoryPool, *lines: str) -> tuple[list[branches.Branch], list[str]]:
    root = pool.roots()[0]
    notes: list[str] = []
    place = BootRoot(pool, root, pool.open(root.name))
    return branches.find("".join(f"{line}\n" for line in lines), place, notes.append), notes


def test_subvolumes_that_the_root_mounts_are_found_parents_first() -> None:
    pool = MemoryPool({"@": {}, "@home": {}, "@log": {}, "@var": {}, "@other": {}})
    found, notes = find(
        pool,
        f"UUID={UUID} / btrfs subvol=@ 0 0",
        f"UUID={UUID} /var/log btrfs subvol=/@log,nodev,ro 0 0",
        "LABEL=tank /var btrfs subvol=@var 0 0",
        f"/dev/disk/by-uuid/{UUID} /home btrfs subvolid=257 0 0",
        f"UUID={UUID} /again btrfs subvol=@ 0 0",
        f"UUID={UUID} /later btrfs subvol=@other,noauto 0 0",
        "UUID=1-2 /usb btrfs subvol=@other 0 0",
        f"UUID={UUID} /gone btrfs subvol=@gone 0 0",
    )
    assert [(branch.line.where, branch.filesystem.root_name) for branch in found] == [
        ("/var", "@var"), ("/home", "@home"), ("/var/log", "@log"),
    ]  # fmt: skip
    assert [branch.flags for branch in found] == [0, 0, MS_NODEV | MS_RDONLY]
    assert found[0].name == "tank:@var"
    assert notes == []


def test_a_tree_that_cannot_be_opened_is_told() -> None:
    pool = MemoryPool({"@": {}, "@home": NotFound("@home")})
    found, notes = find(pool, f"UUID={UUID} /home btrfs subvol=@home 0 0")
    assert found == []
    assert len(notes) == 1
    assert notes[0].startswith(f"/home (UUID={UUID}): tank:@home cannot be opened: ")


def test_a_hostile_table_opens_no_thousand_trees() -> None:
    pool = MemoryPool({"@": {}, **{f"@{number}": {} for number in range(100)}})
    found, notes = find(pool, *(f"UUID={UUID} /{number} btrfs subvol=@{number} 0 0" for number in range(100)))
    assert len(found) == branches.MAX_BRANCHES
    assert len(pool.opened) == branches.MAX_BRANCHES + 1
    assert len(notes) == 100 - branches.MAX_BRANCHES


class Datasets(MemoryPool):
    """A ZFS pool with properties; the dataset "tank/vol" is a volume."""

    def mounted(self) -> list[tuple[str, str]]:
        return [
            ("tank", "/tank"), ("tank/home", "/home"), ("tank/vol", "/tank/vol"), ("tank/ROOT/new", "/"),
            ("tank/ROOT/new/var", "/var"), ("tank/ROOT/old/var", "/var"), ("tank/spare", "/var"),
        ]  # fmt: skip

    def environments(self) -> list[Environment]:
        return [
            Environment(f"tank/ROOT/{name}", "/", "noauto", True, False, "", "", "", None) for name in ("old", "new")
        ]


def test_datasets_that_zfs_mounts_by_itself_but_none_of_another_boot_environment() -> None:
    names = (
        "tank/ROOT/new",
        "tank",
        "tank/home",
        "tank/ROOT/new/var",
        "tank/ROOT/old/var",
        "tank/legacy",
        "tank/spare",
    )
    pool = Datasets({**{name: {} for name in names}, "tank/vol": NotThisFs("tank/vol is no tree")}, kind="zfs")
    found, notes = find(pool, "tank/legacy /srv/legacy zfs defaults 0 0", "other/x /x zfs defaults 0 0")
    assert [(branch.line.where, branch.filesystem.root_name) for branch in found] == [
        ("/var", "tank/ROOT/new/var"), ("/tank", "tank"), ("/home", "tank/home"), ("/srv/legacy", "tank/legacy"),
    ]  # fmt: skip
    assert notes == []


def test_a_line_without_a_place_is_none() -> None:
    assert fstab.parse(f"UUID={UUID} none btrfs subvol=@home") is not None
    pool = MemoryPool({"@": {}, "@home": {}})
    assert find(pool, f"UUID={UUID} none btrfs subvol=@home") == ([], [])


# --- modules ----------------------------------------------------------------------------------


def bring(tmp_path: Path, depmod: str | None) -> list[str]:
    (tmp_path / "initramfs/lib/modules/6.1-x/kernel/fs").mkdir(parents=True, exist_ok=True)
    (tmp_path / "initramfs/lib/modules/6.1-x/kernel/fs/fuse.ko").write_bytes(b"module")
    (tmp_path / "root/sbin").mkdir(parents=True, exist_ok=True)
    if depmod is not None:
        (tmp_path / "root/sbin/depmod").write_text(f"#!/bin/sh\n{depmod}\n")
        (tmp_path / "root/sbin/depmod").chmod(0o755)
    said: list[str] = []
    fd = os.open(tmp_path / "initramfs", os.O_RDONLY | os.O_DIRECTORY)
    try:
        running.bring(fd, "6.1-x", said.append, str(tmp_path / "root"))
    finally:
        os.close(fd)
    return said


def test_modules_come_along_and_are_indexed(tmp_path: Path) -> None:
    assert bring(tmp_path, 'echo "$@" >"$2/asked"') == []
    assert (tmp_path / "root/lib/modules/6.1-x/kernel/fs/fuse.ko").read_bytes() == b"module"
    assert (tmp_path / "root/asked").read_text() == f"-b {tmp_path}/root -a 6.1-x\n"


def test_a_root_with_modules_for_this_kernel_keeps_them(tmp_path: Path) -> None:
    own = tmp_path / "root/lib/modules/6.1-x/own.ko"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"own")
    assert bring(tmp_path, "exit 1") == []
    assert os.listdir(own.parent) == ["own.ko"]


def test_what_depmod_does_wrong_is_told(tmp_path: Path) -> None:
    assert bring(tmp_path, "exit 1") == ["warning: /sbin/depmod failed: modprobe may not find the modules for 6.1-x"]
    other = tmp_path / "other"
    assert "has no depmod" in bring(other, None)[0]


def test_a_program_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGCHLD)
    start = time.monotonic()
    assert running.run([sys.executable, "-c", "import time; time.sleep(60)"], 0.3) == -1
    assert time.monotonic() - start < 20
    assert running.run(["/nonexistent"], 20) == 127
    said: list[str] = []
    monkeypatch.setattr(running, "MUTE", 0.05)
    assert running.run([sys.executable, "-c", "import time; time.sleep(0.5)"], 20, said.append) == 0
    assert said == [f"waiting up to 20 s more for {sys.executable}; then it goes on without"]
    assert signal.getsignal(signal.SIGCHLD) == before


# --- the daemon -------------------------------------------------------------------------------


KEEP = """
import os, sys
from init.handover import daemon
pipe, other = os.pipe()
disk = os.open(sys.executable, os.O_RDONLY)
null = os.open("/dev/null", os.O_RDWR)
daemon.close_others({other})
def is_open(fd):
    try:
        return bool(os.fstat(fd))
    except OSError:
        return False
os._exit(0 if [is_open(fd) for fd in (0, pipe, other, disk, null)] == [False, False, True, True, False] else 1)
"""


def test_the_daemon_keeps_its_disks_and_what_it_needs() -> None:
    assert running.run([sys.executable, "-c", KEEP], 20) == 0


def test_healing_goes_to_the_log_once() -> None:
    tree = MemoryFilesystem({})
    tree.health.damaged("vda", Corrupt("vda", "extent", 0))
    told: list[tuple[str, int]] = []
    reporter = daemon.Reporter([tree], lambda text, priority: told.append((text, priority)))
    reporter.look()
    assert told == []  # it was on the console before there was a daemon
    tree.health.damaged("vdb", Corrupt("vdb", "extent", 0))
    reporter.look()
    reporter.look()
    assert len(told) == 1
    assert told[0][0].startswith("health: vdb: 1 damaged copy read around")
    assert told[0][1] == daemon.WARNING
