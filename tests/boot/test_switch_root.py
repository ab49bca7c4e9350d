"""Debian's user space under the slim kernel, which has no driver for its root: served by ours, a member missing.

No kernel of Debian's is started here, and no disk is written to.
"""

from __future__ import annotations

import live
import pytest
from live import Machines, ask

from artefacts import debian as packages
from qemu import images, layouts
from qemu.machine import Disk
from qemu.workshop import Made

pytestmark = pytest.mark.boot


@pytest.fixture(scope="session")
def raid5() -> Made:
    """Debian on a btrfs RAID5 of three."""
    return images.debian_raid5()


def test_debian_runs_from_raid5_minus_one(live_machine: Machines, raid5: Made) -> None:
    with live_machine([raid5.disks[0], raid5.disks[2]], memory=512) as guest:
        guest.expect("poolboot: pool btrfs live .* members 2/3", 60)
        booting = guest.expect("poolboot: booting .* cmdline=(.*)", 60)[1].strip()
        left_out = guest.expect("poolboot: left out of /etc/fstab: (.*)", 30)[1]
        assert left_out.startswith("/boot/efi (UUID=C0DE-F00D), swap (UUID=")
        guest.expect(r"poolboot: .* goes to RAM \(at most \d+ MiB\) and is lost at power-off")
        assert guest.expect("booted with: (.*)", live.BOOT_SECONDS)[1].strip() == booting
        live.log_in(guest)
        assert ask(guest, "uname -r").endswith("-poolboot")
        mounts = live.mounts(guest)
        assert ["/", "live:@rootfs", "overlay"] in mounts
        assert ["/home", "live:@home", "overlay"] in mounts
        assert ["/var/tmp", "scratch", "tmpfs"] in mounts
        live.check_health(guest)
        # Another subvolume, and a capability, which the kernel must find in an extended attribute.
        assert ask(guest, "cat /home/somebody/letter") == "from another subvolume"
        shadow = f"su nobody -s /bin/sh -c '! cat /etc/shadow 2>/dev/null && {images.CAPABLE} /etc/shadow | head -1'"
        assert ask(guest, shadow).count(":") == 8
        # The lower layer stays as it is: what is changed, deleted and made lives in RAM.
        change = (
            "rm /etc/issue && echo changed >/etc/hostname && mv /usr/share/perl5 /usr/share/gone && ls /usr/share/gone"
        )
        assert ask(guest, change)
        (daemon,) = live.daemons(guest)
        assert ask(guest, f"cat /proc/{daemon}/oom_score_adj") == "-1000"
        assert int(ask(guest, f"awk '/RssAnon/ {{ print $2 }}' /proc/{daemon}/status")) < 96 << 10
        live.leave(guest, "poweroff", "Power down")


def test_debian_runs_from_ram_alone(live_machine: Machines, raid5: Made) -> None:
    with live_machine(raid5.disks, "poolboot.switch-root=copy", memory=1024) as guest:
        guest.expect(r"poolboot: copying \d+ MiB into RAM, of which \d+ MiB are free", 120)
        guest.expect("poolboot: the disks are not needed any more", 300)
        live.log_in(guest)
        mounts = live.mounts(guest)
        assert ["/", "live:@rootfs", "tmpfs"] in mounts
        assert ["/home", "live:@home", "tmpfs"] in mounts
        live.check_health(guest)
        assert live.daemons(guest) == []
        assert ask(guest, "stat -c '%a %u %g' /home/somebody /usr/bin/su /etc/shadow").splitlines() == [
            "700 1000 1000", "4755 0 0", "640 0 42",
        ]  # fmt: skip
        assert ask(guest, f"su nobody -s /bin/sh -c '{images.CAPABLE} /etc/shadow | head -1'").count(":") == 8
        assert int(ask(guest, "stat -c %h /usr/bin/perl")) == 2
        live.leave(guest, "reboot", "Restarting system")


def test_what_cannot_be_started_ends_at_the_rescue_prompt(
    live_machine: Machines, raid5: Made, btrfs_layouts: Made, request: pytest.FixtureRequest
) -> None:
    """A root whose init is a script without an interpreter; too little memory for a copy; a kernel without FUSE."""
    disk = btrfs_layouts.disks[layouts.BTRFS["snapshot"][0]]
    with live_machine([disk]) as guest:
        guest.expect("poolboot: error: .*: /bin/sh cannot be started: .*no such file", 60)
        guest.expect("poolboot> ", 30)
    with live_machine(raid5.disks, "poolboot.switch-root=copy", memory=320) as guest:
        guest.expect(r"poolboot: error: .*: the root with \d+ MiB in RAM \(\d+\S* MiB are missing\) is too large", 120)
        guest.expect("poolboot> ", 30)
    kernel = packages.kernel(request.config.getoption("--suite")).vmlinuz  # FUSE and overlayfs are modules of it
    with live_machine([Disk(path, "nvme") for path in raid5.disks], kernel=kernel) as guest:
        guest.expect("poolboot: error: .*: the running kernel has no fuse and no overlay: it needs CONFIG_FUSE_FS", 90)
        guest.expect("poolboot> ", 30)
