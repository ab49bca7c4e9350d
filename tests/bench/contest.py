"""Whole processes against each other: what the parts of the bench share.

All competitors run in turn, round after round, so that a busy machine is busy for all; shown is the best time of each
and our ratio to it.  A competitor that is not there, or cannot read a layout, is said so.  Caches are warm: what is
measured is the reader, not the disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import payload
from payload import TREE

from artefacts import cache

ROOT = Path(__file__).resolve().parent.parent.parent
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))


class Missing(Exception):
    """A competitor is not on this machine."""


class Competitor(NamedTuple):
    """``command(disks, loops, what, out)`` is the process that reads ``what`` into the directory ``out``."""

    name: str
    command: Callable[[list[Path], list[str], str, Path], list[str]]
    ready: Callable[[], None] = lambda: None  # raises Missing when it cannot run here
    loops: bool = False  # whether it wants block devices
    trees: bool = True


class Image(NamedTuple):
    """One layout; ``lost`` are the disks (numbers) that are absent when it is read."""

    name: str
    disks: int
    make: str  # options of mkfs.btrfs, or the kind of vdev
    tuning: str  # mount options, or the codec
    lost: tuple[int, ...] = ()
    of: str = ""  # the layout whose disks these are, when another one with all of its disks is here too

    def present(self, made: dict[str, list[Path]]) -> list[Path]:
        """The disks that are there, of all that were ``made``."""
        return [disk for number, disk in enumerate(made[self.of or self.name]) if number not in self.lost]


def _ours(disks: list[Path], loops: list[str], what: str, out: Path) -> list[str]:
    images = [word for disk in disks for word in ("-a", str(disk))]
    return [sys.executable, "-m", "fsdrivers", *images, "cp", *(["-r"] if what == TREE else []), f"/{what}", str(out)]


_FLOOR_SCRIPT = """
import os, sys
source, target = sys.argv[1:]
def copy(source, target):
    if os.path.isdir(source):
        os.mkdir(target)
        for name in os.listdir(source):
            copy(source + '/' + name, target + '/' + name)
        return
    a, b = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY | os.O_CREAT)
    while data := os.read(a, 1 << 20):
        os.write(b, data)
    os.close(a)
    os.close(b)
copy(source, target)
"""


def _floor(disks: list[Path], loops: list[str], what: str, out: Path) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", _FLOOR_SCRIPT, str(payload.directory() / what), str(out / what)]


def installed(program: str) -> Callable[[], None]:
    """A Competitor's ``ready`` that looks for ``program``."""

    def ready() -> None:
        if not shutil.which(program):
            raise Missing(f"{program} is not installed")

    return ready


def present(others: Iterable[Competitor]) -> Iterator[Competitor]:
    """Ours, and the ``others`` that can run here; says why the rest cannot."""
    yield OURS
    for one in others:
        try:
            if one.loops and os.geteuid():
                raise Missing("needs root for loop devices")
            one.ready()
        except Missing as why:
            print(f"{one.name}: left out: {why}")
            continue
        yield one


OURS = Competitor("fsdrivers", _ours)
FLOOR = Competitor("python floor", _floor)


@contextmanager
def loop_devices(disks: list[Path], wanted: bool) -> Iterator[list[str]]:
    """Read-only loop devices for ``disks``: not even a mount's repairs may reach the images."""
    loops: list[str] = []
    try:
        for disk in disks if wanted else ():
            made = subprocess.run(
                ["losetup", "-r", "-f", "--show", str(disk)], check=True, capture_output=True, text=True
            )
            loops.append(made.stdout.strip())
        yield loops
    finally:
        for loop in loops:
            subprocess.run(["losetup", "-d", loop], check=False)


def timed(command: list[str]) -> tuple[float, int, str]:
    """(seconds, peak memory in bytes, complaint or "")."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    # An installed program has its bytecode; a checkout is kept clean of it.
    environment["PYTHONPYCACHEPREFIX"] = str(cache.root() / "bench" / "bytecode")
    with tempfile.TemporaryFile() as complaints:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=complaints, cwd=ROOT, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = status
        complaints.seek(0)
        text = complaints.read().decode(errors="replace").strip().splitlines()
    return seconds, usage.ru_maxrss * 1024, (text[-1] if text else f"status {status}") if status else ""


def same(what: str, out: Path) -> bool:
    """Whether ``out`` holds what the payload does."""
    command = ["diff", "-rq", str(payload.directory() / what), str(out / what)]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def contest(
    label: str, disks: list[Path], what: str, field: list[Competitor], yardsticks: dict[str, float] | None = None
) -> tuple[str, dict[str, float]]:
    """One line: ours in seconds and MiB, the others as ours divided by theirs; and the best time of each, in seconds.

    ``yardsticks`` are more times to show our ratio to.
    """
    best: dict[str, float] = {}
    broken: dict[str, str] = {}
    memory = 0
    base = Path("/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir())
    with loop_devices(disks, any(one.loops for one in field)) as loops:
        if loops:  # only the kernel's btrfs wants any
            subprocess.run(["btrfs", "device", "scan", "--forget"], check=False, capture_output=True)
            subprocess.run(["btrfs", "device", "scan", *loops], check=False, capture_output=True)
        for number in range(ROUNDS + 1):  # the first one fills the caches
            for one in field:
                if one.name in broken or (what == TREE and not one.trees):
                    continue
                work = Path(tempfile.mkdtemp(prefix="bench-", dir=base))
                out = work / "out"
                out.mkdir()
                try:
                    seconds, peak, complaint = timed(one.command(disks, loops, what, out))
                    if not complaint and not number and not same(what, out):
                        complaint = "wrong data"
                finally:
                    shutil.rmtree(work, ignore_errors=True)
                if complaint:
                    broken[one.name] = complaint
                elif number:
                    best[one.name] = min(seconds, best.get(one.name, seconds))
                if one is OURS:
                    memory = max(memory, peak)
        if loops:
            subprocess.run(["btrfs", "device", "scan", "--forget"], check=False, capture_output=True)
    ours = best.get(OURS.name)
    if ours is None:
        return f"{label:8} {what:7} {OURS.name}: {broken.get(OURS.name)}", best
    parts = [f"{label:8} {what:7} {ours:6.3f} s {memory >> 20:4} MiB"]
    for one in field[1:]:
        if one.name in best:
            parts.append(f"{ours / best[one.name]:5.2f} x {one.name} ({best[one.name]:.3f})")
        elif one.name in broken:
            parts.append(f"{one.name}: {broken[one.name][:60]}")
    for name, seconds in (yardsticks or {}).items():
        parts.append(f"{ours / seconds:5.2f} x {name} ({seconds:.3f})")
    return "  ".join(parts), best
