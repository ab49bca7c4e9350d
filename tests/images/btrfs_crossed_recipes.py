"""Every profile with every checksum, each filesystem with files in every codec: partitions of seven disks.

Widths that are no power of two are among them, odd numbers of disks, and more disks than a profile needs.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from qemu import manifest, workshop
from qemu.workshop import MIB, Recipe

DISKS = 7
FIRST, SIZE = 1 * MIB, 256 * MIB  # of the partitions
CHECKSUMS = ("crc32c", "xxhash", "sha256", "blake2")
CODECS = ("none", "zlib", "lzo", "zstd")


class Shape(NamedTuple):
    """A profile over ``disks`` disks, of which ``tolerated`` may be missing whatever they are."""

    data: str
    metadata: str
    disks: int
    tolerated: int


SHAPES = (
    Shape("single", "single", 1, 0),
    Shape("dup", "dup", 1, 0),
    Shape("raid0", "raid0", 3, 0),
    Shape("raid1", "raid1", 3, 1),
    Shape("raid1c3", "raid1c3", 5, 2),
    Shape("raid1c4", "raid1c4", 5, 3),
    Shape("raid10", "raid10", 6, 1),
    Shape("raid5", "raid5", 2, 1),
    Shape("raid5", "raid1", 4, 1),
    Shape("raid5", "raid5", 6, 1),
    Shape("raid6", "raid6", 3, 2),
    Shape("raid6", "raid1c3", 5, 2),
    Shape("raid6", "raid6", 7, 2),
)


class Crossed(NamedTuple):
    """One filesystem: it is partition ``number`` (from 0) of the first ``shape.disks`` disks."""

    shape: Shape
    checksum: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.shape.data}-{self.shape.disks}-{self.checksum}"

    @property
    def start(self) -> int:
        """Where its partitions begin, in bytes."""
        return FIRST + self.number * SIZE


TABLE = tuple(
    Crossed(shape, checksum, number)
    for number, (shape, checksum) in enumerate((shape, checksum) for shape in SHAPES for checksum in CHECKSUMS)
)

_SCRIPT = r"""
mkdir /source
cd /source
head -c 70001 /dev/urandom >random
seq -w 1 45678 >text
seq 1 400 >inline
(seq 1 9999; head -c 30000 /dev/urandom; seq 1 9999) >mixed
truncate -s 999999 mixed
cd /
for disk in $DISKS; do
    blockdev --rereadpt $disk
    for ((at = 0; at < COUNT; at++)); do echo "start=$((FIRST / 512 + at * SIZE / 512)), size=$((SIZE / 512))"; done |
        sfdisk -q --label gpt $disk
done
sleep 1
make() { # NUMBER NAME DISKS DATA METADATA CHECKSUM
    local device devices=
    for device in ${DISK[@]:0:$3}; do devices="$devices $device$(($1 + 1))"; done
    set -- $2 $4 $5 $6 $devices
    echo "$1 at $SECONDS s"
    mkfs.btrfs -q -f -L $1 -d $2 -m $3 --csum $4 $devices
    btrfs device scan $devices >/dev/null
    mount -o noatime $5 /mnt
    for codec in CODECS; do
        mkdir /mnt/$codec
        if [ $codec != none ]; then setfattr -n btrfs.compression -v $codec /mnt/$codec; fi
        cp --sparse=always /source/* /mnt/$codec/
    done
    umount /mnt
    # Once more, so that what is seen comes from the disks.
    mount -o ro $5 /mnt
    manifest /mnt $1
    umount /mnt
    btrfs device scan --forget
}
"""


@cache
def made() -> dict[str, tuple[list[Path], dict[str, manifest.Record]]]:
    """The disks and the kernel's view of each filesystem of TABLE by name.  Raises workshop.RecipeError."""
    script = _SCRIPT.replace("COUNT", str(len(TABLE))).replace("FIRST", str(FIRST)).replace("SIZE", str(SIZE))
    lines = [script.replace("CODECS", " ".join(CODECS))]
    for one in TABLE:
        shape = one.shape
        lines.append(f"make {one.number} {one.name} {shape.disks} {shape.data} {shape.metadata} {one.checksum}")
    recipe = Recipe(
        "btrfs-crossed",
        "\n".join([*lines, ""]),
        disks=(FIRST + (len(TABLE) + 1) * SIZE,) * DISKS,
        packages=("btrfs-progs", "attr", "fdisk"),
        timeout=1500,
    )
    done = workshop.make(recipe)
    return {one.name: (done.disks[: one.shape.disks], manifest.read(done.out, one.name)) for one in TABLE}
