"""`python build.py loader`: the EFI file, the disk image and the ISO, from kernel and initramfs."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from artefacts import cache
from artefacts.steps import BuildError, short
from loader import esp, iso, sign, uki

BUDGET = 9 << 20
"""Bytes of the EFI file."""


class Wishes(NamedTuple):
    """What the user asked for."""

    cmdline: str = ""
    """Behind the default one, so that it can override what is there."""
    key: Path | None = None
    certificate: Path | None = None
    esp_size: int = esp.SIZE
    """Bytes."""
    conf: Path | None = None
    """A poolboot.conf to lie beside the EFI file."""


def build(output: Path, parts: uki.Parts, wishes: Wishes, architecture: str = "x86_64") -> list[Path]:
    """Write ``loader.efi``, ``loader.img`` and ``loader.iso`` into ``output``.  Raises BuildError."""
    if (wishes.key is None) != (wishes.certificate is None):
        raise BuildError("signing takes a key and its certificate", "--sign KEY CERT")
    with cache.alone(output / ".loader.lock", f"build: waiting for another build in {short(output)}"):
        return _build(output, parts, wishes, architecture)


def _build(output: Path, parts: uki.Parts, wishes: Wishes, architecture: str) -> list[Path]:
    log = output / "logs" / "loader.log"
    efi = output / "loader.efi"
    cmdline = f"{uki.CMDLINES[architecture]} {wishes.cmdline}".strip()
    uki.make(parts, cmdline, efi, log, architecture)
    if wishes.key and wishes.certificate:
        sign.sign(efi, wishes.key, wishes.certificate, log)
    name = uki.NAMES[architecture]
    files = {f"EFI/BOOT/{name}": efi}
    if wishes.conf:
        if not wishes.conf.is_file():
            raise BuildError(f"--conf {wishes.conf}: no such file")
        files["EFI/BOOT/poolboot.conf"] = wishes.conf
    image, disc = output / "loader.img", output / "loader.iso"
    esp.disk(files, image, log, wishes.esp_size)
    iso.make(files, disc, log)
    return [efi, image, disc]
