"""Kernel and initrd on their way into the kernel: preflight, memfds, refusals with advice."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator

import pytest
from init_doubles import bzimage, initrd, place, system
from memoryfs import Damaged, MemoryFilesystem

from fsdrivers.errors import Corrupt, FsError, NotFound, TooLarge, Unsupported
from fsdrivers.filesystem import Node, Piece
from init import config, entries, handover
from init.entries import BootEntry
from init.handover import Refused, kexec
from init.machine import syscalls

PLENTY = 1 << 40


def entry(tree: dict[str, object] | None = None, knobs: str = "") -> BootEntry:
    return entries.find(place(tree or system("6.1.0-9")), config.read(knobs), print)[0]


def content(fd: int) -> bytes:
    return os.pread(fd, 1 << 24, 0)


def test_memory_that_ends_while_reading_is_not_blamed_on_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(kexec.os, "pwrite", full)
    with pytest.raises(Refused, match=r"^/boot/vmlinuz-6\.1\.0-9 into memory: ENOSPC: No space left"):
        kexec.load([entry().open_kernel()])


# --- preflight --------------------------------------------------------------------------------


def test_preflight_tells_what_it_found() -> None:
    assert kexec.preflight(entry(), PLENTY, "x86_64") == ["bzImage 6.1.0-9", "12.0 KiB to read", "init /sbin/init"]


@pytest.mark.parametrize(
    ("kernel", "machine", "wanted"),
    [
        (b"\x7fELF" + bytes(9000), "x86_64", "kernel format ELF"),
        (b"\x89LZO" + bytes(9000), "x86_64", "lzop method"),
        (b"", "x86_64", "kernel format unknown"),
        (b"x" * 0x206, "x86_64", "kernel format unknown"),
        (bzimage("6.1"), "aarch64", "bzImage"),
        (bytes(0x38) + b"ARM\x64" + bytes(9000), "x86_64", "arm64 Image"),
    ],
)
def test_a_kernel_that_cannot_be_started_is_unsupported(kernel: bytes, machine: str, wanted: str) -> None:
    tree = system("6.1.0-9")
    tree["boot"]["vmlinuz-6.1.0-9"] = kernel  # type: ignore[index]
    with pytest.raises(Unsupported) as caught:
        kexec.preflight(entry(tree), PLENTY, machine)
    assert caught.value.feature == wanted


@pytest.mark.parametrize("size", [0x206, 0x210, 0x263, 0x264, 0x2FFF])
def test_a_kernel_that_was_cut_off_is_no_kernel(size: int) -> None:
    """A full disk while the package was installed: kexec would take it, and nothing would come up."""
    image = bytearray(bzimage("6.1.0-9"))
    image[0x1F1] = 3
    struct.pack_into("<I", image, 0x1F4, (len(image) - 4 * 512) // 16)
    tree = system("6.1.0-9")
    tree["boot"]["vmlinuz-6.1.0-9"] = bytes(image)  # type: ignore[index]
    kexec.preflight(entry(tree), PLENTY, "x86_64")
    tree["boot"]["vmlinuz-6.1.0-9"] = bytes(image[:size])  # type: ignore[index]
    with pytest.raises(Corrupt, match=r"/boot/vmlinuz-6\.1\.0-9: corrupt bzImage: the file ends "):
        kexec.preflight(entry(tree), PLENTY, "x86_64")


def test_an_empty_initrd_is_none() -> None:
    tree = system("6.1.0-9")
    tree["boot"]["initrd.img-6.1.0-9"] = b""  # type: ignore[index]
    with pytest.raises(Refused, match=r"^/boot/initrd.img-6\.1\.0-9: empty; "):
        kexec.preflight(entry(tree), PLENTY, "x86_64")


def test_a_damaged_boot_flag() -> None:
    tree = system("6.1.0-9")
    broken = bytearray(bzimage("6.1.0-9"))
    broken[0x1FE] = 0
    tree["boot"]["vmlinuz-6.1.0-9"] = bytes(broken)  # type: ignore[index]
    with pytest.raises(Corrupt, match="bzImage boot flag at offset 0x1fe"):
        kexec.preflight(entry(tree), PLENTY, "x86_64")


def test_too_large_for_memory_says_how_much_is_there() -> None:
    with pytest.raises(TooLarge) as caught:
        kexec.preflight(entry(), 32 << 10, "x86_64")
    assert caught.value.limit == 32 << 10
    assert "/boot/vmlinuz-6.1.0-9" in str(caught.value)


def test_a_command_line_longer_than_the_kernel_takes() -> None:
    long = entry(knobs="poolboot.append=" + "x" * 2048)
    with pytest.raises(Refused, match=r"the command line has 2\d\d\d bytes, /boot/vmlinuz-6.1.0-9 takes 2047"):
        kexec.preflight(long, PLENTY, "x86_64")


def test_a_root_without_init_is_refused() -> None:
    tree = system("6.1.0-9")
    tree["sbin"] = {}
    with pytest.raises(Refused, match="the root has no init: /sbin/init, /etc/init"):
        kexec.preflight(entry(tree), PLENTY, "x86_64")
    with pytest.raises(Refused, match="the root has no init: /nix/init"):
        kexec.preflight(entry(system("6.1.0-9"), "poolboot.append=init=/nix/init"), PLENTY, "x86_64")


def test_a_separate_usr_is_not_held_against_the_root() -> None:
    tree = system("6.1.0-9")
    tree |= {"sbin": "usr/sbin", "usr": {}}
    assert kexec.preflight(entry(tree), PLENTY, "x86_64")[-1] == "init somewhere in a separate /usr"


def test_a_separate_nix_is_not_held_against_the_root() -> None:
    tree = system("6.1.0-9") | {"nix": {}}
    asked = entry(tree, "poolboot.append=init=/nix/store/x/init")
    assert kexec.preflight(asked, PLENTY, "x86_64")[-1] == "init somewhere in a separate /nix"
    usr = system("6.1.0-9") | {"sbin": "usr/sbin", "lib": "usr/lib", "usr": {}}
    asked = entry(usr, "poolboot.append=init=/lib/systemd/systemd")
    assert kexec.preflight(asked, PLENTY, "x86_64")[-1] == "init somewhere in a separate /usr"


def test_a_missing_initrd_stops_before_anything_is_read() -> None:
    with pytest.raises(NotFound, match="/gone"):
        kexec.preflight(entry(knobs="poolboot.initrd=/gone"), PLENTY, "x86_64")


# --- files in memory --------------------------------------------------------------------------


class Sparse(MemoryFilesystem):
    """Gives every file as data, a hole, data, and a hole at the end."""

    def pieces(self, node: Node, offset: int, length: int) -> Iterator[Piece]:
        value = self._value(node)
        assert isinstance(value, bytes)
        for start in range(0, len(value), 1000):
            part = value[start : start + 1000]
            yield Piece(start, len(part), part if part.strip(b"\0") else None)


def test_pieces_land_where_they_belong_and_holes_stay_holes() -> None:
    data = os.urandom(1000) + bytes(5000) + os.urandom(500) + bytes(100000)
    fd = kexec.load([Sparse({"kernel": data}).open("/kernel")])
    try:
        assert content(fd) == data
        assert os.fstat(fd).st_blocks * 512 <= 8192
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_several_initrds_follow_each_other_at_multiples_of_four() -> None:
    filesystem = MemoryFilesystem({"a": b"12345", "b": b"678", "c": b"9"})
    fd = kexec.load([filesystem.open(path) for path in ("/a", "/b", "/c")])
    try:
        assert content(fd) == b"12345\0\0\x00678\x009"
    finally:
        os.close(fd)


def test_damage_on_the_way_leaves_no_descriptor_behind() -> None:
    filesystem = MemoryFilesystem({"a": b"12345", "b": Damaged(Corrupt("vda", "extent", 0))})
    before = os.listdir("/proc/self/fd")
    with pytest.raises(Corrupt):
        kexec.load([filesystem.open(path) for path in ("/a", "/b")])
    assert os.listdir("/proc/self/fd") == before


# --- the kernel's answer ----------------------------------------------------------------------


class Kernel:
    """kexec_file_load(2) that takes note or refuses."""

    def __init__(self, refusal: int = 0) -> None:
        self.refusal, self.got = refusal, []  # type: tuple[int, list[tuple[bytes, bytes | None, str]]]

    def load(self, kernel: int, initrd: int | None, cmdline: str) -> None:
        if self.refusal:
            raise OSError(self.refusal, os.strerror(self.refusal))
        self.got.append((content(kernel), None if initrd is None else content(initrd), cmdline))


@pytest.fixture(autouse=True)
def _plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kexec, "memory_available", lambda: PLENTY)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "h", "6.1", "#1", "x86_64")))


def test_the_kernel_gets_both_files_and_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel()
    monkeypatch.setattr(syscalls, "kexec_file_load", kernel.load)
    before = os.listdir("/proc/self/fd")
    chosen = entry()
    assert handover.stage(chosen, config.BootConfig(handover="auto"), print) is kexec
    assert kernel.got == [(bzimage("6.1.0-9"), initrd("6.1.0-9"), chosen.cmdline)]
    assert os.listdir("/proc/self/fd") == before


def test_no_initrd(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel()
    monkeypatch.setattr(syscalls, "kexec_file_load", kernel.load)
    handover.stage(entry()._replace(initrds=()), config.BootConfig(handover="kexec"), print)
    assert kernel.got[0][1] is None


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSYS, "CONFIG_KEXEC_FILE"),
        (errno.EPERM, "lockdown"),
        (errno.EKEYREJECTED, "sign it"),
        (errno.ENOKEY, "enrol it"),
        (errno.ENOEXEC, "bzImage"),
        (errno.ENOMEM, "memory"),
        (errno.EADDRNOTAVAIL, "memory"),
    ],
)
def test_each_refusal_names_call_object_errno_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, code: int, advice: str
) -> None:
    monkeypatch.setattr(syscalls, "kexec_file_load", Kernel(code).load)
    with pytest.raises(Refused) as caught:
        handover.stage(entry(), config.BootConfig(handover="auto"), print)
    text = str(caught.value)
    assert text.startswith(f"kexec_file_load of /boot/vmlinuz-6.1.0-9: {errno.errorcode[code]}: {os.strerror(code)}; ")
    assert advice in text


def test_an_unknown_errno_is_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "kexec_file_load", Kernel(errno.EPROTO).load)
    with pytest.raises(Refused, match=r"EPROTO: Protocol error$"):
        handover.stage(entry(), config.BootConfig(handover="auto"), print)


def test_damage_is_not_taken_for_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "kexec_file_load", Kernel().load)
    tree = system("6.1.0-9")
    tree["boot"]["initrd.img-6.1.0-9"] = Damaged(Corrupt("vda", "extent", 0))  # type: ignore[index]
    with pytest.raises(Corrupt):
        handover.stage(entry(tree), config.BootConfig(handover="auto"), print)
    with pytest.raises(NotFound):
        handover.stage(entry(knobs="poolboot.initrd=/gone"), config.BootConfig(handover="auto"), print)


def test_a_way_that_this_build_has_not() -> None:
    with pytest.raises(FsError, match=r"poolboot.handover=teleport: this build hands over by kexec"):
        handover.stage(entry(), config.BootConfig(handover="teleport"), print)
