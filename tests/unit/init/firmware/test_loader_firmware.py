"""Path C without a machine: what is refused, what is written, what a power cut leaves."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from init_doubles import bzimage
from memoryfs import MemoryFilesystem

from fsdrivers.filesystem import File
from fsdrivers.partitions import Partition
from init.firmware import bootvars, efivars, esp
from init.firmware.bootvars import BootMenu
from init.firmware.efivars import Variables
from init.handover import Refused, firmware
from init.handover.firmware import Attempt


def efi_program(machine: int = 0x8664, subsystem: int = 10, signed: bool = False) -> bytes:
    image = bytearray(4096)
    image[:2] = b"MZ"
    struct.pack_into("<I", image, 0x3C, 0x80)
    image[0x80:0x84] = b"PE\0\0"
    struct.pack_into("<H", image, 0x84, machine)
    struct.pack_into("<H", image, 0x98, 0x20B)
    struct.pack_into("<H", image, 0x98 + 0x44, subsystem)
    struct.pack_into("<I", image, 0x98 + 0x6C, 6)
    struct.pack_into("<II", image, 0x98 + 0x70 + 32, *((4000, 96) if signed else (0, 0)))
    return bytes(image)


def file(data: bytes, name: str = "vmlinuz") -> File:
    return MemoryFilesystem({name: data}).open(f"/{name}")


def test_only_an_efi_program_for_this_machine_is_staged() -> None:
    firmware.preflight(file(efi_program()), "x86_64", secure=False)
    firmware.preflight(file(efi_program(signed=True)), "x86_64", secure=True)
    for data, complaint in (
        (bzimage("6.1"), "no EFI program"),
        (b"\x7fELF" + bytes(4096), "no EFI program"),
        (b"MZ", "no EFI program"),
        (efi_program(subsystem=3), "no EFI program"),
        (efi_program(0xAA64), "for aarch64"),
    ):
        with pytest.raises(Refused, match=complaint):
            firmware.preflight(file(data), "x86_64", secure=False)
    with pytest.raises(Refused, match="not signed"):
        firmware.preflight(file(efi_program()), "x86_64", secure=True)


def test_the_command_line_leads_the_kernel_to_its_initrd() -> None:
    raw = firmware.load_options(["linux-1.efi", "initrd-2.img"], "root=UUID=1 ro")
    assert raw.decode("utf-16-le") == "initrd=\\EFI\\poolboot\\initrd-2.img root=UUID=1 ro\0"
    with pytest.raises(Refused, match="2047 fit"):
        firmware.load_options(["linux-1.efi"], "x" * 2048)


def test_files_are_named_by_content_and_come_back_the_same(tmp_path: Path) -> None:
    said: list[str] = []
    contents = [
        esp.content("linux", ".efi", [file(b"kernel" * 1000)]),
        esp.content("initrd", ".img", [file(b"12345", "a"), file(b"678", "b")]),
    ]
    esp.write(str(tmp_path), contents, [], said.append)
    folder = tmp_path / "EFI/poolboot"
    assert (folder / contents[0].name).read_bytes() == b"kernel" * 1000
    assert (folder / contents[1].name).read_bytes() == b"12345\0\0\x00678"
    assert len(said) == 2
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    esp.write(str(tmp_path), contents, [], said.append)
    assert len(said) == 2, "what is there already is not written again"
    assert before == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_left_overs_go_and_what_the_boot_menu_points_at_stays(tmp_path: Path) -> None:
    folder = tmp_path / "EFI/poolboot"
    folder.mkdir(parents=True)
    for name in ("linux-old.efi", "linux-stale.efi", "initrd-x.img.tmp", "poolboot.conf", "attempt"):
        (folder / name).write_bytes(b"x")
    new = esp.content("linux", ".efi", [file(b"new")])
    esp.write(str(tmp_path), [new], ["linux-old.efi"], lambda line: None)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["linux-old.efi", "poolboot.conf", "attempt", new.name]
    )


def test_a_damaged_file_of_the_right_name_is_written_anew(tmp_path: Path) -> None:
    new = esp.content("linux", ".efi", [file(b"right")])
    folder = tmp_path / "EFI/poolboot"
    folder.mkdir(parents=True)
    (folder / new.name).write_bytes(b"wrong")
    esp.write(str(tmp_path), [new], [], lambda line: None)
    assert (folder / new.name).read_bytes() == b"right"


def test_too_little_room_touches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "EFI/poolboot"
    folder.mkdir(parents=True)
    (folder / "linux-old.efi").write_bytes(b"old")
    monkeypatch.setattr(esp, "_free", lambda path: 2 << 20)
    with pytest.raises(Refused, match=r"not enough room .* 3.0 MiB needed, 2.0 MiB free"):
        esp.write(str(tmp_path), [esp.content("linux", ".efi", [file(bytes(2 << 20))])], ["linux-old.efi"], print)
    assert [path.name for path in folder.iterdir()] == ["linux-old.efi"]


def test_a_disk_that_fails_while_writing_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "EFI/poolboot"
    folder.mkdir(parents=True)
    (folder / "linux-old.efi").write_bytes(b"old")

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Refused, match="EIO"):
        esp.write(str(tmp_path), [esp.content("linux", ".efi", [file(b"new")])], ["linux-old.efi"], lambda line: None)
    assert (folder / "linux-old.efi").read_bytes() == b"old"


def test_a_firmware_that_refuses_the_kernel_is_not_asked_for_ever(tmp_path: Path) -> None:
    now = Attempt("k+i", 100, 1)
    assert firmware.next_attempt(None, now) == now
    last = now
    for tries in (2, 3):
        last = firmware.next_attempt(last, now)
        assert last.tries == tries
    (tmp_path / "attempt").write_bytes(last.line())
    assert firmware.read_attempt(str(tmp_path)) == last
    with pytest.raises(Refused, match="told 3 times"):
        firmware.next_attempt(last, now)
    # The system ran and wrote to its root, or another kernel is chosen: a new beginning.
    assert firmware.next_attempt(last, now._replace(generation=101)).tries == 1
    assert firmware.next_attempt(last, now._replace(identity="k2+i")).tries == 1


@pytest.mark.parametrize("text", ["", "one", "a b c", "a 1 2 3", "\xff\xfe", "x" * 9999])
def test_a_damaged_record_of_attempts_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "attempt").write_text(text, encoding="latin-1")
    assert firmware.read_attempt(str(tmp_path)) is None


def test_a_record_of_very_many_digits_is_none() -> None:
    """It also lies in an EFI variable, of any length."""
    assert firmware.parse_attempt(f"a {'1' * 5000} 1") is None


class Disk:
    """Only what a partition needs of its disk."""

    name, size = "/dev/vda", 1 << 40


def partition(kind: str, uuid: str) -> Partition:
    return Partition(Disk(), 1, 1 << 20, 64 << 20, kind, uuid, "")  # type: ignore[arg-type]


def test_bootnext_is_set_and_bootorder_only_on_request(tmp_path: Path) -> None:
    variables = Variables(str(tmp_path))
    menu = BootMenu(variables)
    menu.set_order([5])
    ours = partition(esp.TYPES[0], "c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
    options = firmware.load_options(["linux-1.efi", "initrd-2.img"], "ro")
    number = firmware.point_at(variables, ours, "linux-1.efi", options, "Debian", False)
    assert menu.next() == number
    assert menu.order() == [5]
    assert sorted(firmware.referenced(variables)) == ["initrd-2.img", "linux-1.efi"]
    raw = variables.get(bootvars.variable_name(number), efivars.GLOBAL)
    assert raw is not None
    assert bytes.fromhex("28732ac11ff8d211ba4b00a0c93ec93b") in raw.data
    assert firmware.point_at(variables, ours, "linux-1.efi", options, "Debian", True) == number
    assert menu.order() == [number, 5]


def test_partitions_in_an_mbr() -> None:
    found = firmware.firmware_partition(partition("0xef", "12345678-01"), 4096)
    assert found == bootvars.Partition(1, 256, 16384, b"\x78\x56\x34\x12" + bytes(12), gpt=False)
