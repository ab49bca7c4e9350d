"""`fsdrivers verify` on pools that OpenZFS wrote: silent on whole ones, and it names every damaged copy."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import zfs_recipes
from test_zfs import Overlay, Rotten, _scratch, assemble, members, without_labels  # noqa: F401

from fsdrivers.block import BlockDevice
from fsdrivers.damage import Damage, Totals
from fsdrivers.desk import cli
from fsdrivers.zfs import label
from fsdrivers.zfs.blkptr import Blkptr
from fsdrivers.zfs.layout import DATA_START, LABEL_NVLIST
from fsdrivers.zfs.pool import ZfsPool
from fsdrivers.zfs.raidzread import RaidZ

pytestmark = pytest.mark.images


def verify(devices: Sequence[BlockDevice], all_copies: bool) -> list[Damage]:
    return list(assemble(devices).verify(all_copies, Totals()))


@pytest.mark.parametrize("name", sorted(zfs_recipes.POOLS))
def test_whole(name: str) -> None:
    totals = Totals()
    assert list(assemble(members(name)).verify(True, totals)) == []
    # Whatever is allocated has been read: the copies, and parity too.
    assert sum(totals.read.values()) > 1 << 20
    assert totals.lost == 0


def first_block(pool: ZfsPool, path: str) -> Blkptr:
    """The pointer to the first block of a file of the root dataset."""
    filesystem = pool.open(pool.name)
    pointer = filesystem._objset.dnode(filesystem.resolve(path)).pointer(0)  # type: ignore[arg-type]
    assert pointer is not None
    return pointer


def flipped(devices: list[BlockDevice], number: int, offset: int) -> list[BlockDevice]:
    """The devices with one byte of ``number`` changed, at ``offset`` of the device."""
    byte = devices[number].read(offset, 1)[0] ^ 0x40
    return [Overlay(one, {offset: bytes([byte])}) if at == number else one for at, one in enumerate(devices)]


@pytest.mark.parametrize("leg", [0, 1, 2])
def test_a_flipped_byte_on_one_leg_of_a_mirror(leg: int) -> None:
    devices = members("mirror")
    at = DATA_START + first_block(assemble(devices), "/random").dvas[0].offset
    devices = flipped(devices, leg, at + 700)
    # The first leg is read in any case; the others only on demand.
    assert len(verify(devices, False)) == (leg == 0)
    (damage,) = verify(devices, True)
    assert (damage.device, damage.offset, damage.length) == (f"d{leg}.img", at + 512, 512)
    assert damage.file in ("tank:/random", "tank:/dir/hardlink")
    assert not damage.lost


def test_a_flipped_byte_without_a_second_copy_is_lost() -> None:
    devices = members("single")
    pool = assemble(devices)
    filesystem = pool.open("tank@one")
    pointer = filesystem._objset.dnode(filesystem.resolve("/random")).pointer(0)  # type: ignore[arg-type]
    assert pointer is not None
    at = DATA_START + pointer.dvas[0].offset
    (damage,) = verify(flipped(devices, 0, at), False)
    assert (damage.device, damage.offset, damage.length) == ("d0.img", at, pointer.psize)
    assert damage.lost
    assert damage.file in ("tank@one:/random", "tank@one:/dir/hardlink")


@pytest.mark.parametrize("name", ["raidz1", "raidz2", "raidz3"])
def test_every_column_and_parity_of_a_block(name: str) -> None:
    devices = members(name)
    pool = assemble(devices)
    pointer = first_block(pool, "/random")
    raidz = pool.spa().store.vdevs[0]
    assert isinstance(raidz, RaidZ)
    (row,) = raidz._stripes(pointer.dvas[0].offset, pointer.psize, pointer.physical_birth).rows
    for number, column in enumerate(row.columns):
        sick = flipped(devices, column.child, DATA_START + column.offset)
        parity = number < raidz.nparity
        assert bool(verify(sick, False)) is not parity
        (damage,) = verify(sick, True)
        assert (damage.device, damage.offset) == (f"d{column.child}.img", DATA_START + column.offset)
        assert damage.what.startswith(f"parity {'PQR'[number]}" if parity else "tank: object")
        assert damage.file in ("tank:/random", "tank:/dir/hardlink")
        assert not damage.lost


@pytest.mark.parametrize("name", ["mirror", "raidz1", "raidz2", "raidz3", "gang", "gangz", "draid", "removed"])
def test_a_rotten_disk(name: str) -> None:
    devices = members(name)
    devices[-1] = Rotten(devices[-1])
    found = verify(devices, True)
    assert found
    assert {damage.device for damage in found if not damage.lost} == {devices[-1].name}
    assert any(damage.lost for damage in found) is (name == "removed")
    assert any(damage.file for damage in found)


@pytest.mark.parametrize(("name", "rotten"), [("raidz1", 2), ("raidz2", 3)])
def test_more_rot_than_parity(name: str, rotten: int) -> None:
    devices = members(name)
    # The metadata's second and third copies are as rotten as the first: only what was opened before is left to read.
    spoiled = [Rotten(one) if number < rotten else one for number, one in enumerate(devices)]
    pool = assemble(devices)
    at = first_block(pool, "/random").dvas[0].offset // len(devices) // 4096 * 4096
    devices = [
        Overlay(one, {DATA_START + at: spoiled[number].read(DATA_START + at, 1 << 16)}) if number < rotten else one
        for number, one in enumerate(devices)
    ]
    found = verify(devices, False)
    assert any(damage.lost and damage.file for damage in found)


def test_labels_are_checked() -> None:
    (device,) = members("single")
    starts = label.offsets(device.size)
    found = verify([without_labels(device, 1, 3)], False)
    assert [(damage.what, damage.offset, damage.lost) for damage in found] == [
        ("label 1", starts[1] + LABEL_NVLIST, False),
        ("label 3", starts[3] + LABEL_NVLIST, False),
    ]


def test_the_command_says_it_with_its_status(
    capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("flipped")
    paths = zfs_recipes.unpack("single", directory)
    assert cli.main(["verify", "-a", str(paths[0])]) == 0
    assert "0 damaged places" in capsys.readouterr().err
    pool = assemble(members("single"))
    offset = DATA_START + first_block(pool, "/text128k+1").dvas[0].offset
    with paths[0].open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff\0" * 8)
    assert cli.main(["verify", "-a", str(paths[0])]) == 1
    said = capsys.readouterr().out
    assert f"offset {offset:#x}" in said
    assert "/text128k+1" in said
    assert "LOST" in said
