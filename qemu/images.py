"""The systems that `make run` and the boot tests boot: real distributions on disks that the kernel itself wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from artefacts import cache, network
from artefacts.counters import Apt
from artefacts.steps import run, step
from qemu import workshop
from qemu.machine import Machine
from qemu.workshop import GIB, Made, Recipe

MARKER = "POOLBOOT-TEST-MARKER: userspace reached"

PACKAGES = (
    "systemd-sysv",
    "udev",
    "dbus",
    "linux-image-cloud-amd64",
    "initramfs-tools",
    "btrfs-progs",
    "zstd",
    "login",
)

# Nobody reads them in a guest that lives for two minutes.
_UNWANTED = ("doc", "man", "info", "locale", "i18n", "lintian", "bash-completion", "zoneinfo")

LEAN = (
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _UNWANTED),
    "--dpkgopt=path-include=/usr/share/locale/locale.alias",
    '--aptopt=Acquire::Languages "none"',
)

# What the initrd gets: the disks that QEMU can show, and the file system.  MODULES=most makes it five times as large.
_INITRD_MODULES = ("btrfs", "virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "nvme", "ata_piix")

_MARKER_UNIT = f"""\
[Unit]
Description=Tell the console that the system is up
After=getty.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo; echo "{MARKER}"; read line </proc/cmdline; echo "booted with: $line"'
StandardOutput=tty
TTYPath=/dev/console

[Install]
WantedBy=multi-user.target
"""

# Runs on the host before the kernel package is configured, which makes the initrd; $1 is the root.
_EARLY = f"""\
mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"
echo MODULES=list >"$1/etc/initramfs-tools/conf.d/modules"
printf '%s\\n' {" ".join(_INITRD_MODULES)} >"$1/usr/share/initramfs-tools/modules.d/poolboot"
"""

# Runs on the host when everything is installed; $1 is the root.
LATE = f"""\
sed -i 's/^root:[^:]*:/root::/' "$1/etc/shadow"
echo debian >"$1/etc/hostname"
cat >"$1/etc/systemd/system/poolboot-marker.service" <<'END'
{_MARKER_UNIT}END
units="$1/etc/systemd/system"
mkdir -p "$units/multi-user.target.wants"
ln -s ../poolboot-marker.service "$units/multi-user.target.wants/"
for timer in apt-daily apt-daily-upgrade dpkg-db-backup e2scrub_all fstrim; do
    ln -sf /dev/null "$units/$timer.timer"
done
for service in e2scrub_reap systemd-pcrphase; do
    ln -sf /dev/null "$units/$service.service"
done
mkdir -p "$1/etc/default"
cat >"$1/etc/default/grub" <<'END'
GRUB_DEFAULT=0
GRUB_TIMEOUT=5
GRUB_DISTRIBUTOR=`lsb_release -i -s 2> /dev/null || echo Debian`
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200"
END
touch "$1/etc/.updated" "$1/var/.updated"
"""


class Copy(NamedTuple):
    """A stretch of a file on one disk."""

    disk: int
    """Index into Made.disks."""
    mirror: int
    """btrfs's number of the copy, from 1."""
    offset: int
    """Where the stretch starts on the disk, in bytes."""
    length: int
    """In bytes."""


def debian_root(suite: str = "bookworm") -> Path:
    """A Debian with kernel, initrd, systemd and a login without password on the serial port: a zstd-compressed tar.

    Raises artefacts.steps.BuildError.
    """
    hooks = [f"--essential-hook={_EARLY}", f"--customize-hook={LATE}"]
    return root(f"debian-{suite}", suite, [f"--include={','.join(PACKAGES)}", *LEAN, *hooks])


def root(name: str, suite: str, options: Sequence[str]) -> Path:
    """What mmdebstrap makes of ``suite`` with ``options``, in the cache as ``name``: a zstd-compressed tar.

    Raises artefacts.steps.BuildError.
    """
    command = ["mmdebstrap", "--mode=auto", "--variant=minbase", "--architectures=amd64", *options, suite]
    label = f"{name}-{cache.key(*command)}"
    log = cache.root() / "roots" / f"{label}.log"

    def make(work: Path) -> None:
        # What apt and dpkg do, for the count, and how apt gets to its mirror: not in the key.
        words = [*command[:-1], "--verbose", *network.for_mmdebstrap(), suite, str(work / "root.tar.zst")]
        with step(f"making a root of Debian: {name}", log, Apt()):
            run(words, log=log, hint="apt install mmdebstrap uidmap debian-archive-keyring")

    return cache.entry("roots", label, make) / "root.tar.zst"


def debian_raid1(suite: str = "bookworm") -> Made:
    """Debian on three disks in one btrfs RAID1, in the subvolume @rootfs as Debian's installer does it.

    /out holds ``uuid`` and, for each file in /boot, NAME.copies (see copies_of).  Raises workshop.RecipeError or
    artefacts.steps.BuildError.
    """
    return _on_three_disks("raid1", _RAID1, suite)


def _on_three_disks(name: str, script: str, suite: str, *more: str) -> Made:
    """Debian as ``script`` unpacks it, with the tools of the packages ``more`` besides those of btrfs and ext4."""
    return workshop.make(
        Recipe(
            f"debian-{suite}-{name}",
            script,
            disks=(2 * GIB, 2 * GIB, 2 * GIB),
            suite=suite,
            inputs=(debian_root(suite),),
            packages=("btrfs-progs", "e2fsprogs", *more),
            timeout=900,
        )
    )


_RAID1 = r"""
mkfs.btrfs -q -L debian -d raid1 -m raid1 $DISKS
uuid=$(blkid -s UUID -o value $DISK)
echo $uuid >/out/uuid
mount /dev/vda /mnt
btrfs subvolume create /mnt/@rootfs
umount /mnt
mount -o subvol=@rootfs /dev/vda /mnt
echo "unpacking Debian"
zstd -dc /in/root.tar.zst | tar -x --xattrs --xattrs-include='*' --numeric-owner -C /mnt
echo "UUID=$uuid / btrfs defaults,subvol=@rootfs 0 0" >/mnt/etc/fstab
tr -d - </proc/sys/kernel/random/uuid >/mnt/etc/machine-id
touch /mnt/etc/.updated /mnt/var/.updated
sync
for file in /mnt/boot/vmlinuz-* /mnt/boot/initrd.img-*; do
    name=$(basename $file)
    ls -l $file
    filefrag -e -b1 $file >/out/$name.extents
done
(cd /mnt/boot && sha256sum *) >/out/boot.sha256
umount /mnt
for list in /out/*.extents; do
    # filefrag -e: "   0:        0..    8191:     298844160.. 298852351:   8192: ..."
    sed -n 's/^ *[0-9]*: *\([0-9]*\)\.\. *[0-9]*: *\([0-9]*\)\.\. *[0-9]*: *\([0-9]*\):.*/\2 \3/p' $list |
        while read -r logical length; do
            echo "extent $logical $length"
            btrfs-map-logical -l $logical -b 4096 $DISK
        done >${list%.extents}.copies
    test -s ${list%.extents}.copies
done
"""


def debian_raid5(suite: str = "bookworm") -> Made:
    """Debian on three disks in one btrfs RAID5, metadata too, for live boots with one of them unplugged.

    Its fstab names what a kernel without btrfs cannot mount and disks that are gone, and CAPABLE is a ``cat`` that may
    read every file by a capability in its extended attributes.  Raises as debian_raid1() does.
    """
    return _on_three_disks("raid5", _RAID5, suite, "attr")


CAPABLE = "/usr/local/bin/capable-cat"
_LIVE = rf"""
live() {{  # live DIR FSTAB-LINE...: Debian in DIR, with what the tests of live boots look for
    zstd -dc /in/root.tar.zst | tar -x --xattrs --xattrs-include='*' --numeric-owner -C $1
    printf '%s\n' "${{@:2}}" >$1/etc/fstab
    tr -d - </proc/sys/kernel/random/uuid >$1/etc/machine-id
    cp -p $1/usr/bin/cat $1{CAPABLE}
    # struct vfs_cap_data, revision 2, effective: CAP_DAC_READ_SEARCH
    setfattr -n security.capability -v 0x0100000204000000000000000000000000000000 $1{CAPABLE}
    cat >>$1/etc/fstab <<'END'
UUID=C0DE-F00D /boot/efi vfat umask=0077 0 1
UUID=5ca1ab1e-0000-4000-8000-000000000000 none swap sw 0 0
scratch /var/tmp tmpfs mode=1777,size=8m 0 0
END
    mkdir -p $1/boot/efi
    touch $1/etc/.updated $1/var/.updated
}}
"""

_RAID5 = (
    _LIVE
    + r"""
mkfs.btrfs -q -L live -d raid5 -m raid5 $DISKS
uuid=$(blkid -s UUID -o value $DISK)
echo $uuid >/out/uuid
mount /dev/vda /mnt
btrfs subvolume create /mnt/@rootfs
btrfs subvolume create /mnt/@home
btrfs subvolume set-default /mnt/@rootfs
umount /mnt
mount -o subvol=@rootfs /dev/vda /mnt
mkdir /mnt/home
mount -o subvol=@home /dev/vda /mnt/home
mkdir -m 700 /mnt/home/somebody
echo "from another subvolume" >/mnt/home/somebody/letter
chown -R 1000:1000 /mnt/home/somebody
umount /mnt/home
live /mnt "UUID=$uuid / btrfs defaults,subvol=@rootfs 0 0" "UUID=$uuid /home btrfs subvol=@home 0 0"
sync
umount /mnt
"""
)


def copies_of(made: Made, prefix: str) -> list[Copy]:
    """Where btrfs-progs says that the file in /boot whose name starts with ``prefix`` lies."""
    (path,) = made.out.glob(f"{prefix}*.copies")
    copies = []
    length = 0
    for line in path.read_text().splitlines():
        words = line.split()
        if words[0] == "extent":
            length = int(words[2])
        elif words[0] == "mirror":  # "mirror 1 logical 298844160 physical 277872640 device /dev/vdb"
            device = words[words.index("device") + 1]
            disk = ord(device[-1]) - ord("a")
            copies.append(Copy(disk, int(words[1]), int(words[words.index("physical") + 1]), length))
    return copies


def log_in(machine: Machine, seconds: float = 60) -> None:
    """Wait ``seconds`` for the login of such a Debian on the serial line, and use it.  Raises MachineError."""
    machine.expect("login: ", seconds)
    machine.send("root\n")
    machine.expect("root@.*?[#] ", 120)  # not at the end of its line: the kernel may say something behind it
