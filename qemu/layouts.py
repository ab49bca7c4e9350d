"""Small systems on every layout that has to boot: Debian's kernel, and an initrd whose init says how it was started.

A whole Debian would prove nothing more about reading its kernel, and takes minutes a layout to unpack under emulation.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
from pathlib import Path

from artefacts import cache, cpio, debian
from qemu import guest, workshop
from qemu import zfs as zfs_workshop
from qemu.workshop import MIB, Made, Recipe

MARKER = "POOLBOOT-TEST-MARKER: the initrd runs"

LARGE = 60_000_000  # bytes

# name -> where its disks stand in Made.disks
BTRFS = {"raid5": (0, 3), "raid6": (3, 7), "raid10": (7, 11), "snapshot": (11, 12), "log": (13, 14)}
ZFS = {"mirror": (0, 2), "raidz1": (2, 5), "raidz2": (5, 9)}


def telling(words: str = "booted with") -> str:
    """An init that prints MARKER and its command line behind ``words`` and a colon, and powers off."""
    return f"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc
/bin/busybox mount -t proc proc /proc
read -r line </proc/cmdline
echo
echo "{MARKER}"
echo "{words}: $line"
/bin/busybox poweroff -f
"""


_INIT = telling()


def initrd(suite: str = "bookworm", architecture: str = "amd64") -> Path:
    """An initrd that prints MARKER and its command line and powers off.  Raises artefacts.steps.BuildError."""
    busybox = debian.packages(suite, ["busybox-static"], architecture=architecture)

    def make(work: Path) -> None:
        archive = guest.root()
        archive.file("usr/bin/busybox", (busybox / "bin/busybox").read_bytes(), 0o755)
        archive.file("init", _INIT.encode(), 0o755)
        (work / "initrd").write_bytes(cpio.compress(archive.pack()))

    return cache.entry("roots", f"tiny-{suite}-{cache.key(_INIT, busybox.parent.name)}", make) / "initrd"


def btrfs(suite: str = "bookworm") -> Made:
    """The layouts of BTRFS, made by the kernel's own driver.  "log" is a copy of a mounted disk: its newest kernel is
    in the log alone.  Raises workshop.RecipeError or artefacts.steps.BuildError."""
    kernel = debian.kernel(suite)
    return workshop.make(
        Recipe(
            f"btrfs-layouts-{suite}",
            _SYSTEM + _BTRFS,
            disks=(320 * MIB,) * 14,
            suite=suite,
            inputs=(kernel.vmlinuz, initrd(suite)),
            timeout=900,
        )
    )


def arm64(suite: str = "bookworm") -> Made:
    """Debian's kernel for arm64 on a btrfs RAID1 of two disks.  Raises as btrfs() does."""
    kernel = debian.kernel(suite, "linux-image-cloud-arm64", "arm64")
    return workshop.make(
        Recipe(
            f"arm64-{suite}",
            _SYSTEM + _ARM64,
            disks=(320 * MIB,) * 2,
            suite=suite,
            inputs=(kernel.vmlinuz, initrd(suite, "arm64")),
        )
    )


def zfs(kernel: Path, suite: str = "bookworm") -> Made:
    """The pools of ZFS, on the partitions that zpool makes of whole disks; the system is POOL/ROOT/debian, the bootfs.

    ``kernel`` is what they boot; /out/manifests has OpenZFS's own view of them.  Compiles OpenZFS when its modules
    are not cached.  Raises workshop.RecipeError or artefacts.steps.BuildError.
    """
    disks = (80 * MIB,) * 9
    return workshop.make(
        zfs_workshop.recipe("layouts", _SYSTEM + _ZFS, disks, suite=suite, inputs=(kernel, initrd(suite)))
    )


def large(suite: str = "bookworm") -> Made:
    """One btrfs disk whose kernel and initrd are LARGE bytes and more.  Raises as btrfs() does."""

    def pad(work: Path) -> None:
        archive = cpio.Archive()
        archive.file("padding", random.Random(60).randbytes(LARGE), 0o644)
        first = initrd(suite).read_bytes()
        (work / "initrd").write_bytes(first + bytes(-len(first) % 4) + archive.pack())

    padded = cache.entry("roots", f"large-{suite}-{cache.key(LARGE, initrd(suite).parent.name)}", pad) / "initrd"
    return workshop.make(
        Recipe(
            f"large-{suite}",
            _SYSTEM + _LARGE,
            disks=(512 * MIB,),
            suite=suite,
            inputs=(debian.kernel(suite).vmlinuz, padded),
        )
    )


_SYSTEM = r"""
kernel=$(echo /in/vmlinuz*)
system() (
    cd "$1"
    mkdir -p boot etc sbin usr/lib
    cp $kernel boot/$2
    cp /in/initrd boot/$3
    printf 'NAME="Layout"\nPRETTY_NAME="Layout %s"\nID=layout\n' $4 >etc/os-release
    printf '#!/bin/sh\n' >sbin/init
    chmod 755 sbin/init
)
"""

_ARM64 = r"""
mkfs.btrfs -q -f -L arm64 -d raid1 -m raid1 $DISKS
mount $DISK /mnt
system /mnt vmlinuz-6.1.0-1-arm64 initrd.img-6.1.0-1-arm64 arm64
umount /mnt
"""

_BTRFS = r"""
plain() {
    local name=$1; shift
    mkfs.btrfs -q -f -L $name -d $name -m $name "$@"
    mount $1 /mnt
    system /mnt vmlinuz-6.1.0-1-test initrd.img-6.1.0-1-test $name
    umount /mnt
}
plain raid5 ${DISK[@]:0:3}
plain raid6 ${DISK[@]:3:4}
plain raid10 ${DISK[@]:7:4}

mkfs.btrfs -q -f -L snapshot ${DISK[11]}
mount ${DISK[11]} /mnt
btrfs -q subvolume create /mnt/@
mkdir /mnt/@/.snapshots
mkdir -p /mnt/@/.snapshots/1
btrfs -q subvolume create /mnt/@/.snapshots/1/snapshot
system /mnt/@/.snapshots/1/snapshot vmlinuz-6.4.0-1-default initrd-6.4.0-1-default snapshot
btrfs subvolume set-default /mnt/@/.snapshots/1/snapshot
umount /mnt

mkfs.btrfs -q -f -L log ${DISK[12]}
mount -o commit=9999,noatime ${DISK[12]} /mnt
system /mnt vmlinuz-6.1.0-1-test initrd.img-6.1.0-1-test log
mv /mnt/boot /root/boot
sync
btrfs filesystem sync /mnt
mkdir /mnt/boot
cp /root/boot/initrd.img-6.1.0-1-test /mnt/boot/initrd.img-6.1.0-2-logged
cp /root/boot/vmlinuz-6.1.0-1-test /mnt/boot/vmlinuz-6.1.0-2-logged
sync /mnt/boot/initrd.img-6.1.0-2-logged
sync /mnt/boot/vmlinuz-6.1.0-2-logged
blockdev --flushbufs ${DISK[12]} ${DISK[13]}
dd if=${DISK[12]} of=${DISK[13]} bs=1M iflag=direct oflag=direct conv=sparse status=none
umount /mnt
btrfs inspect-internal dump-super ${DISK[13]} | grep -E '^log_root[[:space:]]+[1-9]'
"""

_LARGE = r"""
mkfs.btrfs -q -L large $DISK
mount $DISK /mnt
system /mnt vmlinuz-6.1.0-1-test initrd.img-6.1.0-1-test large
umount /mnt
"""

_ZFS = r"""
zpart
for name in mirror raidz1 raidz2; do
    case $name in
        mirror) set -- ${DISK[@]:0:2};;
        raidz1) set -- ${DISK[@]:2:3};;
        raidz2) set -- ${DISK[@]:5:4};;
    esac
    zpool create -f -o cachefile=none -o ashift=12 -O mountpoint=none -O compression=lz4 tank-$name $name "$@"
    zfs create -o mountpoint=none tank-$name/ROOT
    zfs create -o mountpoint=legacy tank-$name/ROOT/debian
    zpool set bootfs=tank-$name/ROOT/debian tank-$name
    mount -t zfs tank-$name/ROOT/debian /mnt
    system /mnt vmlinuz-6.1.0-1-test initrd.img-6.1.0-1-test $name
    zmanifest tank-$name/ROOT/debian /mnt
    umount /mnt
    zpool export tank-$name
done
"""


# Roots of the disk that menu() makes, beside the default one "@": a kernel without an init, 50 MiB to load, and kernels
# for arm64 in the wrappings of WRAPPINGS, as /boot/Image.NAME.
NO_INIT, PAYLOAD, WRAPPED = "noinit", "payload", "wrapped"
PAYLOAD_BYTES = 50 << 20


def snapper_info(number: int, date: str, description: str) -> str:
    """The info.xml that snapper keeps beside a snapshot.  It is part of recipes: another text makes new disks."""
    return f"""\
<?xml version="1.0"?>
<snapshot>
  <type>single</type>
  <num>{number}</num>
  <date>{date}</date>
  <description>{description}</description>
</snapshot>
"""


_MENU = (
    r"""
mkfs.btrfs -q -f -L menu ${DISK[0]}
mount ${DISK[0]} /mnt
for name in @ noinit payload wrapped; do
    btrfs -q subvolume create /mnt/$name
    system /mnt/$name vmlinuz-6.1.0-1-test initrd.img-6.1.0-1-test $name
done
rm /mnt/noinit/sbin/init
cp /in/wrapped/* /mnt/wrapped/boot
cp /in/initrd.large /mnt/payload/boot/initrd.img-6.1.0-1-test

cd /mnt/@/boot
cp --reflink=always vmlinuz-6.1.0-1-test vmlinuz-6.1.0-2-large
truncate -s 600M initrd.img-6.1.0-2-large
cp --reflink=always vmlinuz-6.1.0-1-test vmlinuz-broken
mkdir loader
mkdir loader/entries
cat >loader/entries/broken.conf <<'END'
title Broken
version 5.0
linux /boot/vmlinuz-broken
initrd /boot/gone
options ro
END
cd /

mkdir /mnt/@/.snapshots
mkdir /mnt/@/.snapshots/1
btrfs -q subvolume snapshot -r /mnt/@ /mnt/@/.snapshots/1/snapshot
cat >/mnt/@/.snapshots/1/info.xml <<'END'
"""
    + snapper_info(1, "2026-01-02 03:04:05", "before it broke")
    + r"""END
btrfs subvolume set-default /mnt/@
umount /mnt
"""
)


def menu(suite: str = "bookworm") -> Made:
    """One disk with what a menu has to show: several kernels (one with an initrd that fits into few machines), an
    entry whose initrd is missing, a snapshot by snapper, and the roots NO_INIT and PAYLOAD.

    Raises workshop.RecipeError or artefacts.steps.BuildError.
    """
    kernel = debian.kernel(suite)
    inputs = (kernel.vmlinuz, initrd(suite), _large_initrd(kernel.vmlinuz.stat().st_size, suite), _wrapped())
    return workshop.make(
        Recipe(f"menu-{suite}", _SYSTEM + _MENU, disks=(512 * MIB,), suite=suite, inputs=inputs, timeout=900)
    )


WRAPPINGS = {
    "gzip": ("gzip", "-n9c"), "zstd": ("zstd", "-19c"), "lz4": ("lz4", "-l9c"), "xz": ("xz", "--check=crc32", "-c"),
    "lzma": ("xz", "--format=lzma", "-c"), "bzip2": ("bzip2", "-9c"),
}  # fmt: skip


def _wrapped() -> Path:
    """A directory of what tells an arm64 kernel (Documentation/arch/arm64/booting.rst: the magic at 0x38) and noise, in
    every wrapping."""
    image = b"MZ" + bytes(0x36) + b"ARM\x64" + bytes(64) + random.Random(1).randbytes(70_000) + bytes(2_000_000)

    def make(work: Path) -> None:
        (work / "wrapped").mkdir()
        for name, command in WRAPPINGS.items():
            done = subprocess.run(command, input=image, stdout=subprocess.PIPE, check=True)
            (work / "wrapped" / f"Image.{name}").write_bytes(done.stdout)

    return cache.entry("roots", f"wrapped-{cache.key(hashlib.sha256(image).hexdigest(), WRAPPINGS)}", make) / "wrapped"


def _large_initrd(kernel: int, suite: str) -> Path:
    """The initrd of initrd(), and behind it as much noise as makes PAYLOAD_BYTES with a kernel of that size."""
    small = initrd(suite).read_bytes()

    def make(work: Path) -> None:
        archive = cpio.Archive()
        archive.file("noise", random.Random(1).randbytes(PAYLOAD_BYTES - kernel - len(small)))
        (work / "initrd.large").write_bytes(small + bytes(-len(small) % 4) + archive.pack())

    return cache.entry("roots", f"payload-{suite}-{cache.key(kernel, len(small))}", make) / "initrd.large"


PROBE_END = "POOLBOOT-TEST-PROBE: done"

_PROBE = f"""#!/bin/busybox sh
export PATH=/bin
busybox mkdir -p /proc /sys /dev
busybox mount -t proc proc /proc
busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
echo
for path in /sys/firmware/acpi/tables/FACP /sys/firmware/acpi/tables/DSDT /sys/firmware/efi/runtime-map \\
    /sys/firmware/efi/systab /dev/watchdog0; do
    test -e $path && echo "probe: has $path"
done
test -d /sys/firmware/efi && echo "probe: has /sys/firmware/efi"
ls /sys/firmware/efi/efivars 2>/dev/null | grep -q . && echo "probe: has EFI variables"
dmesg | grep -E 'crng init done|efi: EFI|ACPI: RSDP' | sed 's/^/probe: dmesg /'
read -r line </proc/cmdline
echo "booted with: $line"
echo "{PROBE_END}"
test -e /stay && sleep 600
poweroff -f
"""


def probe(stay: bool = False) -> bytes:
    """An archive to append to the initrd of initrd(): an init that tells what of the machine the kernel was handed, and
    powers off (with ``stay``: after ten minutes)."""
    archive = cpio.Archive()
    archive.file("init", _PROBE.encode(), 0o755)
    if stay:
        archive.file("stay", b"")
    return archive.pack()
