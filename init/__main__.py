"""The boot, top to bottom.  As PID 1 it never ends: what goes wrong ends at the rescue prompt."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from fsdrivers import bounds
from fsdrivers.errors import FsError
from init import BEGAN, handover, locks, report, survey, waiting
from init import config as _config
from init import phases as _phases
from init.console import console as _console
from init.console.console import Closed, Console
from init.console.keys import is_deliberate
from init.entries.entry import BootEntry
from init.firmware import keeper
from init.firmware.efivars import Variables, secure_boot
from init.firmware.keeper import Keeper
from init.handover import power
from init.machine import modules, namespace, signals, syscalls
from init.machine.devices import Disks
from init.machine.modules import Modules
from init.machine.watchdog import Watchdog
from init.phases import CLOCK
from init.survey import Survey
from init.trust import Trust

if TYPE_CHECKING:
    from init.firmware.pathb import PathB
    from init.people.gate import Gate

FIRMWARE = "/sys/firmware/efi"
YEAR_2000 = 946684800  # seconds since 1970
MAX_TOLD = 200  # entries that are printed: a slow line takes its time for each
GRACE = 5  # seconds to read the error before poolboot.on-error= acts
ALONE = 5  # seconds between looks for a console when there is none


class NothingBoots(FsError):
    """Every way was tried; the message says what was missing."""


class Machine:
    """The machine we run on.  Made empty and filled step by step, so that a crash finds what there is by then."""

    def __init__(self) -> None:
        self.doing = ""
        self.console = Console(outputs=(2,), inputs=(0,))
        self.config = _config.BootConfig()
        self.given: _config.BootConfig | None = None  # as config was before anything came on top of the command line
        self.disks = Disks()
        self.modules = Modules("")
        self.survey: Survey | None = None
        self.firmware: PathB | None = None
        self.watchdog = Watchdog()
        self.keeper: Keeper | None = None
        self.typed = ""  # knobs that a person added at the prompt
        self.gate: Gate | None = None  # what people may do; None while nothing is locked and nobody came

    def begin(self, doing: str) -> None:
        """Note what comes next: a crash names it, and poolboot.debug shows when it began."""
        self.doing = doing
        self.console.debug(f"{time.monotonic() - BEGAN:.2f} s: {doing}")

    def open_consoles(self) -> None:
        """Open the consoles that there are now, and let go of those before."""
        before = self.console
        self.console = _console.open_consoles(term=self.config.term)
        self.console.verbose = self.config.debug
        before.close()

    def guard(self) -> Gate:
        """The gate, with what is locked by now."""
        if self.gate is None:
            from init.people.gate import Gate  # most boots have neither a lock nor a person

            self.gate = Gate()
        for line in self.gate.hold(self.config, self.given or self.config):
            self.console.say(f"warning: {line}")
        return self.gate

    def trust(self, known: dict[str, frozenset[str]]) -> Trust:
        """How far each of the disks that there are now is trusted; ``known``: the pools that were booted from."""
        origin = self.firmware.disk(self.disks.devices) if self.firmware else ""
        return Trust(self.disks.about(), origin, known)

    def start(self) -> None:
        """Mount what shows the machine, read the command line, open the consoles."""
        self.begin("starting")
        namespace.hold_streams()
        problems = namespace.mount_all()
        # Also when something below goes wrong: the prompt that follows holds people to it.
        self.config = _config.read(own := _config.own())._replace(secure=secure_boot(Variables()))
        self.open_consoles()
        _console.quiet_kernel(self.config.parameters)
        self.console.say(report.versions().removeprefix("poolboot "))
        if len(os.fsencode(own.rstrip("\n"))) >= _config.LONGEST:
            problems.append(f"the command line has {_config.LONGEST} bytes: the kernel may have cut off its end")
        for problem in (*problems, *self.config.warnings):
            self.console.say(f"warning: {problem}")
        if time.time() < YEAR_2000:
            self.console.say(
                f"note: the clock says {time.strftime('%Y-%m-%d', time.gmtime())}: no RTC, or its battery is empty"
            )
        power.signal_ctrl_alt_del()
        self.modules = Modules(modules.read())
        if watched := self.watchdog.start(self.config.watchdog):
            self.console.say(watched)
        if os.path.isdir(FIRMWARE):
            from init.firmware import pathb  # imported where there is use for it: each import costs time

            self.firmware = pathb.detect(self.modules)
            self.config = self.config._replace(secure=secure_boot(Variables()))


def boot(machine: Machine) -> None:
    """Find what to boot and leave for it; raises NothingBoots when this machine stays."""
    console = machine.console
    given = machine.given = machine.config = machine.given or machine.config
    bounds.use(bounds.Wall(lambda text: machine.console.say(text), limit=syscalls.limit_data))
    if machine.firmware:
        machine.begin("looking for knobs beside the EFI file")
        machine.config = machine.firmware.configure(given, machine.disks, machine.modules, console)
    if machine.typed:
        machine.config = machine.guard().typed(machine.config, machine.typed)
        console.verbose = machine.config.debug
    config = machine.config
    if config.locks:
        machine.guard()

    machine.begin("waiting for disks")
    known = keeper.known(Variables())
    found = machine.survey = waiting.gather(
        machine.disks, machine.modules, config, console, trust=lambda: machine.trust(known)
    )
    config = machine.config = config._replace(origin=found.trust.origin)
    for pool in found.pools:
        console.say(survey.pool_line(pool))

    machine.begin("looking for something to boot")
    CLOCK.enter(_phases.ENTRIES)
    for pool in found.incomplete:
        permit_degraded(machine, survey.missing_text(pool))
    entries = found.entries()
    for note in found.notes:
        console.once(f"note: {note}")
    for number, entry in enumerate(entries[:MAX_TOLD], 1):
        console.say(f"entry {number} {entry.title} ({entry.source})")
        for note in entry.notes:
            console.once(f"note: {entry.id}: {note}")
    if len(entries) > MAX_TOLD:
        console.say(f"and {len(entries) - MAX_TOLD} more entries, which the menu lists")

    kept = machine.keeper = Keeper(machine.disks.devices, config, Variables(), machine.modules, found.trust)
    choice = kept.choose(found)
    for warning in (*kept.notes, choice.warning, *found.doubts):
        if warning:
            console.say(f"warning: {warning}")
    if entries and config.handover == "none":
        console.say(f"would boot {choice.order[0].describe()}")
        raise NothingBoots("poolboot.handover=none: found what to boot, and stays here")
    order = choice.order
    for reason in choice.reasons:
        console.debug(f"{order[0].id} comes first, as {reason}")
    unsure = bool(entries) and (found.undecided or not order)
    seconds = menu_seconds(machine, entries, order[0] if order else entries[0], found.doubts) if entries else None
    if unsure:
        console.say("nothing is booted by itself: see the warnings, and choose")
        seconds = 0.0 if seconds is not None or let_in(machine) else None
        order = ()
    if seconds is not None:
        selected = entries.index(order[0]) if order and order[0] in entries else 0
        picked = ask(machine, entries, selected, seconds, not unsure)
        if picked is None:
            return
        order = (picked, *(entry for entry in order if entry != picked))
    for entry, ways in handover.rounds(config.handover, order, config.whole):
        if ways is not None and ways[0] in handover.LAST_RESORTS:
            console.once("no entry could be started with a kernel of its own: now the roots under this kernel")
        leave(machine, entry, ways)
    raise NothingBoots(verdict(machine, bool(entries)))


def menu_seconds(
    machine: Machine, entries: list[BootEntry], first: BootEntry, doubts: Sequence[str] = ()
) -> float | None:
    """How long a menu is to count down before it boots ``first``: 0 for ever, None for no menu at all.  ``doubts`` stop
    a countdown.

    Nobody who has one entry wants to choose: a line counts down, and a key brings the menu.
    """
    console, seconds = machine.console, machine.config.timeout
    locked = bool(machine.config.locks) and bool(machine.guard().closed(locks.ALL))
    if console.waiting():
        return 0.0 if not locked or let_in(machine) else None
    if not seconds:
        return None
    if len(entries) > 1 and not locked:
        return 0.0 if doubts else seconds
    from init.people import (
        chooser,  # as the menu and the prompt below: most boots need none of them, and they cost time
    )

    offer = "asks for the password" if locked else "stops for the menu"
    with CLOCK.of(_phases.PERSON):
        if not chooser.countdown(console, first.title, seconds, offer=offer):
            return None
    return 0.0 if not locked or let_in(machine) else None


def let_in(machine: Machine) -> bool:
    """Whether more than the default may be booted; where that is locked, what was typed before the question is lost."""
    gate = machine.guard()
    if not gate.closed(locks.ALL):
        return True
    machine.console.forget()
    try:
        with CLOCK.of(_phases.PERSON):
            return gate.ask(machine.console, locks.ALL)
    except Closed:
        return False


def ask(
    machine: Machine, entries: list[BootEntry], selected: int, seconds: float, alone: bool = True
) -> BootEntry | None:
    """Show the menu, and boot what a person picks until that works; with ``alone`` what is selected when nobody can be
    heard.

    Returns the entry when nobody did anything for ``seconds`` seconds, None when the rescue prompt is wanted.
    """
    from init.people import chooser
    from init.people.menu import Menu

    message, found = "", machine.survey
    while True:
        prefer = machine.keeper.toggle if machine.keeper else None
        menu = Menu(entries, selected, seconds or None, found, prefer, machine.guard())
        menu.message, menu.alone = message, alone
        with CLOCK.of(_phases.PERSON):
            outcome = chooser.run(machine.console, menu)
        if outcome.entry is None or menu.left is not None:
            return outcome.entry
        message, seconds, selected = leave(machine, outcome.entry), 0.0, menu.levels[0].selected


def leave(machine: Machine, entry: BootEntry, ways: Sequence[str] | None = None) -> str:
    """Hand over to ``entry``, by one of ``ways`` if they are given; returns when that fails, with the reason, which the
    console got."""
    console, config = machine.console, machine.config
    machine.begin(f"booting {entry.title}")
    try:
        if config.append_initrd:
            from init.entries import appended

            entry = appended.attach(entry, config, machine.survey.lenders(entry) if machine.survey else ())
        console.say(f"booting {entry.describe()}")
        machine.watchdog.hold()
        way = handover.stage(entry, config, console.say, ways)
        survey.health([entry.place], lambda line: console.once(f"health: {line}"))
        if machine.firmware and machine.survey:
            machine.firmware.report(machine.survey.entries(), entry, console)
        if machine.keeper:
            machine.keeper.starting(entry, console.say)
        console.say(f"jumping after {CLOCK.summary(program_loading())}")
        console.say(f"cmdline {entry.cmdline or 'its-own'}")
        console.drain()
        console.restore()
        machine.watchdog.hand_over()
        way.go()
        error: Exception = handover.Refused("the machine stays")
    except Exception as problem:
        error = problem
    console.raw()
    machine.watchdog.resume()
    survey.health([entry.place], lambda line: console.once(f"health: {line}"))
    why = "out of memory" if isinstance(error, MemoryError) else str(error) or type(error).__name__
    text = f"{entry.title}: {why}"
    if not isinstance(error, (FsError, OSError, MemoryError)):  # a fault of ours: the next entry may do without it
        tell_crash(machine, error)
        text = f"{entry.title}: internal error, {type(error).__name__}"
    console.error(text)
    return text


def program_loading() -> float:
    """Seconds from the kernel's start of /init to our first line, 0 when they are not known."""
    try:
        return _phases.loading(syscalls.kernel_log())
    except OSError:
        return 0.0


def permit_degraded(machine: Machine, missing: str) -> None:
    """Say that ``missing`` is missing, and go on only if poolboot.degraded= lets us."""
    console, mode = machine.console, machine.config.degraded
    if mode == "never":
        raise NothingBoots(f"missing {missing}, and poolboot.degraded=never")
    if mode == "auto":
        console.say(f"going on degraded: missing {missing}")
        return
    console.say(f"missing {missing}; waiting for an answer, without end")
    try:
        answer = console.readline("poolboot: go on degraded? [y/N] ")
    except Closed:
        answer = None
    if (answer or "").strip().lower() not in ("y", "yes"):
        raise NothingBoots(f"missing {missing}, and going on degraded was not wanted")
    if machine.config.locks and not let_in(machine):
        raise NothingBoots(f"missing {missing}, and going on degraded takes the password")


def verdict(machine: Machine, tried: bool) -> str:
    """Why nothing was booted, what was waited for, and what there is."""
    if tried:
        return "none of the entries could be booted"
    found, waited = machine.survey, machine.config.wait
    names = ", ".join(device.name for device in machine.disks.devices) or "none"
    lack = (waiting.lacking(found) if found else None) or "something to boot"
    return f"nothing to boot; waited {waited:g} s for {lack}; disks: {names}"


def act_on_error(machine: Machine) -> None:
    """What poolboot.on-error= wants when nobody is there to type."""
    console, asked = machine.console, machine.config.on_error
    action = {"reboot": power.reboot, "poweroff": power.poweroff}.get(asked)
    if action is None:
        return
    console.say(f"{asked} in {GRACE} s, as poolboot.on-error={asked}; any key stops this")
    deadline = time.monotonic() + GRACE
    while (left := deadline - time.monotonic()) > 0:
        try:
            key = console.key(left)
        except Closed:
            time.sleep(left)
            break
        if key is not None and is_deliberate(key):
            return
    action()


def rescue(machine: Machine) -> bool:
    """Serve the rescue prompt until it is left; whether to try the whole boot again."""
    from init.people.rescue import Rescue

    machine.begin("serving the rescue prompt")
    try:
        with CLOCK.of(_phases.PERSON):
            prompt = Rescue(machine.console, machine.survey, machine.disks, machine.keeper, machine.guard())
            entry = prompt.run()
    except Closed:
        await_console(machine)
        return False
    if entry is None:
        machine.disks.close()
        machine.typed = f"{machine.typed} {prompt.knobs}".strip()
        return True
    leave(machine, entry)
    return False


def await_console(machine: Machine) -> None:
    """Wait for somebody to talk to; without a word, as the kernel's log may be all that hears us."""
    while True:
        time.sleep(ALONE)
        machine.open_consoles()
        if machine.console.listening:
            return


def pid1() -> NoReturn:
    """Boot; on failure say why, act or serve the prompt, and so for ever."""
    machine = Machine()
    signals.install(lambda doing: restart(machine, doing))
    steps: list[Callable[[Machine], object]] = [Machine.start, boot]
    while True:
        try:
            while steps:
                steps.pop(0)(machine)
            if rescue(machine):
                steps = [boot]
        except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit, bounds.Overrun) as error:
            steps = []
            tell(machine, error)


def restart(machine: Machine, doing: str) -> None:
    """Ctrl-Alt-Del: restart, but not in the middle of ``doing``."""
    machine.console.pages(False)  # nobody is going to turn any
    if doing:
        machine.console.say(f"Ctrl-Alt-Del: restarting as soon as this is done: {doing}")
        return
    machine.console.say("Ctrl-Alt-Del: restarting")
    machine.console.drain()
    try:
        power.reboot()
    except OSError as error:
        machine.console.error(f"reboot: {error.strerror}")


def tell(machine: Machine, error: BaseException) -> None:
    """Say what stopped us, and do what poolboot.on-error= wants.  Nothing in here may stop us a second time."""
    try:
        if isinstance(error, FsError):
            machine.console.error(str(error))
        else:
            tell_crash(machine, error)
            time.sleep(1)  # should the prompt itself fail, it must not do so a thousand times a second
        act_on_error(machine)
    except BaseException as worse:
        try:
            os.write(2, f"poolboot: error: {worse!r} while telling of {error!r}\n".encode("utf-8", "backslashreplace"))
        except OSError:  # nobody is there to be told
            time.sleep(1)


def tell_crash(machine: Machine, error: BaseException) -> None:
    """The report of a fault of our own."""
    for line in report.crash(error, machine.doing, machine.disks.describe()):
        machine.console.error(line)


def main() -> int:
    """PID 1 boots; anybody else wants to know what PID 1 would do."""
    if os.getpid() == 1:
        pid1()
    from init import desk

    return desk.main()


if __name__ == "__main__":
    sys.exit(main())
