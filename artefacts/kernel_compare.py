"""`build.py kernel --compare`: what slimming buys, measured, and docs/kernel-slimming.md made of it.

Both kernels come from the same source and fragment; one has ext4, XFS and btrfs built in besides.  OpenZFS's side is
the size of what Debian's packages would put into an initramfs.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from artefacts import debian, kernel_build
from artefacts.kernel_build import FRAGMENTS
from artefacts.steps import BuildError

EXTRA = FRAGMENTS / "compare-filesystems.config"
NEWER = "trixie"
"""The suite whose kernel the same fragment is measured with besides."""

# What an initramfs needs to import a pool: the modules as zfs-dkms builds them, and Debian's user space.
ZFS_MODULES = ("zfs", "spl", "zavl", "znvpair", "zcommon", "zunicode", "zlua", "icp", "zzstd")
ZFS_PROGRAMS = ("zfsutils-linux", "libzfs4linux", "libzpool5linux", "libnvpair3linux", "libuutil3linux")
_ZFS_FILES = re.compile(r".*/(sbin/(zpool|zfs|mount\.zfs)|lib(zfs|zfs_core|zpool|nvpair|uutil)\.so\.[0-9.]+)")


class Run(NamedTuple):
    """One start in QEMU."""

    seconds: float
    """Of the guest's clock, from the kernel's entry to /init."""
    available: int
    """MemAvailable in KiB when /init runs."""


Measure = Callable[[Path, Path], Run]
"""Boots (kernel, initramfs) and measures."""


class Row(NamedTuple):
    """One line of the table; sizes in bytes."""

    name: str
    kernel: int
    initramfs: int
    run: Run


def compare(suite: str, initramfs: Path, modules: Path, measure: Measure) -> str:
    """Build both kernels and measure them; the page.  ``modules`` has OpenZFS's.  Raises BuildError."""
    slim = kernel_build.build(suite)
    kernels = [("slim", slim), ("with ext4, XFS and btrfs", kernel_build.build(suite, extra=[EXTRA]))]
    if suite != NEWER:
        newer = kernel_build.build(NEWER)
        kernels.append((f"slim, Linux {newer.release} (`--suite {NEWER}`)", newer))
    rows = [
        Row(name, built.image.stat().st_size, initramfs.stat().st_size, measure(built.image, initramfs))
        for name, built in kernels
    ]
    return page(slim.release, rows, {**zfs_modules(modules), **zfs_sizes()})


def zfs_sizes(suite: str = "bookworm") -> dict[str, int]:
    """The programs and libraries of OpenZFS that an initramfs carries, in bytes."""
    tree = debian.packages(suite, ZFS_PROGRAMS, ("main", "contrib"), dependencies=False)
    sizes = {
        path.name: path.stat().st_size
        for path in sorted(tree.rglob("*"))
        if path.is_file() and not path.is_symlink() and _ZFS_FILES.fullmatch(str(path))
    }
    if not sizes:
        raise BuildError(f"{tree} has none of OpenZFS's programs")
    return sizes


def zfs_modules(directory: Path) -> dict[str, int]:
    """The sizes in bytes, without debugging symbols, of OpenZFS's modules below ``directory``.  Raises BuildError."""
    found = {path.name: _stripped(path) for path in sorted(directory.rglob("*.ko")) if path.stem in ZFS_MODULES}
    if "zfs.ko" not in found:
        raise BuildError(f"{directory} has no zfs.ko")
    return found


def _stripped(path: Path) -> int:
    done = subprocess.run(["strip", "--strip-debug", "-o", "/dev/stdout", str(path)], capture_output=True, check=False)
    return len(done.stdout) or path.stat().st_size


def page(release: str, rows: Sequence[Row], zfs: dict[str, int]) -> str:
    """docs/kernel-slimming.md; ``rows`` are the slim kernel, that with file systems, and others of interest."""
    slim, full, *others = rows
    table = [
        "| Bootstrap kernel | Image | initramfs | kernel entry to /init | available memory in /init |",
        "|---|---|---|---|---|",
        *map(_row, (slim, full)),
        f"| difference | {_kib(full.kernel - slim.kernel)} | | {full.run.seconds - slim.run.seconds:+.2f} s "
        f"| {(full.run.available - slim.run.available) / 1024:+.1f} MiB |",
        *map(_row, others),
    ]
    programs = ["| OpenZFS in an initramfs | Size |", "|---|---|"]
    programs += [f"| {name} | {_kib(size)} |" for name, size in zfs.items()]
    programs += [f"| together, before compression | {_kib(sum(zfs.values()))} |"]
    return "\n".join(
        [
            "# What slimming the kernel buys",
            "",
            "Made by `python build.py kernel --compare`; do not edit.",
            "",
            f"Linux {release}, QEMU without hardware acceleration, one processor, 256 MiB of memory. The initramfs is",
            "the same in both: the drivers for btrfs and ZFS are in it, as a part of the boot program.",
            "Times are the best of a few starts; on a busy machine they vary by more than the kernels differ.",
            "",
            *table,
            "",
            "A kernel has no driver for ZFS at all: the module is built outside of it and loaded from the initramfs,",
            "with programs and libraries beside it.  Debian's zfs-dkms and zfsutils-linux make these:",
            "",
            *programs,
            "",
        ]
    )


def _row(row: Row) -> str:
    measured = f"{row.run.seconds:.2f} s | {row.run.available / 1024:.1f} MiB"
    return f"| {row.name} | {_kib(row.kernel)} | {_kib(row.initramfs)} | {measured} |"


def _kib(size: int) -> str:
    return f"{size / 1024:,.0f} KiB"
