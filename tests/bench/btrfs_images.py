"""The btrfs filesystems that the bench reads: one payload in every layout, made by the real tools in a guest."""

from __future__ import annotations

from pathlib import Path

import payload
from contest import Image

from qemu import workshop
from qemu.workshop import GIB, Recipe

MADE = (
    Image("raid1", 2, "-d raid1 -m raid1", "noatime"),
    Image("raid10", 4, "-d raid10 -m raid10", "noatime"),
    Image("raid5", 3, "-d raid5 -m raid1", "noatime"),
    Image("zstd", 1, "-d single -m dup", "noatime,compress-force=zstd:3"),
    Image("raid6", 4, "-d raid6 -m raid1c3", "noatime"),
)
IMAGES = (
    *MADE[:4],
    Image("raid5-1", 3, "", "", lost=(1,), of="raid5"),
    Image("raid6-2", 4, "", "", lost=(1, 2), of="raid6"),
)


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
        lines.append(f'make "{names}" "{image.make}" {image.tuning}')
        first += image.disks
    made = workshop.make(
        Recipe(
            "btrfs-bench", "\n".join([*lines, ""]), disks=(GIB,) * first, inputs=(payload.directory(),), timeout=1800
        )
    )
    found, rest = {}, list(made.disks)
    for image in MADE:
        found[image.name] = rest[: image.disks]
        del rest[: image.disks]
    return found
