"""The rescue prompt as it is typed at, and the way from a menu to a boot and back when that fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from init_doubles import MemoryPool, TestConsole, system
from test_init_boot import CMDLINE, Bench, tank

from fsdrivers import bounds, pools
from init import __main__ as main
from init import config
from init.console.console import Enough
from init.firmware.efivars import Variables
from init.firmware.keeper import Keeper
from init.handover import Refused
from init.machine.devices import Disks
from init.people.rescue import Rescue
from init.survey import Survey


@pytest.fixture
def prompt(monkeypatch: pytest.MonkeyPatch) -> Rescue:
    tree = system("6.12.1", "6.9") | {"a file": b"1", "afraid": b"2", "annex": {"deep": b"3"}}
    pool = MemoryPool({"@": tree, "@home": {}})
    monkeypatch.setattr(pools, "assemble", lambda *given: [pool])
    return Rescue(TestConsole(), Survey([], config.read("")), Disks("/nonexistent"))


@pytest.mark.parametrize(
    ("typed", "completions"),
    [
        ("po", ["pools ", "poweroff "]), ("  retr", ["retry "]), ("men", ["menu "]), ("x", []),
        ("ls /a", ["a file", "afraid", "annex/"]), ("ls -l /an", ["annex/"]),
        ("cat /annex/d", ["deep"]), ("cat an", ["annex/"]),
        ("retry root= poolboot.app", ["poolboot.append-initrd=", "poolboot.append="]),
        ("ls /gone/x", []), ("sha256 /a /an", ["annex/"]), ("use TANK:@h", ["tank:@home"]), ("dmesg x", []),
        ("boot test linux 1, kernel 6.9", ["Test Linux 1, kernel 6.9"]),
        ("boot tank:@/6.1", ["tank:@/6.12.1"]),
    ],
)  # fmt: skip
def test_completion(prompt: Rescue, typed: str, completions: list[str]) -> None:
    start, found = prompt._complete(typed)
    assert sorted(found) == completions
    word = typed[start:]
    assert all(one.lower().startswith(word.lower()) for one in found)


def test_commands_are_remembered(prompt: Rescue) -> None:
    prompt._console = TestConsole("pools\npools\n\nls /etc\nretry\n")
    assert prompt.run() is None
    assert prompt._history == ["pools", "ls /etc", "retry"]


@pytest.mark.parametrize(
    ("typed", "version", "words"),
    [
        ("boot 2", "6.9", ""), ("boot tank:@/6.9 single", "6.9", " single"),
        ("boot Test Linux 1, kernel 6.9  a b", "6.9", " a b"), ("menu\n2\r", "6.9", ""), ("menu\n2e x\r", "6.9", " x"),
    ],
)  # fmt: skip
def test_entries_by_number_id_title_and_from_the_menu(prompt: Rescue, typed: str, version: str, words: str) -> None:
    prompt._console = TestConsole(f"{typed}\n")
    entry = prompt.run()
    assert entry
    assert (entry.version, entry.cmdline) == (version, CMDLINE + words)


def test_a_menu_that_is_left_for_the_prompt_leads_back(prompt: Rescue) -> None:
    console = prompt._console = TestConsole("menu\nrretry\n")
    assert prompt.run() is None
    assert console.output().count("poolboot> ") == 2


def test_checksums(prompt: Rescue) -> None:
    console = prompt._console = TestConsole("sha256 /afraid /annex/deep\nsha256 /a file\nsha256\nretry\n")
    prompt.run()
    lines = console.output().splitlines()
    assert "poolboot> d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35  /afraid" in lines
    assert "4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce  /annex/deep" in lines
    assert any(line.startswith("2 bytes read and hashed in 0.") for line in lines)
    assert "poolboot> 6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b  /a file" in lines
    assert "poolboot> sha256: which files?" in lines


# --- from the menu to a boot ------------------------------------------------------------------


def test_a_key_before_the_choice_brings_the_menu(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, [tank(0, "6.12.1", "6.9")])], typed="2\r")
    lines = bench.boot()
    assert "What can be booted:" in lines
    assert bench.staged == [f"6.9 {CMDLINE}"]


def test_what_was_picked_and_fails_leads_back_to_the_menu(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, [tank(0, "6.12.1", "6.9")])], "poolboot.timeout=60", typed="2\r1e debug\r")
    bench.refuse = {"6.9": Refused("no room")}
    lines = bench.boot()
    assert lines.count("What can be booted:") == 2
    assert "poolboot: error: Test Linux 1, kernel 6.9: no room" in lines
    assert "Test Linux 1, kernel 6.9: no room" in lines
    assert bench.staged == [f"6.12.1 {CMDLINE} debug"]


def test_the_menu_leads_to_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, [tank(0, "6.12.1", "6.9")])], "poolboot.timeout=60", typed="r")
    bench.boot()
    assert bench.staged == []


@pytest.mark.parametrize(("versions", "menus"), [(("6.12.1", "6.9"), 1), (("6.12.1",), 0)])
def test_a_countdown_that_runs_out_goes_down_the_list(
    monkeypatch: pytest.MonkeyPatch, versions: tuple[str, ...], menus: int
) -> None:
    bench = Bench(monkeypatch, [(0, [tank(0, *versions)])], "poolboot.timeout=0.05")
    source, sink = os.pipe()
    bench.console.terminals[-1].source = source
    bench.refuse = {versions[0]: Refused("no")} if menus else {}
    lines = bench.boot()
    os.close(sink)
    assert lines.count("What can be booted:") == menus
    assert bench.staged == [f"{versions[-1]} {CMDLINE}"]
    assert menus or any("in 1 s; any key stops for the menu" in line for line in lines)


def test_a_key_during_the_line_of_a_single_entry_brings_the_menu(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, [tank()])], "poolboot.timeout=5")
    source, sink = os.pipe()
    bench.console.terminals[-1].source = source
    waiting = bench.console.waiting

    def late() -> bool:
        found = waiting()
        os.write(sink, b" e x\r")
        return found

    monkeypatch.setattr(bench.console, "waiting", late)
    lines = bench.boot()
    assert any("any key stops for the menu" in line for line in lines)
    assert "What can be booted:" in lines
    assert bench.staged == [f"6.12.1 {CMDLINE} x"]


def test_a_default_is_set_and_taken_back(prompt: Rescue, tmp_path: Path) -> None:
    (tmp_path / "Some-x").write_bytes(b"....x")
    prompt._keeper = Keeper([], config.read(""), Variables(str(tmp_path)))
    prompt._console = screen = TestConsole(
        "default 2\nonce Test Linux 1, kernel 6.12.1\ndefault 7\ndefault\nonce\nretry\n"
    )
    assert prompt.run() is None
    text = screen.output()
    for line in (
        "tank:@/6.9 is wanted for all boots, says EFI variable Boots",
        "tank:@/6.12.1 is wanted for the next boot, says EFI variable Boots",
        "there is no entry 7",
        "nothing is wanted for all boots any more",
        "nothing is wanted for the next boot any more",
    ):
        assert line in text
    assert sorted(prompt._complete("default TANK:@/6.9")[1]) == ["tank:@/6.9"]


def test_no_default_without_a_memory(prompt: Rescue) -> None:
    for keeper, answer in (
        (None, "no memory from boot to boot yet"),
        (Keeper([], config.read("")), "default: there is no"),
    ):
        prompt._keeper = keeper
        prompt._console = screen = TestConsole("default 1\nretry\n")
        assert prompt.run() is None
        assert answer in screen.output()


# --- what people type, and what names hold ----------------------------------------------------


def answers(prompt: Rescue, *typed: str) -> str:
    prompt._console = screen = TestConsole("\n".join([*typed, "retry", ""]))
    assert prompt.run() is None
    return screen.output()


def test_habits_are_understood(prompt: Rescue) -> None:
    plain = answers(prompt, "ls /annex")
    assert answers(prompt, "ls -la /annex") == plain
    assert answers(prompt, "ls -l") == answers(prompt, "ls")
    assert "\n2\n3\n" in "\n" + answers(prompt, "cat /afraid /annex/deep").replace("poolboot> ", "")
    assert "exit: no such command; retry, boot, reboot and poweroff leave this prompt" in answers(prompt, "exit")
    assert "dmesg: -w is not a number of lines" in answers(prompt, "dmesg -w")
    assert "dmesg: no such command" not in answers(prompt, "dmesg 1")


def test_dmesg_shows_as_many_lines_as_asked_for(prompt: Rescue, monkeypatch: pytest.MonkeyPatch) -> None:
    log = b"".join(b"<6>[%5d.000000] line %d\n" % (number, number) for number in range(50))
    monkeypatch.setattr("init.machine.syscalls.kernel_log", lambda: log)
    for typed, count in (("dmesg 3", 3), ("dmesg 0", 0), ("dmesg", 40), ("dmesg 99", 50)):
        assert answers(prompt, typed).count("line ") == count


def test_no_name_on_a_disk_takes_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    forged = "x\npoolboot: error: forged\x1b[2J"
    tree = system("6.12.1") | {forged: {forged: b""}}
    pool = MemoryPool({"@": tree, forged: {}}, name=f"tank{forged}")
    monkeypatch.setattr(pools, "assemble", lambda *given: [pool])
    prompt = Rescue(TestConsole(), Survey([], config.read("")), Disks("/nonexistent"))
    typed = ["pools", "roots", "use 2", "use 1", "ls", "entries", "boot 7", f"ls {forged[:1]}", "cat /nope", "devices"]
    text = answers(prompt, *typed)
    assert "forged" in text
    assert "\x1b" not in text
    assert not any(line.startswith("poolboot: error: forged") for line in text.splitlines())


def test_a_checksum_can_be_interrupted(prompt: Rescue, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise Enough

    prompt._console = screen = TestConsole("sha256 /afraid\nretry\n")
    monkeypatch.setattr(screen, "interrupted", interrupted)
    assert prompt.run() is None
    assert "d4735e3a" not in screen.output()


def test_disks_that_come_and_go_are_told(tmp_path: Path) -> None:
    for name in ("vda", "vdb"):
        (tmp_path / "class/block" / name).mkdir(parents=True)
        (tmp_path / "class/block" / name / "size").write_text("16\n")
        (tmp_path / name).write_bytes(bytes(8192))
    disks = Disks(str(tmp_path), str(tmp_path))
    disks.problems["vdz"] = "cannot be opened"
    disks.scan()
    assert disks.describe() == [f"{tmp_path}/vda  8.0 KiB", f"{tmp_path}/vdb  8.0 KiB"]
    shutil.move(tmp_path / "class/block/vda", tmp_path / "class/block/vdc")
    assert disks.describe() == [
        f"{tmp_path}/vda  8.0 KiB, gone", f"{tmp_path}/vdb  8.0 KiB", f"{tmp_path}/vdc  new; retry looks at it",
    ]  # fmt: skip


# --- knobs at the prompt ----------------------------------------------------------------------


def test_a_wrong_root_is_mended_at_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, [tank()])], "root=UUID=gone poolboot.wait=0")
    lines = bench.boot()
    assert any("nothing to boot; waited 0 s for the pool with uuid gone" in line for line in lines)
    prompt = bench.machine.console = TestConsole("entries\nmenu\nretry now\nretry poolboot.wait=x\nretry root=\n")
    assert main.rescue(bench.machine)
    text = prompt.output()
    hint = "nothing is looked into but the pool with uuid gone, as root= asks for it; retry root= looks into all pools"
    assert text.count(hint) == 2
    assert "retry: now is no knob" in text
    assert "retry: poolboot.wait=x: wants seconds" in text
    bench.machine.console = bench.console
    bench.boot()
    assert bench.staged == [f"6.12.1 {CMDLINE}"]


def test_knobs_of_the_prompt_go_on_top_and_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    first = config.read('root=UUID=x poolboot.append="a b" poolboot.timeout=7')
    assert config.more(first, "poolboot.timeout=9").append == "a b"
    assert config.more(first, "poolboot.timeout=9").timeout == 9
    assert config.more(config.read("")._replace(timeout=3), "root=").timeout == 3
    bench = Bench(monkeypatch, [])
    for typed in ("poolboot.debug", "poolboot.wait=1"):
        bench.machine.console = TestConsole(f"retry {typed}\n")
        assert main.rescue(bench.machine)
    assert bench.machine.typed == "poolboot.debug poolboot.wait=1"


def test_a_command_that_a_disk_makes_endless_comes_back(prompt: Rescue, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(_: str) -> None:
        while True:
            pass

    monkeypatch.setitem(prompt._commands, "ls", endless)
    bounds.use(bounds.Wall(seconds=0.3))
    try:
        prompt._serve("ls", "")
    finally:
        bounds.use(None)
    screen = prompt._console
    assert isinstance(screen, TestConsole)
    assert screen.lines() == ["ls: this command: it took more than 0 s of the processor's time; left out"]
