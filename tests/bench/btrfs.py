"""Reading btrfs: a kernel, an initrd and a tree, from every layout, against all other readers that there are."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import btrfs_images
from contest import FLOOR, ROOT, ROUNDS, Competitor, Missing, contest, installed, present
from payload import INITRD, KERNEL, TREE

from artefacts import cache

DISSECT = ("dissect.btrfs==1.*", "backports.zstd")


def _kernel(disks: list[Path], loops: list[str], what: str, out: Path) -> list[str]:
    options = ",".join(["ro", "degraded", *(f"device={loop}" for loop in loops)])
    mount = out.parent / "mnt"
    mount.mkdir(exist_ok=True)
    script = (
        f"mount -t btrfs -o {options} {loops[0]} {mount} && cp -r {mount}/{what} {out}/; s=$?; umount {mount}; exit $s"
    )
    return ["sh", "-c", script]


def _grub(disks: list[Path], loops: list[str], what: str, out: Path) -> list[str]:
    images = [str(disk) for disk in disks]
    return ["grub-fstest", "-c", str(len(disks)), *images, "cp", f"(loop0)/{what}", str(out / what)]


def _restore(disks: list[Path], loops: list[str], what: str, out: Path) -> list[str]:
    below = f"{what}(|/.*)" if what == TREE else what
    return ["btrfs", "restore", "--path-regex", f"^/(|{below})$", loops[0], str(out)]


_DISSECT_SCRIPT = """
import os, shutil, sys
from dissect.btrfs import Btrfs
what, out, *disks = sys.argv[1:]
fs = Btrfs([open(disk, 'rb') for disk in disks])
def copy(node, target):
    if node.is_dir():
        os.mkdir(target)
        for name, child in node.iterdir():
            if name not in ('.', '..'):
                copy(child, target + '/' + name)
    else:
        with node.open() as source, open(target, 'wb') as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
copy(fs.get(what), out + '/' + what)
"""


def _dissect(disks: list[Path], loops: list[str], what: str, out: Path) -> list[str]:
    return [str(_dissect_python()), "-c", _DISSECT_SCRIPT, what, str(out), *map(str, disks)]


def _dissect_python() -> Path:
    """The interpreter of an environment of its own: nothing of it may come into ours."""

    def fill(work: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", str(work / "venv")], check=True)
        subprocess.run([str(work / "venv/bin/python"), "-m", "pip", "install", "-q", *DISSECT], check=True)

    try:
        return cache.entry("bench", f"dissect-{cache.key(DISSECT)}", fill) / "venv/bin/python"
    except subprocess.CalledProcessError as error:
        raise Missing("dissect.btrfs cannot be installed") from error


def _mountable() -> None:
    if "btrfs" not in Path("/proc/filesystems").read_text():
        raise Missing("the kernel has no btrfs")


OTHERS = (
    Competitor("kernel", _kernel, _mountable, loops=True),
    Competitor("grub-fstest", _grub, installed("grub-fstest"), trees=False),
    Competitor("btrfs restore", _restore, installed("btrfs"), loops=True),
    Competitor("dissect.btrfs", _dissect, lambda: _dissect_python() and None),
    FLOOR,
)


def main() -> None:
    field = list(present(OTHERS))
    made = btrfs_images.disks()
    print(f"best of {ROUNDS} rounds; ratios are our time divided by theirs; load {os.getloadavg()[0]:.1f}")
    for image in btrfs_images.IMAGES:
        for what in (KERNEL, INITRD, TREE):
            print(contest(image.name, image.present(made), what, field)[0], flush=True)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
