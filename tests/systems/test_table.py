"""The README's table of systems is what ring 0 makes of the releases."""

from __future__ import annotations

from pathlib import Path

import pytest
import table
from releases import RELEASES

from artefacts import NEWEST, OLDEST


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
