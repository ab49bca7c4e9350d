"""The page about what slimming the kernel buys."""

from __future__ import annotations

from pathlib import Path

import pytest

from artefacts import kernel_compare
from artefacts.kernel_compare import Row, Run
from artefacts.steps import BuildError

ROWS = [
    Row("slim", 2_400 << 10, 6 << 20, Run(2.5, 200 << 10)),
    Row("with ext4, XFS and btrfs", 3_300 << 10, 6 << 20, Run(2.75, 197 << 10)),
    Row("newer", 2_500 << 10, 6 << 20, Run(2.625, 198 << 10)),
]


def test_the_page_holds_each_measurement_and_the_differences() -> None:
    text = kernel_compare.page("6.1.0-poolboot", ROWS, {"zfs.ko": 6 << 20, "zpool": 200 << 10})
    assert "| slim | 2,400 KiB | 6,144 KiB | 2.50 s | 200.0 MiB |" in text
    assert "| difference | 900 KiB | | +0.25 s | -3.0 MiB |" in text
    assert "| newer | 2,500 KiB | 6,144 KiB | 2.62 s | 198.0 MiB |" in text
    assert "| together, before compression | 6,344 KiB |" in text
    assert "do not edit" in text


def test_a_place_without_openzfs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"no zfs\.ko"):
        kernel_compare.zfs_modules(tmp_path)
