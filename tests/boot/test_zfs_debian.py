"""Debian whose root is a ZFS pool: read by poolboot, imported by Debian's own zfs-initramfs, up to its login.

Making the pools needs OpenZFS's modules, which are compiled when they are not cached: `make qemu-test ZFS=1`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from zfs_debian import PATIENT, log_in

from qemu import zfs_images
from qemu.machine import Machine
from qemu.workshop import Made

pytestmark = pytest.mark.zfs

Machines = Callable[..., Machine]


@pytest.mark.parametrize(
    ("layout", "unplugged", "state"),
    [("mirror", (), "2/2"), ("raidz1", (1,), "2/3"), ("raidz2", (0, 3), "2/4")],
    ids=["mirror", "raidz1 minus one", "raidz2 minus two"],
)
def test_debian_reaches_its_login(
    machine: Machines, zfs_debian: Made, layout: str, unplugged: tuple[int, ...], state: str
) -> None:
    first, last = zfs_images.POOLS[layout]
    disks = [disk for number, disk in enumerate(zfs_debian.disks[first:last]) if number not in unplugged]
    dataset = f"rpool-{layout}/ROOT/debian"
    with machine(disks, PATIENT) as guest:
        guest.expect(f"poolboot: pool zfs rpool-{layout} .* members {state}", 60)
        booting = guest.expect(
            r"poolboot: booting .* kernel=/boot/vmlinuz-(\S+) initrd=/boot/initrd.img-\1 cmdline=(.*)", 60
        )
        assert f"root=ZFS={dataset}" in booting[2].split()
        if layout == "raidz1":
            # It was not exported: Debian may only import it as the host that it belongs to.
            assert f"spl.spl_hostid=0x{zfs_images.HOSTID:08x}" in booting[2].split()
        log_in(guest, booting[2])
        guest.send("findmnt -rno FSTYPE,SOURCE / && uname -r && zpool list -Ho name,health\n")
        guest.expect(rf"^zfs {dataset}$")
        guest.expect(rf"^{booting[1]}$")
        guest.expect(rf"^rpool-{layout}\s+{'DEGRADED' if unplugged else 'ONLINE'}$")
