"""Every golden tree gives exactly the entries, the default and the notes that it should."""

from __future__ import annotations

import json

import pytest
from entrytrees import CASES, DATA, as_json, listing


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    wanted = json.loads((DATA / case / "expected.json").read_text())
    assert json.loads(json.dumps(as_json(listing(case)))) == wanted


def test_all_trees_are_there() -> None:
    assert len(CASES) >= 10
    assert {path.name for path in DATA.iterdir() if path.is_dir()} == set(CASES)
