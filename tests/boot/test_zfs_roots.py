"""Other roots of Debian on ZFS than a single pool's: a snapshot, a pool for /boot, an initrd by dracut.

As test_zfs_debian.py, and beside it, as they take minutes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from zfs_debian import PATIENT, log_in

from fsdrivers.block import FileDevice
from init import config
from init.entries import BootEntry
from init.entries.mounts import Mounted
from init.survey import Survey
from qemu import zfs_images
from qemu.machine import Machine
from qemu.workshop import Made

pytestmark = pytest.mark.zfs

Machines = Callable[..., Machine]


def test_a_snapshot_boots_as_a_clone_that_debians_initrd_makes(machine: Machines, zfs_debian: Made) -> None:
    first, last = zfs_images.POOLS["mirror"]
    snapshot = "rpool-mirror/ROOT/debian@installed"
    with machine(zfs_debian.disks[first:last], f"{PATIENT} poolboot.entry={snapshot}") as guest:
        booting = guest.expect(r"poolboot: booting .*, snapshot installed, read-only kernel=\S+ .*cmdline=(.*)", 90)
        assert f"root=ZFS={snapshot}" in booting[1].split()
        log_in(guest, booting[1])
        guest.send("findmnt -rno FSTYPE,SOURCE / && zfs get -Ho value origin $(findmnt -no SOURCE /)\n")
        guest.expect("^zfs rpool-mirror/ROOT/debian_installed$")
        guest.expect(f"^{snapshot}$")
        # It is a root like any other one: it can be written to.
        guest.send("touch /etc/written && zfs list -Ho name -t filesystem\n")
        guest.expect("^rpool-mirror/ROOT/debian$")
        guest.expect("^rpool-mirror/ROOT/debian_installed$")


def test_debian_as_the_openzfs_howto_installs_it(machine: Machines, zfs_howto: Made) -> None:
    """A pool for /boot that GRUB can read and another one for the root, both without their second disk; the entry is
    the one that Debian's own grub-mkconfig wrote."""
    with machine(zfs_howto.disks[:1], PATIENT) as guest:
        for pool in ("bpool", "rpool"):
            guest.expect(f"poolboot: pool zfs {pool} .* members 1/2", 60)
        booting = guest.expect(
            r"poolboot: booting Debian GNU/Linux kernel=/boot/vmlinuz-(\S+) initrd=/boot/initrd.img-\1 cmdline=(.*)", 90
        )
        assert booting[1] != zfs_images.OLD_RELEASE
        words = booting[2].split()
        assert [word for word in words if word.startswith("root=")] == ["root=ZFS=rpool/ROOT/debian"]
        log_in(guest, booting[2])
        guest.send("for x in / /boot; do findmnt -rno FSTYPE,SOURCE $x; done; uname -r; zpool list -Ho name,health\n")
        guest.expect("^zfs rpool/ROOT/debian$")
        guest.expect("^zfs bpool/BOOT/debian$")
        guest.expect(f"^{booting[1]}$")
        for pool in ("bpool", "rpool"):
            guest.expect(rf"^{pool}\s+DEGRADED$")


def test_a_boot_pool_goes_with_every_boot_environment_and_its_snapshots(zfs_howto: Made) -> None:
    devices = [FileDevice(str(disk)) for disk in zfs_howto.disks]
    snapshot = "rpool/ROOT/debian@install"
    found: dict[str, list[BootEntry]] = {}
    for entry in Survey(devices, config.read(f"poolboot.entry={snapshot}")).entries():
        found.setdefault(entry.root.name, []).append(entry)
    assert list(found) == ["rpool/ROOT/debian", "rpool/ROOT/before", snapshot]
    assert [entry.default for entry in found["rpool/ROOT/debian"]] == [True, False, False, False]
    for root, entries in found.items():
        assert all(f"root=ZFS={root}" in entry.cmdline.split() for entry in entries)
        for entry in entries:
            missing = f"no /lib/modules/{zfs_images.OLD_RELEASE} in this root"
            assert (missing in entry.notes) == (entry.version == zfs_images.OLD_RELEASE)
            assert isinstance(entry.files, Mounted)
            boot = "bpool/BOOT/debian@install" if root == snapshot else "bpool/BOOT/debian"
            assert entry.files.found.filesystem.root_name == boot
            assert len(entry.open_kernel().read(0, 4096)) == 4096


def test_a_debian_whose_initrd_is_made_by_dracut(machine: Machines, zfs_dracut: Made) -> None:
    with machine(zfs_dracut.disks, PATIENT) as guest:
        guest.expect("poolboot: pool zfs dpool .* members 1/1", 60)
        booting = guest.expect(
            r"poolboot: booting .* kernel=/boot/vmlinuz-(\S+) initrd=/boot/initrd.img-\1 cmdline=(.*)", 60
        )
        assert booting[2].split()[0] == "root=zfs:dpool/ROOT/debian"
        log_in(guest, booting[2])
        guest.send("findmnt -rno FSTYPE,SOURCE / && uname -r && zpool list -Ho name,health\n")
        guest.expect("^zfs dpool/ROOT/debian$")
        guest.expect(f"^{booting[1]}$")
        guest.expect(r"^dpool\s+ONLINE$")
