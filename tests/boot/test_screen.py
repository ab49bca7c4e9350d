"""The console of a machine with a screen and no serial port: drawn by the slim kernel on what the firmware set up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from efi_files import Loader, add_conf

from qemu import layouts
from qemu.machine import Machine
from qemu.qmp import Panel
from qemu.screen import Screen
from qemu.workshop import Made

pytestmark = pytest.mark.firmware


def test_the_screen_shows_what_the_serial_port_says(
    firmware: Callable[..., Machine], loader: Loader, btrfs_layouts: Made, tmp_path: Path
) -> None:
    image = tmp_path / "loader.img"
    image.write_bytes(loader.image.read_bytes())
    add_conf(image, "handover=none\ntimeout=0\n")
    screen = Screen(Panel(tmp_path / "qmp"))
    first, last = layouts.BTRFS["snapshot"]
    with firmware([image, *btrfs_layouts.disks[first:last]], options=screen.options) as guest:
        guest.expect(r"fb0: EFI VGA frame buffer device", 180)
        guest.expect(r"poolboot> ", 120)
        shown = screen.lines()
    assert any(line.startswith("poolboot: pool btrfs snapshot ") for line in shown), shown
    assert any(line.startswith("poolboot: entry 1 Layout snapshot") for line in shown), shown
    assert any(line.startswith("poolboot> ") for line in shown) or "poolboot>" in shown, shown
