"""A hybrid ISO: boots from a CD drive (El Torito) and, copied onto a stick, as a GPT disk with an ESP."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from artefacts.steps import run, step
from loader import esp

_README = """\
This disc starts poolboot, which looks for an operating system on btrfs and ZFS disks and boots it.
The EFI file is on the appended EFI system partition, as EFI/BOOT/BOOTX64.EFI.
"""


def make(files: Mapping[str, Path], target: Path, log: Path) -> None:
    """Write the ISO with an ESP that holds ``files`` (as esp.filesystem takes them).  Raises BuildError."""
    fresh = target.with_name(f".{target.name}.new")
    fresh.unlink(missing_ok=True)
    with step(f"making {target.name}", log), tempfile.TemporaryDirectory(prefix="poolboot-iso-") as scratch:
        tree = Path(scratch, "tree")
        tree.mkdir()
        (tree / "README.TXT").write_text(_README)
        image = Path(scratch, "esp.img")
        with image.open("wb") as file:
            file.truncate(esp.SIZE)
        esp.filesystem(files, image, log)
        command: list[str | os.PathLike[str]] = [
            "xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", esp.LABEL, "-o", fresh,
            "-append_partition", "2", "0xef", image, "-appended_part_as_gpt",
            "-e", "--interval:appended_partition_2:all::", "-no-emul-boot",
            tree,
        ]  # fmt: skip
        run(command, log=log, hint="apt install xorriso", env={"SOURCE_DATE_EPOCH": str(esp.EPOCH)})
    fresh.rename(target)
