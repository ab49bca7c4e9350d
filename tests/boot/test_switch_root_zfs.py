"""Debian's user space from a RAID-Z1 minus one disk, under the slim kernel: nothing on the machine knows ZFS but us.

Making the pool needs OpenZFS's modules, which are compiled when they are not cached: `make qemu-test ZFS=1`.
"""

from __future__ import annotations

import live
import pytest
from live import Machines, ask

from qemu import zfs_images

pytestmark = pytest.mark.zfs

# Debian's zfsutils-linux wants the module, which this kernel cannot have: docs/internals/switch-root.md.
FAILED = ("zfs-load-module.service",)


def test_debian_runs_from_raidz1_minus_one(live_machine: Machines) -> None:
    first, last = zfs_images.POOLS["raidz1"]
    disks = zfs_images.debian().disks[first:last]
    with live_machine([disks[0], disks[2]], memory=640) as guest:
        guest.expect("poolboot: pool zfs rpool-raidz1 .* members 2/3", 60)
        booting = guest.expect("poolboot: booting .* cmdline=(.*)", 60)[1].strip()
        assert guest.expect("booted with: (.*)", live.BOOT_SECONDS)[1].strip() == booting
        live.log_in(guest)
        assert ["/", "rpool-raidz1:rpool-raidz1/ROOT/debian", "overlay"] in live.mounts(guest)
        live.check_health(guest, FAILED)
        assert len(live.daemons(guest)) == 1
        assert ask(guest, "! grep -w zfs /proc/filesystems") == ""
        live.leave(guest, "poweroff", "Power down")
