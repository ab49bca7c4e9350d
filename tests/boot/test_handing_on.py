"""What reaches the other side of the jump when UEFI firmware started the machine, and the watchdog's way across."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from artefacts import cpio
from qemu import layouts, ovmf, run
from qemu.machine import Machine

pytestmark = pytest.mark.firmware

LOGS = run.BUILD / "boot-logs"
PERIOD = 30  # seconds of the watchdog


def initrd(folder: Path, plain: Path, stay: bool = False) -> Path:
    """``plain`` with the probe in it that goes behind the target's initrd."""
    overlay = cpio.Archive()
    overlay.file("extra/probe.cpio", layouts.probe(stay))
    data = plain.read_bytes()
    (folder / "initrd").write_bytes(data + bytes(-len(data) % 4) + overlay.pack())
    return folder / "initrd"


KNOBS = f"{run.CMDLINE} poolboot.entry=menu:@/6.1.0-1-test poolboot.append-initrd=initramfs:/extra/probe.cpio"


def test_the_tables_of_uefi_firmware_are_there_after_the_jump(boot_image: Any, tmp_path: Path) -> None:
    disk = layouts.menu().disks[0]
    image = initrd(tmp_path, boot_image.initrd)
    log = LOGS / "test_the_tables_of_uefi_firmware.log"
    with Machine(boot_image.kernel, image, KNOBS, [disk], firmware=ovmf.firmware(), log=log) as guest:
        guest.expect("poolboot: jumping after", 240)
        guest.expect("probe: has /sys/firmware/acpi/tables/FACP", 180)
        guest.expect(layouts.PROBE_END)
        assert "probe: has /sys/firmware/efi\n" in guest.console
        assert "probe: has /sys/firmware/efi/runtime-map" in guest.console
        assert "ACPI: RSDP" in guest.console


def test_the_watchdog_lives_through_waits_and_the_jump(boot_image: Any, tmp_path: Path) -> None:
    """A countdown longer than its period does not set it off; the target, which never opens it, ends by it."""
    knobs = f"{KNOBS} poolboot.watchdog={PERIOD} poolboot.timeout={PERIOD + 15} watchdog.stop_on_reboot=0"
    options = ["-device", "i6300esb", "-action", "watchdog=poweroff"]
    image = initrd(tmp_path, boot_image.initrd, stay=True)
    log = LOGS / "test_the_watchdog_lives.log"
    with Machine(boot_image.kernel, image, knobs, [layouts.menu().disks[0]], options=options, log=log) as guest:
        guest.expect(rf"poolboot: watchdog /dev/watchdog0? restarts this machine when it hangs for {PERIOD} s", 90)
        guest.expect("Booting entry . in 45 s")
        guest.expect("poolboot: jumping after", 120)
        guest.expect(layouts.PROBE_END, 180)
        guest.wait_exit(4 * PERIOD)
