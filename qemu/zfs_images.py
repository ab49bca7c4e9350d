"""A Debian whose root is a ZFS pool: on a mirror, a RAID-Z1 and a RAID-Z2, made by the real zpool and zfs.

Debian's own zfs-initramfs imports the pool.  Its kernel is the one that OpenZFS's modules were compiled for
(qemu.zfs.modules), so that nothing is compiled in a guest and root and modules always match.
"""

from __future__ import annotations

import sys
from pathlib import Path

from artefacts.steps import BuildError
from qemu import images, workshop
from qemu import zfs as zfs_workshop
from qemu.workshop import GIB, Made

PACKAGES = ("systemd-sysv", "udev", "dbus", "initramfs-tools", "zfs-initramfs", "kmod", "zstd", "login")

# name -> where its disks stand in Made.disks; the system is POOL/ROOT/debian, the bootfs.
POOLS = {"mirror": (0, 2), "raidz1": (2, 5), "raidz2": (5, 9)}

HOSTID = 0x0BADCAFE  # of the host that wrote the pools, another one than the target's own

# What a guest's disks and its root need; the initrd has them, so that the root can do without the rest.
_MODULES = ("zfs", "virtio_pci", "virtio_blk")

_EARLY = f"""\
mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"
echo MODULES=list >"$1/etc/initramfs-tools/conf.d/modules"
printf '%s\\n' {" ".join(_MODULES)} >"$1/usr/share/initramfs-tools/modules.d/poolboot"
"""


def debian_root(suite: str = "bookworm") -> Path:
    """A Debian as qemu.images makes it, with zfs-initramfs in place of btrfs-progs: a zstd-compressed tar.

    Raises artefacts.steps.BuildError.
    """
    kernel = zfs_workshop.modules(suite)
    config = kernel.vmlinuz.with_name(f"config-{kernel.release}")
    configure = (
        f'ln -sf "vmlinuz-{kernel.release}" "$1/vmlinuz"; chmod 644 "$1/boot/vmlinuz-{kernel.release}"; '
        f'rm -f "$1/usr/lib/modules/{kernel.release}/build" "$1/usr/lib/modules/{kernel.release}/source"; '
        f'chroot "$1" depmod {kernel.release} && chroot "$1" update-initramfs -c -k {kernel.release}'
    )
    options = [
        f"--components={','.join(zfs_workshop.COMPONENTS)}", f"--include={','.join(PACKAGES)}",
        *images.LEAN, f"--essential-hook={_EARLY}", f"--customize-hook={images.LATE}",
        f"--customize-hook=copy-in {kernel.vmlinuz} {config} /boot", '--customize-hook=mkdir -p "$1/usr/lib/modules"',
        f"--customize-hook=copy-in {kernel.modules} /usr/lib/modules", f"--customize-hook={configure}",
    ]  # fmt: skip
    return images.root(f"debian-{suite}-zfs", suite, options)


def debian(suite: str = "bookworm") -> Made:
    """One Debian on each of POOLS, on the partitions that zpool makes of whole disks.

    The RAID-Z1 was not exported: it still belongs to the host HOSTID.  Raises workshop.RecipeError or
    artefacts.steps.BuildError.
    """
    script = f"hostid={HOSTID}\n" + _POOLS
    return workshop.make(
        zfs_workshop.recipe(
            "debian", script, (2 * GIB,) * 9, suite=suite, inputs=(debian_root(suite),), timeout=1500,
        )
    )  # fmt: skip


_POOLS = r"""
zpart
echo $((128 << 20)) >/sys/module/zfs/parameters/zfs_arc_max
echo $hostid >/sys/module/spl/parameters/spl_hostid
make() {
    local name=$1; shift
    zpool create -f -o cachefile=none -o ashift=12 -O compression=lz4 -O xattr=sa -O acltype=posixacl -O relatime=on \
        -O canmount=off -O mountpoint=none rpool-$name $name "$@"
    zfs create -o mountpoint=none rpool-$name/ROOT
}
finish() {
    zpool set bootfs=rpool-$1/ROOT/debian rpool-$1
    zpool status rpool-$1
}
make mirror ${DISK[@]:0:2}
zfs create -o mountpoint=/ -o canmount=noauto rpool-mirror/ROOT/debian
mount -t zfs -o zfsutil rpool-mirror/ROOT/debian /mnt
echo "unpacking Debian"
zstd -dc /in/root.tar.zst | tar -x --xattrs --xattrs-include='*' --numeric-owner -C /mnt
tr -d - </proc/sys/kernel/random/uuid >/mnt/etc/machine-id
touch /mnt/etc/.updated /mnt/var/.updated
umount /mnt
zfs snapshot rpool-mirror/ROOT/debian@installed
finish mirror
make raidz1 ${DISK[@]:2:3}
make raidz2 ${DISK[@]:5:4}
for name in raidz1 raidz2; do
    echo "sending Debian to the $name"
    zfs send rpool-mirror/ROOT/debian@installed |
        zfs receive -u -o mountpoint=/ -o canmount=noauto rpool-$name/ROOT/debian
    finish $name
done
zpool export rpool-mirror
zpool export rpool-raidz2
zpool sync rpool-raidz1
"""


def main() -> int:
    """Make what the tests boot, or find it in the cache: `make qemu-test ZFS=1` does so before it starts them."""
    try:
        debian()
    except (BuildError, workshop.RecipeError) as error:
        hint = getattr(error, "hint", "")
        print(f"zfs: error: {error}" + (f"\nzfs: hint: {hint}" if hint else ""), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
