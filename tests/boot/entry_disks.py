"""Disks for the boots of test_entries.py: small systems whose initrd tells how it was started, and can report it good.

The kernel on them is the slim one; the initrd holds busybox and the script of contrib/systemd as it is shipped.
"""

from __future__ import annotations

from pathlib import Path

from artefacts import cache, cpio, debian, elf, kernel_build
from loader import esp
from qemu import guest, layouts, workshop
from qemu.workshop import MIB, Made, Recipe

SCRIPT = Path(__file__).parents[2] / "contrib" / "systemd" / "poolboot-good"
COUNTED, SUBVOLUME, PARTITION, OPENSUSE = range(4)  # places in Made.disks
# What timeshift itself wrote: tests/unit/data/timeshift/make
TIMESHIFT = "2026-11-23_07-13-53"
INFO = Path(__file__).parents[1] / "unit" / "data" / "timeshift" / TIMESHIFT / "info.json"
# What openSUSE's GRUB wrote: its README says how
GRUB = Path(__file__).parents[1] / "unit" / "data" / "entries" / "opensuse-15.6-btrfs" / "tree" / "boot" / "grub2"
OPENSUSE_UUID = "5f0e1b7c-8f5a-4d0b-9a53-0c6f1de2a001"  # in that file

_INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin 2>/dev/null
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
read -r line </proc/cmdline
echo
echo "{layouts.MARKER}"
echo "booted with: $line"
case " $line " in *" report-good "*)
    mount -t efivarfs efivarfs /sys/firmware/efi/efivars 2>/dev/null
    sh /poolboot-good /dev/vdb1
    echo "reported good: $?"
esac
poweroff -f
"""

_SYSTEMS = (
    r"""
files() (
    cd "$1"
    for version in $2; do
        cp /in/vmlinuz vmlinuz-$version
        cp /in/initrd initrd.img-$version
    done
)
system() (
    cd "$1"
    mkdir -p boot etc/systemd/system/multi-user.target.wants sbin usr lib/modules/6.1.0-1-test lib/modules/6.1.0-2-test
    printf 'PRETTY_NAME="Layout %s"\nID=layout\n' $2 >etc/os-release
    printf '#!/bin/sh\n' >sbin/init
    chmod 755 sbin/init
)
mkfs.btrfs -q -f -L counted ${DISK[0]}
mount ${DISK[0]} /mnt
btrfs -q subvolume create /mnt/@
system /mnt/@ counted
files /mnt/@/boot 6.1.0-1-test
btrfs -q subvolume create /mnt/@/.snapshots
mkdir /mnt/@/.snapshots/7
btrfs -q subvolume snapshot -r /mnt/@ /mnt/@/.snapshots/7/snapshot
cat >/mnt/@/.snapshots/7/info.xml <<'END'
"""
    + layouts.snapper_info(7, "2024-05-01 12:30:00", "before the upgrade")
    + rf"""END
mkdir -p /mnt/timeshift-btrfs/snapshots/{TIMESHIFT}
btrfs -q subvolume snapshot /mnt/@ /mnt/timeshift-btrfs/snapshots/{TIMESHIFT}/@
cat >/mnt/timeshift-btrfs/snapshots/{TIMESHIFT}/info.json <<'END'
"""
    + INFO.read_text()
    + r"""
END
files /mnt/@/boot 6.1.0-2-test
ln -s ../poolboot-good.service /mnt/@/etc/systemd/system/multi-user.target.wants/poolboot-good.service
umount /mnt

mkfs.btrfs -q -f -L subvolume ${DISK[1]}
mount ${DISK[1]} /mnt
uuid=$(blkid -s UUID -o value ${DISK[1]} || btrfs filesystem show /mnt | sed -n 's/.*uuid: //p')
btrfs -q subvolume create /mnt/@
btrfs -q subvolume create /mnt/@boot
system /mnt/@ subvolume
printf 'UUID=%s / btrfs subvol=@ 0 0\nUUID=%s /boot btrfs noatime,subvol=@boot 0 0\n' $uuid $uuid >/mnt/@/etc/fstab
files /mnt/@boot 6.1.0-1-test
mkdir /mnt/@boot/grub
cat >/mnt/@boot/grub/grub.cfg <<END
set root='hd0'
search --no-floppy --fs-uuid --set=root $uuid
menuentry 'Stated in the other subvolume' {
    linux /@boot/vmlinuz-6.1.0-1-test root=UUID=$uuid ro rootflags=subvol=@ stated
    initrd /@boot/initrd.img-6.1.0-1-test
}
END
umount /mnt

mkfs.btrfs -q -f -L partition ${DISK[2]}
mount ${DISK[2]} /mnt
system /mnt partition
echo 'PARTLABEL=poolboot /boot vfat umask=0077 0 2' >/mnt/etc/fstab
umount /mnt

mkfs.btrfs -q -f -U "{uuid}" ${DISK[3]}
mount ${DISK[3]} /mnt
btrfs -q subvolume create /mnt/@
btrfs -q subvolume create /mnt/@/.snapshots
mkdir /mnt/@/.snapshots/1
btrfs -q subvolume create /mnt/@/.snapshots/1/snapshot
btrfs subvolume set-default "$(btrfs inspect-internal rootid /mnt/@/.snapshots/1/snapshot)" /mnt
system /mnt/@/.snapshots/1/snapshot opensuse
mkdir /mnt/@/.snapshots/1/snapshot/boot/grub2
cp /in/grub.cfg /mnt/@/.snapshots/1/snapshot/boot/grub2/
for version in 6.4.0-150600.21-default 6.4.0-150600.23.53-default; do
    cp /in/vmlinuz /mnt/@/.snapshots/1/snapshot/boot/vmlinuz-$version
    cp /in/initrd /mnt/@/.snapshots/1/snapshot/boot/initrd-$version
    mkdir /mnt/@/.snapshots/1/snapshot/lib/modules/$version
done
umount /mnt
""".replace("{uuid}", OPENSUSE_UUID)
)


def initrd(suite: str = "bookworm") -> Path:
    """An initrd that prints layouts.MARKER and its command line, reports a good boot when asked to, and powers off."""
    busybox = debian.packages(suite, ["busybox-static"])
    ext = debian.packages(suite, ["e2fsprogs"])
    script = SCRIPT.read_bytes()

    def make(work: Path) -> None:
        archive = guest.root()
        archive.file("usr/bin/busybox", (busybox / "bin/busybox").read_bytes(), 0o755)
        chattr = ext / "usr/bin/chattr"
        archive.file("usr/bin/chattr", chattr.read_bytes(), 0o755)
        for place, library in elf.closure(chattr, ext).items():
            archive.file(guest.usr(place), library.read_bytes(), 0o755)
        archive.file("poolboot-good", script, 0o755)
        archive.file("init", _INIT.encode(), 0o755)
        (work / "initrd").write_bytes(cpio.compress(archive.pack()))

    key = cache.key(_INIT, script.decode(), busybox.parent.name, ext.parent.name)
    return cache.entry("roots", f"reporting-{suite}-{key}", make) / "initrd"


def make(suite: str = "bookworm") -> Made:
    """The disks, made by the kernel's own driver.  Raises workshop.RecipeError or artefacts.steps.BuildError."""
    inputs = (kernel_build.build().image, initrd(suite), GRUB / "grub.cfg")
    return workshop.make(Recipe(f"entries-{suite}", _SYSTEMS, disks=(192 * MIB,) * 4, suite=suite, inputs=inputs))


def partition(target: Path, log: Path, kernels: bool = False) -> Path:
    """A disk with an EFI system partition that is ours, empty or with the kernel and initrd of PARTITION."""
    inside: dict[str, Path] = {}
    if kernels:
        inside = {"vmlinuz-6.1.0-1-test": kernel_build.build().image, "initrd.img-6.1.0-1-test": initrd()}
    esp.disk(inside, target, log, 40 * MIB)
    return target
