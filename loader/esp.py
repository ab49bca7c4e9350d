"""A disk image with an EFI system partition: GPT, FAT32, the EFI file where firmware looks for it.  Needs no root."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from artefacts.steps import BuildError, run, step

MIB = 1 << 20
ALIGN = MIB
"""Where the partition starts, in bytes; as much is left behind it for the backup GPT."""
SIZE = 64 * MIB
"""Of the file system, unless more is asked for: FAT32 begins at 33 MiB."""

FAT32 = 33 * MIB
"""Below this it would have fewer clusters than FAT32 allows."""

LABEL = "POOLBOOT"
"""Of the file system."""
NAME = "poolboot"
"""Of the partition.  Path C writes only to an ESP with this name, or one that the user named."""

# Fixed dates: same input, same bytes.
EPOCH = 1_700_000_000
_HINT = "apt install mtools fdisk"


def filesystem(files: Mapping[str, Path], target: Path, log: Path, size: int = SIZE, offset: int = 0) -> None:
    """Make a FAT file system of ``size`` bytes at ``offset`` in the image ``target``, holding ``files``.

    It is FAT32 from 33 MiB on, FAT16 below.

    The keys are paths on it ("EFI/BOOT/BOOTX64.EFI").  Raises BuildError, when they do not fit too.
    """
    need = sum(path.stat().st_size for path in files.values())
    if need + MIB > size:
        raise BuildError(f"{need >> 20} MiB of files do not fit on an ESP of {size >> 20} MiB", "--esp-size MIB")
    image = f"{target}@@{offset}"
    serial = identity(files, "serial").hex[:8]
    environment = {"MTOOLS_SKIP_CHECK": "1", "SOURCE_DATE_EPOCH": str(EPOCH), "MTOOLSRC": os.devnull, "TZ": "UTC"}
    geometry = ["-T", str(size // 512), "-h", "64", "-s", "32"]
    format_it = ["mformat", "-i", image, *(["-F"] if size >= FAT32 else []), *geometry, "-v", LABEL, "-N", serial, "::"]
    run(format_it, log=log, hint=_HINT, env=environment)
    made: set[str] = set()
    for path, source in sorted(files.items()):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            directory = "/".join(parts[:depth])
            if directory not in made:
                made.add(directory)
                run(["mmd", "-i", image, f"::/{directory}"], log=log, hint=_HINT, env=environment)
        run(["mcopy", "-i", image, source, f"::/{path}"], log=log, hint=_HINT, env=environment)


def disk(files: Mapping[str, Path], target: Path, log: Path, size: int = SIZE) -> None:
    """Write a bootable disk image: to be copied onto a stick with dd, or given to a virtual machine.  Sparse."""
    fresh = target.with_name(f".{target.name}.new")
    fresh.unlink(missing_ok=True)
    with step(f"making {target.name}", log):
        with fresh.open("wb") as file:
            file.truncate(ALIGN + size + ALIGN)
        table = fresh.with_suffix(".sfdisk")
        table.write_text(
            f"label: gpt\nlabel-id: {identity(files, 'disk')}\nunit: sectors\nsector-size: 512\n"
            f"start={ALIGN // 512}, size={size // 512}, type=uefi, uuid={identity(files, 'esp')}, name={NAME}\n"
        )
        try:
            shell = 'sfdisk --quiet --no-reread --no-tell-kernel "$1" <"$2"'
            run(["sh", "-ec", shell, "sfdisk", fresh, table], log=log, hint=_HINT)
        finally:
            table.unlink()
        filesystem(files, fresh, log, size, ALIGN)
    fresh.rename(target)


def identity(files: Mapping[str, Path], role: str) -> uuid.UUID:
    """A UUID that only the content decides on."""
    digest = sha256(role.encode())
    for path, source in sorted(files.items()):
        digest.update(path.encode() + b"\0" + sha256(source.read_bytes()).digest())
    return uuid.UUID(bytes=digest.digest()[:16], version=5)
