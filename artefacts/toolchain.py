"""The C compiler and what it links with: this machine's own, or a cross compiler and another architecture's Python.

A program for another architecture takes headers and static libraries of Python from Debian's packages, in the very
version that runs the build: Nuitka writes C that fits the interpreter it runs on, and bytecode of its format.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from functools import cache as memoize
from pathlib import Path
from typing import NamedTuple

from artefacts import cache, debian
from artefacts.steps import BuildError

TRIPLETS = {"x86_64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
DEBIAN = {"x86_64": "amd64", "arm64": "arm64"}
_MACHINES = {"x86_64": "x86_64", "aarch64": "arm64"}  # as uname -m has it

# The suites whose Python is of a version.
_SUITES = {(3, 11): "bookworm", (3, 13): "trixie"}
_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_PACKAGES = (f"libpython{_VERSION}-dev", "libc6-dev", "libexpat1-dev", "zlib1g-dev", "liblzma-dev", "libbz2-dev")


class Toolchain(NamedTuple):
    """A compiler, binutils and libraries for one architecture."""

    architecture: str
    """A key of TRIPLETS."""
    prefix: str = ""
    """Of the names of its programs; "" for this machine's own."""
    include: Path | None = None
    """The directory with ``Python.h``; None for this interpreter's own."""
    libpython: Path | None = None
    """The static one; None for this interpreter's own."""
    flags: tuple[str, ...] = ()
    """For compiling and linking."""

    def tool(self, name: str) -> str:
        """The name of a program of binutils."""
        return f"{self.prefix}{name}"

    @property
    def compiler(self) -> str:
        """The C compiler's name; $CC natively."""
        return f"{self.prefix}gcc" if self.prefix else os.environ.get("CC") or "gcc"

    @property
    def hint(self) -> str:
        """What to install when something of it is missing."""
        if self.prefix:
            return f"apt install {package(self.architecture)}"
        return "apt install gcc libc6-dev python3-dev"

    def python_flags(self) -> list[str]:
        """For compiling C that includes ``Python.h``."""
        return [*self.flags, f"-I{self.include or sysconfig.get_path('include')}"]

    def version(self) -> str:
        """What the compiler says of itself: a part of every key.  Raises BuildError."""
        return _compiler_version(self.compiler, self.hint)

    def library(self, name: str) -> Path:
        """Where lib``name``.a is.  Raises BuildError."""
        file = f"lib{name}.a"
        command = [self.compiler, *self.flags, f"-print-file-name={file}"]
        path = Path(subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip())
        if not path.is_absolute():
            raise BuildError(f"there is no {file}", "apt install liblzma-dev libbz2-dev")
        return path


def machine() -> str:
    """The architecture of this machine, or what uname says of one that we do not know."""
    return _MACHINES.get(os.uname().machine, os.uname().machine)


NATIVE = Toolchain(machine())


def prefix(architecture: str) -> str:
    """Of the names of the compiler's and the binutils' programs for ``architecture``; "" on such a machine."""
    return "" if architecture == machine() else f"{TRIPLETS[architecture]}-"


def package(architecture: str) -> str:
    """What brings the cross compiler."""
    return f"gcc-{TRIPLETS[architecture].replace('_', '-')}"


def find(architecture: str) -> Toolchain:
    """What compiles and links programs with Python inside for ``architecture``.

    Fetches the libraries of another one.  Raises BuildError.
    """
    if architecture == machine():
        return NATIVE
    suite = _SUITES.get(sys.version_info[:2])
    if suite is None:
        wanted = " or ".join(f"{major}.{minor}" for major, minor in _SUITES)
        raise BuildError(f"there is no Python {_VERSION} to link with for {architecture}", f"use Python {wanted}")
    tree = debian.packages(suite, _PACKAGES, architecture=DEBIAN[architecture])
    include, libraries = tree / f"usr/include/python{_VERSION}", tree / "usr/lib" / TRIPLETS[architecture]
    _check_version(include / "patchlevel.h", tree)
    library = libraries / f"libpython{_VERSION}.a"
    return Toolchain(architecture, prefix(architecture), include, library, (f"--sysroot={tree}",))


def _check_version(header: Path, tree: Path) -> None:
    try:
        found = re.search(r'^#define PY_VERSION\s+"([0-9.]+)', header.read_text(), re.MULTILINE)
    except OSError as error:
        raise BuildError(f"{header}: {error.strerror}") from None
    here = ".".join(map(str, sys.version_info[:3]))
    if found is None or found[1] != here:
        raise BuildError(
            f"{tree} has Python {found[1] if found else '?'}, but {here} runs this build",
            f"remove that directory of the cache ({cache.root()}) to fetch it anew, or bring this machine up to date",
        )


@memoize
def _compiler_version(compiler: str, hint: str) -> str:
    try:
        done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        raise BuildError(f"no working C compiler {compiler!r}", hint) from None
    return done.stdout
