"""`fsdrivers inspect` says what the real tools say, value by value, of images that real drivers wrote."""

from __future__ import annotations

import sys
from pathlib import Path

import btrfs_stripe_recipes
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "unit/fsdrivers/desk"))

import inspected

pytestmark = pytest.mark.images


@pytest.mark.parametrize("name", ["stripes-raid1", "stripes-raid10", "stripes-dup"])
def test_btrfs_is_what_btrfs_progs_says(name: str, tmp_path: Path) -> None:
    disks = btrfs_stripe_recipes.unpack(name, tmp_path)
    for disk in disks:
        assert inspected.compare_supers(disk, inspected.dump_super(disk)) > 100
    assert inspected.compare_trees(disks, inspected.dump_tree(*disks)) > 2000
