"""How long a kernel takes to /init, and how much memory it leaves: measured from inside of the guest."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from artefacts import cpio
from artefacts.kernel_compare import Run
from artefacts.steps import BuildError
from qemu.machine import Machine

MEMORY = 256  # MiB
TIMES = 3
"""The best of so many: only noise makes a start slower."""

# Takes the place of /init behind the unpacked initramfs, which costs its time and memory all the same.
_PROBE = r"""
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
    char line[256];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    mount("proc", "/proc", "proc", 0, 0);
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, "MemAvailable:", 13))
            printf("measured %ld.%03ld s, %s", (long)now.tv_sec, now.tv_nsec / 1000000, line);
    fflush(stdout);
    reboot(RB_POWER_OFF);
    for (;;)
        pause();
}
"""


def measure(kernel: Path, initramfs: Path) -> Run:
    """Start ``kernel`` with ``initramfs`` some times.  Raises BuildError or MachineError."""
    with tempfile.TemporaryDirectory(prefix="poolboot-measure-") as scratch:
        image = Path(scratch, "initramfs")
        image.write_bytes(initramfs.read_bytes() + _probe(Path(scratch)))
        runs = [_once(kernel, image) for _ in range(TIMES)]
    return Run(min(run.seconds for run in runs), max(run.available for run in runs))


def _once(kernel: Path, initramfs: Path) -> Run:
    with Machine(kernel, initramfs, "console=ttyS0 quiet", memory=MEMORY) as guest:
        found = guest.expect(r"measured ([0-9.]+) s, MemAvailable: +(\d+) kB", 120)
    return Run(float(found[1]), int(found[2]))


def _probe(scratch: Path) -> bytes:
    """A compressed cpio with the program that measures as /init."""
    source, program = scratch / "probe.c", scratch / "probe"
    source.write_text(_PROBE)
    command = ["gcc", "-static", "-Os", "-s", "-o", str(program), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"gcc ended with status {done.returncode}: {done.stderr.strip()}", "apt install gcc libc6-dev")
    archive = cpio.Archive()
    archive.file("init", program.read_bytes(), 0o755)
    return cpio.compress(archive.pack())
