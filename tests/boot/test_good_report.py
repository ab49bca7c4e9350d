"""Reporting good boots: the unit of contrib/systemd as it is shipped, run by Debian's systemd on btrfs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import entry_disks
import pytest

from artefacts import cpio
from fsdrivers import fat
from fsdrivers.block import FileDevice
from fsdrivers.partitions import partitions
from qemu import images
from qemu.machine import Disk, Machine
from qemu.workshop import Made

pytestmark = pytest.mark.boot

Machines = Callable[..., Machine]
UNITS = Path(__file__).parents[2] / "contrib" / "systemd"
BOOT_SECONDS = 400

# What docs/entries.md says, done by the initrd of a first start that goes no further; and a check that fails, so that
# the next one is no good boot.
_INSTALL = """\
#!/bin/sh
units=${rootmnt}/etc/systemd/system
[ ! -e $units/check.service ] || exit 0
mount -o remount,rw none ${rootmnt}
mkdir -p ${rootmnt}/usr/local/sbin $units/multi-user.target.wants $units/boot-complete.target.requires
cat /good/poolboot-good >${rootmnt}/usr/local/sbin/poolboot-good
chroot ${rootmnt} /bin/chmod 755 /usr/local/sbin/poolboot-good
cat /good/poolboot-good.service >$units/poolboot-good.service
cat /good/check.service >$units/check.service
ln -s ../poolboot-good.service $units/multi-user.target.wants/poolboot-good.service
ln -s ../check.service $units/boot-complete.target.requires/check.service
mount -o remount,ro none ${rootmnt}
sync
echo b >/proc/sysrq-trigger
"""
_ORDER = """\
/scripts/init-bottom/udev "$@"
[ -e /conf/param.conf ] && . /conf/param.conf
/good/install "$@"
"""
_CHECK = """\
[Unit]
Description=Something that has to work
[Service]
Type=oneshot
ExecStart=/bin/false
"""


def log_in(guest: Machine) -> None:
    guest.expect(images.MARKER, BOOT_SECONDS)
    images.log_in(guest, 120)


@pytest.mark.timeout(1800)
def test_systemd_reports_good_boots_and_only_those(machine: Machines, debian: Made, tmp_path: Path) -> None:
    """Starts of one machine: one that installs, one that fails its check, and a good one."""
    extra = cpio.Archive()
    extra.file("good/poolboot-good", (UNITS / "poolboot-good").read_bytes(), 0o755)
    extra.file("good/poolboot-good.service", (UNITS / "poolboot-good.service").read_bytes())
    extra.file("good/check.service", _CHECK.encode())
    extra.file("good/install", _INSTALL.encode(), 0o755)
    extra.file("scripts/init-bottom/ORDER", _ORDER.encode())
    outer = cpio.Archive()
    outer.file("extra/good.cpio", extra.pack())
    memory = entry_disks.partition(tmp_path / "esp.img", tmp_path / "log")
    made = machine([*debian.disks, Disk(memory, snapshot=False)], "poolboot.append-initrd=initramfs:/extra/good.cpio",
                   reboots=True)  # fmt: skip
    assert made.initrd
    data = made.initrd.read_bytes()
    made.initrd = tmp_path / "initrd"
    made.initrd.write_bytes(data + bytes(-len(data) % 4) + outer.pack())
    with made as guest:
        # Nobody counts yet: the root has no unit that would report.
        guest.expect("poolboot: jumping after ", 120)
        assert "poolboot: try" not in guest.console

        guest.expect("poolboot: try 1 of 3 for .*, as EFI/poolboot/boots on /dev/vdd1 has it", 240)
        log_in(guest)
        guest.send("systemctl is-active poolboot-good.service; systemctl is-failed check.service\n")
        guest.expect("^inactive$", 60)
        guest.expect("^failed$", 60)
        guest.send("ln -sf /bin/true /bin/false && reboot\n")  # what was broken is mended

        guest.expect("poolboot: try 2 of 3 for .*, as EFI/poolboot/boots on /dev/vdd1 has it", 240)
        log_in(guest)
        guest.send("until systemctl is-active poolboot-good.service; do sleep 1; done\n")
        guest.expect("^active$", 240)
        guest.send("poweroff\n")
        assert guest.wait_exit() == 0
    (part,) = partitions(FileDevice(str(memory)))
    # Neither "booting" nor a start in vain is left.
    assert fat.open(part).read_file("/EFI/poolboot/boots", 4096) == b""
