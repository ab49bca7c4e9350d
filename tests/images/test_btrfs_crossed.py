"""Every btrfs profile with every checksum and codec, with every tolerable set of disks missing or rotten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations

import btrfs_crossed_recipes as recipes
import pytest
from btrfs_crossed_recipes import SIZE, TABLE, Crossed
from test_btrfs import Rotten, assemble

from fsdrivers import pools
from fsdrivers.block import BlockDevice, FileDevice, Slice
from fsdrivers.btrfs.pool import BtrfsPool
from fsdrivers.desk.walk import record
from fsdrivers.errors import FsError
from fsdrivers.traverse import walk

pytestmark = pytest.mark.images

by_name = pytest.mark.parametrize("one", TABLE, ids=lambda one: one.name)


def devices(one: Crossed) -> list[BlockDevice]:
    """The partitions of ``one``."""
    disks, _ = recipes.made()[one.name]
    return [Slice(FileDevice(str(path)), one.start, SIZE, f"disk{number}") for number, path in enumerate(disks)]


def subsets(one: Crossed) -> Iterator[tuple[int, ...]]:
    """The sets of disks that may be absent, the empty one first."""
    for count in range(one.shape.tolerated + 1):
        yield from combinations(range(one.shape.disks), count)


def check(pool: BtrfsPool, one: Crossed) -> None:
    """Compare the whole tree with the kernel's view of it."""
    filesystem = pool.open("/")
    _, wanted = recipes.made()[one.name]
    found = {}
    for item in walk(filesystem):
        assert item.error is None, item
        found[item.path] = record(filesystem, item, sha256=True)
    assert found == {path: theirs.fields() for path, theirs in wanted.items()}
    assert Counter(path.split("/")[1] for path in found if path.count("/") == 2) == dict.fromkeys(recipes.CODECS, 4)


@by_name
def test_missing(one: Crossed) -> None:
    members = devices(one)
    for missing in subsets(one):
        pool = assemble([device for number, device in enumerate(members) if number not in missing])
        assert (pool.name, pool.state) == (one.name, "degraded" if missing else "online")
        assert [slot.id for slot in pool.missing] == [number + 1 for number in missing]
        check(pool, one)
        assert pool.health.report() == []


@by_name
def test_rotten(one: Crossed) -> None:
    members = devices(one)
    healed: set[str] = set()
    for rotten in subsets(one):
        pool = assemble([Rotten(device) if number in rotten else device for number, device in enumerate(members)])
        check(pool, one)
        assert set(pool.health.damage) <= {f"disk{number}" for number in rotten}
        healed |= set(pool.health.damage)
    # Not every copy is asked for, but those of some disks are: that was no test of healthy disks.
    assert bool(healed) == bool(one.shape.tolerated)


@by_name
def test_codecs_are_used(one: Crossed) -> None:
    """The kernel did compress: otherwise the table would promise what nobody has seen."""
    pool = assemble(devices(one))
    pool.open("/")
    store = pool._store
    assert store is not None
    from fsdrivers.btrfs import layout

    tree = store.roots.tree_of(layout.FS_TREE)
    codecs = {
        store.reader.parse(item).codec for item in tree.items((0, 0, 0), layout.MAX_KEY)
        if item.type == layout.EXTENT_DATA
    }  # fmt: skip
    assert codecs == {0, 1, 2, 3}
    assert store.superblock.csum_type == recipes.CHECKSUMS.index(one.checksum)


def test_all_pools_of_seven_disks_at_once() -> None:
    """As the boot finds them: whole disks, with a partition of each pool on them."""
    made = recipes.made()
    widest = max(TABLE, key=lambda one: one.shape.disks)
    complaints: list[FsError] = []
    found = pools.assemble([FileDevice(str(path)) for path in made[widest.name][0]], complaints.append)
    assert not complaints
    assert sorted(pool.name for pool in found) == sorted(one.name for one in TABLE)
    assert {pool.state for pool in found} == {"online"}
