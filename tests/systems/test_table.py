"""The README's table of systems is what ring 0 makes of the releases."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import table
from releases import RELEASES

from artefacts import NEWEST, OLDEST

VERSION = re.compile(r"\d+\.\d+")


def test_the_readmes_rows_are_of_our_releases_and_say_what_ring_0_wants_of_them() -> None:
    text = table.README.read_text()
    _, begin, rest = text.partition(f"{table.BEGIN}\n")
    found, end, _ = rest.partition(table.END)
    assert begin
    assert end
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found.strip().splitlines()[2:]]
    known = {row[0]: row for row in rows}
    # A release that is not proved yet has no row.
    assert list(known) == [release.title for release in RELEASES if release.title in known]
    for release in RELEASES:
        if row := known.get(release.title):
            assert (_series(row[1]), _series(row[3])) == (release.python, release.kernel)


def test_every_release_has_a_python_that_the_build_calls_known_to_work() -> None:
    have = [tuple(map(int, release.python.split("."))) for release in RELEASES]
    assert min(have) == OLDEST
    assert max(have) <= NEWEST


def test_rows_are_renewed_between_the_marks_and_others_stay(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n\n{table.BEGIN}\n{table.END}\n\nafter\n")
    old, new, other = (
        table.Row(RELEASES[number], python, "6.1.0-56-cloud-amd64", 1893, ["btrfs RAID1"])
        for number, python in ((0, "3.11.1"), (0, "3.11.2"), (1, "3.13.5"))
    )
    for rows in ([other, old], [new]):
        table.rewrite(rows, page)
    before, _, rest = page.read_text().partition(f"{table.BEGIN}\n")
    found, _, after = rest.partition(f"{table.END}\n")
    assert (before, after) == ("before\n\n", "\nafter\n")
    assert found.splitlines()[2:] == [
        "| Debian 12 | 3.11.2 | yes, 1893 passed, clean | 6.1.0-56-cloud-amd64 | btrfs RAID1 |",
        "| Debian 13 | 3.13.5 | yes, 1893 passed, clean | 6.1.0-56-cloud-amd64 | btrfs RAID1 |",
    ]


def test_a_page_without_marks_stays_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("no table\n")
    with pytest.raises(ValueError, match="ring 0"):
        table.rewrite([], page)
    assert page.read_text() == "no table\n"


def _series(version: str) -> str:
    found = VERSION.match(version)
    assert found
    return found[0]
