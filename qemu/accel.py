"""Which accelerator QEMU may use.  /dev/kvm can exist and still hang every guest: only a guest that ran counts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from artefacts import cache

PROBE_SECONDS = 5.0
QEMU = {"x86_64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}
"""The program by architecture."""

# What a kernel says at the end of its start when it was given neither an initrd nor a root.
_PROOF = b"Unable to mount root fs"


# TCG executes "rep stosb" byte by byte: a kernel that thinks them fast clears and copies pages with them, which makes a
# boot of Debian 15 percent longer.
_EMULATED = {"x86_64": "max,-erms,-fsrm", "arm64": "max"}

# A nanosecond of the guest for each instruction (2 to the power of 0): a processor of 1 GHz that completes one
# instruction a cycle, whatever emulating it takes.  Waiting takes as long as it does.
_COUNTED = ["-icount", "shift=0"]


def arguments(kernel: Path | None, architecture: str = "x86_64", counted: bool = False) -> list[str]:
    """QEMU's options for the accelerator: KVM when $POOLBOOT_ACCEL says so or a probe proved it, else TCG.

    ``counted``: with TCG, the guest's clock counts instructions.  With KVM it is a real one anyway.
    """
    if architecture == "x86_64" and choose(kernel) == "kvm":
        return ["-accel", "kvm", "-cpu", "max"]
    return ["-accel", "tcg", "-cpu", _EMULATED[architecture], *(_COUNTED if counted else [])]


def choose(kernel: Path | None) -> str:
    """The name of the accelerator, kvm or tcg.

    The probe boots ``kernel`` once per boot of the host; without a kernel only an earlier result counts.

    Raises ValueError when $POOLBOOT_ACCEL holds something else.
    """
    forced = os.environ.get("POOLBOOT_ACCEL", "")
    if forced in ("kvm", "tcg"):
        return forced
    if forced:
        raise ValueError(f"POOLBOOT_ACCEL={forced}: tcg or kvm")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    known = cache.root() / f"accel-{_boot_id()}"
    if known.exists():
        return known.read_text().strip()
    if kernel is None:
        return "tcg"
    result = "kvm" if _probe(kernel) else "tcg"
    print(f"qemu: /dev/kvm {'works' if result == 'kvm' else 'runs no guest: emulating (tcg)'}", file=sys.stderr)
    scratch = known.with_suffix(f".{os.getpid()}")
    scratch.write_text(result + "\n")
    scratch.rename(known)
    return result


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _probe(kernel: Path) -> bool:
    command = [
        QEMU["x86_64"], "-accel", "kvm", "-cpu", "max", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot",
        "-serial", "stdio", "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1",
    ]  # fmt: skip
    try:
        # On expiry run() kills with SIGKILL, which a hanging vCPU does not survive either.
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_SECONDS, check=False
        )
    except (subprocess.TimeoutExpired, OSError):
        return False
    return _PROOF in done.stdout
