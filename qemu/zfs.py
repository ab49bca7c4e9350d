"""The workshop with OpenZFS in it: the real zpool, zfs and kernel modules make the pools for the driver's tests.

Debian ships ZFS as source (contrib): the modules are compiled once per suite, by Debian's own DKMS package inside a
throw-away root of mmdebstrap (user namespaces, no root rights), and are cached with the very kernel that they were
built for.  That is 13 minutes of processor time: 8.5 minutes on two processors of their own (measured: OpenZFS 2.1 of
bookworm 10:38 + 2:20 minutes of user and system time, 2.3 of trixie 10:51 + 2:27), half an hour on busy ones.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from artefacts import cache, debian, network
from artefacts.counters import Dkms
from artefacts.steps import run, step
from qemu.workshop import Recipe

COMPONENTS = ("main", "contrib")
PACKAGES = ("zfsutils-linux", "kmod", "xz-utils", "attr", "acl", "fdisk")
BUILD_PACKAGES = ("linux-image-cloud-amd64", "linux-headers-cloud-amd64", "zfs-dkms")


def modules(suite: str = "bookworm") -> debian.Kernel:
    """The cloud kernel of ``suite`` with OpenZFS's modules beside its own, compiled when not cached.

    bookworm has OpenZFS 2.1, trixie 2.3.  Raises BuildError.
    """
    log = cache.root() / "zfs" / f"{suite}.log"

    def fill(work: Path) -> None:
        with step(f"compiling OpenZFS of Debian {suite}, 13 minutes of processor time", log, Dkms("zfs")):
            run(
                [
                    "mmdebstrap",
                    "--verbose",  # what apt, dpkg and DKMS do, for the log and the count
                    "--variant=apt",
                    f"--components={','.join(COMPONENTS)}",
                    f"--include={','.join(BUILD_PACKAGES)}",
                    # Fails unless DKMS has built the module for the kernel that was installed.
                    '--customize-hook=ls "$1"/usr/lib/modules/*/updates/dkms/zfs.ko*',
                    f"--customize-hook=copy-out /boot /usr/lib/modules {work}",
                    "--format=null",
                    *network.for_mmdebstrap(),
                    suite,
                    os.devnull,
                ],
                log=log,
                hint="apt install mmdebstrap uidmap debian-archive-keyring; then see the log",
            )
            (work / "usr/lib").mkdir(parents=True)
            (work / "modules").rename(work / "usr/lib/modules")
            for extra in (work / "boot").glob("initrd*"):
                extra.unlink()

    return debian.kernel_in(cache.entry("zfs", f"{suite}-modules", fill))


def recipe(
    name: str,
    script: str,
    disks: Sequence[int],
    *,
    suite: str = "bookworm",
    inputs: Sequence[Path] = (),
    packages: Sequence[str] = (),
    timeout: float = 900,
) -> Recipe:
    """A Workshop recipe whose guest has ZFS loaded and its tools at hand."""
    return Recipe(
        f"zfs-{name}",
        _PRELUDE + script,
        disks=disks,
        suite=suite,
        inputs=inputs,
        packages=(*PACKAGES, *packages),
        components=COMPONENTS,
        modules=("zfs",),
        kernel=modules(suite),
        timeout=timeout,
    )


# udev does not run in the guest: zpool would wait for partitions that it makes on whole disks itself, and an import
# has to be told where to look.
_PRELUDE = r"""
export ZPOOL_IMPORT_PATH=/dev ZFS_MODULE_LOADING=no
zpart() {  # give every disk the two partitions that zpool gives to whole disks; DISK becomes the first ones
    local disk number size
    for number in ${!DISK[@]}; do
        disk=${DISK[$number]}
        size=$((($(blockdev --getsz $disk) - 2048 - 16384 - 33) / 2048 * 2048))
        sfdisk -q $disk <<END
label: gpt
1: start=2048, size=$size, type=6A898CC3-1DD2-11B2-99A6-080020736631
9: size=16384, type=6A945A3B-1DD2-11B2-99A6-080020736631
END
        DISK[$number]=${disk}1
    done
}
zmanifest() {  # zmanifest DATASET[@SNAPSHOT] DIR: the real driver's view of one tree
    local name part
    name=$(printf %s "$1" | tr / +)
    mkdir -p /out/manifests
    manifest "$2" current
    for part in /out/current.*; do
        mv "$part" "/out/manifests/$name.${part##*.}"
    done
}
"""
