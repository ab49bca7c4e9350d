"""Boots from pools that the kernel cannot see at all: made by the real OpenZFS, read by us, members missing.

The pools are committed, so that nobody has to compile OpenZFS to run this; the boots of a whole Debian on ZFS, which
need it, are in test_zfs_debian.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import zfs_pools

from fsdrivers import pools
from fsdrivers.block import FileDevice
from fsdrivers.desk.walk import record
from fsdrivers.traverse import walk
from qemu import layouts, manifest
from qemu.machine import Machine

pytestmark = pytest.mark.boot

Machines = Callable[..., Machine]
TOLERATED = {"mirror": 1, "raidz1": 1, "raidz2": 2}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Path]]]:
    directory = tmp_path_factory.mktemp("pools")
    return directory, zfs_pools.unpack(directory)


@pytest.mark.parametrize("layout", TOLERATED)
def test_every_tolerable_subset_reads_as_openzfs_reads_it(
    unpacked: tuple[Path, dict[str, list[Path]]], layout: str
) -> None:
    directory, disks = unpacked
    wanted = manifest.read(directory / "manifests", f"tank-{layout}+ROOT+debian")
    assert any(path.startswith("/boot/vmlinuz-") for path in wanted)
    for count in range(TOLERATED[layout] + 1):
        for missing in itertools.combinations(range(len(disks[layout])), count):
            members = [FileDevice(str(disk)) for number, disk in enumerate(disks[layout]) if number not in missing]
            (pool,) = pools.assemble(members)
            filesystem = pool.open()
            assert filesystem.root_name == f"tank-{layout}/ROOT/debian"
            found = {item.path: record(filesystem, item, sha256=True) for item in walk(filesystem)}
            assert found == {path: entry.fields() for path, entry in wanted.items()}, missing
            assert pool.health.report() == []


@pytest.mark.parametrize(
    ("layout", "unplugged", "state"),
    [("mirror", (0,), "1/2"), ("raidz1", (1,), "2/3"), ("raidz2", (0, 3), "2/4")],
    ids=["mirror minus one", "raidz1 minus one", "raidz2 minus two"],
)
def test_the_kernel_of_a_pool_starts(
    machine: Machines,
    unpacked: tuple[Path, dict[str, list[Path]]],
    layout: str,
    unplugged: tuple[int, ...],
    state: str,
) -> None:
    disks = [disk for number, disk in enumerate(unpacked[1][layout]) if number not in unplugged]
    with machine(disks, "poolboot.wait=3", memory=512) as guest:
        guest.expect(f"poolboot: pool zfs tank-{layout} .* members {state}", 60)
        booting = guest.expect("poolboot: booting .* cmdline=(.*)", 60)
        assert f"root=ZFS=tank-{layout}/ROOT/debian" in booting[1].split()
        guest.expect(layouts.MARKER, 120)
        assert guest.expect("booted with: (.*)")[1].strip() == booting[1].strip()
