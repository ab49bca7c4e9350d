"""btrfs on changing sets of devices: seeds, replacing, removing, partitions, conversions; made by the real tools."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from qemu import manifest, workshop
from qemu.workshop import MIB, Recipe

PACKAGES = ("btrfs-progs", "fdisk", "fsverity")


class Set(NamedTuple):
    """Disks by what they are in the story, and the kernel's view of the filesystem on them."""

    disks: dict[str, Path]
    records: dict[str, manifest.Record]
    out: Path


# The story's name, and its disks in order.
STORIES = {
    "seed": ("seed", "sprout"),
    "replaced": ("first", "new", "old"),
    "replacing": ("first", "source", "target", "work1", "work2"),
    "removed": ("first", "second", "copy"),
    "parts": ("whole", "gpt", "mbr"),
    "convert": ("first", "second", "third"),
    "backup": ("disk",),
}

_LIBRARY = r"""
fill() (
    cd "$1"
    mkdir -p dir/below
    for i in $(seq 40); do head -c $((i * 977)) /dev/urandom >dir/file$i; done
    head -c 3000000 /dev/urandom >large
    seq 1 40000 >dir/below/text
    ln -s dir/below/text link
    sync
)
mkfs() { mkfs.btrfs -q -f "$@" >/dev/null; }
look() { # NAME DEVICES
    local name=$1
    shift
    btrfs device scan --forget
    for device; do btrfs device scan $device >/dev/null; done
    mount -o ro $1 /mnt; manifest /mnt $name; umount /mnt
    btrfs device scan --forget
}
copy() { dd if=$1 of=$2 bs=1M iflag=direct conv=sparse,notrunc status=none; blockdev --flushbufs $2; }
"""

_SCRIPT = r"""
seed() { # SEED SPROUT
    mkfs -L seeded -d single -m dup $1
    mount $1 /mnt; fill /mnt; umount /mnt
    btrfstune -S 1 $1
    look seed-alone $1
    mount $1 /mnt
    btrfs -q device add -f $2 /mnt
    mount -o remount,rw /mnt
    echo sprouted >/mnt/new
    head -c 500000 /dev/urandom >/mnt/dir/newer
    rm /mnt/dir/file7
    dd if=/dev/urandom of=/mnt/large bs=1000 seek=100 count=50 conv=notrunc status=none
    umount /mnt
    look seed $2 $1
}
replaced() { # FIRST NEW OLD: OLD is kept as it was before
    mkfs -L replaced -d raid1 -m raid1 $1 $SPARE
    mount $1 /mnt; fill /mnt; umount /mnt
    copy $SPARE $3
    btrfs device scan --forget; btrfs device scan $1 >/dev/null; btrfs device scan $SPARE >/dev/null
    mount $1 /mnt
    btrfs replace start -B -f $SPARE $2 /mnt
    echo after >/mnt/after
    umount /mnt
    look replaced $1 $2
}
replacing() { # FIRST SOURCE TARGET: as a power cut leaves them; the other two and SPARE are worked on
    mkfs -L replacing -d raid1 -m raid1 $4 $5
    mount -o commit=9999 $4 /mnt; fill /mnt
    for device in /sys/fs/btrfs/*/devinfo/*; do echo 65536 >$device/scrub_speed_max; done
    btrfs replace start -f $5 $SPARE /mnt
    echo meanwhile >/mnt/meanwhile
    sync
    copy $4 $1; copy $5 $2; copy $SPARE $3
    btrfs replace cancel /mnt
    until umount /mnt 2>/dev/null; do sleep 0.2; done # the process that replaces holds it
    btrfs inspect-internal dump-super $3 | awk '$1 == "dev_item.devid" { print $2 }' >/out/replacing.devid
    look replacing $1 $2 $3
}
removed() { # FIRST SECOND COPY: of a third device that was removed
    mkfs -L removed -d raid1 -m raid1 $1 $2 $SPARE
    mount $1 /mnt; fill /mnt; umount /mnt
    copy $SPARE $3
    btrfs device scan --forget; for device in $1 $2 $SPARE; do btrfs device scan $device >/dev/null; done
    mount $1 /mnt
    btrfs device remove $SPARE /mnt
    echo after >/mnt/after
    umount /mnt
    look removed $1 $2
}
parts() { # WHOLE GPT MBR
    printf 'label: gpt\nstart=2048, size=20480\nstart=40960, size=350000\n' | sfdisk -q $2
    printf 'label: dos\nstart=75776, size=300000, type=83\n' | sfdisk -q $3
    sleep 1
    mkfs -L parts -d raid5 -m raid1c3 $1 ${2}2 ${3}1
    btrfs device scan $1 ${2}2 ${3}1 >/dev/null
    mount $1 /mnt; fill /mnt; umount /mnt
    look parts $1 ${2}2 ${3}1
}
convert() { # THREE DISKS
    mkfs -L convert -d single -m raid1 $1 $2 $3
    mount $1 /mnt
    for i in $(seq 6); do
        mkdir /mnt/part$i; fill /mnt/part$i
        fallocate -l 40000000 /mnt/space$i
    done
    sync
    rm /mnt/space*
    sync
    btrfs -q balance start -dconvert=raid5,limit=1 /mnt
    btrfs -q balance start -dconvert=raid1,soft,limit=1,profiles=single /mnt
    umount /mnt
    look convert $1 $2 $3
}
backup() { # DISK: both copies of the newest tree root are gone
    mkfs -L backup -d single -m dup $1
    mount $1 /mnt; fill /mnt
    echo lost >/mnt/lost; rm /mnt/link
    umount /mnt
    root=$(btrfs inspect-internal dump-super $1 | awk '$1 == "root" { print $2 }')
    btrfs-map-logical -l $root $1 | awk '$1 == "mirror" { print $6 }' | sort -u >/out/backup.places
    while read -r place; do
        dd if=/dev/zero of=$1 bs=4096 seek=$((place / 4096)) count=4 conv=notrunc oflag=direct status=none
    done </out/backup.places
    blockdev --flushbufs $1
    mount -o ro,rescue=usebackuproot $1 /mnt; manifest /mnt backup; umount /mnt
}
set -- $DISKS
SPARE=$1
shift
run() { # NAME COUNT DISKS
    local name=$1 count=$2
    shift 2
    echo "story $name"
    btrfs device scan --forget
    $name "${@:1:count}"
    dd if=/dev/zero of=$SPARE bs=1M count=66 status=none
}
"""


@cache
def stories() -> dict[str, Set]:
    """STORIES.  Raises workshop.RecipeError."""
    lines = "".join(f'run {name} {len(roles)} "$@"; shift {len(roles)}\n' for name, roles in STORIES.items())
    count = sum(map(len, STORIES.values()))
    recipe = Recipe("btrfs-devices", _LIBRARY + _SCRIPT + lines, (256 * MIB,) * (count + 1), packages=PACKAGES)
    recipe = recipe._replace(timeout=1200)
    made = workshop.make(recipe)
    disks = iter(made.disks[1:])
    return {
        name: Set({role: next(disks) for role in roles}, manifest.read(made.out, name), made.out)
        for name, roles in STORIES.items()
    }


_FORMATS = r"""
# Few processes: to start one takes longer in an emulated guest than what most of these do.
fill() (
    cd "$1"
    mkdir -p dir/below
    head -c 700000 /dev/urandom | split -b 21001 -a 2 - dir/file
    head -c 1500000 /dev/urandom >large
    seq 1 40000 >dir/below/text
    ln -s dir/below/text link
)
make() { # NAME DISK MKFS MOUNT
    echo "format $1: at $SECONDS s"
    mkfs -L $1 $3 $2
    mount -o noatime,$4 $2 /mnt
    fill /mnt
    # The middle of compressed extents, shared.
    seq 1 150000 >/mnt/packed
    sync
    cp --reflink=always /mnt/packed /mnt/clone
    : >/mnt/window
    xfs_io -c "reflink /mnt/packed 69632 0 200704" -c "reflink /mnt/packed 409600 299008 4096" /mnt/window
    fallocate -p -o 65536 -l 12288 /mnt/clone
    setfattr -n user.bytes -v 0x00ff8041 /mnt/packed
    touch -d '2038-01-19 03:14:08.000000001 UTC' /mnt/link -h
}
seal() { # NAME DISK
    sync
    umount /mnt
    look $1 $2
    btrfs inspect-internal dump-super $2 >/out/$1.super
}
set -- $DISKS
make block-group-tree $1 "-O block-group-tree -d single -m dup" compress-force=zstd
(mkdir /mnt/dir/wide && cd /mnt/dir/wide && seq 1 10000 | xargs touch)
seal block-group-tree $1
make simple-quota $2 "-O squota -d single -m single" compress-force=zlib
seal simple-quota $2
make quota $3 "-d single -m single -n 8192" compress-force=lzo
btrfs quota enable /mnt
btrfs -q subvolume create /mnt/sub
echo limited >/mnt/sub/file
btrfs qgroup limit 10M /mnt/sub
# Beyond what one INODE_REF item can hold: extended references.
printf -v long '%0195d' 0
for ((i = 0; i < 50; i++)); do ln /mnt/large /mnt/dir/below/$long$i; done
seal quota $3
make verity $4 "-d single -m single --csum blake2" compress-force=zstd
fsverity enable /mnt/dir/below/text
fsverity enable /mnt/large
seal verity $4
# Sector sizes that this kernel cannot mount: made from the tree of the quota image.
echo "sector sizes: at $SECONDS s"
mount -o ro $3 /mnt
mkdir /source
(cd /mnt && tar -cf - --exclude=./sub .) | tar -C /source -xf -
umount /mnt
for size in 16 64; do
    disk=$(test $size = 16 && echo $5 || echo $6)
    mkfs.btrfs -q -f -L sector$size -s ${size}k -n ${size}k -d single -m dup --rootdir /source $disk
    btrfs inspect-internal dump-super $disk >/out/sector$size.super
done
manifest /source sectors
mkfs.btrfs -q -f -O zoned -d single -m single $7 >/out/zoned.log 2>&1 || echo failed >>/out/zoned.log
echo "all formats: at $SECONDS s"
"""
FORMATS = ("block-group-tree", "simple-quota", "quota", "verity", "sector16", "sector64", "zoned")


@cache
def formats() -> dict[str, Set]:
    """FORMATS, by btrfs-progs 6.14 and kernel 6.12.  Raises workshop.RecipeError."""
    recipe = Recipe(
        "btrfs-formats",
        _LIBRARY + _FORMATS,
        (*(256 * MIB,) * 6, 2048 * MIB),
        suite="trixie",
        packages=("btrfs-progs", "attr", "fsverity", "xfsprogs"),
        timeout=1200,
    )
    made = workshop.make(recipe)
    found = {}
    for name, disk in zip(FORMATS, made.disks, strict=True):
        view = "sectors" if name.startswith("sector") else name
        records = {} if name == "zoned" else manifest.read(made.out, view)
        found[name] = Set({"disk": disk}, records, made.out)
    return found
