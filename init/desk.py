"""``python -m init --dry-run -a IMAGE ...``: what the init would boot from these disks, and why, told at a desk."""

from __future__ import annotations

import os
import sys

from fsdrivers import bounds
from fsdrivers.block import BlockDevice, FileDevice
from fsdrivers.errors import FsError, TooLarge, Unsupported
from fsdrivers.shown import printable
from init import config as _config
from init import handover, locks, report, survey, waiting
from init.entries import appended, snapshots_of
from init.entries.entry import BootEntry
from init.firmware.keeper import Keeper
from init.handover import kexec, switch_root
from init.machine.devices import About
from init.people.rescue import entry_lines
from init.trust import Trust

SNAPSHOTS = 10  # of each root that are told


def main(arguments: list[str] | None = None) -> int:
    """Parse the desk's command line and tell; the exit status is 0 when something would boot, else 1."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m init", description="Tell what the init would boot, and how.")
    parser.add_argument("--dry-run", action="store_true", required=True, help="the only thing to do but as PID 1")
    parser.add_argument("-a", "--add", action="append", default=[], metavar="IMAGE", help="a disk image or device")
    parser.add_argument(
        "--removable",
        action="append",
        default=[],
        metavar="IMAGE",
        help="one of the images is a disk that was plugged in",
    )
    parser.add_argument("--cmdline", default="", help="the kernel command line that the init would see")
    parser.add_argument("--memory", type=int, default=0, metavar="MIB", help="free memory of the machine, in MiB")
    parser.add_argument("--machine", default=os.uname().machine, help="its architecture as uname -m has it")
    parser.add_argument("--secure-boot", action="store_true", help="as on a machine that has Secure Boot on")
    options = parser.parse_args(arguments)
    if options.memory < 0:
        parser.error("--memory: wants a number of MiB")
    status = 1
    try:
        config = _config.read(options.cmdline)._replace(secure=options.secure_boot)
        status = tell(options.add, config, options.memory << 20, options.machine, plugged(options.removable))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read this has enough
        _silence()
    except FsError as error:
        _complain(f"poolboot: error: {error}")
    except KeyboardInterrupt:
        _complain("poolboot: interrupted")
        status = 130  # as shells have it
    except OSError as error:
        _silence()
        _complain(f"poolboot: error: {error.strerror or error}")
    except Exception as error:
        for line in report.crash(error, "telling what would be booted", options.add):
            _complain(f"poolboot: error: {line}")
    return status


def _say(text: str) -> None:
    """A line for whoever reads; names on a disk may hold anything, and not all of it can be encoded."""
    print(printable(text, ""))


def _complain(text: str) -> None:
    print(printable(text, ""), file=sys.stderr)


def _silence() -> None:
    """Let the end of the program not try once more what could not be written."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def tell(images: list[str], config: _config.BootConfig, memory: int, machine: str, trust: Trust | None = None) -> int:
    """Print the decision for disks ``images`` with its reasons; ``memory`` in bytes, 0 for enough."""
    _say(report.versions())
    for warning in (*config.warnings, *locks.told(config.locks)):
        _say(f"warning: {warning}")
    bounds.use(bounds.Wall(_say))
    devices: list[BlockDevice] = [FileDevice(image) for image in images]
    found = survey.Survey(devices, config, trust)
    if config.root:
        _say(f"root={config.root} asks for {found.wanted}")
    entries = found.entries()
    for pool in found.pools:
        _say(survey.pool_line(pool) + ("" if pool in found.matching else "  (not what root= asks for)"))
    for pool in found.incomplete:
        _say(f"  {survey.missing_text(pool)}: waits {config.wait:g} s for it, {waiting.prospect(found)}")
    for place in found.roots:
        _say(f"looked for kernels in {place.where}")
    for entry in {entry.place.where: entry for entry in reversed(entries) if entry.snapshot is None}.values():
        listed = snapshots_of(entry, found.note)
        for snapshot in listed[:SNAPSHOTS]:
            _say(f"snapshot {snapshot.where}: {snapshot.title}")
        if len(listed) > SNAPSHOTS:
            _say(f"  and {len(listed) - SNAPSHOTS} older ones of {entry.place.where}")
    for note in found.notes:
        _say(f"note: {note}")
    for number, entry in enumerate(entries, 1):
        for line in entry_lines(number, entry):
            _say(line)
    return _decision(found, entries, devices, memory, machine)


def plugged(images: list[str]) -> Trust:
    """The trust in disks of which ``images`` are removable."""
    return Trust({image: About(removable=True, bus="usb") for image in images})


def _decision(
    found: survey.Survey, entries: list[BootEntry], devices: list[BlockDevice], memory: int, machine: str
) -> int:
    config = found.config
    if found.incomplete and config.degraded == "never":
        _say(f"{_staying(config)}: members are missing and poolboot.degraded=never")
        return 1
    keeper = Keeper(devices, config, trust=found.trust)
    choice = keeper.choose(found)
    _say(
        "what EFI variables of the machine wish for (LoaderEntryOneShot, LoaderEntryDefault, Boots) is not on its disks"
    )
    if keeper.store is not None:
        _say(f"what is remembered from boot to boot is in {keeper.store.where}")
    for entry in entries:
        if limit := keeper.limit(entry):
            _say(f"entry {entry.id} was started {keeper.ledger.count(entry.id)} of {limit} times in vain")
    for warning in (choice.warning, *found.doubts):
        if warning:
            _say(f"warning: {warning}")
    if entries and (found.undecided or not choice.order):
        _say("would show the menu without a countdown, as only a person can choose")
        return 1
    if entries and config.handover == "none":
        _say(f"would boot {choice.order[0].describe()}")
        _say(f"{_staying(config)}: poolboot.handover=none")
        return 1
    if entries and config.timeout:
        _say(f"first a {'menu' if len(entries) > 1 else 'line'} counts down {config.timeout:g} s")
    seen: set[str] = set()
    for entry, only in handover.rounds(config.handover, choice.order, config.whole):
        names = [name for name in handover.ways(config.handover, config.whole) if only is None or name in only]
        facts = _attempt(entry, names, found, devices, memory, machine)
        if facts is None:
            seen.add(entry.id)
            continue
        why = " and ".join(choice.reasons) if not seen else "those before it cannot be booted"
        if seen == {one.id for one in choice.order}:
            why = "no entry can be started with a kernel of its own"
        _say(f"would boot {entry.id}, as {why}")
        _say(f"  by {facts}")
        _say(f"  {appended.attach(entry, config, found.lenders(entry)).describe()}")
        survey.health([entry.place], lambda line: _say(f"  health: {line}"))
        return 0
    _say(f"{_staying(config)}: {waiting.lacking(found) or 'none of the entries can be booted'}")
    return 1


def _staying(config: _config.BootConfig) -> str:
    """What happens when nothing is booted."""
    if config.on_error == "rescue":
        return "would stay at the rescue prompt"
    return f"would {'restart' if config.on_error == 'reboot' else 'power off'}, as poolboot.on-error={config.on_error}"


def _attempt(
    entry: BootEntry,
    names: list[str],
    found: survey.Survey,
    devices: list[BlockDevice],
    memory: int,
    machine: str,
) -> str | None:
    """The ways ``names`` of handing over to ``entry`` that are left after what can be known here, and what was found;
    None, with the reasons told, when there is none.  As handover.stage() has it."""
    refusals, config = [], found.config
    try:
        whole = appended.attach(entry, config, found.lenders(entry))
        for number, name in enumerate(names):
            try:
                facts = _preflight(name, whole, config, devices, memory, machine)
            except (handover.Refused, TooLarge, Unsupported) as error:
                refusals.append(f"not by {name}: {error}" if config.handover == "auto" else str(error))
                continue
            for line in refusals:
                _say(f"entry {entry.id}: {line}")
            return f"{' or '.join(names[number:])}: {', '.join(facts)}"
    except FsError as error:
        refusals = [str(error)]
    for line in refusals:
        _say(f"would pass over {entry.id}: {line}")
    return None


def _preflight(
    name: str,
    entry: BootEntry,
    config: _config.BootConfig,
    devices: list[BlockDevice],
    memory: int,
    machine: str,
) -> list[str]:
    """What is found out before anything is read; raises what stage() of that way would."""
    if name == "switch_root":
        return [f"init {switch_root.preflight(entry, machine)} under the running kernel"]
    if name == "kexec":
        return kexec.preflight(entry, memory or sys.maxsize, machine, config.whole)
    from init.firmware import esp
    from init.handover import firmware

    firmware.preflight(entry.open(entry.kernel), machine, config.secure)
    if entry.whole and entry.whole.partition:
        return [f"whole, where it lies on {entry.whole.partition.name}, if UEFI firmware started the machine"]
    return [f"by way of {esp.find(devices, config.esp).name}, if UEFI firmware started the machine"]
