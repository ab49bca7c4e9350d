"""Machines of the architecture arm64: our cross-built kernel and program, and a jump into Debian's kernel."""

from __future__ import annotations

import subprocess
import sys

import pytest

from artefacts import elf
from qemu import layouts, ovmf, run
from qemu.machine import Machine

pytestmark = pytest.mark.arm64

OUTPUT = run.BUILD / "arm64"
LOGS = run.BUILD / "boot-logs"
JUMP_SECONDS = 300


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    for what in ("all", "loader"):
        command = [sys.executable, run.PROJECT / "build.py", what, "--arch", "arm64"]
        subprocess.run(command, cwd=run.PROJECT, check=True)


def test_the_program_is_one_static_file_for_arm64() -> None:
    elf.check_static(OUTPUT / "init")
    assert elf.read(OUTPUT / "init").machine == "EM_AARCH64"


@pytest.mark.parametrize("present", [2, 1], ids=["whole", "degraded"])
def test_debians_kernel_is_started_from_a_btrfs_raid1(present: int) -> None:
    """QEMU starts kernel and initramfs, our /init reads both disks (or makes do with one), and jumps."""
    made = layouts.arm64()
    log = LOGS / f"test_arm64_{present}.log"
    machine = Machine(
        OUTPUT / "vmlinuz",
        OUTPUT / "initramfs.cpio.zst",
        "console=ttyAMA0 poolboot.wait=3",
        made.disks[:present],
        memory=512,
        architecture="arm64",
        log=log,
    )
    with machine as guest:
        guest.expect(rf"poolboot: pool btrfs arm64 \S+ members {present}/2", JUMP_SECONDS)
        guest.expect(r"poolboot: entry 1 Layout arm64")
        guest.expect(r"poolboot: jumping after ", JUMP_SECONDS)
        guest.expect(r"Linux version \S+-cloud-arm64", 120)
        guest.expect(layouts.MARKER, JUMP_SECONDS)
        assert "console=ttyAMA0" in guest.expect("booted with: (.*)")[1]
        assert guest.wait_exit() == 0


def test_uefi_firmware_starts_the_one_file() -> None:
    disks = [OUTPUT / "loader.img", *layouts.arm64().disks]
    log = LOGS / "test_arm64_firmware.log"
    with ovmf.start(disks, architecture="arm64", memory=512, log=log) as guest:
        guest.expect(r"poolboot: pool btrfs arm64 \S+ members 2/2", JUMP_SECONDS)
        guest.expect(r"poolboot: booting Layout arm64.* in 3 s; any key stops", 60)
        guest.expect(r"poolboot: jumping after ", JUMP_SECONDS)
        guest.expect(layouts.MARKER, JUMP_SECONDS)
