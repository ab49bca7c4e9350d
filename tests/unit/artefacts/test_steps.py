"""Steps of the build that are cut in the middle."""

from __future__ import annotations

from pathlib import Path

import pytest

from artefacts import cache
from artefacts.steps import BuildError, run


def test_what_was_cut_in_the_middle_is_not_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download or a build that ends half way leaves no entry: the next run makes it anew, and whole."""
    monkeypatch.setenv("POOLBOOT_CACHE", str(tmp_path))
    log = tmp_path / "log"

    def half(work: Path) -> None:
        run(["sh", "-c", 'echo half >"$0/package"; exit 100', work], log=log)

    def whole(work: Path) -> None:
        run(["sh", "-c", 'echo whole >"$0/package"', work], log=log)

    with pytest.raises(BuildError, match="status 100"):
        cache.entry("debian", "packages", half)
    assert [path.name for path in (tmp_path / "debian").iterdir()] == [".packages.lock"]
    assert (cache.entry("debian", "packages", whole) / "package").read_text() == "whole\n"
