"""A Debian whose root is a ZFS pool: on a mirror, a RAID-Z1 and a RAID-Z2, made by the real zpool and zfs.

Debian's own zfs-initramfs imports the pool.  Its kernel is the one that OpenZFS's modules were compiled for
(qemu.zfs.modules), so that nothing is compiled in a guest and root and modules always match.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from artefacts.steps import BuildError
from qemu import images, workshop
from qemu import zfs as zfs_workshop
from qemu.workshop import GIB, Made

PACKAGES = ("systemd-sysv", "udev", "dbus", "initramfs-tools", "zfs-initramfs", "kmod", "zstd", "login")

# As OpenZFS's HOWTO for Debian has it: the installed system can write GRUB's configuration itself.
HOWTO_PACKAGES = (*PACKAGES, "grub2-common")
DRACUT_PACKAGES = (
    "systemd-sysv", "udev", "dbus", "dracut", "zfs-dracut", "kmod", "zstd", "login", "grub2-common",
)  # fmt: skip

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

_EARLY_DRACUT = f"""\
mkdir -p "$1/etc/dracut.conf.d"
cat >"$1/etc/dracut.conf.d/poolboot.conf" <<'END'
hostonly="no"
early_microcode="no"
compress="zstd"
filesystems+=" zfs "
add_drivers+=" {" ".join(_MODULES)} "
END
"""

# What a guest has to unpack for nothing: Debian's packages want the modules to be built by DKMS, with a compiler.
_SMALLER = "cd \"$1\" && rm -rf " + " ".join((
    "usr/include", "usr/lib/gcc", "usr/libexec/gcc", "usr/src/*", "usr/bin/*lto-dump*", "usr/lib/*/*.a",
    "usr/lib/*/lib?san.so*", "usr/lib/*/gconv", "usr/lib/*/perl", "usr/share/perl", "usr/share/misc/magic*",
    "usr/lib/file", "usr/lib/udev/hwdb*",
))  # fmt: skip


def debian_root(suite: str = "bookworm") -> Path:
    """A Debian as qemu.images makes it, with zfs-initramfs in place of btrfs-progs: a zstd-compressed tar.

    Raises artefacts.steps.BuildError.
    """
    return _root(f"debian-{suite}-zfs", suite, PACKAGES, _EARLY, "update-initramfs -c -k {0}")


def howto_root(suite: str = "bookworm") -> Path:
    """A Debian with zfs-initramfs and GRUB's tools: a zstd-compressed tar.  Raises artefacts.steps.BuildError."""
    command = "update-initramfs -c -k {0}"
    return _root(f"debian-{suite}-zfs-grub", suite, HOWTO_PACKAGES, _EARLY, command, f"--customize-hook={_SMALLER}")


def dracut_root(suite: str = "bookworm") -> Path:
    """A Debian with dracut and zfs-dracut in place of initramfs-tools: a zstd-compressed tar.

    Raises artefacts.steps.BuildError.
    """
    command = "dracut --force /boot/initrd.img-{0} {0}"
    hook = f"--customize-hook={_SMALLER}"
    return _root(f"debian-{suite}-zfs-dracut", suite, DRACUT_PACKAGES, _EARLY_DRACUT, command, hook)


def _root(name: str, suite: str, packages: Sequence[str], early: str, make_initrd: str, *more: str) -> Path:
    """A Debian of ``packages`` with the kernel that OpenZFS's modules are for: a zstd-compressed tar.

    ``early`` is a script for the host before packages are configured, ``make_initrd`` a command for the root with the
    kernel's release in place of {0}; ``more`` are options of mmdebstrap.  Raises artefacts.steps.BuildError.
    """
    kernel = zfs_workshop.modules(suite)
    config = kernel.vmlinuz.with_name(f"config-{kernel.release}")
    configure = (
        f'ln -sf "vmlinuz-{kernel.release}" "$1/vmlinuz"; chmod 644 "$1/boot/vmlinuz-{kernel.release}"; '
        f'rm -f "$1/usr/lib/modules/{kernel.release}/build" "$1/usr/lib/modules/{kernel.release}/source"; '
        f'chroot "$1" depmod {kernel.release} && chroot "$1" {make_initrd.format(kernel.release)}'
    )
    options = [
        f"--components={','.join(zfs_workshop.COMPONENTS)}", f"--include={','.join(packages)}",
        *images.LEAN, f"--essential-hook={early}", f"--customize-hook={images.LATE}",
        f"--customize-hook=copy-in {kernel.vmlinuz} {config} /boot", '--customize-hook=mkdir -p "$1/usr/lib/modules"',
        f"--customize-hook=copy-in {kernel.modules} /usr/lib/modules", f"--customize-hook={configure}",
        *more,
    ]  # fmt: skip
    return images.root(name, suite, options)


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


OLD_RELEASE = "6.1.0-9-cloud-amd64"  # of a second kernel, which is a copy of the only one


def howto(suite: str = "bookworm") -> Made:
    """Debian as OpenZFS's HOWTO installs it, with what grub-mkconfig wrote there.

    /boot is in a pool ``bpool`` with what GRUB can read, the root in ``rpool``; both are mirrors on partitions of the
    same two disks.  ``rpool/ROOT/before`` is a second boot environment, a clone.  /out holds ``grub.cfg``.

    Raises workshop.RecipeError or artefacts.steps.BuildError.
    """
    return _made("debian-howto", _HOWTO, 2, howto_root(suite), suite)


def dracut(suite: str = "bookworm") -> Made:
    """A Debian whose initrd is dracut's, alone in ``dpool``, which GRUB could read.

    No boot loader's configuration is on its disk; what grub-mkconfig would write is /out's ``grub.cfg``.  Raises
    workshop.RecipeError or artefacts.steps.BuildError.
    """
    return _made("debian-dracut", _DRACUT, 1, dracut_root(suite), suite)


def _made(name: str, script: str, disks: int, root: Path, suite: str) -> Made:
    script = f"hostid={HOSTID}\nold={OLD_RELEASE}\n" + _SYSTEM + script
    return workshop.make(
        zfs_workshop.recipe(name, script, (2 * GIB,) * disks, suite=suite, inputs=(root,), timeout=1500)
    )


_SYSTEM = r"""
echo $((128 << 20)) >/sys/module/zfs/parameters/zfs_arc_max
echo $hostid >/sys/module/spl/parameters/spl_hostid
unpack() {  # the root into /mnt, with a second kernel version
    local release
    zstd -dc /in/root.tar.zst | tar -x --xattrs --xattrs-include='*' --numeric-owner -C /mnt
    tr -d - </proc/sys/kernel/random/uuid >/mnt/etc/machine-id
    touch /mnt/etc/.updated /mnt/var/.updated
    release=$(basename /mnt/boot/vmlinuz-*)
    release=${release#vmlinuz-}
    for name in vmlinuz config initrd.img; do
        cp -p /mnt/boot/$name-$release /mnt/boot/$name-$old
    done
}
mkconfig() {  # mkconfig OPTION...: grub-mkconfig in the system on /mnt
    for name in proc sys dev; do
        mount --bind /$name /mnt/$name
    done
    chroot /mnt grub-probe /boot >&2
    chroot /mnt grub-mkconfig "$@"
    for name in proc sys dev; do
        umount /mnt/$name
    done
}
common="-o ashift=12 -O acltype=posixacl -O xattr=sa -O compression=lz4 -O relatime=on -O canmount=off -R /mnt"
"""

# https://openzfs.github.io/openzfs-docs/Getting%20Started/Debian/Debian%20Bookworm%20Root%20on%20ZFS.html
_HOWTO = r"""
for disk in $DISKS; do
    sfdisk -q $disk <<END
label: gpt
first-lba: 34
1: start=48, size=2000, type=21686148-6449-6E6F-744E-656564454649
3: start=2048, size=256M, type=6A898CC3-1DD2-11B2-99A6-080020736631
4: type=6A85CF4D-1DD2-11B2-99A6-080020736631
END
done
zpool create -f $common -o autotrim=on -O dnodesize=auto -O normalization=formD \
    -O mountpoint=/ rpool mirror ${DISK[0]}4 ${DISK[1]}4
zfs create -o canmount=off -o mountpoint=none rpool/ROOT
zfs create -o canmount=noauto -o mountpoint=/ rpool/ROOT/debian
zfs mount rpool/ROOT/debian
zfs create rpool/home
zfs create -o mountpoint=/root rpool/home/root
echo "unpacking Debian"
unpack
mv /mnt/boot /mnt/kernels
mkdir -p /usr/share
cp -r /mnt/usr/share/zfs /usr/share  # zpool knows sets of features by files
zpool create -f $common -o autotrim=on -o compatibility=grub2 -O devices=off -O normalization=formD \
    -O mountpoint=/boot bpool mirror ${DISK[0]}3 ${DISK[1]}3
zfs create -o canmount=off -o mountpoint=none bpool/BOOT
zfs create -o mountpoint=/boot bpool/BOOT/debian
mv /mnt/kernels/* /mnt/boot
rmdir /mnt/kernels
cat >/mnt/etc/systemd/system/zfs-import-bpool.service <<'END'
[Unit]
DefaultDependencies=no
Before=zfs-import-scan.service
Before=zfs-import-cache.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/sbin/zpool import -N -o cachefile=none bpool
# Work-around to preserve zpool cache:
ExecStartPre=-/bin/mv /etc/zfs/zpool.cache /etc/zfs/preboot_zpool.cache
ExecStartPost=-/bin/mv /etc/zfs/preboot_zpool.cache /etc/zfs/zpool.cache

[Install]
WantedBy=zfs-import.target
END
chroot /mnt systemctl enable zfs-import-bpool.service
sed -i 's,^GRUB_CMDLINE_LINUX=",&root=ZFS=rpool/ROOT/debian ,' /mnt/etc/default/grub
echo "writing GRUB's configuration"
mkdir -p /mnt/boot/grub
mkconfig -o /boot/grub/grub.cfg
cp /mnt/boot/grub/grub.cfg /out/grub.cfg
ls -l /mnt/boot /mnt/boot/grub
zfs snapshot bpool/BOOT/debian@install
zfs snapshot rpool/ROOT/debian@install
zfs clone -o canmount=noauto -o mountpoint=/ rpool/ROOT/debian@install rpool/ROOT/before
zpool status
zpool export -a
"""

_DRACUT = r"""
sfdisk -q $DISK <<END
label: gpt
first-lba: 34
1: start=48, size=2000, type=21686148-6449-6E6F-744E-656564454649
4: start=2048, type=6A85CF4D-1DD2-11B2-99A6-080020736631
END
features=$(printf ' -o feature@%s=enabled' enabled_txg extensible_dataset hole_birth embedded_data lz4_compress)
zpool create -f $common -d $features -O mountpoint=none dpool ${DISK}4
guid=$(zpool get -Ho value guid dpool)
zfs create -o mountpoint=none dpool/ROOT
zfs create -o canmount=noauto -o mountpoint=/ dpool/ROOT/debian
zpool set bootfs=dpool/ROOT/debian dpool
zfs mount dpool/ROOT/debian
echo "unpacking Debian"
unpack
zfs snapshot dpool/ROOT/debian@install
cat >>/mnt/etc/grub.d/40_custom <<'END'
menuentry 'Debian GNU/Linux, as it was installed' --id installed {
	search --no-floppy --fs-uuid --set=root GUID
	linux /ROOT/debian@install/boot/vmlinuz-RELEASE root=ZFS=dpool/ROOT/debian@install ro
	initrd /ROOT/debian@install/boot/initrd.img-RELEASE
}
END
sed -i "s/GUID/$(printf %x $guid)/; s/RELEASE/$old/" /mnt/etc/grub.d/40_custom
mkdir /mnt/boot/grub
mkconfig >/out/grub.cfg
zpool status
zpool export -a
"""


def main() -> int:
    """Make what the tests boot, or find it in the cache: `make qemu-test ZFS=1` does so before it starts them."""
    try:
        zfs_workshop.modules()
        with ThreadPoolExecutor(2) as pool:  # each of them keeps one processor busy for minutes
            for made in [pool.submit(debian), pool.submit(howto), pool.submit(dracut)]:
                made.result()
    except (BuildError, workshop.RecipeError) as error:
        hint = getattr(error, "hint", "")
        print(f"zfs: error: {error}" + (f"\nzfs: hint: {hint}" if hint else ""), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
