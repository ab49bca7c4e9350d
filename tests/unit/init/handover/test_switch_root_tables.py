"""switch_root: what becomes of fstab and crypttab, which init can be started, and with which words."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from init_doubles import place, system
from memoryfs import MemoryFilesystem

from fsdrivers.filesystem import Node, Stat
from init import config, entries, handover
from init.config import BootConfig
from init.entries import BootEntry
from init.handover import Refused, daemon, fstab, program, switch_root

KERNEL = frozenset(("tmpfs", "proc", "sysfs", "overlay", "fuse", "nfs4"))


def left_out(*lines: str) -> list[str]:
    text = "".join(f"{line}\n" for line in lines)
    outcome = fstab.filter_fstab(text, KERNEL)
    kept = outcome.text.splitlines()
    assert len(kept) == len(lines)
    for before, after in zip(lines, kept, strict=True):
        assert after in (before, fstab.NOTE + before.strip())
    changed = [line for line in kept if line.startswith(fstab.NOTE)]
    assert len(changed) == len(outcome.left_out)
    return [line.where for line in outcome.left_out]


@pytest.mark.parametrize(
    "line",
    [
        "# UUID=1 / btrfs defaults 0 0",
        "",
        "   ",
        "nonsense",
        "tmpfs /tmp tmpfs nosuid,size=10% 0 0",
        "proc /proc proc defaults",
        "/srv/data /mnt none bind 0 0",
        "server:/export /net nfs4 _netdev 0 0",
        "UUID=2 /media/stick vfat noauto,user 0 0",
        "sshfs#me@host: /far fuse.sshfs _netdev 0 0",
    ],
)
def test_what_needs_no_disk_stays(line: str) -> None:
    assert left_out(line) == []


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("UUID=1 / btrfs defaults,subvol=@ 0 0", "/"),
        ("overlay / overlay defaults 0 0", "/"),
        ("UUID=1\t/home\tbtrfs\tsubvol=@home", "/home"),
        ("rpool/var /var zfs defaults 0 0", "/var"),
        ("LABEL=EFI /boot/efi vfat umask=0077 0 1", "/boot/efi"),
        ("PARTUUID=3 /boot ext4", "/boot"),
        ("/dev/disk/by-id/x /data xfs nofail 0 2", "/data"),
        ("/dev/sda3 none swap sw 0 0", "none"),
        ("/swapfile none swap noauto 0 0", "none"),
        ("//server/share /win cifs guest 0 0", "/win"),
        (r"LABEL=a\040b /my\040disk ext4 defaults 0 0", "/my disk"),
    ],
)
def test_what_is_on_disks_or_has_no_driver_is_left_out(line: str, where: str) -> None:
    assert left_out(line) == [where]


def test_a_table_keeps_its_order_and_comments() -> None:
    lines = ("# the root", "UUID=1 / btrfs defaults 0 0", "tmpfs /tmp tmpfs defaults 0 0", "UUID=1 /home btrfs d 0 0")
    assert left_out(*lines) == ["/", "/home"]


def test_what_is_asked_to_be_kept_is_kept() -> None:
    outcome = fstab.filter_fstab("UUID=1 /home btrfs subvol=@home 0 0\n", KERNEL, lambda line: line.where == "/home")
    assert outcome == ("UUID=1 /home btrfs subvol=@home 0 0\n", ())


def test_lines_as_the_console_names_them() -> None:
    text = "UUID=1 /home btrfs subvol=@home\n/dev/sda3 none swap sw\n"
    named = [str(line) for line in fstab.filter_fstab(text, KERNEL).left_out]
    assert named == ["/home (UUID=1)", "swap (/dev/sda3)"]


def test_crypttab_keeps_what_nobody_waits_for() -> None:
    text = "# name device key options\nswap /dev/sda3 /dev/urandom swap\ndata UUID=4 none luks,noauto\nroot UUID=5\n"
    outcome = fstab.filter_crypttab(text)
    assert [line.where for line in outcome.left_out] == ["swap", "root"]
    assert outcome.text.splitlines()[2] == "data UUID=4 none luks,noauto"
    assert str(outcome.left_out[0]) == "swap (/dev/sda3)"


# --- the init ---------------------------------------------------------------------------------


class Programs(MemoryFilesystem):
    """All files are executable, but not those called "plain"."""

    def stat(self, node: Node) -> Stat:
        status = super().stat(node)
        plain = status.type == "file" and self._value(node) == PLAIN
        return status if plain else status._replace(st_mode=status.st_mode | 0o111)


PLAIN = b"#!/bin/sh\nplain"


def elf(interpreter: str = "", machine: int = 62, bits: int = 2) -> bytes:
    """The headers of an ELF program."""
    name = interpreter.encode() + b"\0"
    header = bytearray(0x40)
    header[:6] = b"\x7fELF" + bytes((bits, 1))
    struct.pack_into("<HH", header, 0x10, 3, machine)
    struct.pack_into("<Q", header, 0x20, 0x40)
    struct.pack_into("<HH", header, 0x36, 56, 2)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 0, 0, 0)
    interp = struct.pack("<IIQQQQQQ", 3 if interpreter else 6, 4, 0x40 + 112, 0, 0, len(name), 0, 0)
    return bytes(header) + load + interp + name


LOADER = {"lib64": {"ld.so": b"x"}}


@pytest.mark.parametrize(
    "tree",
    [
        {"init": elf()},
        {"init": elf("/lib64/ld.so"), **LOADER},
        {"init": "real", "real": elf("/lib64/ld.so"), **LOADER},
        {"init": b"#!/sh -e\n", "sh": elf()},
        {"init": b"#! /one\n", "one": b"#!/two\n", "two": elf()},
    ],
    ids=["static", "dynamic", "symlink", "script", "script of a script"],
)
def test_programs_that_can_be_started(tree: dict[str, object]) -> None:
    program.check(Programs(tree), "/init", "x86_64")


@pytest.mark.parametrize(
    ("tree", "why"),
    [
        ({}, "/init cannot be started: "),
        ({"init": {}}, "/init cannot be started: "),
        ({"init": PLAIN}, "/init is not executable"),
        ({"init": b""}, "/init is neither an ELF program nor a script"),
        ({"init": b"\x7fELF"}, "/init is neither an ELF program nor a script"),
        ({"init": elf("/lib64/ld.so")}, "/init needs /lib64/ld.so, which the root does not have"),
        ({"init": elf(machine=183)}, "/init is no program for x86_64"),
        ({"init": elf(bits=1)}, "/init is no program for x86_64"),
        ({"init": b"#!/gone\n"}, "/gone cannot be started: "),
        ({"init": b"#!\n"}, "/init is a script without an interpreter"),
        ({"init": b"#!/init\n"}, "/init is a script without an interpreter"),
        ({"init": elf()[:0x36] + b"\xff\xff\xff\xff" + elf()[0x3A:]}, "/init has no program headers"),
    ],
)
def test_programs_that_cannot(tree: dict[str, object], why: str) -> None:
    with pytest.raises(Refused) as caught:
        program.check(Programs(tree), "/init", "x86_64")
    assert str(caught.value).startswith(why)


def test_the_init_of_this_machine_can_be_started() -> None:
    """A real program by a real linker, with the loader it names."""
    binary = Path(sys.executable).resolve()
    tree: dict[str, object] = {"init": binary.read_bytes(), "lib64": {"ld-linux-x86-64.so.2": b"x"}}
    program.check(Programs(tree), "/init", "x86_64")
    with pytest.raises(Refused, match=r"needs /lib64/ld-linux-x86-64\.so\.2"):
        program.check(Programs({"init": tree["init"]}), "/init", "x86_64")


@pytest.mark.parametrize(
    ("cmdline", "words"),
    [
        ("root=UUID=1 ro quiet console=ttyS0", []),
        ("ro single", ["single"]),
        ("ro 3 systemd.unit=rescue.target i915.modeset=0 nvme.poll", ["3"]),
        ("ro -- --log-level=debug emergency", ["--log-level=debug", "emergency"]),
        ("init=/bin/sh -s", ["-s"]),
    ],
)
def test_the_init_gets_the_words_that_the_kernel_would_give_it(cmdline: str, words: list[str]) -> None:
    assert program.arguments("/sbin/init", cmdline) == ["/sbin/init", *words]


def test_words_in_front_of_init_are_for_another_one() -> None:
    assert program.arguments("/bin/sh", "single init=/bin/sh -c") == ["/bin/sh", "-c"]


def test_the_init_gets_the_variables_that_the_kernel_would_give_it() -> None:
    usual = {"HOME": "/", "TERM": "linux"}
    assert program.environment("ro root=UUID=x quiet console=ttyS0", usual) == usual
    wanted = usual | {"TERM": "vt220", "LANG": "de_DE.UTF-8", "OPTIONS": "a b"}
    assert program.environment('TERM=vt220 LANG=de_DE.UTF-8 OPTIONS="a b" X.Y=1 -- Z=2', usual) == wanted
    many = program.environment(" ".join(f"V{number}=1" for number in range(99)), usual)
    assert len(many) == program.MAX_VARIABLES


def test_the_init_that_is_asked_for() -> None:
    tree: dict[str, object] = {"sbin": {"init": elf()}, "bin": {"sh": elf()}}
    assert program.find(Programs(tree), "ro") == "/sbin/init"
    assert program.find(Programs(tree), "ro init=/bin/sh") == "/bin/sh"
    with pytest.raises(Refused, match="the root has no init: /nix/init not found"):
        program.find(Programs(tree), "init=/nix/init")
    with pytest.raises(Refused, match="the root has no init: /sbin/init, "):
        program.find(Programs({"usr": {}}), "ro")


# --- where it may be done ---------------------------------------------------------------------


def test_nobody_but_pid_1_of_an_initramfs_switches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(handover.WAYS["switch_root"], handover.SwitchRoot)
    with pytest.raises(Refused, match="only PID 1"):
        switch_root.check_place()
    monkeypatch.setattr(switch_root.os, "getpid", lambda: 1)
    mounts = tmp_path / "mounts"
    mounts.write_text("rootfs / rootfs rw 0 0\n/dev/sda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\n")
    with pytest.raises(Refused, match="does not run from an initramfs"):
        switch_root.check_place(str(mounts))
    mounts.write_text("rootfs / rootfs rw 0 0\nproc /proc proc rw 0 0\n")
    switch_root.check_place(str(mounts))


def test_the_ladder_ends_with_switch_root() -> None:
    assert handover.ways("auto") == ["kexec", "firmware", "switch_root"]
    assert handover.ways(BootConfig(handover="switch_root").handover) == ["switch_root"]


def test_secure_boot_has_no_last_resort_but_what_its_signed_command_line_says() -> None:
    assert handover.ways("auto", True) == ["kexec", "firmware"]
    assert handover.ways("switch_root", True) == ["switch_root"]
    order = entries.find(place(system("6.1", "6.2")), config.read(""), print)
    assert list(handover.rounds("auto", order, True)) == [(entry, None) for entry in order]


@pytest.mark.parametrize("secure", [True, False])
def test_a_refused_kexec_does_not_end_in_unsigned_user_space(monkeypatch: pytest.MonkeyPatch, secure: bool) -> None:
    class Way:
        def __init__(self, refuses: bool) -> None:
            self.refuses = refuses

        def stage(self, entry: BootEntry, config: BootConfig, say: Callable[[str], None]) -> None:
            if self.refuses:
                raise Refused("ENOKEY")

        def go(self) -> None:
            raise AssertionError

    monkeypatch.setattr(handover, "WAYS", {"kexec": Way(True), "firmware": Way(True), "switch_root": Way(False)})
    (entry,) = entries.find(place(system("6.1")), config.read(""), print)
    said: list[str] = []
    if secure:
        with pytest.raises(Refused, match="ENOKEY"):
            handover.stage(entry, BootConfig(secure=True), said.append)
        assert said[-1].startswith("handover by switch_root is not tried: Secure Boot is on")
        handover.stage(entry, BootConfig(handover="switch_root", secure=True), said.append)
    else:
        handover.stage(entry, BootConfig(), said.append)


def test_emptying_the_initramfs_stays_on_its_file_system(tmp_path: Path) -> None:
    """The real file systems of this machine: /proc is another one."""
    import os

    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_text("x")
    (tmp_path / "link").symlink_to("/etc")
    (tmp_path / "dangling").symlink_to("nowhere")
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        switch_root._empty(directory, os.stat("/proc").st_dev)
        assert (tmp_path / "a/b/file").exists()
        switch_root.empty(directory)
    finally:
        os.close(directory)
    assert list(tmp_path.iterdir()) == []
    assert Path("/etc/passwd").exists()


def test_a_symlink_is_no_mount_point(tmp_path: Path) -> None:
    (tmp_path / "dev").symlink_to("/etc")
    (tmp_path / "run").mkdir()
    (tmp_path / "sys").write_text("a file")
    for name in ("dev", "run", "sys", "new/proc"):
        switch_root.real_directory(str(tmp_path / name))
        assert (tmp_path / name).is_dir()
        assert not (tmp_path / name).is_symlink()


RENAME = """
import sys
from init.handover import daemon
daemon.rename(sys.argv[1])
print(open("/proc/self/cmdline", "rb").read(), open("/proc/self/comm").read().strip())
"""


def test_what_the_daemon_logs_is_one_record_that_drives_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    source, sink = os.pipe2(os.O_DIRECT)
    monkeypatch.setattr(daemon, "_kmsg", sink)
    daemon.log("/evil\x1b[2J\nname: corrupt " + "x" * 2000)
    record = os.read(source, 65536)
    os.close(source)
    os.close(sink)
    assert record.startswith(b"<3>poolboot: /evil\\x1b[2J\\x0aname: corrupt xxx")
    assert len(record) <= 1000


@pytest.mark.parametrize("arguments", [["-c", RENAME, "@poolboot"], ["-c", RENAME, "@" + "p" * 900]])
def test_a_process_takes_the_name_that_shutdown_spares(arguments: list[str]) -> None:
    """The kernel's own answer, for a name that fits into the arguments and for one that runs over."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    name = arguments[-1]
    assert done.stdout.startswith(f"b'{name}\\x00")
    assert done.stdout.split()[-1] == name[1:16]


# --- entries ----------------------------------------------------------------------------------


def test_a_root_without_kernel_is_an_entry_for_switch_root_only() -> None:
    tree = system()
    notes: list[str] = []
    assert entries.find(place(tree), config.read(""), notes.append) == []
    (found,) = entries.find(place(tree), config.read("poolboot.handover=switch_root"), notes.append)
    assert (found.title, found.id) == ("Test Linux 1, the running kernel", "tank:@/running")
    assert "kernel=none initrd=none cmdline=root=UUID=" in found.describe()
    assert entries.find(place({"etc": {}}), config.read("poolboot.handover=switch_root"), notes.append) == []


def test_a_desk_says_whether_the_init_can_be_started() -> None:
    tree = system("6.1.0-9") | {"sbin": {"init": elf()}}
    entry = entries.find(place(tree), config.read(""), print)[0]
    with pytest.raises(Refused, match="/sbin/init is not executable"):
        switch_root.preflight(entry, "x86_64")
    entry = entry._replace(place=entry.place._replace(filesystem=Programs(tree)))
    assert switch_root.preflight(entry, "x86_64") == "/sbin/init"
    with pytest.raises(Refused, match="/sbin/init is no program for arm64"):
        switch_root.preflight(entry, "aarch64")


def test_no_root_runs_under_another_kernel_while_an_entry_can_be_started() -> None:
    first, second = (entries.find(place(system("6.1", "6.2"), name), config.read(""), print) for name in ("@", "@old"))
    order = [*first, *second]
    rounds = [(entry.id, ways) for entry, ways in handover.rounds("auto", order)]
    assert rounds[:4] == [(entry.id, ["kexec", "firmware"]) for entry in order]
    assert rounds[4:] == [(first[0].id, ["switch_root"]), (second[0].id, ["switch_root"])]
    assert list(handover.rounds("switch_root", order)) == [(entry, None) for entry in order]


def test_only_the_ways_of_the_round_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    class Never:
        tried = 0

        def stage(self, entry: BootEntry, config: BootConfig, say: Callable[[str], None]) -> None:
            self.tried += 1
            raise Refused("not by me")

        def go(self) -> None:
            raise AssertionError

    ways = {"kexec": Never(), "firmware": Never(), "switch_root": Never()}
    monkeypatch.setattr(handover, "WAYS", ways)
    (entry,) = entries.find(place(system("6.1")), config.read(""), print)
    for _, only in handover.rounds("auto", [entry]):
        with pytest.raises(Refused, match="not by me"):
            handover.stage(entry, BootConfig(), print, only)
    assert [way.tried for way in ways.values()] == [1, 1, 1]
    with pytest.raises(Refused, match="not by me"):
        handover.stage(entry, BootConfig(), print)  # somebody picked it: all ways
    assert [way.tried for way in ways.values()] == [2, 2, 2]
