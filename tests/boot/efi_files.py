"""The EFI file under test, and the disk it lies on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from qemu import run


class Loader(NamedTuple):
    """What `python build.py loader` made."""

    efi: Path
    image: Path
    iso: Path


def build(output: Path, *options: str | Path) -> Loader:
    """Make the EFI file with ``options`` of build.py."""
    command = [sys.executable, run.PROJECT / "build.py", "loader", "--output", output, *options]
    subprocess.run(command, cwd=run.PROJECT, check=True)
    return Loader(*(output / name for name in ("loader.efi", "loader.img", "loader.iso")))


def add_conf(image: Path, text: str) -> None:
    """Put a poolboot.conf beside the EFI file on a disk image."""
    command = ["mcopy", "-o", "-i", f"{image}@@{1 << 20}", "-", "::/EFI/BOOT/poolboot.conf"]
    subprocess.run(command, check=True, input=text.encode())
