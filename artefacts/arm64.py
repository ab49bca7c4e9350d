"""The boot program for arm64, made on another machine: Debian's arm64 Python and compiler run in QEMU's user mode.

Nuitka has no cross-compiling, so a throw-away arm64 root of mmdebstrap is where ``build.py program`` runs.  What is the
same everywhere is made outside: Python packages are unpacked, C sources fetched and Cython's output written natively.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import tarfile
import time
from pathlib import Path
from typing import NamedTuple

from artefacts import cache, native
from artefacts.program import Program
from artefacts.steps import run, step

# The program is linked with the static library of this suite's Python.
_SUITE, _PYTHON = "bookworm", "3.11"
_PACKAGES = (
    "python3", "python3-dev", "gcc", "libc6-dev", "libexpat1-dev", "zlib1g-dev", "patchelf", "binutils", "file",
)  # fmt: skip
_WHEELS = ("zstandard", "crc32c", "xxhash", "cython", "pyelftools")
_SOURCES = ("build.py", "artefacts", "fsdrivers", "init", "loader", "qemu")
_HINT = "apt install mmdebstrap uidmap qemu-user-static arch-test; binfmt_misc has to know qemu-aarch64"

# In the root: the project, the Python packages, and a cache with everything that needs no arm64.
_HOME, _SITE, _CACHE = "/root/poolboot", "/usr/local/lib/python{}/dist-packages", "/root/cache"


class Made(NamedTuple):
    """The program and what it cost."""

    program: Program
    seconds: float
    """That making it took when it was made: emulated, all processors."""


def build(output: Path) -> Made:
    """Make ``output/init`` for arm64, unless these sources were compiled before.  Raises BuildError."""
    output.mkdir(parents=True, exist_ok=True)
    log = output / "logs" / "program.log"
    with step("gathering what arm64 has in common with everybody", log):
        extensions = native.extensions(log)
    identity = cache.key(native.digest(_files()), [one.identity for one in extensions], _versions())

    def make(work: Path) -> None:
        started = time.monotonic()
        with step("compiling the program in an emulated arm64 Debian: 10 to 40 minutes", log):
            _compile(work, log)
        (work / "seconds").write_text(f"{time.monotonic() - started:.0f}\n")

    made = cache.entry("arm64", identity, make)
    target = output / "init"
    shutil.copyfile(made / "init", target)
    target.chmod(0o755)
    return Made(Program(target, None), float((made / "seconds").read_text()))


def _files() -> list[Path]:
    found = [path for top in ("init", "fsdrivers", "artefacts") for path in (native.PROJECT / top).rglob("*.py")]
    return sorted([*found, native.PROJECT / "init/_sysc.c"])


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in (*_WHEELS, "nuitka")}


def _compile(work: Path, log: Path) -> None:
    site, wheels = work / "site", work / "wheels"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    versions = _versions()
    nuitka = f"nuitka=={versions.pop('nuitka')}"
    run([*pip, "wheel", "--no-deps", "-w", wheels, nuitka], log=log)
    wanted = [f"{name}=={version}" for name, version in versions.items()]
    platform = ["--platform=manylinux2014_aarch64", "--platform=manylinux_2_28_aarch64"]
    platform.append(f"--python-version={_PYTHON}")
    run([*pip, "install", "--target", site, *platform, "--only-binary=:all:", *wanted], log=log)
    run([*pip, "install", "--target", site, "--no-deps", *sorted(wheels.glob("*.whl"))], log=log)
    with tarfile.open(work / "in.tar", "w") as tar:
        for name in _SOURCES:
            tar.add(native.PROJECT / name, f"{_HOME[1:]}/{name}", filter=_no_objects)
        tar.add(site, _SITE.format(_PYTHON)[1:])
        for shelf in ("sdist", "cython"):
            tar.add(cache.root() / shelf, f"{_CACHE[1:]}/{shelf}")
    shutil.rmtree(site)
    shutil.rmtree(wheels)
    command = (
        f"cd {_HOME} && POOLBOOT_CACHE={_CACHE} python3 build.py program || {{ tail -n 30 build/logs/*; exit 1; }}"
    )
    run(
        [
            "mmdebstrap",
            "--variant=apt",
            "--architectures=arm64",
            f"--include={','.join(_PACKAGES)}",
            f"--customize-hook=tar-in {work / 'in.tar'} /",
            f"--customize-hook=chroot \"$1\" sh -c '{command}'",
            f"--customize-hook=copy-out {_HOME}/build/init {work}",
            "--format=null",
            _SUITE,
            os.devnull,
        ],
        log=log,
        hint=_HINT,
    )
    (work / "in.tar").unlink()


def _no_objects(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Without what was compiled for this machine."""
    return None if member.name.endswith((".so", ".pyc", "__pycache__")) else member
