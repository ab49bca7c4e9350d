"""UEFI firmware for machines: OVMF (for arm64: AAVMF), with variables and keys of our choice in its store."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qemu.machine import Disk, Firmware, Machine

OVMF = Path("/usr/share/OVMF")
FRESH = OVMF / "OVMF_VARS_4M.fd"
"""A store as it leaves the factory: no keys, no boot options."""
AAVMF = Path("/usr/share/AAVMF")

# A name for whoever enrolled the keys; any GUID does.
_OWNER = "6ac1d0c5-3f0c-4f8e-9f43-5b1c9b2d7f66"
# What OVMF's build for Secure Boot insists on: its variables are out of the guest's reach.
_SECURE = ("-machine", "smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on")
_PERSISTENT = 7  # attributes: non-volatile, boot service and run-time access; UEFI 2.10, 8.2.1


class Store(NamedTuple):
    """The firmware's variables, in a file."""

    path: Path
    secure: bool = False
    """Secure Boot is on."""
    keep: bool = False
    """What the guest changes stays."""


def start(disks: Sequence[Path | Disk], store: Store | None = None, **options: Any) -> Machine:
    """A Machine that the firmware starts from ``disks``; ``options`` are those of Machine."""
    flash = firmware(store, options.get("architecture", "x86_64"))
    more = [*options.pop("options", []), *(_SECURE if store and store.secure else [])]
    return Machine(None, None, "", disks, firmware=flash, options=more, **options)


def firmware(store: Store | None = None, architecture: str = "x86_64") -> Firmware:
    """The firmware with a ``store``, by default a fresh one, as Machine takes it."""
    if architecture == "arm64":
        code, fresh = AAVMF / "AAVMF_CODE.fd", AAVMF / "AAVMF_VARS.fd"
    else:
        code, fresh = OVMF / ("OVMF_CODE_4M.secboot.fd" if store and store.secure else "OVMF_CODE_4M.fd"), FRESH
    store = store or Store(fresh)
    return Firmware(code, store.path, store.keep)


def kept(target: Path) -> Store:
    """A fresh store at ``target`` that outlives its machine, as real ones do."""
    shutil.copyfile(FRESH, target)
    return Store(target, keep=True)


def enrolled(owner: Path, target: Path, *also: Path) -> Store:
    """A store in which the certificate ``owner`` is all there is; those of ``also`` may sign programs, too."""
    words: list[str | Path] = ["--sb"]
    for option in ("--set-pk", "--add-kek", "--add-db"):
        words += [option, _OWNER, owner]
    for certificate in also:
        words += ["--add-db", _OWNER, certificate]
    _edit(target, words)
    return Store(target, secure=True)


def with_variables(values: Mapping[tuple[str, str], bytes], target: Path) -> Store:
    """A store that holds ``values``: (name, vendor's GUID) -> value."""
    listed = [
        {"name": name, "guid": vendor, "attr": _PERSISTENT, "data": data.hex()}
        for (name, vendor), data in values.items()
    ]
    description = target.with_suffix(".json")
    description.write_text(json.dumps({"version": 2, "variables": listed}))
    _edit(target, ["--set-json", description])
    return Store(target)


def _edit(target: Path, words: Sequence[str | Path]) -> None:
    program = Path(sys.executable).with_name("virt-fw-vars")
    subprocess.run([program, "--input", FRESH, "--output", target, *words], check=True, capture_output=True)
