"""Path C: the kernel is staged on an EFI system partition, and the firmware starts it, once."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from efi_files import Loader, add_conf, variant

from loader import esp
from loader.make import Wishes
from qemu import layouts, ovmf
from qemu.machine import Disk, Machine
from qemu.workshop import Made

pytestmark = pytest.mark.firmware

Firmwares = Callable[..., Machine]
BOOT_SECONDS = 180
STAGED = "poolboot: the firmware starts Boot"
STAGING = "timeout=0\nhandover=firmware\n"


@pytest.fixture
def system(btrfs_layouts: Made) -> list[Path]:
    """The disks of a system; its initrd says how it was started, and powers off."""
    first, last = layouts.BTRFS["snapshot"]
    return btrfs_layouts.disks[first:last]


@pytest.fixture
def image(loader: Loader, tmp_path: Path) -> Path:
    """A disk with the EFI file whose poolboot.conf asks for Path C."""
    target = tmp_path / "loader.img"
    shutil.copyfile(loader.image, target)
    add_conf(target, STAGING)
    return target


def test_path_c_stages_reboots_and_comes_back(
    firmware: Firmwares, image: Path, system: list[Path], tmp_path: Path
) -> None:
    """Poolboot stages and reboots; the firmware starts the distribution's own kernel; then it is poolboot again."""
    store = ovmf.kept(tmp_path / "vars.fd")
    disks = [Disk(image, snapshot=False), *system]
    with firmware(disks, store, reboots=True) as guest:
        guest.expect(r"poolboot: writing EFI/poolboot/linux-", BOOT_SECONDS)
        guest.expect(r"poolboot: writing EFI/poolboot/initrd-")
        guest.expect(r"poolboot: the firmware starts Boot[0-9A-F]{4} next", 60)
        guest.expect(layouts.MARKER, BOOT_SECONDS)
        booted = guest.expect("booted with: (.*)")[1]
        assert "initrd=\\EFI\\poolboot\\initrd-" in booted
        assert "rootflags=subvol=@/.snapshots/1/snapshot" in booted
        assert guest.wait_exit() == 0
    with firmware(disks, store, reboots=True) as guest:
        guest.expect(r"poolboot: knobs from poolboot.conf", BOOT_SECONDS)
        guest.expect(r"poolboot: booting ", 60)
        entries = [line for line in guest.console.splitlines() if line.startswith("poolboot: entry ")]
        assert len(entries) == 1, "what is on our own ESP is not a system"


@pytest.mark.parametrize(
    ("trouble", "complaint"),
    [
        ({"readonly": True}, r"mount of /dev/\S+: (EROFS|EACCES): .*; the disk is read-only"),
        ({"size": 16}, r"not enough room on the EFI system partition: \S+ MiB needed, \S+ MiB free"),
    ],
    ids=["read-only", "no room"],
)
def test_a_machine_that_cannot_stage_says_why(
    firmware: Firmwares, loader: Loader, system: list[Path], tmp_path: Path, trouble: dict[str, Any], complaint: str
) -> None:
    image = tmp_path / "loader.img"
    size = trouble.get("size", 64)
    esp.disk({"EFI/BOOT/BOOTX64.EFI": loader.efi}, image, tmp_path / "log", size << 20)
    add_conf(image, STAGING)
    store = ovmf.kept(tmp_path / "vars.fd")
    with firmware([Disk(image, snapshot=False, readonly=trouble.get("readonly", False)), *system], store) as guest:
        guest.expect(r"poolboot: booting ", BOOT_SECONDS)
        guest.expect(rf"poolboot: error: .*{complaint}", 60)
        guest.expect(r"poolboot> ", 30)


def test_a_machine_without_efi_variables_boots_by_kexec(
    firmware: Firmwares, loader: Loader, system: list[Path], tmp_path: Path
) -> None:
    """Firmware whose services are broken, or switched off: nothing is known of how we were started."""
    made = variant(loader, tmp_path, Wishes(cmdline="efi=noruntime"))
    with firmware([made.image, *system]) as guest:
        guest.expect(r"poolboot: jumping after ", BOOT_SECONDS)
        guest.expect(layouts.MARKER, BOOT_SECONDS)


def test_a_machine_without_uefi_cannot_stage(machine: Firmwares, system: list[Path]) -> None:
    with machine(system, "poolboot.handover=firmware poolboot.wait=3") as guest:
        guest.expect(r"poolboot: error: .*this machine has no EFI variables", BOOT_SECONDS)
        guest.expect(r"poolboot> ", 30)


ROUNDS, CUTS = 2, 10
INITRD = "/boot/initrd-6.4.0-1-default"


@pytest.mark.timeout(3600)
def test_a_power_cut_while_staging_leaves_a_machine_that_boots(
    firmware: Firmwares, loader: Loader, system: list[Path], tmp_path: Path
) -> None:
    """QEMU is killed at random moments of Path C, again and again on the same disk; it starts something each time.

    The initrd is another one each time: the one that the boot option points at has to survive the writing of the next.
    Each round begins with an empty ESP, so that the kernel is written, too.
    """
    image = variant(loader, tmp_path, Wishes(cmdline="quiet")).image  # a serial port costs time under emulation
    choose = random.Random(5)
    seconds = 0.0  # that staging takes, measured first
    unfinished = started = 0
    for _ in range(ROUNDS):
        disk, store = tmp_path / "disk.img", ovmf.kept(tmp_path / "vars.fd")
        shutil.copyfile(image, disk)
        cuts = stagings = 0
        while True:
            add_conf(disk, f"{STAGING}initrd={INITRD if stagings % 2 else f'{INITRD},{INITRD}'}\n")
            with firmware([Disk(disk, snapshot=False), *system], store, reboots=True, memory=512) as guest:
                # Either it is us, or the kernel that was staged.
                if guest.expect(r"poolboot: booting |Linux version .*cloud", BOOT_SECONDS)[0].startswith("Linux"):
                    guest.expect(layouts.MARKER, BOOT_SECONDS)
                    started += 1
                    continue
                if cuts == CUTS:
                    break
                stagings += 1
                if not seconds:
                    began = time.monotonic()
                    guest.expect(STAGED, 120)
                    seconds = time.monotonic() - began
                else:
                    time.sleep(choose.random() * seconds * 1.1)
                    unfinished += STAGED not in guest.console
                    cuts += 1
    assert started
    assert unfinished >= ROUNDS * CUTS // 2
