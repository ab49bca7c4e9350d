"""The pools that the bench reads: the payload of all, on every layout, made by OpenZFS in a guest."""

from __future__ import annotations

import os
from pathlib import Path

import payload
from contest import Image

from artefacts import cache
from qemu import workshop, zfs
from qemu.workshop import MIB

SIZE = 640 * MIB
_PART = MIB  # zpart() starts the first partition there


MADE = (
    Image("mirror", 2, "mirror", "lz4"),
    Image("raidz1", 3, "raidz1", "lz4"),
    Image("raidz2", 5, "raidz2", "lz4"),
    Image("zstd", 2, "mirror", "zstd"),
)
IMAGES = (
    *MADE,
    Image("mirror-1", 2, "", "", lost=(0,), of="mirror"),
    Image("raidz1-1", 3, "", "", lost=(1,), of="raidz1"),
    Image("raidz2-2", 5, "", "", lost=(1, 2), of="raidz2"),
)

# Only what GRUB 2.06 reads, or there were nobody to compare with; zstd it does not.
_SCRIPT = r"""
zpart
make() { # NAME COMPRESSION VDEV MEMBERS
    local name=$1 compression=$2 feature features="-d" vdev=$3
    shift 3
    for feature in lz4_compress embedded_data hole_birth extensible_dataset large_blocks; do
        features="$features -o feature@$feature=enabled"
    done
    test $compression = zstd && features="$features -o feature@zstd_compress=enabled"
    echo "making $name"
    zpool create -f -o cachefile=none $features -O mountpoint=legacy -O compression=$compression -O atime=off \
        bench-$name $vdev "$@"
    mount -t zfs bench-$name /mnt
    for item in kernel initrd tree; do cp -r /in/payload*/$item /mnt/; zpool sync; done
    umount /mnt
    zpool export bench-$name
}
"""


def members() -> dict[str, list[Path]]:
    """The members of MADE by layout: partitions as files of their own, for readers that look for none.

    Compiles OpenZFS when its modules are not cached.  Raises workshop.RecipeError or artefacts.steps.BuildError.
    """
    lines, first = [_SCRIPT], 0
    for image in MADE:
        lines.append(
            f'make {image.name} {image.tuning} {image.make} "${{DISK[@]:{first}:{image.disks}}}"'
        )  # fmt: skip
        first += image.disks
    script = "\n".join([*lines, ""])
    made = workshop.make(
        zfs.recipe("bench", script, (SIZE,) * first, inputs=(payload.directory(),), timeout=1800)
    )  # fmt: skip

    names = [f"{image.name}.{number}.raw" for image in MADE for number in range(image.disks)]

    def cut(work: Path) -> None:
        for name, disk in zip(names, made.disks, strict=True):
            _partition(disk, work / name)

    parts = cache.entry("bench", f"zfs-{made.out.parent.name}", cut)
    return {image.name: [parts / name for name in names if name.startswith(f"{image.name}.")] for image in MADE}


def _partition(disk: Path, target: Path) -> None:
    """Copy the first partition of ``disk``, without the stretches of zeros."""
    size = (SIZE // 512 - 2048 - 16384 - 33) // 2048 * MIB  # as zpart() computes it
    with disk.open("rb") as source, target.open("wb") as sink:
        source.seek(_PART)
        for at in range(0, size, MIB):
            data = source.read(MIB)
            if data.count(0) != len(data):
                sink.seek(at)
                sink.write(data)
        os.ftruncate(sink.fileno(), size)
