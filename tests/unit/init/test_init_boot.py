"""The boot as a whole with the machine taken away: waiting, the console, the rescue prompt, and never giving up."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from init_doubles import UUID, MemoryPool, TestConsole, system

import init
from fsdrivers import pools
from fsdrivers.block import BlockDevice
from fsdrivers.errors import Corrupt, MissingDevices
from fsdrivers.pool import Pool, Slot
from init import __main__ as main
from init import config, handover, report, waiting
from init.console import console
from init.console.console import Console
from init.console.terminal import Terminal
from init.handover import Refused, power
from init.machine.devices import Disks
from init.machine.modules import Modules
from init.roots import BootRoot

Timeline = list[tuple[float, list[Pool]]]


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class ChangingDisks(Disks):
    """Disks on which pools appear as time passes."""

    def __init__(self, clock: Time, timeline: Timeline) -> None:
        super().__init__("/nonexistent", "/nonexistent")
        self.clock, self.timeline, self.current = clock, timeline, []  # type: tuple[Time, Timeline, list[Pool]]

    def scan(self) -> bool:
        changed = False
        while self.timeline and self.clock.now() - 100 >= self.timeline[0][0]:
            self.current, changed = self.timeline.pop(0)[1], True
        return changed


class Bench:
    """A machine without hardware: pools over time, a console with typed input, kexec that takes notes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, timeline: Timeline, knobs: str = "", typed: str = "") -> None:
        self.clock = Time()
        self.machine = main.Machine()
        self.machine.console = self.console = TestConsole(typed)
        self.machine.config = config.read(knobs)
        self.machine.disks = disks = ChangingDisks(self.clock, timeline)
        self.machine.modules = Modules("", "/nonexistent")
        self.staged: list[str] = []
        self.refuse: dict[str, Exception] = {}
        self.left: list[str] = []
        monkeypatch.setattr(pools, "assemble", lambda *given: disks.current)
        monkeypatch.setattr(waiting, "Clock", lambda: self.clock)
        monkeypatch.setattr(main.time, "sleep", self.clock.sleep)
        monkeypatch.setitem(handover.WAYS, "kexec", self)
        monkeypatch.setattr(power, "reboot", lambda: self.left.append("reboot"))
        monkeypatch.setattr(power, "poweroff", lambda: self.left.append("poweroff"))

    def stage(self, entry: handover.BootEntry, config: config.BootConfig, say: Callable[[str], None]) -> None:
        if entry.version in self.refuse:
            raise self.refuse[entry.version]
        self.staged.append(f"{entry.version} {entry.cmdline}")

    def go(self) -> None:
        raise Gone

    def boot(self) -> list[str]:
        """Boot; what the console shows."""
        try:
            main.boot(self.machine)
        except Gone:
            pass
        except main.NothingBoots as error:
            main.tell(self.machine, error)
        return self.console.lines()


class Gone(BaseException):
    """The machine was handed over."""


ENTRY = "poolboot: entry 1 Test Linux 1, kernel 6.12.1 (/boot of tank:@)"
CMDLINE = f"root=UUID={UUID} rootflags=subvol=@ ro"
BOOTING = (
    "poolboot: booting Test Linux 1, kernel 6.12.1 kernel=/boot/vmlinuz-6.12.1 initrd=/boot/initrd.img-6.12.1 "
    f"cmdline={CMDLINE}"
)


def tank(missing: int = 0, *versions: str) -> MemoryPool:
    return MemoryPool({"@": system(*(versions or ("6.12.1",)))}, missing=missing)


# --- waiting and choosing ---------------------------------------------------------------------


class Nothing(BlockDevice):
    """A disk without a byte."""

    def __init__(self, name: str) -> None:
        self.name, self.size = name, 0

    def read_into(self, offset: int, buffer: memoryview) -> None:
        raise AssertionError


def twins() -> list[MemoryPool]:
    """Two pools of one uuid that do not need each other."""
    one, other = tank(0, "6.12.1"), tank(0, "6.12.2")
    for pool, rival, disk in ((one, other, "/dev/vda"), (other, one, "/dev/vdb")):
        pool.rivals = (rival,)
        pool.slots = (Slot(1, disk, disk, "online"),)
        pool.devices = (Nothing(disk),)
    return [one, other]


def test_which_of_two_copies_is_meant_only_a_person_says(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, twins())], "poolboot.timeout=1")
    asked: list[tuple[float, bool]] = []

    def ask(
        machine: main.Machine, entries: list[handover.BootEntry], selected: int, seconds: float, alone: bool
    ) -> None:
        asked.append((seconds, alone))

    monkeypatch.setattr(main, "ask", ask)
    lines = bench.boot()
    assert asked == [(0.0, False)]
    assert bench.staged == []
    assert any("which one is meant, only you know; detach one" in line for line in lines)
    assert lines[-1] == "poolboot: nothing is booted by itself: see the warnings, and choose"


def test_a_menu_that_nobody_hears_does_not_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, twins())])
    bench.machine.console = Console((), ())  # closed as soon as somebody listens
    bench.boot()
    assert bench.staged == []


def test_a_complete_pool_boots_at_once_with_the_lines_that_log_readers_know(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, [tank()])])
    lines = bench.boot()
    assert lines[:3] == [f"poolboot: pool btrfs tank {UUID} members 3/3", ENTRY, BOOTING]
    assert lines[3].startswith("poolboot: jumping after ")
    assert lines[4:] == [f"poolboot: cmdline {CMDLINE}"]  # the last one before the jump
    assert bench.staged == [f"6.12.1 {CMDLINE}"]
    assert bench.clock.now() == 100


def test_a_late_member_is_waited_for_and_the_wait_speaks_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, [tank(1)]), (2.5, [tank()])])
    lines = bench.boot()
    assert lines[0] == (
        "poolboot: waiting up to 9 s more for member 1 (uuid slot-1) of btrfs pool tank; then it goes on degraded"
    )
    assert lines[1].endswith("members 3/3")
    assert 102.5 <= bench.clock.now() < 102.7
    assert "degraded" not in bench.staged[0]


def test_after_the_wait_it_goes_on_degraded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, [tank(1)])], "poolboot.wait=4")
    lines = bench.boot()
    assert "poolboot: going on degraded: missing member 1 (uuid slot-1) of btrfs pool tank" in lines
    assert f"poolboot: pool btrfs tank {UUID} members 2/3" in lines
    assert "rootflags=subvol=@,degraded" in bench.staged[0]
    assert 104 <= bench.clock.now() < 104.2


def test_degraded_never(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, [tank(1)])], "poolboot.degraded=never")
    lines = bench.boot()
    assert bench.staged == []
    assert lines[0].endswith("then the rescue prompt, as poolboot.degraded=never")
    assert lines[-1] == (
        "poolboot: error: missing member 1 (uuid slot-1) of btrfs pool tank, and poolboot.degraded=never"
    )


@pytest.mark.parametrize(("typed", "boots"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_degraded_ask(monkeypatch: pytest.MonkeyPatch, typed: str, boots: bool) -> None:
    bench = Bench(monkeypatch, [(0, [tank(1)])], "poolboot.degraded=ask", typed)
    bench.boot()
    assert bool(bench.staged) == boots


def test_no_disks_names_what_was_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [], "poolboot.wait=3 root=LABEL=tank")
    assert bench.boot() == [
        "poolboot: waiting up to 2 s more for the pool with label tank: no disk has one so far; then the rescue prompt",
        "poolboot: error: nothing to boot; waited 3 s for the pool with label tank: no disk has one so far; "
        "disks: none",
    ]
    assert 103 <= bench.clock.now() < 103.2


def test_a_pool_without_a_kernel_is_not_the_end_of_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    data = MemoryPool({"/": {}}, "data", "1-2")
    bench = Bench(monkeypatch, [(0, [data]), (1, [data, tank()])])
    assert ENTRY in bench.boot()
    assert bench.staged


def test_root_chooses_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    other = MemoryPool({"@": system("9.9")}, "other", "1-2", missing=1)
    bench = Bench(monkeypatch, [(0, [other, tank()])], f"root=UUID={UUID}")
    bench.boot()
    assert bench.staged == [f"6.12.1 {CMDLINE}"]
    assert bench.clock.now() == 100  # the other one is none of our business


@pytest.mark.parametrize("mode", ["auto", "ask", "never"])
def test_a_pool_with_nothing_to_boot_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    data = MemoryPool({"/": {"films": {}}}, "data", "1-2", missing=1)
    bench = Bench(monkeypatch, [(0, [data, tank()])], f"poolboot.degraded={mode}")
    lines = bench.boot()
    assert "poolboot: pool btrfs data 1-2 members 2/3" in lines
    assert bench.staged == [f"6.12.1 {CMDLINE}"]
    assert bench.clock.now() == 100


@pytest.mark.parametrize("knobs", ["", f"root=UUID={UUID} rootflags=subvol=@"])
def test_the_pool_of_boot_is_waited_for(monkeypatch: pytest.MonkeyPatch, knobs: str) -> None:
    tree = system("6.12.1", fstab=b"UUID=1-2 /boot btrfs subvol=@boot 0 0\n")
    boot, tree["boot"] = tree["boot"], {}
    assert isinstance(boot, dict)
    small = [MemoryPool({"/": {}, "@boot": boot}, "small", "1-2", missing=missing) for missing in (1, 0)]
    whole = MemoryPool({"@": tree})
    bench = Bench(monkeypatch, [(0, [whole, tank(), small[0]]), (3, [whole, tank(), small[1]])], knobs)
    bench.boot()
    assert bench.staged == [f"6.12.1 {CMDLINE}"]
    assert 103 <= bench.clock.now() < 103.2


def test_a_pool_that_may_hold_anything_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = MemoryPool({"/": {}}, "other", "1-2", missing=2, trouble=MissingDevices("other", ["vda"], ["vdb"]))
    bench = Bench(monkeypatch, [(0, [broken, tank()]), (3, [MemoryPool({"/": {}}, "other", "1-2"), tank()])])
    bench.boot()
    assert bench.staged
    assert 103 <= bench.clock.now() < 103.2


def test_a_pool_beyond_rescue_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = MemoryPool({"/": {}}, "broken", "1-2", trouble=MissingDevices("broken", ["vda"], ["vdb"]))
    bench = Bench(monkeypatch, [(0, [broken, tank()])])
    assert "poolboot: note: btrfs broken: cannot list its trees: pool broken: missing vdb; present: vda" in bench.boot()
    assert bench.staged


# --- fallback ---------------------------------------------------------------------------------


def test_a_refused_entry_is_followed_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, [tank(0, "6.12.1", "6.9", "6.1")])])
    bench.refuse = {"6.12.1": Corrupt("vda", "extent", 4096), "6.9": MemoryError()}
    lines = bench.boot()
    assert "poolboot: error: Test Linux 1, kernel 6.12.1: vda: corrupt extent at offset 0x1000" in lines
    assert "poolboot: error: Test Linux 1, kernel 6.9: out of memory" in lines
    assert bench.staged == [f"6.1 {CMDLINE}"]


def test_after_the_last_entry_comes_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, [tank()])])
    bench.refuse = {"6.12.1": Refused("ENOSYS")}
    assert bench.boot()[-1] == "poolboot: error: none of the entries could be booted"


@pytest.mark.parametrize(("typed", "left"), [(" ", []), ("\0\xff", ["reboot"])])
def test_a_key_stops_what_on_error_wants(monkeypatch: pytest.MonkeyPatch, typed: str, left: list[str]) -> None:
    """Noise is no key."""
    bench = Bench(monkeypatch, [], "poolboot.wait=0 poolboot.on-error=reboot")
    monkeypatch.setattr(main, "GRACE", 0.05)
    source, sink = os.pipe()
    bench.console.terminals[-1].source = source
    os.write(sink, typed.encode("latin-1"))
    bench.boot()
    os.close(sink)
    assert bench.left == left


def test_on_error_acts_after_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    for action in ("reboot", "poweroff"):
        bench = Bench(monkeypatch, [], f"poolboot.wait=0 poolboot.on-error={action}")
        lines = bench.boot()
        assert lines[0].startswith("poolboot: error: nothing to boot")
        assert lines[1] == f"poolboot: {action} in 5 s, as poolboot.on-error={action}; any key stops this"
        assert bench.left == [action]


def test_handover_none_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, [tank()])], "poolboot.handover=none")
    lines = bench.boot()
    assert lines[-2].startswith("poolboot: would boot Test Linux 1, kernel 6.12.1 kernel=")
    assert bench.staged == []


def test_a_way_we_have_not_is_an_error_that_names_those_we_have(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, [tank()])], "poolboot.handover=switch_root")
    monkeypatch.setattr(handover, "WAYS", {"kexec": bench})
    text = "poolboot.handover=switch_root: this build hands over by kexec only"
    assert f"poolboot: error: Test Linux 1, kernel 6.12.1: {text}" in bench.boot()


def test_healing_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = tank(0, "6.12.1", "6.9")
    bench = Bench(monkeypatch, [(0, [pool])])
    bench.refuse = {"6.12.1": Refused("no")}
    original = pool.open

    def damaged(root: str | None = None) -> object:
        filesystem = original(root)
        filesystem.health.damaged("/dev/vdb", Corrupt("/dev/vdb", "data", 8192))
        return filesystem

    monkeypatch.setattr(pool, "open", damaged)
    health = [line for line in bench.boot() if "health" in line]
    assert health == [
        "poolboot: health: /dev/vdb: 1 damaged copy read around (first: /dev/vdb: corrupt data at offset 0x2000)"
    ]


# --- PID 1 ------------------------------------------------------------------------------------


class Enough(BaseException):
    """Ends a PID 1 that never ends."""


def test_pid_1_reports_its_own_crash_and_serves_the_prompt_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [])
    stays: list[int] = []

    def crash(machine: main.Machine) -> None:
        machine.console = bench.console
        machine.doing = "testing"
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise RuntimeError("a bug\nof two lines") from error

    def rescue(machine: main.Machine) -> bool:
        stays.append(1)
        if len(stays) == 3:
            raise Enough
        if len(stays) == 2:
            raise ValueError("the prompt has a bug, too")
        return True

    monkeypatch.setattr(main.Machine, "start", crash)
    monkeypatch.setattr(main, "boot", crash)
    monkeypatch.setattr(main, "rescue", rescue)
    monkeypatch.setattr(main.signals, "install", lambda restart: None)
    with pytest.raises(Enough):
        main.pid1()
    lines = bench.console.lines()
    assert lines[0] == "poolboot: error: internal error while testing"
    assert lines[1].startswith("poolboot: error:   RuntimeError: a bug of two lines (test_init_boot.py:")
    assert lines[2].startswith("poolboot: error:   KeyError: 'inner' (test_init_boot.py:")
    assert lines[3].startswith(f"poolboot: error:   poolboot {init.VERSION}, Python 3.")
    assert sum("RuntimeError" in line for line in lines) == 2  # start, and the boot after the first prompt
    assert sum("the prompt has a bug, too" in line for line in lines) == 1


def test_a_console_that_is_gone_does_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [])
    deaf = [console.Console(terminals=[Terminal(None, os.open("/dev/null", os.O_WRONLY))]) for _ in range(3)]
    opened = iter([*deaf, bench.console])
    terms = []

    def reopen(term: str) -> console.Console:
        terms.append(term)
        return next(opened)

    monkeypatch.setattr(console, "open_consoles", reopen)
    monkeypatch.setattr("init.people.rescue.time.sleep", bench.clock.sleep)
    bench.machine.config = config.read("TERM=dumb poolboot.debug")
    bench.machine.console = before = TestConsole("")
    assert main.rescue(bench.machine) is False
    assert bench.clock.now() == 100 + 4 * main.ALONE
    assert bench.machine.console is bench.console
    assert bench.console.verbose
    assert terms == ["dumb"] * 4
    assert not before.terminals
    assert not any(one.terminals for one in deaf), "their descriptors are still open"


def test_a_crash_in_telling_of_a_crash_is_survived(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    machine = main.Machine()
    monkeypatch.setattr(report, "crash", lambda *args: 1 / 0)
    main.tell(machine, ValueError("first"))
    assert "ZeroDivisionError('division by zero') while telling of ValueError('first')" in capfd.readouterr().err


@pytest.mark.parametrize("worse", [SystemExit(3), KeyboardInterrupt(), MemoryError()])
def test_it_is_survived_where_nobody_hears_of_it(monkeypatch: pytest.MonkeyPatch, worse: BaseException) -> None:
    """Descriptor 2 is a serial line that was hung up."""

    def fail(*args: object) -> None:
        raise worse

    def hung_up(fd: int, data: bytes) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(main.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(report, "crash", fail)
    monkeypatch.setattr(main.os, "write", hung_up)
    main.tell(main.Machine(), ValueError("first"))


def test_a_bug_in_the_way_of_one_entry_leaves_the_next_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, [tank(0, "6.12.1", "6.9")])])
    bench.refuse = {"6.12.1": ZeroDivisionError("a bug")}
    lines = bench.boot()
    assert "poolboot: error: internal error while booting Test Linux 1, kernel 6.12.1" in lines
    assert any(line.startswith("poolboot: error:   ZeroDivisionError: a bug (") for line in lines)
    assert bench.staged == [f"6.9 {CMDLINE}"]


def test_ctrl_alt_del_in_the_middle_of_a_page_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [])
    terminal = bench.console.terminals[0]
    terminal.full, terminal.rows = True, 4
    bench.console.pages(True)
    for _ in range(3):
        bench.console.write("a long list")
    main.restart(bench.machine, "")
    assert bench.left == ["reboot"]
    assert "-- more" not in bench.console.output()


def test_a_bug_in_reading_one_root_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from init import entries

    find = entries.find

    def buggy(place: BootRoot, *rest: Any) -> list[handover.BootEntry]:
        if place.root.name == "@":
            raise ZeroDivisionError("a bug")
        return find(place, *rest)

    monkeypatch.setattr(entries, "find", buggy)
    pool = MemoryPool({"@": system("6.12.1"), "@rootfs": system("6.9")})
    bench = Bench(monkeypatch, [(0, [pool])])
    lines = bench.boot()
    assert any(
        line.startswith(
            "poolboot: note: tank:@: its entries: internal error, ZeroDivisionError: a bug (test_init_boot.py:"
        )
        for line in lines
    )
    assert bench.staged == [f"6.9 {CMDLINE.replace('@', '@rootfs')}"]
