"""Other entries than the newest kernel of the root: of a snapshot, after starts in vain, with a /boot elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import entry_disks
import pytest

from fsdrivers import fat
from fsdrivers.block import FileDevice
from fsdrivers.errors import NotFound
from fsdrivers.partitions import partitions
from init.firmware.efivars import LOADER, POOLBOOT
from qemu import layouts, ovmf
from qemu.machine import Disk, Machine
from qemu.workshop import Made

pytestmark = pytest.mark.boot

Machines = Callable[..., Machine]
SECONDS = 120
NEWER, OLDER = "6.1.0-2-test", "6.1.0-1-test"


@pytest.fixture(scope="session")
def disks() -> Made:
    return entry_disks.make()


def remembered(image: Path) -> str:
    """What is on our EFI system partition."""
    (part,) = partitions(FileDevice(str(image)))
    try:
        return fat.open(part).read_file("/EFI/poolboot/boots", 4096).decode()
    except NotFound:
        return ""


def test_a_snapshot_by_its_name(machine: Machines, disks: Made) -> None:
    asked = "counted:@/.snapshots/7/snapshot"
    with machine([disks.disks[entry_disks.COUNTED]], f"poolboot.entry={asked}") as guest:
        guest.expect("poolboot: entry 1 Layout counted, kernel 6.1.0-2-test", SECONDS)
        guest.expect("poolboot: entry 3 .*, snapshot 7")
        booting = guest.expect(
            rf"poolboot: booting .*snapshot 7.* kernel=/boot/vmlinuz-{OLDER} .*cmdline=(.*)", SECONDS
        )
        assert "rootflags=subvol=@/.snapshots/7/snapshot" in booting[1]
        guest.expect(layouts.MARKER, SECONDS)
        assert guest.expect("booted with: (.*)")[1].strip() == booting[1].strip()


def test_a_snapshot_of_timeshift_by_its_name(machine: Machines, disks: Made) -> None:
    day = entry_disks.TIMESHIFT
    name = f"timeshift-btrfs/snapshots/{day}/@"
    with machine([disks.disks[entry_disks.COUNTED]], f"poolboot.entry=counted:{name}") as guest:
        booting = guest.expect(
            rf"poolboot: booting .*snapshot {day} kernel=/boot/vmlinuz-{OLDER} .*cmdline=(.*)",
            SECONDS,
        )
        assert f"rootflags=subvol={name}" in booting[1].split()
        guest.expect(layouts.MARKER, SECONDS)
        assert guest.expect("booted with: (.*)")[1].strip() == booting[1].strip()


def test_a_snapshot_of_timeshift_in_the_menu(machine: Machines, disks: Made) -> None:
    day = entry_disks.TIMESHIFT
    name = f"timeshift-btrfs/snapshots/{day}/@"
    with machine([disks.disks[entry_disks.COUNTED]], "poolboot.timeout=300") as guest:
        guest.expect("What can be booted:$", SECONDS)
        guest.send("s")
        guest.expect("Snapshots of counted:@:$", SECONDS)
        guest.expect(rf'^> 1\. .*snapshot {day}, before the "upgrade", 100 %')
        guest.expect(r"^  2\. .*snapshot 7, before the upgrade, read-only")
        guest.send("\r")
        guest.expect(rf"^In .*snapshot {day}", SECONDS)
        guest.expect(rf"^> 1\. .*{OLDER}")
        guest.send("\r")
        guest.expect(rf"poolboot: booting .*snapshot {day}", SECONDS)
        guest.expect(layouts.MARKER, SECONDS)
        assert f"rootflags=subvol={name}" in guest.expect("booted with: (.*)")[1].split()


def test_starts_in_vain_are_counted_on_our_partition_and_a_good_one_is_forgotten(
    machine: Machines, disks: Made, tmp_path: Path
) -> None:
    """No firmware with variables here: a FAT partition called poolboot is the memory."""
    image = entry_disks.partition(tmp_path / "esp.img", tmp_path / "log")
    there = [disks.disks[entry_disks.COUNTED], Disk(image, snapshot=False)]
    with machine(there, "poolboot.tries=1") as guest:
        guest.expect(f"poolboot: booting .* kernel=/boot/vmlinuz-{NEWER} ", SECONDS)
        guest.expect("poolboot: try 1 of 1 for .*, as EFI/poolboot/boots on /dev/vdb1 has it", SECONDS)
        guest.expect(layouts.MARKER, SECONDS)
        guest.wait_exit()
    assert remembered(image) == f"booting counted:@/{NEWER}\ntry 1 counted:@/{NEWER}\n"
    with machine(there, "poolboot.tries=1 poolboot.append=report-good") as guest:
        guest.expect("poolboot: warning: .* is passed over: it was started 1 times in vain", SECONDS)
        guest.expect(f"poolboot: booting .* kernel=/boot/vmlinuz-{OLDER} ", SECONDS)
        guest.expect("reported good: 0", SECONDS)
        guest.wait_exit()
    assert remembered(image) == f"try 1 counted:@/{NEWER}\n"


def test_a_default_chosen_in_the_menu_and_a_wish_for_once_are_kept_on_our_partition(
    machine: Machines, disks: Made, tmp_path: Path
) -> None:
    image = entry_disks.partition(tmp_path / "esp.img", tmp_path / "log")
    there = [disks.disks[entry_disks.COUNTED], Disk(image, snapshot=False)]
    with machine(there, "poolboot.timeout=300") as guest:
        guest.expect("What can be booted:$", SECONDS)
        guest.send("2m")
        guest.expect(f"counted:@/{OLDER} is wanted for all boots, says EFI/poolboot/boots on /dev/vdb1", SECONDS)
        guest.send("r")
        guest.expect("poolboot> ", SECONDS)
        guest.send("once 1\n")
        guest.expect(f"counted:@/{NEWER} is wanted for the next boot, says EFI/poolboot/boots", SECONDS)
        guest.send("poweroff\n")
        guest.wait_exit()
    assert remembered(image) == f"default counted:@/{OLDER}\nonce counted:@/{NEWER}\n"
    for kernel in (NEWER, OLDER):
        with machine(there, "poolboot.tries=0") as guest:
            guest.expect(f"poolboot: booting .* kernel=/boot/vmlinuz-{kernel} ", SECONDS)
            guest.expect("poolboot: cmdline ", SECONDS)
            guest.expect(layouts.MARKER, SECONDS)
            guest.wait_exit()


def test_starts_are_counted_in_a_variable_of_the_firmware(machine: Machines, disks: Made, tmp_path: Path) -> None:
    """The root has the unit that reports: so its boots are counted, three in vain each."""
    full = f"try 3 counted:@/{NEWER}\n".encode()
    once = f"counted:@/{OLDER}\0".encode("utf-16-le")
    store = ovmf.with_variables({("Boots", POOLBOOT): full, ("LoaderEntryDefault", LOADER): once}, tmp_path / "vars.fd")
    firmware = ovmf.Firmware(ovmf.OVMF / "OVMF_CODE_4M.fd", store.path, True)
    with machine([disks.disks[entry_disks.COUNTED]], "poolboot.append=report-good", firmware=firmware) as guest:
        guest.expect(f"poolboot: booting .* kernel=/boot/vmlinuz-{OLDER} ", SECONDS)
        guest.expect("poolboot: try 1 of 3 for .*, as EFI variable Boots has it", SECONDS)
        guest.expect("reported good: 0", SECONDS)
        guest.wait_exit()
    with machine([disks.disks[entry_disks.COUNTED]], "poolboot.entry=1", firmware=firmware) as guest:
        guest.expect(rf"poolboot: warning: .*{NEWER} is passed over: it was started 3 times in vain", SECONDS)
        # The older one was reported good: it begins anew.
        guest.expect(rf"poolboot: try 1 of 3 for .*{OLDER}", SECONDS)


def test_kernels_in_another_subvolume_as_grub_states_them(machine: Machines, disks: Made) -> None:
    with machine([disks.disks[entry_disks.SUBVOLUME]]) as guest:
        guest.expect("poolboot: note: subvolume:@: its /boot is subvolume:@boot", SECONDS)
        booting = guest.expect(r"poolboot: booting Stated in the other subvolume .*cmdline=(.*)", SECONDS)
        assert "stated" in booting[1].split()
        guest.expect(layouts.MARKER, SECONDS)
        assert "rootflags=subvol=@ " in guest.expect("booted with: (.*)")[1]


def test_the_grub_cfg_that_opensuse_wrote(machine: Machines, disks: Made) -> None:
    """On snapper's layout: paths count from the default subvolume, which no command line names."""
    with machine([disks.disks[entry_disks.OPENSUSE]]) as guest:
        booting = guest.expect(
            r"poolboot: booting openSUSE Leap 15\.6 kernel=/boot/vmlinuz-6\.4\.0-150600\.23\.53-default .*cmdline=(.*)",
            SECONDS,
        )
        assert booting[1].split()[:3] == [
            f"root=UUID={entry_disks.OPENSUSE_UUID}", "rootflags=subvol=@/.snapshots/1/snapshot", "splash=silent",
        ]  # fmt: skip
        guest.expect(layouts.MARKER, SECONDS)
        assert guest.expect("booted with: (.*)")[1].strip() == booting[1].strip()


def test_kernels_on_an_efi_system_partition(machine: Machines, disks: Made, tmp_path: Path) -> None:
    image = entry_disks.partition(tmp_path / "esp.img", tmp_path / "log", kernels=True)
    with machine([disks.disks[entry_disks.PARTITION], image]) as guest:
        guest.expect("poolboot: note: partition:/: its /boot is /dev/vdb1", SECONDS)
        guest.expect(f"poolboot: booting Layout partition, kernel {OLDER} kernel=/boot/vmlinuz-{OLDER} ", SECONDS)
        guest.expect(layouts.MARKER, SECONDS)
