"""A filesystem whose balance a power cut ended: its relocation trees disturb nobody, and are verified too."""

from __future__ import annotations

import btrfs_balance_recipes
import pytest
from test_btrfs import Overlay, assemble, check

from fsdrivers.block import FileDevice
from fsdrivers.btrfs import layout
from fsdrivers.btrfs.tree import Pointer
from fsdrivers.damage import Totals

pytestmark = pytest.mark.images


def relocating() -> list[Pointer]:
    """The tops of the relocation trees that are not being dropped already."""
    pool = assemble([FileDevice(str(btrfs_balance_recipes.interrupted().disk))])
    pool.open("/")
    store = pool._store
    assert store is not None
    items = store.roots.tree.items((0, 0, 0), layout.MAX_KEY)
    found = [item for item in items if item.objectid == layout.TREE_RELOC and item.type == layout.ROOT_ITEM]
    roots = [store.roots.parse(item) for item in found]
    return [root.pointer for root in roots if not root.dropped]


def test_relocation_trees_are_there() -> None:
    assert len(relocating()) == btrfs_balance_recipes.interrupted().trees > 0


def test_reading() -> None:
    made = btrfs_balance_recipes.interrupted()
    pool = assemble([FileDevice(str(made.disk))])
    check(pool.open("/"), made.records)
    assert pool.health.report() == []


def test_verify() -> None:
    disk = FileDevice(str(btrfs_balance_recipes.interrupted().disk))
    assert list(assemble([disk]).verify(True, Totals())) == []


def test_verify_reads_relocation_trees() -> None:
    """Both copies of the top of one are bad: told, though no file needs it."""
    disk = FileDevice(str(btrfs_balance_recipes.interrupted().disk))
    (top, *_) = relocating()
    (segment,) = assemble([disk])._opened().volume.segments(top.bytenr, 4096)
    places = {copy.offset for copy in segment.copies}
    pool = assemble([Overlay(disk, dict.fromkeys(places, b"rotten"))])
    found = list(pool.verify(True, Totals()))
    assert {damage.offset for damage in found if damage.device == disk.name} >= places
    assert any(damage.lost for damage in found)
