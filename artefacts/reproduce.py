"""Whether a build gives the same bytes again: from a copy of the sources elsewhere, with every object made anew.

Only what was downloaded is shared between the two builds.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from artefacts import cache
from artefacts.native import PROJECT
from artefacts.steps import BuildError, step

FILES = ("vmlinuz", "init", "loader/initramfs.cpio.zst", "loader.efi", "loader.img", "loader.iso")
_DOWNLOADS = ("debian", "sdist", "kernel-source")
_SOURCES = ("artefacts", "fsdrivers", "init", "loader", "qemu", "kernel-config", "build.py")
_LEFTOVERS = shutil.ignore_patterns("*.so", "__pycache__")


class Twin(NamedTuple):
    """One file of both builds."""

    name: str
    size: int
    """Bytes of the second."""
    digest: str
    """SHA-256 of the first, in hex."""
    same: bool


def check(first: Path, arguments: list[str]) -> list[Twin]:
    """Build everything that ``first`` holds once more and compare.  ``arguments`` are those of build.py.

    Raises BuildError when that build fails.
    """
    before = {name: _digest(first / name) for name in FILES}  # another build may replace them while this one goes on
    with tempfile.TemporaryDirectory(prefix="poolboot-again-", dir=cache.root()) as scratch:
        output = _build_elsewhere(Path(scratch), arguments)
        return [_compare(name, before[name], output / name) for name in FILES]


def _build_elsewhere(scratch: Path, arguments: list[str]) -> Path:
    """A build in ``scratch`` with a cache of its own; where its output is."""
    sources, own, output = scratch / "sources", scratch / "cache", scratch / "out"
    sources.mkdir()
    own.mkdir()
    for name in _SOURCES:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, sources / name, ignore=_LEFTOVERS)
        else:
            shutil.copyfile(PROJECT / name, sources / name)
    for name in _DOWNLOADS:
        (cache.root() / name).mkdir(exist_ok=True)
        (own / name).symlink_to(cache.root() / name)
    start = time.monotonic()
    with step("building everything again from nothing"):
        for what in ("kernel", "loader"):
            command = [sys.executable, "build.py", what, "--output", str(output), *arguments]
            environment = {**os.environ, "POOLBOOT_CACHE": str(own), "PYTHONDONTWRITEBYTECODE": "1"}
            if subprocess.run(command, cwd=sources, env=environment, check=False).returncode:
                raise BuildError(f"the second build failed after {time.monotonic() - start:.0f} s")
    return output


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _compare(name: str, digest: str, second: Path) -> Twin:
    return Twin(name, second.stat().st_size, digest, _digest(second) == digest)
