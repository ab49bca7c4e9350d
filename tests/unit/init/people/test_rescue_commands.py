"""The commands of the rescue prompt: what each answers, and that none takes the prompt away."""

from __future__ import annotations

import pytest
from init_doubles import UUID, MemoryPool, TestConsole, system
from memoryfs import Damaged
from test_init_boot import CMDLINE, tank

from fsdrivers import pools
from fsdrivers.errors import Corrupt
from init import config, handover
from init.console.console import Closed
from init.handover import power
from init.machine.devices import Disks
from init.people.rescue import Rescue
from init.survey import Survey


def rescue(
    typed: str, pool: MemoryPool | None, monkeypatch: pytest.MonkeyPatch, knobs: str = ""
) -> tuple[object, list[str]]:
    monkeypatch.setattr(pools, "assemble", lambda *given: [pool] if pool else [])
    monkeypatch.setattr("init.people.rescue.time.sleep", lambda seconds: None)
    screen = TestConsole(typed)
    found = Survey([], config.read(knobs)) if pool is not None else None
    result: object
    try:
        result = Rescue(screen, found, Disks("/nonexistent")).run()
    except Closed:
        result = Closed
    return result, screen.output().replace("poolboot> ", "").splitlines()


def shown(typed: str, monkeypatch: pytest.MonkeyPatch, pool: MemoryPool | None = None) -> list[str]:
    return rescue(typed + "\nretry\n", pool or tank(1, "6.12.1", "6.9"), monkeypatch)[1][1:]


def test_the_prompt_announces_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    _, lines = rescue("retry\n", None, monkeypatch)
    assert lines[0].startswith("poolboot: rescue")


def test_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown("pools", monkeypatch) == [
        f"pool btrfs tank {UUID} members 2/3 degraded",
        "  1  missing   -  slot-1",
        "  2  online    /dev/vdb  slot-2",
        "  3  online    /dev/vdc  slot-3",
    ]


def test_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown("entries", monkeypatch)
    assert lines[0] == "entry 1 Test Linux 1, kernel 6.12.1 (/boot of tank:@)"
    assert lines[4] == "entry 2 Test Linux 1, kernel 6.9 (/boot of tank:@)"


def test_ls_and_cat(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = system("6.12.1", hostname=b"box\x1b[2J\n", link="hostname")
    pool = MemoryPool({"@": tree, "other": {"a file": b"in other\n"}})
    lines = shown("ls /etc\ncat /etc/hostname\ncat /etc/link\nuse 2\ncat a file\nls", monkeypatch, pool)
    assert [line.split()[-1] for line in lines[:2]] == ["hostname", "hostname"]
    assert lines[0].startswith("-rw-r--r--     0     0           8 2001-09-09 01:46 hostname")
    assert lines[1].endswith(" link -> hostname")
    assert lines[3:5] == ["box\\x1b[2J", "box\\x1b[2J"]  # nothing on a disk drives the terminal
    assert lines[5:7] == ["now in tank:other", "in other"]
    assert lines[7].endswith(" a file")


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("cat", "cat: which file?"),
        ("cat /gone", "cat: /gone: no such file or directory"),
        ("cat /etc", "cat: /etc: is a directory"),
        ("ls /sbin/init/x", "ls: /sbin/init/x: not a directory"),
        ("ls /bad", "-rw-r--r--     0     0           1 2001-09-09 01:46 /bad"),
        ("cat /bad", "cat: vda: corrupt extent at offset 0x1000"),
        ("use 9", "use: wants a number or a name of the list that roots prints"),
        ("use x", "use: wants a number or a name of the list that roots prints"),
        ("roots", "  1  tank:@ default"),
        ("boot", "boot: which one? See entries"),
        ("boot 7", "boot: there is no entry 7"),
        ("devices", "no disks"),
        ("pool", "pool: no such command; did you mean pools?"),
        ("xyzzy", "xyzzy: no such command; try help"),
    ],
)
def test_answers(typed: str, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = system("6.1") | {"bad": Damaged(Corrupt("vda", "extent", 4096))}
    assert shown(typed, monkeypatch, MemoryPool({"@": tree})) == [answer]


def test_help_names_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(shown("help", monkeypatch))
    for command in ("pools", "ls", "cat", "entries", "boot", "devices", "dmesg", "retry", "reboot", "poweroff", "use"):
        assert f"  {command}" in text or f", {command}" in text


def test_boot_with_more_words(monkeypatch: pytest.MonkeyPatch) -> None:
    entry, _ = rescue("boot 2 single debug\n", tank(0, "6.12.1", "6.9"), monkeypatch)
    assert isinstance(entry, handover.BootEntry)
    assert (entry.version, entry.cmdline) == ("6.9", f"{CMDLINE} single debug")


def test_power(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(power, "reboot", lambda: done.append("reboot"))
    monkeypatch.setattr(power, "poweroff", lambda: done.append("poweroff"))
    rescue("reboot\npoweroff\n", None, monkeypatch)
    assert done == ["reboot", "poweroff"]


def test_a_bug_in_a_command_does_not_take_the_prompt_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Disks, "describe", lambda self: 1 / 0)
    lines = shown("devices\npools", monkeypatch)
    assert lines[0] == "poolboot: error: internal error while serving devices"
    assert any(line.startswith("pool btrfs tank") for line in lines)


def test_every_command_works_with_nothing_found(monkeypatch: pytest.MonkeyPatch) -> None:
    _, lines = rescue("pools\nroots\nls\ncat /x\nentries\nboot 1\n\n   \nretry\n", None, monkeypatch)
    assert lines[1:6] == [
        "no pools; see devices",
        "ls: there is no pool to look into",
        "cat: there is no pool to look into",
        "nothing to boot was found; see pools",
        "boot: there is no entry 1",
    ]


def test_the_end_of_input_ends_the_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rescue("pools\n", None, monkeypatch)[0] is Closed
