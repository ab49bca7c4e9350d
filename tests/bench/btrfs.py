"""Reading btrfs, whole processes against each other: a kernel, an initrd and a tree, from every layout.

All competitors run in turn, round after round, so that a busy machine is busy for all; shown is the best time of each
and its ratio to ours.  A competitor that is not there, or cannot read a layout, is said so.  Caches are warm: what is
measured is the reader, not the disk.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import btrfs_images
from btrfs_images import INITRD, KERNEL, TREE, Image

from artefacts import cache

ROOT = Path(__file__).resolve().parent.parent.parent
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
DISSECT = ("dissect.btrfs==1.*", "backports.zstd")


class Missing(Exception):
    """A competitor is not on this machine."""


class Competitor(NamedTuple):
    """``command(disks, loops, what, out)`` is the process that reads ``what`` into the directory ``out``."""

    name: str
    command: Callable[[list[Path], list[str], str, Path], list[str]]
    loops: bool = False  # whether it wants block devices
    trees: bool = True


def _ours(disks: list[Path], loops: list[str], what: str, out: Path) -> list[str]:
    images = [word for disk in disks for word in ("-a", str(disk))]
    return [sys.executable, "-m", "fsdrivers", *images, "cp", *(["-r"] if what == TREE else []), f"/{what}", str(out)]


def _kernel(disks: list[Path], loops: list[str], what: str, out: Path) -> list[str]:
    options = ",".join(["ro", "degraded", *(f"device={loop}" for loop in loops)])
    mount = out.parent / "mnt"
    mount.mkdir(exist_ok=True)
    script = (
        f"mount -t btrfs -o {options} {loops[0]} {mount} && cp -r {mount}/{what} {out}/; s=$?; umount {mount}; exit $s"
    )
    return ["sh", "-c", script]


def _grub(disks: list[Path], loops: list[str], what: str, out: Path) -> list[str]:
    images = [str(disk) for disk in disks]
    return ["grub-fstest", "-c", str(len(disks)), *images, "cp", f"(loop0)/{what}", str(out / what)]


def _restore(disks: list[Path], loops: list[str], what: str, out: Path) -> list[str]:
    below = f"{what}(|/.*)" if what == TREE else what
    return ["btrfs", "restore", "--path-regex", f"^/(|{below})$", loops[0], str(out)]


_DISSECT_SCRIPT = """
import os, shutil, sys
from dissect.btrfs import Btrfs
what, out, *disks = sys.argv[1:]
fs = Btrfs([open(disk, 'rb') for disk in disks])
def copy(node, target):
    if node.is_dir():
        os.mkdir(target)
        for name, child in node.iterdir():
            if name not in ('.', '..'):
                copy(child, target + '/' + name)
    else:
        with node.open() as source, open(target, 'wb') as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
copy(fs.get(what), out + '/' + what)
"""

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


def _dissect(disks: list[Path], loops: list[str], what: str, out: Path) -> list[str]:
    return [str(_dissect_python()), "-c", _DISSECT_SCRIPT, what, str(out), *map(str, disks)]


def _floor(disks: list[Path], loops: list[str], what: str, out: Path) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", _FLOOR_SCRIPT, str(btrfs_images.payload() / what), str(out / what)]


def _dissect_python() -> Path:
    """The interpreter of an environment of its own: nothing of it may come into ours."""

    def fill(work: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", str(work / "venv")], check=True)
        subprocess.run([str(work / "venv/bin/python"), "-m", "pip", "install", "-q", *DISSECT], check=True)

    try:
        return cache.entry("bench", f"dissect-{cache.key(DISSECT)}", fill) / "venv/bin/python"
    except subprocess.CalledProcessError as error:
        raise Missing("dissect.btrfs cannot be installed") from error


OURS = Competitor("fsdrivers", _ours)
OTHERS = (
    Competitor("kernel", _kernel, loops=True),
    Competitor("grub-fstest", _grub, trees=False),
    Competitor("btrfs restore", _restore, loops=True),
    Competitor("dissect.btrfs", _dissect),
    Competitor("python floor", _floor),
)


def present() -> Iterator[Competitor]:
    """The competitors that can run here; says why the others cannot."""
    yield OURS
    for one in OTHERS:
        try:
            if one.loops and os.geteuid():
                raise Missing("needs root for loop devices")
            if one.name == "kernel" and "btrfs" not in Path("/proc/filesystems").read_text():
                raise Missing("the kernel has no btrfs")
            program = {"grub-fstest": "grub-fstest", "btrfs restore": "btrfs"}.get(one.name)
            if program and not shutil.which(program):
                raise Missing(f"{program} is not installed")
            if one.name == "dissect.btrfs":
                _dissect_python()
        except Missing as why:
            print(f"{one.name}: left out: {why}")
            continue
        yield one


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
    command = ["diff", "-rq", str(btrfs_images.payload() / what), str(out / what)]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def contest(image: Image, disks: list[Path], what: str, field: list[Competitor]) -> str:
    """One line: ours in seconds and MiB, the others as ours divided by theirs."""
    best: dict[str, float] = {}
    broken: dict[str, str] = {}
    memory = 0
    base = Path("/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir())
    with loop_devices(disks, any(one.loops for one in field)) as loops:
        if loops:
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
        return f"{image.name:8} {what:7} {OURS.name}: {broken.get(OURS.name)}"
    parts = [f"{image.name:8} {what:7} {ours:6.3f} s {memory >> 20:4} MiB"]
    for one in field[1:]:
        if one.name in best:
            parts.append(f"{ours / best[one.name]:5.2f} x {one.name} ({best[one.name]:.3f})")
        elif one.name in broken:
            parts.append(f"{one.name}: {broken[one.name][:60]}")
    return "  ".join(parts)


def main() -> None:
    field = list(present())
    made = btrfs_images.disks()
    print(f"best of {ROUNDS} rounds; ratios are our time divided by theirs; load {os.getloadavg()[0]:.1f}")
    for image in btrfs_images.IMAGES:
        disks = [disk for number, disk in enumerate(made[image.of or image.name]) if number not in image.lost]
        for what in (KERNEL, INITRD, TREE):
            print(contest(image, disks, what, field), flush=True)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
