"""Debian on a btrfs RAID1 of three disks, from power-on to its own user space."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from qemu import images
from qemu.machine import Disk, Machine
from qemu.workshop import Made

pytestmark = pytest.mark.boot

Machines = Callable[..., Machine]
MARKER = images.MARKER
BOOT_SECONDS = 300


def test_three_disks_boot_without_any_knob(machine: Machines, debian: Made) -> None:
    uuid = (debian.out / "uuid").read_text().strip()
    with machine(debian.disks) as guest:
        guest.expect(rf"poolboot: pool btrfs debian {uuid} members 3/3", 60)
        guest.expect(r"poolboot: entry 1 .*Debian GNU/Linux")
        booting = guest.expect(
            r"poolboot: booting .* kernel=/boot/vmlinuz-(\S+) initrd=/boot/initrd.img-\1 cmdline=(.*)"
        )
        assert f"root=UUID={uuid}" in booting[2].split()
        guest.expect(MARKER, BOOT_SECONDS)
        assert "poolboot: error" not in guest.console
        assert "poolboot: health" not in guest.console
        # What our command line says has to be what the distribution's own kernel was started with.
        assert guest.expect("booted with: (.*)")[1].strip() == booting[2].strip()
        images.log_in(guest)
        guest.send("findmnt -rno FSTYPE,FSROOT / && uname -r && systemctl is-active getty.target\n")
        guest.expect(r"^btrfs /@rootfs$")
        guest.expect(rf"^{booting[1]}$")
        guest.expect(r"^active$")


def test_an_unplugged_disk_does_not_stop_the_boot(machine: Machines, debian: Made) -> None:
    """Two of three disks, on two kinds of controllers, in a machine with half the memory."""
    disks = [Disk(debian.disks[0], "nvme"), Disk(debian.disks[2], "scsi")]
    with machine(disks, memory=512) as guest:
        guest.expect("poolboot: pool btrfs debian .* members 2/3", 60)
        guest.expect("poolboot: going on degraded: missing member 2 ")
        guest.expect("poolboot: booting ")
        guest.expect(MARKER, BOOT_SECONDS)
        assert "degraded" in guest.expect("booted with: .*rootflags=(.*)")[1]


def test_damaged_copies_of_the_kernel_are_healed_and_told(
    machine: Machines, debian: Made, clone: Callable[[Path], Path]
) -> None:
    """Where the copies are is what btrfs-progs said, so that our reader does not choose what it is tested with."""
    disks = [debian.disks[0], clone(debian.disks[1]), clone(debian.disks[2])]
    copies = [copy for copy in images.copies_of(debian, "vmlinuz-") if copy.mirror == 1]
    assert sum(copy.length for copy in copies) > 4 << 20
    pairs = [images.copies_of(debian, "vmlinuz-")[index : index + 2] for index in range(0, 2 * len(copies), 2)]
    damaged = set()
    for number, pair in enumerate(pairs):
        # In turns one disk and the other: whichever is preferred for reading, some of it is bad.
        victim = pair[number % 2]
        assert victim.disk in (1, 2)
        damaged.add(victim.disk)
        _scribble(disks[victim.disk], victim)
    assert damaged == {1, 2}
    attached = [Disk(disks[0], "scsi"), Disk(disks[1]), Disk(disks[2])]
    with machine(attached) as guest:
        guest.expect("poolboot: pool btrfs debian .* members 3/3", 90)
        guest.expect("poolboot: booting ")
        guest.expect(r"poolboot: health: \S+: \d+ damaged cop(y|ies) read around", 120)
        guest.expect(MARKER, BOOT_SECONDS)


def _scribble(disk: Path, copy: images.Copy) -> None:
    """Flip a byte in every fourth block of the stretch."""
    with disk.open("r+b") as file:
        for at in range(copy.offset, copy.offset + copy.length, 4 * 4096):
            file.seek(at + 1000)
            byte = file.read(1)
            file.seek(at + 1000)
            file.write(bytes([byte[0] ^ 0x55]))


def test_no_disks_ends_at_the_rescue_prompt(machine: Machines) -> None:
    with machine([]) as guest:
        guest.expect(r"poolboot: waiting up to \d+ s more for (.*); then the rescue prompt", 60)
        error = guest.expect(r"poolboot: error: (.*)", 60)[1]
        assert "nothing to boot; waited 10 s for " in error
        assert "no disk has one" in error
        guest.expect("poolboot: rescue")
        guest.expect("poolboot> ")
        guest.send("devices\n")
        guest.expect("^no disks$")
        guest.send("poweroff\n")
        assert guest.wait_exit() == 0
        assert "Traceback" not in guest.console
        assert "internal error" not in guest.console


def test_hostile_disks_end_at_the_rescue_prompt(machine: Machines, debian: Made, tmp_path: Path) -> None:
    """A disk of noise, one of noise with btrfs's magic, and a member that was cut off after its first superblock."""
    noise = random.Random(20240229)
    garbage, forged, cut = tmp_path / "garbage", tmp_path / "forged", tmp_path / "cut"
    garbage.write_bytes(noise.randbytes(8 << 20))
    content = bytearray(noise.randbytes(8 << 20))
    content[0x10040:0x10048] = b"_BHRfS_M"
    forged.write_bytes(content)
    with debian.disks[1].open("rb") as file:
        cut.write_bytes(file.read(1 << 20))
    with machine([garbage, forged, cut], "poolboot.wait=3") as guest:
        guest.expect("poolboot: error: ", 90)
        guest.expect("poolboot: rescue")
        guest.expect("poolboot> ")
        guest.send("pools\n")
        guest.expect("^pool btrfs debian .* members 1/3")
        guest.expect("poolboot> ")
        guest.send("ls /\n")
        guest.expect("poolboot> ", 120)
        assert "Traceback" not in guest.console
        assert "internal error" not in guest.console
