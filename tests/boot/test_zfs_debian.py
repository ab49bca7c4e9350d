"""Debian whose root is a ZFS pool: read by poolboot, imported by Debian's own zfs-initramfs, up to its login.

Making the pools needs OpenZFS's modules, which are compiled when they are not cached: `make qemu-test ZFS=1`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fsdrivers.block import FileDevice
from init import config
from init.entries import BootEntry
from init.entries.mounts import Mounted
from init.survey import Survey
from qemu import zfs_images
from qemu.images import MARKER
from qemu.machine import Machine
from qemu.workshop import Made

pytestmark = pytest.mark.zfs

Machines = Callable[..., Machine]
BOOT_SECONDS = 400
# On a busy host udev may take longer to find the serial line than systemd waits for it to start a login there.
PATIENT = "poolboot.wait=3 poolboot.append=systemd.default_timeout_start_sec=300"


def log_in(guest: Machine) -> None:
    """Wait for the login on the serial line, and use it."""
    guest.expect("login: ", 60)
    guest.send("root\n")
    guest.expect(r"[#] $")


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
    with machine(disks, "poolboot.wait=3") as guest:
        guest.expect(f"poolboot: pool zfs rpool-{layout} .* members {state}", 60)
        booting = guest.expect(
            r"poolboot: booting .* kernel=/boot/vmlinuz-(\S+) initrd=/boot/initrd.img-\1 cmdline=(.*)", 60
        )
        assert f"root=ZFS={dataset}" in booting[2].split()
        if layout == "raidz1":
            # It was not exported: Debian may only import it as the host that it belongs to.
            assert f"spl.spl_hostid=0x{zfs_images.HOSTID:08x}" in booting[2].split()
        guest.expect(MARKER, BOOT_SECONDS)
        assert "poolboot: error" not in guest.console
        assert guest.expect("booted with: (.*)")[1].strip() == booting[2].strip()
        log_in(guest)
        guest.send("findmnt -rno FSTYPE,SOURCE / && uname -r && zpool list -Ho name,health\n")
        guest.expect(rf"^zfs {dataset}$")
        guest.expect(rf"^{booting[1]}$")
        guest.expect(rf"^rpool-{layout}\s+{'DEGRADED' if unplugged else 'ONLINE'}$")


def test_a_snapshot_boots_as_a_clone_that_debians_initrd_makes(machine: Machines, zfs_debian: Made) -> None:
    first, last = zfs_images.POOLS["mirror"]
    snapshot = "rpool-mirror/ROOT/debian@installed"
    with machine(zfs_debian.disks[first:last], f"{PATIENT} poolboot.entry={snapshot}") as guest:
        booting = guest.expect(r"poolboot: booting .*, snapshot installed, read-only kernel=\S+ .*cmdline=(.*)", 90)
        assert f"root=ZFS={snapshot}" in booting[1].split()
        guest.expect(MARKER, BOOT_SECONDS)
        assert "poolboot: error" not in guest.console
        log_in(guest)
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
        guest.expect(MARKER, BOOT_SECONDS)
        assert "poolboot: error" not in guest.console
        assert guest.expect("booted with: (.*)")[1].strip() == booting[2].strip()
        log_in(guest)
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
        guest.expect(MARKER, BOOT_SECONDS)
        assert "poolboot: error" not in guest.console
        log_in(guest)
        guest.send("findmnt -rno FSTYPE,SOURCE / && uname -r && zpool list -Ho name,health\n")
        guest.expect("^zfs dpool/ROOT/debian$")
        guest.expect(f"^{booting[1]}$")
        guest.expect(r"^dpool\s+ONLINE$")
