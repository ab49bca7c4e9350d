"""An arm64 machine, QEMU's "virt" board: `python -m qemu arm64` starts the arm64 kernel and program on it.

It finds the system of layouts.btrfs() and has to refuse its x86_64 kernel by name.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from qemu import layouts
from qemu.machine import Machine, disk_options
from qemu.run import BUILD

QEMU = "qemu-system-aarch64"


class ArmMachine(Machine):
    """As Machine, but for the processor and the board."""

    def command(self, serial: Sequence[str]) -> list[str]:
        words = [QEMU, "-machine", "virt", "-cpu", "cortex-a72", "-m", str(self.memory), "-smp", str(self.cpus)]
        words += ["-nodefaults", "-display", "none", "-nic", "none", "-no-reboot", *serial]
        words += ["-kernel", str(self.kernel), "-append", self.cmdline, "-initrd", str(self.initrd)]
        return words + disk_options(self.disks) + self.options


def run(output: Path, log: Path) -> dict[str, float]:
    """Start ``output/vmlinuz`` with ``output/initramfs.cpio.zst``; seconds since power-on of what was seen.

    Raises MachineError, or what layouts.btrfs() raises.
    """
    first, last = layouts.BTRFS["snapshot"]
    disks = layouts.btrfs().disks[first:last]
    kernel, initrd = output / "vmlinuz", output / "initramfs.cpio.zst"
    seen = {}
    began = time.monotonic()
    with ArmMachine(kernel, initrd, "console=ttyAMA0 poolboot.wait=3", disks, memory=512, log=log) as guest:
        for what, pattern in (
            ("the kernel speaks", r"Linux version "),
            ("our program speaks", r"^poolboot: .* aarch64"),
            ("the pool is found", r"poolboot: pool btrfs snapshot .* members 1/1"),
            ("the x86_64 kernel on it is refused", r"poolboot: error: .*x86_64.*aarch64"),
            ("the rescue prompt", r"poolboot> "),
        ):
            guest.expect(pattern, 120)
            seen[what] = time.monotonic() - began
        guest.send("poweroff\n")
        guest.wait_exit()
    return seen


def main(options: argparse.Namespace) -> int:
    """`python -m qemu arm64`."""
    for what, seconds in run(BUILD / "arm64", BUILD / "arm64" / "console.log").items():
        print(f"arm64: {seconds:6.1f} s  {what}")
    return 0
