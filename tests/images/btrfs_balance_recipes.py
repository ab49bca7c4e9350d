"""A balance that a power cut ended: the disk as it was while trees of block groups under relocation were on it.

    python tests/images/btrfs_balance_recipes.py        makes it anew, which takes luck: run it again when it found none

Kept as ``tests/images/btrfs/balance.tar.zst``: a moment at which the disk has such trees may not come in one run.

Device mapper stops all writes in the middle of the balance; what lies on the disk then is what a power cut leaves.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

import btrfs_stripe_recipes  # noqa: E402

from qemu import manifest, workshop  # noqa: E402
from qemu.workshop import MIB, Recipe  # noqa: E402


class Interrupted(NamedTuple):
    """The disk, the kernel's view of it, and how many relocation trees the kernel's tools see there."""

    disk: Path
    records: dict[str, manifest.Record]
    trees: int


_SCRIPT = r"""
set -- $DISKS
echo "0 $(blockdev --getsz $1) linear $1 0" | dmsetup create under --noudevrules --noudevsync
dmsetup mknodes
DEVICE=/dev/mapper/under
mkfs.btrfs -q -f -L balance -d single -m dup -n 4096 $DEVICE
mount -o noatime $DEVICE /mnt
btrfs -q subvolume create /mnt/@
cd /mnt/@
for ((i = 0; i < 6; i++)); do
    mkdir dir$i
    (cd dir$i; seq 1 700 | xargs touch; head -c 300000 /dev/urandom | split -b 1500 -a 3 - small)
    btrfs -q subvolume snapshot /mnt/@ /mnt/snapshot$i
done
seq 1 100000 >text
cd /
sync
trees() { # of DEVICE: those that are not being dropped already
    btrfs inspect-internal dump-tree -t root $1 |
        awk '/item .* key \(TREE_RELOC ROOT_ITEM/ { r = 1 } r && / refs / { n += $NF > 0; r = 0 } END { print n + 0 }'
}
found=0
for ((try = 1; try <= 200 && found < 1; try++)); do
    kill -0 ${balance:-0} 2>/dev/null && [ ${balance:-0} -gt 0 ] || { btrfs balance start -f -m /mnt >/dev/null 2>&1 & balance=$!; }
    sleep 0.$((RANDOM % 9))
    dmsetup suspend --noflush --nolockfs under
    blockdev --flushbufs $1
    found=$(trees $1)
    echo "try $try: $found relocation trees at $SECONDS s"
    [ $found -eq 0 ] || dd if=$1 of=$2 bs=1M iflag=direct conv=sparse status=none
    dmsetup resume under
done
wait $balance
blockdev --flushbufs $2
umount /mnt
dmsetup remove under
btrfs device scan --forget
[ $found -gt 0 ]
echo $found >/out/trees
# A copy for the kernel: its mount goes on with the balance, or drops it.
dd if=$2 of=$1 bs=1M conv=sparse iflag=direct status=none
blockdev --flushbufs $1
mount -o ro,skip_balance $1 /mnt
manifest /mnt balance
umount /mnt
"""


def make() -> None:
    """Make the archive.  Raises workshop.RecipeError when no moment was the right one."""
    recipe = Recipe(
        "btrfs-balance",
        _SCRIPT,
        disks=(320 * MIB, 320 * MIB),
        packages=("btrfs-progs", "dmsetup"),
        modules=("btrfs", "dm_mod"),
        timeout=900,
    )
    made = workshop.make(recipe)
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(made.out, name, dirs_exist_ok=True)
        subprocess.run(["cp", "--sparse=always", made.disks[1], f"{name}/disk0.raw"], check=True)
        names = sorted(os.listdir(name))
        command = ["tar", "--sparse", "--owner=0", "--group=0", "--mtime=@0", "-C", name, "-cf", "-", *names]
        btrfs_stripe_recipes.compress(command, btrfs_stripe_recipes.ARCHIVES / "balance.tar.zst", 12)


@cache
def interrupted() -> Interrupted:
    """The disk from the archive, unpacked for this process."""
    directory = Path(tempfile.mkdtemp(prefix="balance-"))
    atexit.register(shutil.rmtree, directory)
    (disk,) = btrfs_stripe_recipes.unpack("balance", directory)
    return Interrupted(disk, manifest.read(directory, "balance"), int((directory / "trees").read_text()))


if __name__ == "__main__":
    make()
