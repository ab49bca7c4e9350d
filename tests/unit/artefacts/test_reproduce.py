"""Comparing two builds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from artefacts import reproduce


@pytest.mark.parametrize("second", [b"kernel", b"other!"], ids=["same", "different"])
def test_what_was_there_before_is_compared(second: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A build that goes on beside the second one may replace the first's files."""
    first, output = tmp_path / "first", tmp_path / "second"
    for folder, data in ((first, b"kernel"), (output, second)):
        folder.mkdir()
        (folder / "vmlinuz").write_bytes(data)

    def build(scratch: Path, arguments: list[str]) -> Path:
        (first / "vmlinuz").write_bytes(b"replaced meanwhile")
        return output

    monkeypatch.setenv("POOLBOOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(reproduce, "FILES", ("vmlinuz",))
    monkeypatch.setattr(reproduce, "_build_elsewhere", build)
    (twin,) = reproduce.check(first, [])
    assert twin == ("vmlinuz", 6, hashlib.sha256(b"kernel").hexdigest(), second == b"kernel")
