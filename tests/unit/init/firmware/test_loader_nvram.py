"""``python -m loader nvram``, and what Path B reads from and reports to the firmware."""

from __future__ import annotations

from pathlib import Path

import pytest
from init_doubles import MemoryPool, system

from init import config, entries, roots
from init.entries import BootEntry
from init.firmware import bootvars, stub
from init.firmware.bootvars import BootMenu, Partition
from init.firmware.efivars import LOADER, POOLBOOT, Variables, from_ucs2, ucs2
from loader.__main__ import main

PATH = bootvars.device_path(Partition(1, 2048, 4096, bytes(16), gpt=True), "\\EFI\\poolboot\\linux-1.efi")


@pytest.fixture
def variables(tmp_path: Path) -> Variables:
    return Variables(str(tmp_path))


def two_entries() -> list[BootEntry]:
    pool = MemoryPool({"@": system("6.1.0-9", "6.12.1")})
    knobs = config.read("")
    return [entry for place in roots.candidates(pool, knobs, print) for entry in entries.find(place, knobs, print)]


def test_list_and_clear_touch_only_what_is_ours(
    variables: Variables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    menu = BootMenu(variables)
    menu.put("Windows Boot Manager", PATH, b"", "Windows")
    number = menu.put("poolboot: Debian", PATH, b"", "poolboot: ")
    menu.set_order([number, 0])
    menu.set_next(number)
    variables.set("Knobs", POOLBOOT, b"timeout=1")
    stub.report(variables, two_entries(), two_entries()[0])
    staged = tmp_path / "esp/EFI/poolboot"
    staged.mkdir(parents=True)
    (staged / "linux-1.efi").touch()
    arguments = ["--efivars", variables.root, "--esp", str(tmp_path / "esp")]
    assert main(["nvram", "list", *arguments]) == 0
    listed = capsys.readouterr().out
    for wanted in ("Boot0001  poolboot: Debian", "1. in BootOrder, BootNext", "timeout=1", "LoaderInfo  poolboot"):
        assert wanted in listed
    assert "Windows" not in listed
    assert main(["nvram", "clear", *arguments]) == 0
    capsys.readouterr()
    assert [option.description for option in menu.options()] == ["Windows Boot Manager"]
    assert menu.order() == [0]
    assert menu.next() is None
    assert list(staged.iterdir()) == []
    assert main(["nvram", "list", *arguments]) == 0
    assert capsys.readouterr().out == "nothing of poolboot's is here\n"


def test_another_boot_loaders_variables_stay(variables: Variables, capsys: pytest.CaptureFixture[str]) -> None:
    variables.set("LoaderInfo", LOADER, ucs2("systemd-boot 257"), 6)
    stub.report(variables, two_entries(), two_entries()[0])
    assert variables.names(LOADER) == ["LoaderInfo"]
    assert main(["nvram", "clear", "--efivars", variables.root]) == 0
    assert variables.names(LOADER) == ["LoaderInfo"]


def test_no_variables_is_an_error_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nvram", "list", "--efivars", "/nonexistent"]) == 1
    assert capsys.readouterr().err.startswith("loader: error: no EFI variables")


def test_the_report_leaves_room_in_the_store(variables: Variables) -> None:
    """Some firmware does not start again when that is full, and what it tells of may be on a foreign disk."""
    one, other = two_entries()
    many = [one, other._replace(id="x" * 300), *(other._replace(id=f"id-{number}") for number in range(60_000))]
    stub.report(variables, many, many[1])
    told = variables.get("LoaderEntries", LOADER)
    assert told is not None
    names = told.data.decode("utf-16-le").split("\0")
    assert names[:2] == [stub.identifier(one), "id-0"]
    assert len(told.data) <= 2 * stub.MAX_REPORT
    selected = variables.get("LoaderEntrySelected", LOADER)
    assert selected is not None
    assert len(selected.data) < 600


def test_the_report_is_what_bootctl_reads(variables: Variables) -> None:
    found = two_entries()
    stub.report(variables, found, found[1])
    names = variables.get("LoaderEntries", LOADER)
    selected = variables.get("LoaderEntrySelected", LOADER)
    assert names
    assert selected
    listed = names.data.decode("utf-16-le").split("\0")
    assert listed == [stub.identifier(entry) for entry in found] + [""]
    assert from_ucs2(selected.data) == listed[1]
    assert all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-_.") for name in listed
    )


def test_knobs_need_no_prefix_and_comments_are_skipped() -> None:
    words, warnings = stub.knobs('# mine\ntimeout=5 poolboot.debug\n\nroot=LABEL=x\nappend="a b"\n', "conf", False)
    assert words == ["poolboot.timeout=5", "poolboot.debug", "root=LABEL=x", 'poolboot.append="a b"']
    assert warnings == []
    assert config.read(" ".join(words)).append == "a b"


def test_with_secure_boot_unsigned_knobs_cannot_change_what_is_booted() -> None:
    words, warnings = stub.knobs('timeout=5\nappend="init=/bin/sh"\nroot=LABEL=x\ncmdline=x\nkernel=/x', "conf", True)
    assert words == ["poolboot.timeout=5"]
    assert len(warnings) == 4
    assert all("Secure Boot" in warning for warning in warnings)


def test_who_started_us(variables: Variables) -> None:
    assert stub.origin(variables) is None
    variables.set("StubInfo", LOADER, ucs2("systemd-stub 257"), 6)
    assert stub.origin(variables) == stub.Origin("", "", False)
    variables.set("LoaderDevicePartUUID", LOADER, ucs2("AAAA-BB"), 6)
    variables.set("LoaderImageIdentifier", LOADER, ucs2("\\EFI\\BOOT\\BOOTX64.EFI"), 6)
    assert stub.origin(variables) == stub.Origin("aaaa-bb", "/EFI/BOOT/BOOTX64.EFI", False)
