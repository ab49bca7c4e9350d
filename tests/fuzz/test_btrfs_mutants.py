"""Damaged and hostile btrfs ends in an FsError or in data, within bounded time and memory.

FUZZ_SECONDS=600 in the environment goes on with further seeds for about that long.  A failure names its image and
seed, and Subject.mutant(seed) makes the same mutant again.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "images"))

import btrfs_mutants
import btrfs_recipes
import btrfs_stripe_recipes
from btrfs_mutants import Subject

from qemu import manifest

pytestmark = pytest.mark.images

MEMORY = 256 << 20  # bytes above what the process has when it starts reading
BATCH = 400
STRIPES = "stripes-raid0"
SUBJECTS = ("single", "raid0", "raid1", "raid5", "raid6", STRIPES)
BATCHES = 2  # of each subject


@cache
def subject(name: str) -> Subject:
    if name == STRIPES:
        with tempfile.TemporaryDirectory() as directory:  # the images stay mapped
            disks = btrfs_stripe_recipes.unpack(name, Path(directory))
            return Subject(disks, manifest.read(Path(directory), name))
    made = (btrfs_recipes.profiles() | btrfs_recipes.singles())[name]
    return Subject(made.disks, made.records)


def in_child(name: str, first: int, count: int, seconds: float) -> list[str]:
    """The failures among mutants [first, first + count), or as many more as ``seconds`` allow, in a process of its own:
    what breaks the limits or the interpreter itself breaks only that."""
    about = subject(name)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(reader)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            end, seed, failures = time.monotonic() + seconds, first, []
            while seed < first + count or time.monotonic() < end:
                os.write(writer, f"{seed}\n".encode())
                if problem := btrfs_mutants.run(about, seed):
                    failures.append(f"{name}:{seed}: {problem}")
                seed += 1
            os.write(writer, json.dumps(failures).encode() + b"\n")
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        lines = pipe.read().splitlines()
    _, status = os.waitpid(child, 0)
    if status:
        return [f"{name}:{lines[-1] if lines else first}: the reader died ({status})"]
    return list(json.loads(lines[-1]))


@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("name", SUBJECTS)
def test_mutants(name: str, batch: int) -> None:
    seconds = float(os.environ.get("FUZZ_SECONDS", "0")) / (BATCHES * len(SUBJECTS))
    failures = in_child(name, batch * 1_000_000, BATCH, seconds)
    assert not failures, "\n".join(failures[:10])


def test_the_mutants_bite() -> None:
    """Most mutants of a filesystem without second copies are noticed: otherwise they would prove nothing."""
    about = subject("single")
    noticed = 0
    for seed in range(60):
        mutant = about.mutant(seed)
        changed = any(image.patches or image.size < len(image.data) for image in mutant.members)  # type: ignore[attr-defined]
        noticed += changed
    assert noticed > 50
