"""`make run`: from sources to the login of a Debian that lives on three btrfs disks."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from artefacts.steps import BuildError
from qemu import images
from qemu.machine import Disk, Machine

PROJECT = Path(__file__).resolve().parent.parent
BUILD = PROJECT / "build"
CMDLINE = "console=ttyS0"


class Times:
    """How long each step took."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, float]] = []

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self._steps.append((what, time.monotonic() - start))

    def __str__(self) -> str:
        total = sum(seconds for _, seconds in self._steps)
        return "\n".join(f"run: {seconds:7.1f} s  {what}" for what, seconds in [*self._steps, ("in all", total)])


def build(kernel: str = "slim") -> tuple[Path, Path]:
    """Bring build/vmlinuz and build/initramfs.cpio.zst up to date; ``kernel`` as build.py takes it.

    Returns both.  Raises BuildError.
    """
    done = subprocess.run([sys.executable, PROJECT / "build.py", "--kernel", kernel], cwd=PROJECT, check=False)
    if done.returncode:
        raise BuildError(f"build.py ended with status {done.returncode}; it says above why")
    return BUILD / "vmlinuz", BUILD / "initramfs.cpio.zst"


def run(options: argparse.Namespace) -> int:
    """Do everything; returns the exit status.  Raises BuildError, RecipeError or MachineError."""
    times = Times()
    with times.step("boot image (build.py)"):
        kernel, initrd = build(options.kernel)
    with times.step("Debian on three btrfs disks"):
        made = images.debian_raid1(options.suite)
    disks = [Disk(path, options.bus) for number, path in enumerate(made.disks) if number not in options.unplug]
    log = BUILD / "run-console.log"
    machine = Machine(
        kernel,
        initrd,
        f"{CMDLINE} {options.append}".strip(),
        disks,
        memory=options.memory,
        log=log,
        echo=sys.stdout.buffer,
    )
    print(f"run: starting QEMU with {len(disks)} disks (console log: {log.relative_to(PROJECT)})", flush=True)
    if sys.stdin.isatty() and sys.stdout.isatty():
        print("run: log in as root without a password; Ctrl-A X ends the machine, Ctrl-A H lists more keys", flush=True)
        status = machine.interact()
        print(f"\n{times}")
        return status
    with times.step("from power-on to Debian's marker"), machine:
        machine.expect(rf"{images.MARKER}|\blogin: ", options.timeout)
    print(f"\nrun: Debian is up\n{times}", flush=True)
    return 0
