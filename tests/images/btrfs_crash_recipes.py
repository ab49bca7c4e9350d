"""btrfs as a power cut leaves it: disks copied under a mounted filesystem right after fsync, its log not yet replayed.

Of each copy there are two views of the kernel: after it replayed the log (on a copy of the copy), and without.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from qemu import manifest, workshop
from qemu.workshop import MIB, Recipe

PACKAGES = ("btrfs-progs", "attr", "e2fsprogs")


class Crash(NamedTuple):
    """A disk with a log: ``replayed`` and ``committed`` are the kernel's views with the log and without it.

    ``links`` (link count by path) and ``xattrs`` (by path, then name) are of the replayed tree.
    """

    disk: Path
    replayed: dict[str, manifest.Record]
    committed: dict[str, manifest.Record]
    links: dict[str, int]
    xattrs: dict[str, dict[str, bytes]]


# Each changes a tree that was committed before; "sync FILE" is fsync(FILE).
FIXED = ("contents", "names", "moves", "removed", "many", "holes")
RANDOM = tuple(f"random{number}" for number in range(1, 5))
NAMES = (*FIXED, *RANDOM)

_SCRIPT = r"""
noise() { head -c $1 /dev/urandom; }
base() (
    cd "$1"
    btrfs -q subvolume create sub
    mkdir -p d1/d2/d3 d4 links big moving/inside
    for name in append shrink grow punch middle inline over1 over2 attr swap1 swap2 gone chmod; do
        noise 300000 >d1/$name
    done
    seq 1 100000 >d1/text
    echo small >d1/tiny
    for name in a b c d e f; do echo $name >d4/$name; echo $name >moving/$name; done
    echo linked >links/first
    ln links/first links/second
    ln links/first d4/third
    for i in $(seq 400); do echo $i >big/file$i; done
    setfattr -n user.one -v 1 d1/attr
    setfattr -n user.two -v 2 d1/attr
    setfattr -n user.three -v 3 d1
    echo deep >d1/d2/d3/deep
    : >d1/nocow; chattr +C d1/nocow; noise 200000 >>d1/nocow
    echo sub >sub/file
    sync
)
contents() {
    noise 100001 >d1/new; sync d1/new
    noise 50000 >>d1/append; sync d1/append
    truncate -s 100100 d1/shrink; sync d1/shrink
    truncate -s 900000 d1/grow; sync d1/grow
    fallocate -p -o 100000 -l 50000 d1/punch; sync d1/punch
    dd if=/dev/urandom of=d1/middle bs=1000 seek=77 count=9 conv=notrunc status=none; sync d1/middle
    echo inline >d1/inline; sync d1/inline
    setfattr -x user.one d1/attr; setfattr -n user.two -v changed d1/attr
    setfattr -n user.new -v $(printf 'v%.0s' $(seq 700)) d1/attr; sync d1/attr
    chmod 4711 d1/chmod; chown 12:34 d1/chmod; touch -d '2001-02-03 04:05:06.789012345' d1/chmod; sync d1/chmod
    fallocate -n -o 400000 -l 400000 d1/text; echo more >>d1/text; sync d1/text
    dd if=/dev/urandom of=d1/nocow bs=1000 seek=7 count=90 conv=notrunc status=none; sync d1/nocow
    mkdir -p n1/n2/n3; ln -s ../d1 n1/link; mkfifo n1/fifo; mknod n1/null c 1 3; echo x >n1/n2/n3/file
    sync n1/n2/n3/file; sync n1
    cp --reflink=always d1/grow d4/clone; sync d4/clone
    noise 70000 >sub/new; sync sub/new
    echo never >d4/unsynced
}
names() {
    mv d1/over1 d1/over2; sync d1/over2
    rm d4/a; sync d4
    rm d4/b; mkdir d4/b; echo in >d4/b/in; sync d4/b/in; sync d4
    mv d4/c d1/c; sync d1/c
    ln d1/gone d4/kept; sync d1/gone
    rm links/second; sync links/first
}
moves() {
    mv d1/swap1 d1/swap; mv d1/swap2 d1/swap1; mv d1/swap d1/swap2; sync d1/swap1; sync d1/swap2
    rm moving/a moving/inside -r; echo again >moving/a; sync moving/a; sync moving
    mv d1/tiny links/tiny; echo new >d1/tiny; sync d1/tiny
    ln d4/d d4/d-link; ln d4/d links/d-link; sync d4/d
    mv sub/file sub/other; sync sub/other
}
removed() {
    rm -r d1/d2/d3; sync d1/d2
    rm d1/gone; mkdir d1/gone; mv d4/f d1/gone/f; sync d1/gone; sync d1
    rm -r moving; sync .
}
many() {
    LONG=$(printf 'x%.0s' $(seq 200))
    rm big/file1?? big/file3*; sync big
    for i in $(seq 1500); do echo $i >big/new$i; done; sync big
    for i in $(seq 90); do ln d4/e links/$LONG$i; done; sync d4/e
    rm links/${LONG}1?; sync d4/e
    for i in $(seq 40); do noise 5000 >>d1/append; test $((i % 9)) != 0 || sync d1/append; done
    for i in $(seq 20); do
        dd if=/dev/urandom of=d1/middle bs=4096 seek=$((i * 7)) count=2 conv=notrunc status=none
        sync d1/middle
    done
    for i in $(seq 40); do setfattr -n user.many$i -v $i d1/attr; done; sync d1/attr
}
holes() {
    truncate -s 0 d1/shrink; truncate -s 700000 d1/shrink; sync d1/shrink
    truncate -s 5000 d1/text; sync d1/text
    dd if=/dev/urandom of=d1/far bs=1000 seek=3000 count=10 status=none; sync d1/far
    fallocate -l 200000 d1/reserved; dd if=/dev/urandom of=d1/reserved bs=4096 seek=3 count=4 conv=notrunc status=none
    sync d1/reserved
    fallocate -c -o 8192 -l 65536 d1/middle 2>/dev/null || fallocate -p -o 8192 -l 65536 d1/middle; sync d1/middle
    fallocate -z -o 4096 -l 100000 d1/grow; sync d1/grow
    truncate -s 20000 d1/append; truncate -s 40000 d1/append; noise 10000 >>d1/append; sync d1/append
    cp --reflink=always d1/punch d1/copy; fallocate -p -o 0 -l 131072 d1/copy; sync d1/copy
}
random() {
    RANDOM=$1
    local dirs=(d1 d4 links moving big sub) i a b
    pick() { PICKED=${dirs[RANDOM % 6]}/r$((RANDOM % 9)); }
    for i in $(seq 90); do
        pick; a=$PICKED; pick; b=$PICKED
        case $((RANDOM % 14)) in
            0|1) noise $((RANDOM * 6)) >$a;;
            2) noise $((RANDOM * 2)) >>$a;;
            3) test ! -e $a || mv -T $a $b;;
            4) rm -f $a;;
            5) test ! -f $a || ln -f $a $b;;
            6) test ! -f $a || truncate -s $((RANDOM * 4)) $a;;
            7) test ! -f $a || fallocate -p -o $((RANDOM * 2)) -l $((RANDOM + 1)) $a;;
            8) test ! -f $a || dd if=/dev/urandom of=$a bs=1000 seek=$((RANDOM % 99)) count=9 conv=notrunc status=none;;
            9) test ! -e $a || setfattr -n user.x$((RANDOM % 3)) -v $RANDOM $a;;
            10) test ! -f $a || setfattr -x user.x$((RANDOM % 3)) $a;;
            11) sync ${a%/*};;
            *) test ! -f $a || sync $a;;
        esac 2>/dev/null || true
    done
}
view() { # NAME
    manifest /mnt $1
    (cd /mnt && find . -printf '%P\0%n\0') >/out/$1.links
    (cd /mnt && find . \( -type f -o -type d \) -exec getfattr -d -m - -e hex {} +) >/out/$1.xattrs
}
crash() { # NAME WORK OPTIONS COPY SCRATCH
    echo "crash $1"
    mount -o commit=9999,noatime,$3 $2 /mnt
    case $1 in random*) (cd /mnt && random ${1#random});; *) (cd /mnt && $1);; esac
    # Some operations end in a commit; the disk is to have a log in any case.
    echo $1 >/mnt/d1/last; sync /mnt/d1/last
    dd if=$2 of=$4 bs=1M iflag=direct conv=sparse,notrunc status=none
    umount /mnt
    btrfs device scan --forget
    dd if=$4 of=$5 bs=1M iflag=direct status=none
    blockdev --flushbufs $4 $5
    test $(btrfs inspect-internal dump-super $4 | awk '$1 == "log_root" { print $2 }') != 0
    mount -o ro,noatime,rescue=nologreplay $4 /mnt; manifest /mnt $1-committed; umount /mnt
    btrfs device scan --forget
    mount -o noatime $5 /mnt; view $1; umount /mnt
    btrfs device scan --forget
}
set -- $DISKS
scratch=$1 plain=$2 packed=$3
shift 3
mkfs.btrfs -q -f -d single -m single $plain
mkfs.btrfs -q -f -d single -m single -O ^no-holes -n 4096 --csum sha256 $packed
for disk in $plain $packed; do mount -o noatime $disk /mnt; base /mnt; umount /mnt; done
for name in $NAMES; do
    case $name in
        many|names|random[12]) crash $name $plain nodiscard $1 $scratch;;
        *) crash $name $packed compress-force=zstd $1 $scratch;;
    esac
    shift
done
"""


def crash(name: str) -> Crash:
    """The crash called ``name``, one of NAMES.  Raises workshop.RecipeError."""
    return _crashes(FIXED if name in FIXED else RANDOM)[name]


@cache
def _crashes(names: tuple[str, ...]) -> dict[str, Crash]:
    script = f'NAMES="{" ".join(names)}"\n{_SCRIPT}'
    label = f"btrfs-crashes-{names[0]}"
    made = workshop.make(Recipe(label, script, (128 * MIB,) * (len(names) + 3), packages=PACKAGES, timeout=1200))
    return {name: _crash(name, disk, made.out) for name, disk in zip(names, made.disks[3:], strict=True)}


def _crash(name: str, disk: Path, out: Path) -> Crash:
    words = (out / f"{name}.links").read_bytes().decode().split("\0")[:-1]
    xattrs: dict[str, dict[str, bytes]] = {}
    path = ""
    for line in (out / f"{name}.xattrs").read_text().splitlines():
        if line.startswith("# file: "):
            path = "/" + line[8:].removeprefix(".").removeprefix("/")
            xattrs[path] = {}
        elif line:
            key, _, value = line.partition("=")
            xattrs[path][key] = bytes.fromhex(value[2:])
    return Crash(
        disk,
        manifest.read(out, name),
        manifest.read(out, f"{name}-committed"),
        {f"/{path}": int(count) for path, count in zip(words[::2], words[1::2], strict=True)},
        xattrs,
    )
