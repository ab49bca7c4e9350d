"""The btrfs filesystems that the tests read: made in a guest by mkfs.btrfs and the kernel's own driver.

Each filesystem is one line of a table; all get the same tree, with everything in it that a file can be.  The
manifests are the kernel's view of them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from qemu import manifest, workshop
from qemu.workshop import MIB, Recipe


class Layout(NamedTuple):
    """One filesystem: ``tolerated`` is how many of its ``disks`` may be missing whatever they are."""

    name: str
    disks: int
    mkfs: str
    mount: str = "noatime"
    tolerated: int = 0


class Made(NamedTuple):
    """A filesystem that was made: disk images, the tree the kernel saw in it, and where its other files are."""

    layout: Layout
    disks: list[Path]
    records: dict[str, manifest.Record]
    out: Path


PROFILES = (
    Layout("raid0", 2, "-d raid0 -m raid1 --csum sha256", "noatime,compress-force=lzo"),
    Layout("raid1", 3, "-d raid1 -m raid1", "noatime,compress-force=zstd", 1),
    Layout("raid1c3", 3, "-d raid1c3 -m raid1c3 --csum blake2", "noatime", 2),
    Layout("raid1c4", 4, "-d raid1c4 -m raid1c4", "noatime,compress-force=zstd:9", 3),
    Layout("raid10", 4, "-d raid10 -m raid10 -n 4096", "noatime,compress-force=zlib", 1),
    Layout("raid5", 3, "-d raid5 -m raid5", "noatime", 1),
    Layout("raid6", 4, "-d raid6 -m raid1c3 -n 65536", "noatime,compress-force=lzo", 2),
)

SINGLES = (
    Layout("single", 1, "-d single -m single -O ^no-holes", "noatime,compress-force=zlib"),
    Layout("dup", 1, "-d dup -m dup --csum xxhash", "noatime"),
    Layout("mixed", 2, "-M -d raid1 -m raid1", "noatime,compress=zstd", 1),
    Layout("metadata-uuid", 2, "-d raid1 -m raid1", "noatime", 1),
)
# Its second disk missed the last writes.  Not among the others: the kernel's view of it is that of one disk.
STALE = Layout("stale", 2, "-d raid1 -m raid1", "noatime")

PACKAGES = ("btrfs-progs", "attr", "e2fsprogs", "socat")

# Disk space is 256 MiB a disk, sparse; what is written is about 6 MiB a filesystem.
_TREE = r"""
text() { seq 1 $(($1 / 3)) >"$2"; truncate -s $1 "$2"; }
populate() (
    cd "$1"
    btrfs -q subvolume create @
    btrfs -q subvolume create @home
    btrfs -q subvolume create @/var
    mkdir -p @/boot @/etc @/many @/var/lib/deep
    head -c 1300123 /dev/urandom >@/boot/vmlinuz-6.1.0
    seq -w 1 200000 >@/boot/initrd.img-6.1.0
    echo hello >@/etc/tiny
    text 1800 @/etc/inline
    : >@/etc/empty
    head -c 4095 /dev/urandom >@/etc/4095
    text 4097 @/etc/4097
    ln -s boot/vmlinuz-6.1.0 @/vmlinuz
    ln -s /etc/tiny @/absolute
    ln -s "$(printf 'x%.0s' $(seq 3900))" @/long-link
    ln @/etc/tiny @/etc/hard
    mkfifo -m 620 @/fifo
    mknod -m 666 @/null c 1 3
    mknod -m 660 @/disk b 259 1048575
    socat UNIX-LISTEN:./@/socket,unlink-close=0 - </dev/null &
    while ! test -S @/socket; do sleep 0.1; done
    kill $!
    echo bytes >$'@/\xff\xfe not UTF-8 \x80'
    echo long >"@/$(printf 'n%.0s' $(seq 255))"
    echo unicode >'@/ünïcödé 名'
    # Pairs with the same hash: two names in one item of the directory.
    for name in mkkxzhbqh dhizg3fy0 3yp89w8wv 7yv1tpzf7 jx307n86y 2z37ebx6q; do echo $name >@/etc/$name; done
    for ((i = 1; i <= 150; i++)); do printf "%$((i * 31))d" $i >@/many/file$i; done
    head -c 200000 /dev/urandom | split -b 3333 -a 3 - @/many/random
    printf start >@/sparse
    dd if=/dev/urandom of=@/sparse bs=1000 count=10 seek=500 conv=notrunc status=none
    printf x | dd of=@/sparse bs=1 seek=2000000 conv=notrunc status=none
    truncate -s 3000003 @/sparse
    fallocate -l 1000000 @/preallocated
    dd if=/dev/urandom of=@/preallocated bs=1000 count=70 seek=300 conv=notrunc status=none
    fallocate -n -o 1000000 -l 100000 @/preallocated
    # Overwritten in the middle, so that extents with an offset into a larger one are left; then shared.
    text 1000000 @/mixed
    sync
    seq 5 9999 | dd of=@/mixed bs=200123 seek=1 conv=notrunc status=none
    fallocate -p -o 500000 -l 90000 @/mixed
    sync
    cp --reflink=always @/mixed @/reflinked
    : >@/nodatacow
    chattr +C @/nodatacow
    head -c 300000 /dev/urandom >>@/nodatacow
    chown 1000:1001 @/etc/tiny
    chmod 4751 @/etc/tiny
    chmod 1777 @/many
    setfattr -n user.test -v 0x00ff41 @/etc/tiny
    setfattr -n user.directory -v d @/etc
    touch -d '1969-12-31 23:59:58.25 UTC' @/etc/empty
    touch -d '2100-02-03 04:05:06.123456789 UTC' @/etc/4095
    echo "in a nested subvolume" >@/var/nested
    seq 1 30000 >@/var/lib/deep/file
    echo home >@home/user
    sync
    btrfs -q subvolume snapshot -r @ @home/snapshot
    echo after >@/after-the-snapshot
    rm @/many/file7
    mv @/many/file9 @/etc/renamed
    truncate -s 777777 @/mixed
    sync
)
make() { # NAME "DISKS" "MKFS OPTIONS" "MOUNT OPTIONS"
    echo "making $1"
    mkfs.btrfs -q -f -L $1 $3 $2
    btrfs device scan $2 >/dev/null
    set -- "$1" "$2" "$3" "$4" ${2%% *}
    mount -o $4 $5 /mnt
    populate /mnt
    umount /mnt
}
look() { # NAME "DISKS"
    btrfs device scan $2 >/dev/null
    mount -o ro,subvolid=5 ${2%% *} /mnt
    manifest /mnt $1
    btrfs subvolume list -puqR /mnt >/out/$1.subvolumes
    umount /mnt
}
"""


def _recipe(name: str, layouts: tuple[Layout, ...], more: str = "") -> Recipe:
    """A recipe that makes all ``layouts`` on disks of their own; ``more`` runs before the kernel looks at them.

    STALE is looked at by ``more`` itself.
    """
    lines, looks, first = [], [], 0
    for item in layouts:
        disks = " ".join(f"/dev/vd{chr(ord('a') + first + number)}" for number in range(item.disks))
        lines.append(f'make {item.name} "{disks}" "{item.mkfs}" {item.mount}')
        lines.append(f'{item.name.replace("-", "_")}="{disks}"')
        if item != STALE:
            looks.append(f'look {item.name} "{disks}"')
        first += item.disks
    script = "\n".join([_TREE, *lines, more, *looks, ""])
    return Recipe(name, script, disks=(256 * MIB,) * first, packages=PACKAGES, timeout=900)


_SINGLES_MORE = r"""
btrfstune -m ${metadata_uuid%% *}
mount $dup /mnt
btrfs -q subvolume set-default $(btrfs inspect-internal rootid /mnt/@) /mnt
umount /mnt
"""

_STALE_MORE = r"""
set -- $stale
mount $1 /mnt
echo first >/mnt/changed
umount /mnt
btrfs device scan --forget
mount -o degraded $1 /mnt
echo second >/mnt/changed
dd if=/dev/urandom of=/mnt/@/nodatacow bs=1000 count=100 seek=50 conv=notrunc status=none
rm /mnt/@/many/file1*
dd if=/dev/urandom of=/mnt/@/boot/new bs=1000 count=500 status=none
sync
manifest /mnt stale
umount /mnt
btrfs device scan --forget
"""


@cache
def profiles() -> dict[str, Made]:
    """PROFILES by name.  Raises workshop.RecipeError."""
    return _make(_recipe("btrfs-profiles", PROFILES), PROFILES)


@cache
def singles() -> dict[str, Made]:
    """SINGLES and STALE by name.  Raises workshop.RecipeError."""
    layouts = (*SINGLES, STALE)
    return _make(_recipe("btrfs-singles", layouts, _SINGLES_MORE + _STALE_MORE), layouts)


def _make(recipe: Recipe, layouts: tuple[Layout, ...]) -> dict[str, Made]:
    made = workshop.make(recipe)
    disks = list(made.disks)
    found = {}
    for item in layouts:
        found[item.name] = Made(item, disks[: item.disks], manifest.read(made.out, item.name), made.out)
        del disks[: item.disks]
    return found
