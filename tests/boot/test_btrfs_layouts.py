"""Boots from btrfs as it is on a bad day, or as other distributions lay it out: to the target's own initrd."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qemu import layouts
from qemu.machine import Machine
from qemu.workshop import Made

pytestmark = pytest.mark.boot

Machines = Callable[..., Machine]


@pytest.mark.parametrize(
    ("layout", "unplugged", "state", "flags"),
    [
        ("raid5", (1,), "2/3", "degraded"),
        ("raid6", (0, 2), "2/4", "degraded"),
        ("raid10", (0, 3), "2/4", "degraded"),
        ("snapshot", (), "1/1", "subvol=@/.snapshots/1/snapshot"),
        ("log", (), "1/1", ""),
    ],
    ids=["raid5 minus one", "raid6 minus two", "raid10 minus two of different pairs", "default snapshot", "crashed"],
)
def test_the_kernel_of_a_layout_starts(
    machine: Machines, btrfs_layouts: Made, layout: str, unplugged: tuple[int, ...], state: str, flags: str
) -> None:
    first, last = layouts.BTRFS[layout]
    disks = [disk for number, disk in enumerate(btrfs_layouts.disks[first:last]) if number not in unplugged]
    with machine(disks, "poolboot.wait=3") as guest:
        guest.expect(f"poolboot: pool btrfs {layout} .* members {state}", 60)
        booting = guest.expect("poolboot: booting .* kernel=(.*) initrd=.* cmdline=(.*)", 60)
        assert flags in booting[2]
        if layout == "log":
            assert booting[1].endswith("-logged")
        guest.expect(layouts.MARKER, 120)
        assert guest.expect("booted with: (.*)")[1].strip() == booting[2].strip()
