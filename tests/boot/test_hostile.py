"""Somebody plugs in a disk: it neither stops the machine nor takes it over."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import entry_disks
import hostile_disks
import pytest

from fsdrivers import pools
from fsdrivers.block import FileDevice
from qemu import layouts
from qemu.machine import Disk, Machine
from qemu.workshop import Made

pytestmark = pytest.mark.boot

Machines = Callable[..., Machine]
SECONDS = 180
SMALL = 512  # MiB of memory
STICK = r"sda 192 MiB QEMU QEMU HARDDISK usb"


@pytest.fixture(scope="session")
def disks() -> Made:
    return entry_disks.make()


def again(guest: Machine, knobs: str = "") -> None:
    """Look at the disks once more: a stick takes a second to appear, and nobody waits for it when our disk is there."""
    guest.expect("poolboot> ", SECONDS)
    guest.send("devices\n")
    while not re.search("^/dev/sda ", guest.expect(r"(?s)devices\n(.*?)poolboot> ", SECONDS)[1], re.MULTILINE):
        guest.send("retry\n")
        guest.expect("poolboot> ", SECONDS)
        guest.send("devices\n")
    guest.send(f"retry poolboot.handover=auto {knobs}\n")


STAY = "poolboot.handover=none"


@pytest.mark.parametrize("make", [hostile_disks.label_hang, hostile_disks.label_memory, hostile_disks.fat_loop])
@pytest.mark.parametrize("knobs", ["", "root=LABEL=subvolume"])
def test_a_disk_that_costs_too_much_does_not_stop_the_machine(
    machine: Machines, disks: Made, tmp_path: Path, make: Callable[[Path], Path], knobs: str
) -> None:
    evil = make(tmp_path / "evil.img")
    with machine([evil, disks.disks[entry_disks.SUBVOLUME]], knobs, memory=SMALL) as guest:
        guest.expect("poolboot: booting Stated in the other subvolume", SECONDS)
        guest.expect(layouts.MARKER, SECONDS)


def test_a_stick_whose_name_sorts_first(machine: Machines, disks: Made) -> None:
    """With newer kernels than ours, and quicker to be there or not."""
    stick = Disk(disks.disks[entry_disks.COUNTED], "usb")
    with machine([stick, disks.disks[entry_disks.SUBVOLUME]], STAY, memory=SMALL) as guest:
        again(guest)
        guest.expect("poolboot: entry 1 Stated in the other subvolume", SECONDS)
        guest.expect("poolboot: entry 2 Layout counted")
        guest.expect("poolboot: booting Stated in the other subvolume", SECONDS)
        guest.expect(layouts.MARKER, SECONDS)


def test_it_is_in_the_menu_with_its_disk_and_a_person_starts_it(machine: Machines, disks: Made) -> None:
    stick = Disk(disks.disks[entry_disks.COUNTED], "usb")
    with machine([stick, disks.disks[entry_disks.SUBVOLUME]], STAY, memory=SMALL) as guest:
        again(guest, "poolboot.timeout=300")
        guest.expect("What can be booted:$", SECONDS)
        guest.expect(r"^> 1\. Stated in the other subvolume  \[vda 192 MiB subvolume:@", SECONDS)
        guest.expect(rf"^  2\. Layout counted.*\[{STICK} counted:@ !\]")
        guest.send("2\r")
        guest.expect("poolboot: booting Layout counted", SECONDS)
        guest.expect(layouts.MARKER, SECONDS)


def test_a_stick_alone_boots_and_that_is_told(machine: Machines, disks: Made) -> None:
    with machine([Disk(disks.disks[entry_disks.COUNTED], "usb")], memory=SMALL) as guest:
        guest.expect(r"poolboot: waiting up to \d+ s more for something to boot on a disk that is built in", SECONDS)
        guest.expect(rf"poolboot: warning: .* is all there is to boot: {STICK} can be unplugged", SECONDS)
        guest.expect("poolboot: booting Layout counted", SECONDS)
        guest.expect(layouts.MARKER, SECONDS)


@pytest.mark.parametrize("pinned", [False, True])
def test_a_newer_copy_of_our_disk_on_a_stick(
    machine: Machines, disks: Made, clone: Callable[[Path], Path], pinned: bool
) -> None:
    own = disks.disks[entry_disks.SUBVOLUME]
    (pool,) = pools.assemble([FileDevice(str(own))])
    stick = Disk(hostile_disks.newer(clone(own)), "usb")
    with machine([stick, own], f"{STAY} root=UUID={pool.uuid}" if pinned else STAY, memory=SMALL) as guest:
        again(guest)
        guest.expect(
            rf"poolboot: warning: btrfs pool subvolume is on vda 192 MiB and on {STICK}: vda 192 MiB is trusted more",
            SECONDS,
        )
        guest.expect("poolboot: booting Stated in the other subvolume", SECONDS)
        guest.expect(layouts.MARKER, SECONDS)


def test_two_copies_that_are_built_in_wait_for_a_person(
    machine: Machines, disks: Made, clone: Callable[[Path], Path]
) -> None:
    own = disks.disks[entry_disks.SUBVOLUME]
    other = hostile_disks.newer(clone(own))
    with machine([other, own], "poolboot.timeout=1", memory=SMALL) as guest:
        guest.expect("poolboot: warning: btrfs pool subvolume is on vd[ab] 192 MiB and on vd[ab] 192 MiB", SECONDS)
        guest.expect("What can be booted:$", SECONDS)
        guest.expect(r"^> 1\. .*\[vda 192 MiB")
        guest.expect(r"^  2\. .*\[vdb 192 MiB")
        guest.send("2\r")
        guest.expect("poolboot: booting Stated in the other subvolume", SECONDS)
        guest.expect(layouts.MARKER, SECONDS)


def test_an_efi_partition_on_a_stick_with_an_entry_for_our_root(machine: Machines, disks: Made, tmp_path: Path) -> None:
    own = disks.disks[entry_disks.SUBVOLUME]
    (pool,) = pools.assemble([FileDevice(str(own))])
    evil = hostile_disks.evil_esp(tmp_path / "esp.img", pool.uuid, entry_disks.initrd(), tmp_path)
    with machine([Disk(evil, "usb"), own], STAY, memory=SMALL) as guest:
        again(guest)
        guest.expect(r"poolboot: entry 2 Evil Linux \(/dev/sda1\)", SECONDS)
        guest.expect("poolboot: booting Stated in the other subvolume", SECONDS)
        # said once: at the first look when the stick was there by then
        assert re.search("only a person starts this: it lies on sda .* usb, another disk than its root", guest.console)
        guest.expect(layouts.MARKER, SECONDS)
        assert "evil" not in guest.expect("booted with: (.*)")[1]
