"""The filesystems that the bench reads: one payload in every layout, made by the real tools in a guest.

The payload is what booting reads: a kernel (packed, 12 MiB), an initrd (100 MiB, three quarters of it compress) and
a tree of 2000 files of 1 to 4 KiB and 8 of 4 MiB.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

from artefacts import cache
from qemu import workshop
from qemu.workshop import GIB, MIB, Recipe

KERNEL, INITRD, TREE = "kernel", "initrd", "tree"
_VERSION = 1  # of the payload: change it together with fill()


class Image(NamedTuple):
    """One layout; ``lost`` are the disks (numbers) that are absent when it is read."""

    name: str
    disks: int
    mkfs: str
    mount: str = "noatime"
    lost: tuple[int, ...] = ()
    of: str = ""  # the layout whose disks these are, when another one with all of its disks is here too


MADE = (
    Image("raid1", 2, "-d raid1 -m raid1"),
    Image("raid10", 4, "-d raid10 -m raid10"),
    Image("raid5", 3, "-d raid5 -m raid1"),
    Image("zstd", 1, "-d single -m dup", "noatime,compress-force=zstd:3"),
    Image("raid6", 4, "-d raid6 -m raid1c3"),
)
IMAGES = (
    *MADE[:4],
    Image("raid5-1", 3, "", lost=(1,), of="raid5"),
    Image("raid6-2", 4, "", lost=(1, 2), of="raid6"),
)


def payload() -> Path:
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


_SCRIPT = r"""
make() { # "DISKS" "MKFS OPTIONS" "MOUNT OPTIONS"
    echo "making $2"
    mkfs.btrfs -q -f $2 $1
    btrfs device scan $1 >/dev/null
    mount -o $3 ${1%% *} /mnt
    for item in kernel initrd tree; do cp -r /in/payload*/$item /mnt/; sync; done
    umount /mnt
}
"""


def disks() -> dict[str, list[Path]]:
    """The disk images of MADE by layout, made when they are not in the cache.  Raises workshop.RecipeError."""
    lines, first = [_SCRIPT], 0
    for image in MADE:
        names = " ".join(f"/dev/vd{chr(ord('a') + first + number)}" for number in range(image.disks))
        lines.append(f'make "{names}" "{image.mkfs}" {image.mount}')
        first += image.disks
    made = workshop.make(
        Recipe("btrfs-bench", "\n".join([*lines, ""]), disks=(GIB,) * first, inputs=(payload(),), timeout=1800)
    )
    found, rest = {}, list(made.disks)
    for image in MADE:
        found[image.name] = rest[: image.disks]
        del rest[: image.disks]
    return found
