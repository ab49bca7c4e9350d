"""``python -m init --dry-run -a IMAGE ...``: what the init would boot from these disks, and why, told at a desk."""

from __future__ import annotations

import os
import sys

from fsdrivers.block import BlockDevice, FileDevice
from fsdrivers.errors import FsError
from init import appended, handover, report, survey, waiting
from init import config as _config
from init.entries import snapshots_of
from init.entries.entry import BootEntry
from init.handover import kexec, switch_root
from init.keeper import Keeper
from init.rescue import entry_lines

SNAPSHOTS = 10  # of each root that are told


def main(arguments: list[str] | None = None) -> int:
    """Parse the desk's command line and tell; the exit status is 0 when something would boot, else 1."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m init", description="Tell what the init would boot, and how.")
    parser.add_argument("--dry-run", action="store_true", required=True, help="the only thing to do but as PID 1")
    parser.add_argument("-a", "--add", action="append", default=[], metavar="IMAGE", help="a disk image or device")
    parser.add_argument("--cmdline", default="", help="the kernel command line that the init would see")
    parser.add_argument("--memory", type=int, default=0, metavar="MIB", help="free memory of the machine, in MiB")
    parser.add_argument("--machine", default=os.uname().machine, help="its architecture as uname -m has it")
    options = parser.parse_args(arguments)
    try:
        return tell(options.add, _config.read(options.cmdline), options.memory << 20, options.machine)
    except FsError as error:
        print(f"poolboot: error: {error}", file=sys.stderr)
        return 1


def tell(images: list[str], config: _config.BootConfig, memory: int, machine: str) -> int:
    """Print the decision for disks ``images`` with its reasons; ``memory`` in bytes, 0 for enough."""
    print(report.versions())
    for warning in config.warnings:
        print(f"warning: {warning}")
    devices: list[BlockDevice] = [FileDevice(image) for image in images]
    found = survey.Survey(devices, config)
    if config.root:
        print(f"root={config.root} asks for {found.wanted}")
    entries = found.entries()
    for pool in found.pools:
        print(survey.pool_line(pool) + ("" if pool in found.matching else "  (not what root= asks for)"))
    for pool in found.incomplete:
        print(f"  {survey.missing_text(pool)}: waits {config.wait:g} s for it, {waiting.prospect(found)}")
    for place in found.roots:
        print(f"looked for kernels in {place.where}")
    for entry in {entry.place.where: entry for entry in reversed(entries) if entry.snapshot is None}.values():
        listed = snapshots_of(entry, found.note)
        for snapshot in listed[:SNAPSHOTS]:
            print(f"snapshot {snapshot.where}: {snapshot.title}")
        if len(listed) > SNAPSHOTS:
            print(f"  and {len(listed) - SNAPSHOTS} older ones of {entry.place.where}")
    for note in found.notes:
        print(f"note: {note}")
    for number, entry in enumerate(entries, 1):
        print("\n".join(entry_lines(number, entry)))
    return _decision(found, entries, devices, memory, machine)


def _decision(
    found: survey.Survey, entries: list[BootEntry], devices: list[BlockDevice], memory: int, machine: str
) -> int:
    config = found.config
    if found.incomplete and config.degraded == "never":
        print("would stay at the rescue prompt: members are missing and poolboot.degraded=never")
        return 1
    keeper = Keeper(devices, config)
    choice = keeper.choose(found)
    print(
        "what EFI variables of the machine wish for (LoaderEntryOneShot, LoaderEntryDefault, Boots) is not on its disks"
    )
    if keeper.store is not None:
        print(f"what is remembered from boot to boot is in {keeper.store.where}")
    for entry in entries:
        if limit := keeper.limit(entry):
            print(f"entry {entry.id} was started {keeper.ledger.count(entry.id)} of {limit} times in vain")
    if choice.warning:
        print(f"warning: {choice.warning}")
    for candidate in choice.order:
        entry = candidate
        try:
            names = handover.ways(config.handover)
            entry = appended.attach(entry, config, devices)
            if names == ["switch_root"]:
                facts = [f"init {switch_root.preflight(entry, machine)} under the running kernel"]
            else:
                facts = kexec.preflight(entry, memory or sys.maxsize, machine)
        except FsError as error:
            print(f"would pass over {entry.id}: {error}")
            continue
        why = " and ".join(choice.reasons) if candidate is choice.order[0] else "those before it cannot be booted"
        print(f"would boot {entry.id}, as {why}")
        print(f"  by {' or '.join(names)}: {', '.join(facts)}")
        print(f"  {entry.describe()}")
        survey.health([entry.place], lambda line: print(f"  health: {line}"))
        return 0
    print(f"would stay at the rescue prompt: {waiting.lacking(found) or 'none of the entries can be booted'}")
    return 1
