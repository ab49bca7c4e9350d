"""`fsdrivers inspect` says what the real tools say, value by value, of images that real drivers wrote."""

from __future__ import annotations

import sys
from pathlib import Path

import btrfs_stripe_recipes
import pytest
import zfs_recipes

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "unit/fsdrivers/desk"))

import inspected

pytestmark = pytest.mark.images


@pytest.mark.parametrize("name", ["stripes-raid1", "stripes-raid10", "stripes-dup"])
def test_btrfs_is_what_btrfs_progs_says(name: str, tmp_path: Path) -> None:
    disks = btrfs_stripe_recipes.unpack(name, tmp_path)
    for disk in disks:
        assert inspected.compare_supers(disk, inspected.dump_super(disk)) > 100
    assert inspected.compare_trees(disks, inspected.dump_tree(*disks)) > 2000


# zdb dies on the pools that are older than version 15, in the middle of its list.
@pytest.mark.parametrize(
    "name",
    [
        "single",
        "mirror",
        "raidz1",
        "raidz2",
        "big15",
        "version28",
        "datasets",
        "gang",
        "removed",
        "log23",
        "tall",
    ],
)
def test_zfs_is_what_zdb_says(name: str, tmp_path: Path) -> None:
    disks = zfs_recipes.unpack(name, tmp_path)
    assert inspected.compare_labels(disks, inspected.zdb_label(disks[0])) >= 4
    pool = inspected.Asking(disks).pools[0]
    assert inspected.compare_objects(disks, inspected.zdb_objects(disks, pool.name)) > 10
