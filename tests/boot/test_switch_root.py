"""Debian's user space under the slim kernel, which has no driver for its root: served by ours, a member missing.

No kernel of Debian's is started here, and no disk is written to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from artefacts import debian as packages
from artefacts import initramfs, kernel_build, program
from qemu import images, layouts, run
from qemu.machine import Disk, Machine
from qemu.workshop import Made

pytestmark = pytest.mark.boot

LOGS = run.BUILD / "boot-logs"
BOOT_SECONDS = 400
PROMPT = r"^ready:\d+# "

Machines = Callable[..., Machine]


class Slim(NamedTuple):
    """The slim kernel and an initramfs without modules."""

    kernel: Path
    initrd: Path


@pytest.fixture(scope="session")
def slim(request: pytest.FixtureRequest) -> Slim:
    """What build.py makes for the EFI file."""
    kernel = kernel_build.build(request.config.getoption("--suite"))
    made = program.build(run.BUILD)
    output = run.BUILD / "slim"
    output.mkdir(exist_ok=True)
    return Slim(kernel.image, initramfs.build(output, made, None, kernel.release, [])[0])


@pytest.fixture(scope="session")
def live() -> Made:
    """Debian on a btrfs RAID5 of three."""
    return images.debian_raid5()


@pytest.fixture
def slim_machine(slim: Slim, request: pytest.FixtureRequest) -> Machines:
    """Makes a Machine that is told to switch root."""

    def make(disks: Sequence[Path | Disk], append: str = "", kernel: Path | None = None, **options: Any) -> Machine:
        cmdline = f"{run.CMDLINE} poolboot.handover=switch_root poolboot.wait=3 {append}".strip()
        log = LOGS / f"{request.node.name}.log"
        return Machine(kernel or slim.kernel, slim.initrd, cmdline, disks, log=log, **options)

    return make


def log_in(guest: Machine) -> None:
    guest.expect(images.MARKER, BOOT_SECONDS)
    guest.expect("login: ", 120)
    guest.send("root\n")
    guest.expect(r"[#] $", 120)
    guest.send("PS1='ready:\\## '; bind 'set enable-bracketed-paste off'; stty -echo cols 200\n")
    guest.expect(PROMPT, 60)


def ask(guest: Machine, command: str, timeout: float = 60) -> str:
    """What ``command`` prints; it has to succeed."""
    guest.send(f"{command}; echo status-$?-\n")
    found = guest.expect(r"(?s)(.*?)^status-(\d+)-$", timeout)
    guest.expect(PROMPT, 60)
    assert found[2] == "0", found[1]
    return found[1]


def check_health(guest: Machine) -> None:
    """Nothing failed, nothing could not be read."""
    assert ask(guest, "systemctl is-system-running --wait", 120).strip() == "running"
    assert ask(guest, "systemctl --failed --no-legend --plain").strip() == ""
    # Every file once, by the programs of the system itself.
    assert int(ask(guest, "find / /home -xdev -type f -exec md5sum {} + | wc -l", 300)) > 5000
    assert ask(guest, "dmesg | grep -i -E 'poolboot: |i/o error|fuse.*(err|fail)' || true").strip() == ""


def test_debian_runs_from_raid5_minus_one(slim_machine: Machines, live: Made) -> None:
    with slim_machine([live.disks[0], live.disks[2]], memory=512) as guest:
        guest.expect("poolboot: pool btrfs live .* members 2/3", 60)
        booting = guest.expect("poolboot: booting .* cmdline=(.*)", 60)[1].strip()
        left_out = guest.expect("poolboot: left out of /etc/fstab: (.*)", 30)[1]
        assert left_out.startswith("/boot/efi (UUID=C0DE-F00D), none (")
        guest.expect(r"poolboot: .* goes to RAM \(at most \d+ MiB\) and is lost at power-off")
        assert guest.expect("booted with: (.*)", BOOT_SECONDS)[1].strip() == booting
        log_in(guest)
        assert ask(guest, "uname -r").strip().endswith("-poolboot")
        mounts = ask(guest, "findmnt -lno TARGET,SOURCE,FSTYPE").splitlines()
        assert ["/", "live:@rootfs", "overlay"] in [line.split() for line in mounts]
        assert ["/home", "live:@home", "overlay"] in [line.split() for line in mounts]
        assert ["/var/tmp", "scratch", "tmpfs"] in [line.split() for line in mounts]
        check_health(guest)
        # Another subvolume, and a capability, which the kernel must find in an extended attribute.
        assert ask(guest, "cat /home/somebody/letter") == "from another subvolume\n"
        shadow = f"su nobody -s /bin/sh -c '! cat /etc/shadow 2>/dev/null && {images.CAPABLE} /etc/shadow | head -1'"
        assert ask(guest, shadow).count(":") == 8
        # The lower layer stays as it is: what is changed, deleted and made lives in RAM.
        change = (
            "rm /etc/issue && echo changed >/etc/hostname && mv /usr/share/perl5 /usr/share/gone && ls /usr/share/gone"
        )
        assert ask(guest, change).strip()
        daemon = ask(
            guest, "for p in /proc/[0-9]*; do grep -q ^@ $p/cmdline 2>/dev/null && echo ${p#/proc/}; done; true"
        )
        assert len(daemon.split()) == 1
        assert ask(guest, f"cat /proc/{daemon.strip()}/oom_score_adj").strip() == "-1000"
        assert int(ask(guest, f"awk '/RssAnon/ {{ print $2 }}' /proc/{daemon.strip()}/status")) < 96 << 10
        guest.send("systemctl poweroff\n")
        guest.expect("reboot: Power down", 120)
        assert guest.wait_exit(60) == 0
        assert "Failed unmounting" not in guest.console


def test_debian_runs_from_ram_alone(slim_machine: Machines, live: Made) -> None:
    with slim_machine(live.disks, "poolboot.switch-root=copy", memory=1024) as guest:
        guest.expect(r"poolboot: copying \d+ MiB into RAM, of which \d+ MiB are free", 120)
        guest.expect("poolboot: the disks are not needed any more", 300)
        log_in(guest)
        mounts = [line.split() for line in ask(guest, "findmnt -lno TARGET,SOURCE,FSTYPE").splitlines()]
        assert ["/", "live:@rootfs", "tmpfs"] in mounts
        assert ["/home", "live:@home", "tmpfs"] in mounts
        check_health(guest)
        assert ask(guest, "! grep -l ^@ /proc/[0-9]*/cmdline 2>/dev/null") == ""
        assert ask(guest, "stat -c '%a %u %g' /home/somebody /usr/bin/su /etc/shadow").split("\n")[:3] == [
            "700 1000 1000", "4755 0 0", "640 0 42",
        ]  # fmt: skip
        assert ask(guest, f"su nobody -s /bin/sh -c '{images.CAPABLE} /etc/shadow | head -1'").count(":") == 8
        assert int(ask(guest, "stat -c %h /usr/bin/perl")) == 2
        guest.send("systemctl reboot\n")
        guest.expect("reboot: Restarting system", 120)
        assert guest.wait_exit(60) == 0


def test_what_cannot_be_started_ends_at_the_rescue_prompt(
    slim_machine: Machines, live: Made, request: pytest.FixtureRequest
) -> None:
    """A root whose init is a script without an interpreter; too little memory for a copy; a kernel without FUSE."""
    disk = layouts.btrfs().disks[layouts.BTRFS["snapshot"][0]]
    with slim_machine([disk]) as guest:
        guest.expect("poolboot: error: .*: /bin/sh cannot be started: .*not found", 60)
        guest.expect("poolboot> ", 30)
    with slim_machine(live.disks, "poolboot.switch-root=copy", memory=320) as guest:
        guest.expect(r"poolboot: error: .*: the root with \d+ MiB in RAM \(\d+\S* MiB are missing\) is too large", 120)
        guest.expect("poolboot> ", 30)
    kernel = packages.kernel(request.config.getoption("--suite")).vmlinuz  # FUSE and overlayfs are modules of it
    with slim_machine([Disk(path, "nvme") for path in live.disks], kernel=kernel) as guest:
        guest.expect("poolboot: error: .*: the running kernel has no fuse and no overlay: it needs CONFIG_FUSE_FS", 90)
        guest.expect("poolboot> ", 30)
