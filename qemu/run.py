"""`make run`: from sources to the login of a Debian that lives on three btrfs disks."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from artefacts import bootimage
from artefacts.together import both
from qemu import images
from qemu.machine import Disk, Machine
from qemu.workshop import Made

PROJECT = Path(__file__).resolve().parent.parent
BUILD = PROJECT / "build"
CMDLINE = "console=ttyS0"


class Times:
    """How long each part took; parts that ran side by side overlap, so their sum is more than the whole."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._parts: list[tuple[str, float]] = []

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self._parts.append((what, time.monotonic() - start))

    def __str__(self) -> str:
        whole = time.monotonic() - self._start
        return "\n".join(f"run: {seconds:7.1f} s  {what}" for what, seconds in [*self._parts, ("in all", whole)])


def build(kernel: str = "slim") -> tuple[Path, Path]:
    """Bring build/vmlinuz and build/initramfs.cpio.zst up to date; ``kernel`` as build.py takes it.

    Returns both.  Raises BuildError.
    """
    image = bootimage.build(BUILD, bootimage.Wish(Path(kernel)))
    return image.vmlinuz, image.initramfs


def run(options: argparse.Namespace) -> int:
    """Do everything; returns the exit status.  Raises BuildError, RecipeError or MachineError."""
    times = Times()

    def image() -> tuple[Path, Path]:
        with times.part("boot image (build.py)"):
            return build(options.kernel)

    def debian() -> Made:
        with times.part("Debian on three btrfs disks, beside it"):
            return images.debian_raid1(options.suite)

    (kernel, initrd), made = both(image, debian)
    disks = [Disk(path, options.bus) for number, path in enumerate(made.disks) if number not in options.unplug]
    log = BUILD / "run-console.log"
    machine = Machine(
        kernel,
        initrd,
        f"{CMDLINE} {options.append}".strip(),
        disks,
        memory=options.memory,
        cpus=min(2, len(os.sched_getaffinity(0))),  # nothing else is at work by now
        log=log,
        echo=sys.stdout.buffer,
    )
    print(f"run: starting QEMU with {len(disks)} disks (console log: {log.relative_to(PROJECT)})", flush=True)
    if sys.stdin.isatty() and sys.stdout.isatty():
        print("run: log in as root without a password; Ctrl-A X ends the machine, Ctrl-A H lists more keys", flush=True)
        told = str(times)  # without the time that the person stays
        status = machine.interact()
        print(f"\n{told}")
        return status
    with times.part("from power-on to Debian's marker"), machine:
        machine.expect(rf"{images.MARKER}|\blogin: ", options.timeout)
    print(f"\nrun: Debian is up\n{times}", flush=True)
    return 0
