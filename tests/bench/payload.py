"""What the bench reads, and booting does: a kernel, an initrd and a tree.

The kernel is packed (12 MiB), three quarters of the initrd compress (100 MiB), the tree has 2000 files of 1 to 4 KiB
and 8 of 4 MiB.
"""

from __future__ import annotations

import random
from pathlib import Path

from artefacts import cache
from qemu.workshop import MIB

KERNEL, INITRD, TREE = "kernel", "initrd", "tree"
_VERSION = 1  # change it together with fill()


def directory() -> Path:
    """A directory with the payload; the same bytes on every machine."""

    def fill(work: Path) -> None:
        source = random.Random(20240601)  # reproducible bytes are wanted, not secrets
        words = [source.randbytes(source.randrange(3, 12)) for _ in range(3000)]

        def mixed(size: int) -> bytes:
            parts, length = [], 0
            while length < size:
                part = b" ".join(source.choices(words, k=12000)) + source.randbytes(32768)
                parts.append(part)
                length += len(part)
            return b"".join(parts)[:size]

        (work / KERNEL).write_bytes(source.randbytes(12 * MIB))
        (work / INITRD).write_bytes(mixed(100 * MIB))
        for number in range(2000):
            path = work / TREE / f"d{number % 40:02}" / f"file{number:04}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(mixed(source.randrange(1024, 4097)))
        for number in range(8):
            (work / TREE / f"large{number}").write_bytes(mixed(4 * MIB))

    return cache.entry("bench", f"payload-{_VERSION}", fill)
