"""Machines that boot the image under test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import live
import pytest
from efi_files import Loader, build

from qemu import layouts, ovmf, run, zfs_images
from qemu.machine import Disk, Machine
from qemu.workshop import Made

LOGS = run.BUILD / "boot-logs"


@pytest.fixture
def machine(boot_image: Any, request: pytest.FixtureRequest) -> Callable[..., Machine]:
    """Makes a Machine with the boot image: ``machine(disks, append="...", memory=...)``; its console goes to LOGS."""

    def make(disks: Sequence[Path | Disk], append: str = "", **options: Any) -> Machine:
        log = LOGS / f"{request.node.name}.log"
        cmdline = f"{run.CMDLINE} {append}".strip()
        return Machine(boot_image.kernel, boot_image.initrd, cmdline, disks, log=log, **options)

    return make


@pytest.fixture
def firmware(request: pytest.FixtureRequest) -> Callable[..., Machine]:
    """Makes a Machine that UEFI firmware starts from its disks, as ovmf.start() does; its console goes to LOGS."""

    def make(disks: Sequence[Path | Disk], store: ovmf.Store | None = None, **options: Any) -> Machine:
        return ovmf.start(disks, store, log=LOGS / f"{request.node.name}.log", **options)

    return make


@pytest.fixture(scope="session")
def loader(request: pytest.FixtureRequest) -> Loader:
    """The EFI file with the bootstrap kernel under test, and what it lies on."""
    return build(request.config.getoption("--kernel"))


@pytest.fixture
def live_machine(boot_image: Any, request: pytest.FixtureRequest) -> live.Machines:
    """Makes a Machine with the boot image that is told to switch root; its console goes to LOGS."""
    return live.machine(boot_image.kernel, boot_image.initrd, LOGS / f"{request.node.name}.log")


@pytest.fixture(scope="session")
def btrfs_layouts() -> Made:
    """Small systems on the disks that layouts.BTRFS names."""
    return layouts.btrfs()


@pytest.fixture(scope="session")
def zfs_debian() -> Made:
    """A Debian on each of zfs_images.POOLS.  Compiles OpenZFS when its modules are not cached."""
    return zfs_images.debian()


@pytest.fixture(scope="session")
def zfs_howto() -> Made:
    """Debian as OpenZFS's HOWTO installs it.  Compiles OpenZFS when its modules are not cached."""
    return zfs_images.howto()


@pytest.fixture(scope="session")
def zfs_dracut() -> Made:
    """A Debian on ZFS with an initrd by dracut.  Compiles OpenZFS when its modules are not cached."""
    return zfs_images.dracut()


@pytest.fixture
def clone(tmp_path: Path) -> Callable[[Path], Path]:
    """Makes a sparse copy of a disk image that a test may damage."""

    def make(image: Path) -> Path:
        return copy_sparse(image, tmp_path / f"{image.parent.name}-{image.name}")

    return make


def copy_sparse(source: Path, target: Path, block: int = 1 << 20) -> Path:
    """Copy without writing the stretches of zeros; returns ``target``."""
    with source.open("rb") as reader, target.open("wb") as writer:
        while data := reader.read(block):
            if data.count(0) == len(data):
                writer.seek(len(data), 1)
            else:
                writer.write(data)
        writer.truncate(reader.tell())
    shutil.copystat(source, target)
    return target
