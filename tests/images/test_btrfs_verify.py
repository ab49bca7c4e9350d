"""`fsdrivers verify` on filesystems that the kernel wrote: silent on whole ones, and it names every damaged copy."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from btrfs_recipes import PROFILES, SINGLES, Layout
from test_btrfs import Overlay, Rotten, assemble, devices

from fsdrivers.block import BlockDevice
from fsdrivers.btrfs import geometry
from fsdrivers.btrfs.pool import BtrfsPool
from fsdrivers.damage import Damage, Totals

pytestmark = pytest.mark.images

ALL = {item.name: item for item in (*PROFILES, *SINGLES)}


def verify(members: Sequence[BlockDevice], all_copies: bool) -> list[Damage]:
    return list(assemble(members).verify(all_copies, Totals()))


@pytest.mark.parametrize("layout", ALL.values(), ids=lambda item: item.name)
def test_whole(layout: Layout) -> None:
    totals = Totals()
    assert list(assemble(devices(layout)).verify(True, totals)) == []
    assert all(size > 1 << 20 for size in totals.read.values()) or layout.name == "raid1"


@pytest.mark.parametrize("name", ["raid1", "raid1c3", "raid10", "raid5", "raid6", "mixed"])
def test_a_rotten_disk(name: str) -> None:
    members = devices(ALL[name])
    members[-1] = Rotten(members[-1])
    found = verify(members, True)
    # Rotten data that has no checksum shows as parity that does not fit, on whatever disk the parity is.
    checked = [damage for damage in found if not damage.what.startswith("parity")]
    assert {damage.device for damage in checked} == {members[-1].name}
    assert not any(damage.lost for damage in found)
    data = [damage for damage in found if damage.what == "data"]
    assert data
    named = [damage for damage in data if damage.file]
    assert len(named) > len(data) // 2, data
    if name in ("raid5", "raid6"):
        assert any(damage.what.startswith("parity") for damage in found)


@pytest.mark.parametrize("name", ["raid5", "raid6"])
def test_more_rot_than_parity(name: str) -> None:
    members = devices(ALL[name])
    for number in range(ALL[name].tolerated + 1):
        members[number] = Rotten(members[number])
    if name == "raid6":  # its metadata has three copies, one of them is good
        assert any(damage.lost and damage.what == "data" for damage in verify(members, False))


def place(pool: BtrfsPool, path: str) -> tuple[geometry.Segment, int]:
    """The segment where the first extent of ``path`` starts, and its address."""
    filesystem = pool.open("/")
    node = filesystem.resolve(path)
    store = pool._opened()
    tree = store.roots.tree_of(node.tree)  # type: ignore[attr-defined]
    item = next(tree.of(node.inode, 108))  # type: ignore[attr-defined]
    address = store.reader.parse(item).address
    return store.volume.segments(address, 4096)[0], address


def flip(members: list[BlockDevice], pool: BtrfsPool, stripe: geometry.Stripe, offset: int) -> str:
    """Change the sector at ``offset`` of the device behind ``stripe``; the device's name."""
    leg = pool._opened().volume.leg(stripe)
    assert leg is not None
    index = next(number for number, member in enumerate(members) if member.name == leg.device.name)
    members[index] = Overlay(members[index], {offset: b"\xff\0" * 2048})
    return leg.device.name


def test_one_sector_without_a_second_copy_is_lost() -> None:
    members = devices(ALL["raid0"])
    pool = assemble(members)
    segment, _ = place(pool, "/@/boot/vmlinuz-6.1.0")
    copy = segment.copies[0]
    name = flip(members, pool, segment.chunk.stripes[copy.stripe], copy.offset)
    (damage,) = verify(members, False)
    assert (damage.device, damage.offset, damage.length, damage.lost) == (name, copy.offset, 4096, True)
    assert damage.file in ("/@/boot/vmlinuz-6.1.0", "/@home/snapshot/boot/vmlinuz-6.1.0")


def test_second_copies_need_all_copies() -> None:
    members = devices(ALL["raid1"])
    pool = assemble(members)
    segment, _ = place(pool, "/@/boot/vmlinuz-6.1.0")
    copy = segment.copies[1]
    name = flip(members, pool, segment.chunk.stripes[copy.stripe], copy.offset)
    assert verify(members, False) == []
    (damage,) = verify(members, True)
    assert (damage.device, damage.offset, damage.lost) == (name, copy.offset, False)
    assert damage.file.endswith("/boot/vmlinuz-6.1.0")


@pytest.mark.parametrize("name", ["raid5", "raid6"])
def test_parity_is_checked(name: str) -> None:
    members = devices(ALL[name])
    pool = assemble(members)
    segment, _ = place(pool, "/@/boot/vmlinuz-6.1.0")
    for copy in geometry.row_places(segment)[segment.chunk.data_stripes :]:
        rotten = list(members)
        device = flip(rotten, pool, segment.chunk.stripes[copy.stripe], copy.offset)
        assert verify(rotten, False) == []
        (damage,) = verify(rotten, True)
        assert (damage.device, damage.offset, damage.lost) == (device, copy.offset, False)
        assert damage.what.startswith("parity")
