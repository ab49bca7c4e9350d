"""Boots from pools that the kernel cannot see at all: made by the real OpenZFS, read by us, members missing.

Making the pools needs OpenZFS's modules, which are compiled when they are not cached: `make qemu-test ZFS=1`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qemu import layouts
from qemu.machine import Machine
from qemu.workshop import Made

pytestmark = pytest.mark.zfs

Machines = Callable[..., Machine]


@pytest.fixture(scope="session")
def zfs_layouts() -> Made:
    return layouts.zfs()


@pytest.mark.parametrize(
    ("layout", "unplugged", "state"),
    [("mirror", (), "2/2"), ("raidz1", (1,), "2/3"), ("raidz2", (0, 3), "2/4")],
    ids=["mirror", "raidz1 minus one", "raidz2 minus two"],
)
def test_the_kernel_of_a_pool_starts(
    machine: Machines, zfs_layouts: Made, layout: str, unplugged: tuple[int, ...], state: str
) -> None:
    first, last = layouts.ZFS[layout]
    disks = [disk for number, disk in enumerate(zfs_layouts.disks[first:last]) if number not in unplugged]
    with machine(disks, "poolboot.wait=3") as guest:
        guest.expect(f"poolboot: pool zfs tank-{layout} .* members {state}", 60)
        booting = guest.expect("poolboot: booting .* cmdline=(.*)", 60)
        assert f"root=ZFS=tank-{layout}/ROOT/debian" in booting[1].split()
        guest.expect(layouts.MARKER, 120)
        assert guest.expect("booted with: (.*)")[1].strip() == booting[1].strip()
