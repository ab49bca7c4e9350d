"""How far a long command is: counts that come from its log, or from the files that it leaves.

A counter belongs to one step.  It is fed the lines of the step's log as they are written and asked from time to time.
Nothing here changes what a command does: a total that was estimated wrong spoils a bar and no build.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple


class Count(NamedTuple):
    """How far something is."""

    done: float
    total: float
    """0 while it is unknown."""
    unit: str
    """What is counted, as it stands behind the number: "files compiled"."""
    note: str = ""
    """What else is worth a word: "412 MB written"."""

    def bare(self) -> str:
        """Without the share, which a bar shows, and without the note."""
        of = f" of {max(self.done, self.total):.0f}" if self.total else ""
        return f"{self.done:.0f}{of} {self.unit}"

    def __str__(self) -> str:
        share = f", {100 * self.done / max(self.done, self.total):.0f} %" if self.total else ""
        note = f", {self.note}" if self.note else ""
        return f"{self.bare()}{share}{note}"


class Counter:
    """What a step asks for its count; this one does not know."""

    def feed(self, lines: Iterable[str]) -> None:
        """Take the next lines of the step's log."""

    def count(self) -> Count | None:
        """How far it is; None when there is nothing to say yet."""
        return None


class Tally(Counter):
    """A count that the code of the step itself keeps."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.total = self.done = 0

    def count(self) -> Count | None:
        return Count(self.done, self.total, self.unit) if self.total else None


# Kbuild: "  CC      fs/namei.o", "  CC [M]  module/zfs/arc.o", "  AS      arch/x86/entry/entry_64.o".
_COMPILED = re.compile(r" *(?:CC|AS)(?: \[M\])? +\S+\.o$")
# The same in what `make --dry-run` would do: "...; echo '  CC      fs/namei.o'; ...".
_PLANNED = re.compile(r"echo '  (?:CC|AS)(?: \[M\])? +\S+\.o'")


class Kbuild(Counter):
    """The objects that the kernel's build makes.  ``total`` may be set when it is known."""

    def __init__(self, total: int = 0) -> None:
        self.total, self.done = total, 0

    def feed(self, lines: Iterable[str]) -> None:
        self.done += sum(1 for line in lines if _COMPILED.match(line))

    def count(self) -> Count | None:
        return Count(self.done, self.total, "files compiled") if self.done or self.total else None


def planned(plan: Iterable[str]) -> int:
    """How many objects the kernel's ``make --dry-run``, of which ``plan`` is the output, wants to compile."""
    return sum(1 for line in plan if _PLANNED.search(line))


class Files(Counter):
    """Files of one kind in a directory, each of which becomes a file of another: Nuitka's C files and their objects."""

    def __init__(self, directory: Path, source: str, product: str, unit: str) -> None:
        self._directory, self._unit = directory, unit
        self._suffixes = (source, product)

    def count(self) -> Count | None:
        names = [path.name for path in self._directory.glob("*")]
        total, done = (sum(1 for name in names if name.endswith(suffix)) for suffix in self._suffixes)
        return Count(min(done, total), total, self._unit) if total else None


_NEEDED = re.compile(r"Need to get (?:[\d.]+ [kMG]?B/)?([\d.]+) ([kMG]?)B of archives")
_GOT = re.compile(r"Get:\d+ .*\[([\d.]+) ([kMG]?)B\]$")
_PACKAGES = re.compile(r"\d+ upgraded, (\d+) newly installed")
_UNPACKED = re.compile(r"Unpacking \S+ \(")
_SET_UP = re.compile(r"Setting up \S+ \(")
_EXTRACTING = "I: extracting archives"  # mmdebstrap, the essential packages before dpkg itself is there
_SCALE = {"": 1e-6, "k": 1e-3, "M": 1.0, "G": 1e3}


class Apt(Counter):
    """apt and dpkg, alone or below ``mmdebstrap --verbose``: first megabytes, then packages.

    mmdebstrap runs them twice, for the essential packages and for all others: what the second time adds is known
    when the first is over.
    """

    def __init__(self) -> None:
        self._needed = self._got = 0.0
        self._packages = self._unpacked = self._set_up = 0
        self._fetching = True

    def feed(self, lines: Iterable[str]) -> None:
        for line in lines:
            if found := _NEEDED.match(line):
                # A second "Need to get" adds to what the first one fetched.
                self._needed = self._got + float(found[1]) * _SCALE[found[2]]
                self._fetching = True
            elif found := _GOT.match(line):
                self._got += float(found[1]) * _SCALE[found[2]]
                self._fetching = True
            elif found := _PACKAGES.match(line):
                self._packages += int(found[1])
            elif _UNPACKED.match(line):
                self._unpacked += 1
                self._fetching = False
            elif _SET_UP.match(line):
                self._set_up += 1
                self._fetching = False
            elif line.startswith(_EXTRACTING):
                self._fetching = False

    def count(self) -> Count | None:
        if self._fetching:
            return Count(self._got, self._needed, "MB fetched") if self._got else None
        return Count(self._set_up, self._packages, "packages set up", f"{self._unpacked} unpacked")


_TEMPORARY = re.compile(r"I: using (/\S+) as tempdir")


class Dkms(Counter):
    """mmdebstrap that has DKMS build a module: packages, then what configure asks of the kernel, then objects.

    DKMS says nothing while it builds.  Its logs lie in the root that mmdebstrap makes.
    """

    def __init__(self, module: str) -> None:
        self._apt, self._module = Apt(), module
        self._root: Path | None = None
        self._building = False

    def feed(self, lines: Iterable[str]) -> None:
        kept = list(lines)
        self._apt.feed(kept)
        for line in kept:
            if found := _TEMPORARY.match(line):
                self._root = Path(found[1])
            elif line.startswith("Building initial module"):
                self._building = True

    def count(self) -> Count | None:
        if self._building and self._root is not None:
            for build in self._root.glob(f"var/lib/dkms/{self._module}/*/build"):
                return _objects(build) or _questions(build) or self._apt.count()
        return self._apt.count()


def _objects(build: Path) -> Count | None:
    """The objects in the log of make; as many are wanted as there are sources for Linux."""
    kbuild = Kbuild()
    kbuild.feed(_lines(build / "make.log"))
    if not kbuild.done:
        return None
    sources = [path for path in (build / "module").rglob("*.c") if "freebsd" not in path.parts]
    return Count(kbuild.done, len(sources), "files compiled")


def _questions(build: Path) -> Count | None:
    """What configure has asked of the kernel; its script has many more questions than it asks of any."""
    asked = sum(1 for line in _lines(build / "config.log") if re.match(r"configure:\d+: checking ", line))
    return Count(asked, 0, "questions of configure answered") if asked else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:  # not there yet
        return []


class Script(Counter):
    """A script that a guest runs: which of its lines it is at, by what the guest says of it on its console.

    ``written`` tells how many bytes the guest's disks hold by now.
    """

    LINE = re.compile(r"workshop: at line (\d+)\b")

    def __init__(self, lines: int, written: Callable[[], int]) -> None:
        self._lines, self._written, self._line = lines, written, 0

    def feed(self, lines: Iterable[str]) -> None:
        for line in lines:
            if found := self.LINE.search(line):
                self._line = max(self._line, int(found[1]))

    def count(self) -> Count | None:
        megabytes = self._written() / 1e6
        if not self._line:
            return None
        return Count(self._line, self._lines, "lines of the script", f"{megabytes:.0f} MB on the disks")
