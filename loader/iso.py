"""A hybrid ISO: boots from a CD drive (El Torito) and, copied onto a stick, as a GPT disk with an ESP."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from artefacts.steps import BuildError, run, step
from loader import esp

# El Torito counts sectors of 512 bytes in 16 bits, and EDK II believes it: MdeModulePkg/Universal/Disk/
# PartitionDxe/ElTorito.c, 2022.11.  A larger image is cut off there, and its FAT then refused.
MAX_ESP = 31 * esp.MIB

_README = """\
This disc starts poolboot, which looks for an operating system on btrfs and ZFS disks and boots it.
On the appended EFI system partition:
"""


def make(files: Mapping[str, Path], target: Path, log: Path) -> None:
    """Write the ISO with an ESP that holds ``files`` (as esp.filesystem takes them).  Raises BuildError."""
    need = sum(path.stat().st_size for path in files.values())
    size = (need // esp.MIB + 3) * esp.MIB
    if size > MAX_ESP:
        raise BuildError(
            f"{need >> 20} MiB of files are too many for an ISO's EFI image of at most {MAX_ESP >> 20} MiB"
        )
    fresh = target.with_name(f".{target.name}.new")
    fresh.unlink(missing_ok=True)
    with step(f"making {target.name}", log), tempfile.TemporaryDirectory(prefix="poolboot-iso-") as scratch:
        tree = Path(scratch, "tree")
        tree.mkdir()
        (tree / "README.TXT").write_text(_README + "".join(f"  {name}\n" for name in sorted(files)))
        image = Path(scratch, "esp.img")
        with image.open("wb") as file:
            file.truncate(size)
        esp.filesystem(files, image, log, size)
        command: list[str | os.PathLike[str]] = [
            "xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", esp.LABEL, "-o", fresh,
            "-append_partition", "2", "0xef", image, "-appended_part_as_gpt",
            "--set_all_file_dates", f"={esp.EPOCH}",
            "-e", "--interval:appended_partition_2:all::", "-no-emul-boot",
            tree,
        ]  # fmt: skip
        run(command, log=log, hint="apt install xorriso", env={"SOURCE_DATE_EPOCH": str(esp.EPOCH)})
    fresh.rename(target)
