"""The EFI file under test, and the disk it lies on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from loader import make, uki
from loader.make import Wishes
from qemu import run


class Loader(NamedTuple):
    """What `python build.py loader` made."""

    efi: Path
    image: Path
    iso: Path


def build(kernel: str) -> Loader:
    """Make the EFI file with ``kernel`` as build.py takes it."""
    command = [sys.executable, run.PROJECT / "build.py", "loader", "--kernel", kernel, "--output", run.BUILD]
    subprocess.run(command, cwd=run.PROJECT, check=True)
    return Loader(*(run.BUILD / name for name in ("loader.efi", "loader.img", "loader.iso")))


def variant(loader: Loader, output: Path, wishes: Wishes) -> Loader:
    """The same kernel and initramfs in another EFI file."""
    parts = uki.sections(loader.efi)
    kernel, initramfs = output / "linux", output / "initrd"
    kernel.write_bytes(parts[".linux"])
    initramfs.write_bytes(parts[".initrd"])
    return Loader(*make.build(output, uki.Parts(kernel, initramfs, parts[".uname"].decode()), wishes))


def add_conf(image: Path, text: str) -> None:
    """Put a poolboot.conf beside the EFI file on a disk image."""
    command = ["mcopy", "-o", "-i", f"{image}@@{1 << 20}", "-", "::/EFI/BOOT/poolboot.conf"]
    subprocess.run(command, check=True, input=text.encode())
