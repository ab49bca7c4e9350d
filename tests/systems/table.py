"""The README's table of systems, made of what ring 0 proved.

python tests/systems table [SUITE...]      runs what is not proved yet, and writes the rows anew
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from bareroot import PROJECT
from releases import RELEASES, Release
from ring import Ring

README = PROJECT / "README.md"
BEGIN = "<!-- python tests/systems table: what ring 0 found -->"
END = "<!-- ring 0 ends -->"

_HEAD = (
    "| System | Python | Program started, unit tests, lint | Its kernel | Booted to its own user space from |",
    "|---|---|---|---|---|",
)


class Row(NamedTuple):
    """What was found in one release."""

    release: Release
    python: str
    kernel: str
    tests: int
    """How many unit tests passed."""
    booted: list[str]


def prove(release: Release, zfs: bool) -> Row:
    """Run all steps of ring 0 for a release, or take their results from earlier runs with the same inputs.

    Raises artefacts.steps.BuildError and qemu's errors.
    """
    with Ring(release) as ring:
        python, kernel = ring.image().python, ring.boot_btrfs()
        booted = ["btrfs RAID1"]
        tests = ring.unit_tests()
        ring.lint()
        if zfs and release.openzfs:
            ring.boot_zfs()
            booted.append(f"RAID-Z1 of OpenZFS {release.openzfs} minus one disk")
    return Row(release, python, kernel, tests, booted)


def line(row: Row) -> str:
    """A row of the table, in markdown."""
    cells = [
        row.release.title,
        row.python,
        f"yes, {row.tests} passed, clean",
        row.kernel,
        ", ".join(row.booted),
    ]
    return f"| {' | '.join(cells)} |"


def rewrite(rows: Iterable[Row], page: Path = README) -> None:
    """Put rows into the table between BEGIN and END of ``page``; releases without a new one keep theirs.

    Raises ValueError when the page has no such lines.
    """
    before, begin, rest = page.read_text().partition(f"{BEGIN}\n")
    old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no lines {BEGIN} and {END} around the table of ring 0")
    found = {_title(text): text for text in old.splitlines()} | {row.release.title: line(row) for row in rows}
    table = [*_HEAD, *(found[release.title] for release in RELEASES if release.title in found)]
    page.write_text("\n".join([f"{before}{BEGIN}", *table, f"{end}{after}"]))


def _title(text: str) -> str:
    return text.strip("|").split("|")[0].strip()
