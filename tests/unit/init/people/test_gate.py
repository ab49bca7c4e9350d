"""What is locked stays locked for a person without the password: in the menu, at the prompt, on the way to both."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from init_doubles import MemoryPool, TestConsole, system
from test_init_boot import CMDLINE, Bench, tank

from fsdrivers import pools
from init import config, locks
from init.console.console import Closed, Console
from init.entries.snapshots import Snapshot
from init.firmware.keeper import Keeper
from init.machine.devices import Disks
from init.people import chooser
from init.people.gate import LONGEST, Gate
from init.people.menu import Menu
from init.people.rescue import LOCKED, Rescue
from init.survey import Survey

HASH = locks.make_hash("rosebud", 2)
OTHER = locks.make_hash("sesame", 2)


def knobs(level: str, made: locks.Hash = HASH) -> str:
    return f"poolboot.lock={level} poolboot.lock-password={made}"


def gate(level: str, secure: bool = False, added: str = "") -> Gate:
    given = config.read(knobs(level) if level else "")._replace(secure=secure)
    found = Gate()
    found.hold(config.more(given, added), given)
    return found


class Person(Console):
    """Somebody who types what stands in a list, None for letting the time pass, at a clock of its own."""

    def __init__(self, keys: Iterable[str | None] = ()) -> None:
        super().__init__()
        self.keys, self.now, self.shown = list(keys), 100.0, ""

    def clock(self) -> float:
        return self.now

    def key(self, timeout: float | None = None) -> str | None:
        if not self.keys:
            raise Closed
        key = self.keys.pop(0)
        if key is None and timeout is not None:
            self.now += timeout
        return key

    def forget(self) -> None:
        """What is typed ahead is not in the list."""

    def _put(self, text: str) -> None:
        self.shown += text


# --- the gate ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "closed"), [
    ("", []), ("editor", ["editor"]), ("menu", ["editor", "menu"]), ("all", ["editor", "menu", "all"]),
])  # fmt: skip
def test_each_level_locks_what_those_before_it_do(level: str, closed: list[str]) -> None:
    found = gate(level)
    assert [one for one in locks.LEVELS if found.closed(one)] == closed
    if level:
        assert not found.opens("Rosebud")
        assert [one for one in locks.LEVELS if found.closed(one)] == closed
        assert found.opens("rosebud")
    assert not any(found.closed(one) for one in locks.LEVELS)


def test_a_wrong_password_costs_more_each_time_and_keys_meanwhile_count_for_nothing() -> None:
    person = Person([*"a", "enter", *"rosebud", "enter", None, *"b", "enter", None, *"rosebud", "enter"])
    found = Gate(person.clock)
    given = config.read(knobs("editor"))
    found.hold(given, given)
    assert found.ask(person, "editor")
    assert person.now == 103.0  # one second, then two; what was typed in the first one did not open anything
    assert person.shown.count("Password: ") == 3
    assert "rosebud" not in person.shown
    for number in range(12):
        found = found if number else Gate(person.clock)
        found.hold(given, given)
        assert not found.opens("wrong")
    assert found._until - person.now == LONGEST


@pytest.mark.parametrize("end", ["escape", "interrupt", "eof", None, "enter"])
def test_the_dialog_ends_without_a_password(end: str | None) -> None:
    assert not gate("all").ask(Person(["r", "o", end] if end != "enter" else [end]), "all")


def test_who_writes_the_conf_adds_a_lock_and_lifts_none() -> None:
    found = gate("editor", added=knobs("all", OTHER))
    assert found.closed("all")
    assert found.opens("sesame")
    assert not found.closed("all")
    assert found.closed("editor")  # the command line's own
    assert found.opens("rosebud")
    assert not found.closed("editor")
    owner = gate("editor", added=knobs("all", OTHER))
    assert owner.opens("rosebud")  # who may do everything there
    assert not owner.closed("all")


def test_a_repeated_lock_does_not_open_the_one_it_repeats() -> None:
    """The conf has a lock of its own, behind it the EFI variable one that is the signed one letter by letter."""
    given = config.read(knobs("editor"))._replace(secure=True)
    found = Gate()
    found.hold(config.more(config.more(given, knobs("editor", OTHER)), knobs("editor")), given)
    assert found.opens("sesame")
    assert found.closed("editor")
    assert found.closed("editor", typed=True)


def test_a_lock_without_a_password_is_not_asked_for() -> None:
    given = config.read("poolboot.lock=menu")
    found = Gate()
    (told,) = found.hold(given, given)
    assert "nobody can open it" in told
    assert not found.ask(Person(), "menu")
    assert found.closed("menu") == "locked, and no password opens it"
    assert found.ask(Person(), "all")
    assert found.hold(given, given) == []


def test_secure_boot_takes_typing_only_from_who_has_the_signed_password() -> None:
    assert "nobody has signed" in gate("", secure=True).closed("editor", typed=True)
    assert not gate("", secure=True).ask(Person(), "editor", typed=True)
    assert not gate("", secure=True).closed("editor")
    unsigned = gate("", secure=True, added=knobs("editor"))
    assert unsigned.opens("rosebud")
    assert "nobody has signed" in unsigned.closed("editor", typed=True)
    signed = gate("editor", secure=True)
    assert signed.ask(Person([*"rosebud", "enter"]), "editor", typed=True)
    menu = gate("menu", secure=True)
    assert menu.ask(Person([*"rosebud", "enter"]), "editor", typed=True)


def test_typed_knobs_are_held_to_the_list() -> None:
    found = gate("", secure=True)
    assert found.objections("poolboot.wait=60 poolboot.debug") == []
    for text in (
        "poolboot.append-initrd=esp:/x", "root=ZFS=a/b", "rootflags=subvol=x", "poolboot.kernel=/x",
        "poolboot.handover=switch_root",
        'poolboot.debug="x', "poolboot.lock=editor", "poolboot.lock_password=x",
    ):  # fmt: skip
        assert found.objections(text), text
    assert gate("").objections("root=LABEL=evil poolboot.kernel=/x") == []
    assert gate("").objections('poolboot.append="a')
    given = config.read("poolboot.timeout=5")._replace(secure=True)
    found.hold(given, given)
    assert found.objections("poolboot.timeout=1")


def test_a_typed_root_leaves_pools_out_while_secure_boot_is_on() -> None:
    found, base = gate("", secure=True), config.read("")._replace(secure=True, narrow="LABEL=conf")
    assert found.objections("root=LABEL=mine poolboot.wait=9") == []
    mine = found.typed(base, "root=LABEL=mine poolboot.wait=9")
    assert (mine.root, mine.narrow, mine.wait) == ("", "LABEL=mine", 9)
    assert found.typed(base, "root=").narrow == ""
    pinned = config.read("root=LABEL=signed")._replace(secure=True)
    found.hold(pinned, pinned)
    assert found.objections("root=LABEL=mine")
    assert found.typed(pinned, "root=LABEL=mine") == pinned
    assert gate("").typed(config.read(""), "root=LABEL=mine").root == "LABEL=mine"


# --- the prompt -------------------------------------------------------------------------------


@pytest.fixture
def survey(monkeypatch: pytest.MonkeyPatch) -> Survey:
    pool = MemoryPool({"@": system("6.12.1", "6.9"), "@home": {}})
    monkeypatch.setattr(pools, "assemble", lambda *given: [pool])
    return Survey([], config.read(""))


def rescue(typed: str, found: Survey, locked: Gate, keeper: Keeper | None = None) -> tuple[Rescue, TestConsole]:
    console = TestConsole(typed)
    return Rescue(console, found, Disks("/nonexistent"), keeper, locked), console


@pytest.mark.parametrize("line", [
    "ls /", "cat /etc/os-release", "sha256 /etc/os-release", "use tank:@", "dmesg 1", "default 1", "once 1", "boot 1",
    "menu", "boot 1 single", "retry poolboot.debug",
])  # fmt: skip
def test_a_locked_prompt_asks_before_it_does(survey: Survey, line: str) -> None:
    prompt, console = rescue(f"{line}\n\nretry\n", survey, gate("all"))
    assert prompt.run() is None
    assert prompt.knobs == ""
    shown = console.output()
    assert "Password: " in shown
    assert f"{line.split()[0]}: locked: it takes the password" in shown
    assert "Test Linux" not in shown
    assert prompt._history == [line, "retry"]


def test_every_command_is_free_by_intention() -> None:
    prompt = Rescue(TestConsole(), None, Disks("/nonexistent"))
    free = {"pools", "devices", "roots", "entries", "help", "unlock", "retry", "reboot", "poweroff"}
    assert set(prompt._names()) - set(LOCKED) == free


def test_a_locked_prompt_shows_the_state_and_completes_no_names(survey: Survey) -> None:
    prompt, console = rescue("pools\nentries\ncat /et\t\x15unlock rosebud\nretry\n", survey, gate("editor"))
    prompt.run()
    shown = console.output()
    assert "pool btrfs tank" in shown
    assert "/etc" not in shown
    assert prompt._history == ["pools", "entries", "retry"]
    assert prompt._complete("boot tank:@/6.1")[1] == ["tank:@/6.12.1"]  # of the list that everybody sees
    assert Rescue(console, survey, Disks("/nonexistent"), None, gate("all"))._complete("boot t")[1] == []


def test_the_password_opens_the_prompt_and_is_seen_nowhere(survey: Survey) -> None:
    prompt, console = rescue("unlock\nrosebud\ncat /etc/os-release\nboot 2 single\n", survey, gate("all"))
    entry = prompt.run()
    assert entry
    assert entry.cmdline == f"{CMDLINE} single"
    shown = console.output()
    assert "unlocked" in shown
    assert "Test Linux 1" in shown
    assert "rosebud" not in shown + "".join(prompt._history)
    prompt, console = rescue("unlock\nretry\n", survey, Gate())
    prompt.run()
    assert "nothing is locked" in console.output()


def test_entries_may_be_chosen_where_the_editor_is_locked(survey: Survey) -> None:
    for level in ("editor", "menu"):
        prompt, console = rescue("boot 2\n", survey, gate(level))
        entry = prompt.run()
        assert entry
        assert (entry.version, entry.cmdline) == ("6.9", CMDLINE)
        assert "Password" not in console.output()


def test_words_are_refused_while_secure_boot_is_on(survey: Survey) -> None:
    prompt, console = rescue(
        "boot 1 init=/bin/sh\nretry poolboot.append-initrd=esp:/x\nretry root=/dev/sda\nretry poolboot.wait=5\n",
        survey,
        gate("", secure=True),
    )
    assert prompt.run() is None
    assert prompt.knobs == "poolboot.wait=5"
    shown = console.output()
    assert "boot: Secure Boot is on, and nobody has signed what is typed here" in shown
    assert "retry: typed: poolboot.append-initrd does not count" in shown


# --- the menu ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "keys", "asked"), [
    ("editor", "e", True), ("editor", "m", True), ("editor", "s", False), ("menu", "s", True), ("menu", "d", False),
    ("menu", "de", True), ("editor", "2", False),
])  # fmt: skip
def test_keys_of_a_locked_menu(survey: Survey, level: str, keys: str, asked: bool) -> None:
    console = TestConsole(f"{keys}\n" + ("\x1b" if not asked else "") + "r")
    shown = Menu(survey.entries(), source=survey, gate=gate(level))
    chooser.run(console, shown)
    text = console.output()
    assert ("Password: " in text) == asked
    assert ("locked: it takes the password" in text) == asked


def test_the_password_opens_the_editor(survey: Survey) -> None:
    console = TestConsole("erosebud\r single\r")
    outcome = chooser.run(console, Menu(survey.entries(), gate=gate("editor")))
    assert outcome.entry
    assert outcome.entry.cmdline == f"{CMDLINE} single"
    assert "rosebud" not in console.output()


def test_the_editor_is_shut_while_secure_boot_is_on(survey: Survey) -> None:
    console = TestConsole("er")
    assert chooser.run(console, Menu(survey.entries(), gate=gate("", secure=True))).entry is None
    assert "nobody has signed what is typed here" in console.output()


def test_who_leaves_the_menu_gets_nothing_that_is_locked_or_takes_a_choice(survey: Survey) -> None:
    """All consoles are gone: also while the password was asked for."""
    first, *_ = survey.entries()
    made = Snapshot(first.place.pool, first.place.root, "btrfs", "1", 0)
    for entry, level, alone, boots in (
        (first, "menu", True, True), (first, "menu", False, False),
        (first._replace(snapshot=made), "menu", True, False),
        (first._replace(snapshot=made), "editor", True, True),
    ):  # fmt: skip
        for keys in ([], ["e"], ["m", "x"]):
            shown = Menu([entry], gate=gate(level))
            shown.alone = alone
            assert (chooser.run(Person(keys), shown).entry is not None) == boots


# --- the boot ---------------------------------------------------------------------------------


def test_nothing_but_the_default_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, [tank()])], f"poolboot.timeout=5 {knobs('all')}", "x")
    shown = "\n".join(bench.boot())
    assert "Password: " in shown
    assert "What can be booted" not in shown
    assert bench.staged


def test_a_bad_lock_is_told_at_each_start(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, [tank()])], "poolboot.lock=nonsense")
    shown = "\n".join(bench.boot())
    assert "warning: poolboot.lock=nonsense: wants one of editor, menu, all: not understood" in shown
