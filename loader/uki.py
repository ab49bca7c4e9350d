"""The EFI file: systemd's EFI stub with our kernel, initramfs and command line as sections of it (a UKI).

ukify, systemd's own tool, lays the sections out.  Source of the format: the UAPI group's specification "Unified Kernel
Image (UKI)"; systemd's src/ukify/ukify.py and src/boot/stub.c, v257.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

import pefile

from artefacts import debian, toolchain
from artefacts.steps import BuildError, run, step
from init import VERSION

# Where stub and ukify come from, whatever is on the disks: bookworm has no ukify.
TOOLS_SUITE = "trixie"

# Of the removable-media path, which firmware starts without being configured: UEFI 2.10, table 3.5.
NAMES = {"x86_64": "BOOTX64.EFI", "arm64": "BOOTAA64.EFI"}
_STUBS = {"x86_64": "linuxx64.efi.stub", "arm64": "linuxaa64.efi.stub"}

# The screen, and the serial port that machines of the kind have; behind them what the user says.
CMDLINES = {"x86_64": "console=tty0 console=ttyS0,115200", "arm64": "console=tty0 console=ttyAMA0,115200"}

_OS_RELEASE = f"""\
ID=poolboot
NAME=poolboot
PRETTY_NAME="poolboot {VERSION}"
VERSION_ID={VERSION}
"""

# Component, generation (raised when a hole is closed that older files must not bring back), vendor, package, version.
_SBAT = f"""\
sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md
poolboot,1,poolboot,poolboot,{VERSION},poolboot
"""


class Parts(NamedTuple):
    """What goes into the EFI file."""

    kernel: Path
    initramfs: Path
    uname: str
    """The kernel's release."""


def make(parts: Parts, cmdline: str, target: Path, log: Path, architecture: str = "x86_64") -> None:
    """Write ``target``.  Same parts, same bytes.  Raises BuildError."""
    for path in (parts.kernel, parts.initramfs):
        if not path.is_file():
            raise BuildError(f"{path} is missing", "python build.py kernel; python build.py")
    if len(cmdline.encode()) > 2000:
        raise BuildError(f"the command line has {len(cmdline)} characters; kernels take 2047 bytes")
    tools = debian.packages(
        TOOLS_SUITE,
        ["systemd-boot-efi", "systemd-ukify"],
        architecture=toolchain.DEBIAN[architecture],
        dependencies=False,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    with step(f"making {target.name}", log):
        command: list[str | os.PathLike[str]] = [
            sys.executable, tools / "usr/bin/ukify", "build",
            f"--stub={tools / 'usr/lib/systemd/boot/efi' / _STUBS[architecture]}",
            f"--linux={parts.kernel}",
            f"--initrd={parts.initramfs}",
            f"--cmdline={cmdline}",
            f"--os-release={_OS_RELEASE}",
            f"--uname={parts.uname}",
            f"--sbat={_SBAT}",
            f"--output={fresh}",
        ]  # fmt: skip
        run(command, log=log, hint="set up the virtual environment with the extra [build]: ukify needs pefile")
    fresh.chmod(0o644)
    fresh.rename(target)


def sections(path: Path) -> dict[str, bytes]:
    """The sections of an EFI file by name.  Raises BuildError when it is none."""
    try:
        image = pefile.PE(str(path), fast_load=True)
    except (pefile.PEFormatError, OSError) as error:
        raise BuildError(f"{path} is no EFI file: {error}") from None
    return {
        section.Name.rstrip(b"\0").decode("ascii", "replace"): section.get_data()[: section.Misc_VirtualSize]
        for section in image.sections
    }
