"""Reading ZFS: a kernel, an initrd and a tree, from every layout, against GRUB's reader and zdb.

zdb is that of Debian trixie, which reads files without a kernel module; its package tree is cached.  Beside degraded
layouts stands the time of GRUB with all members, too.
"""

from __future__ import annotations

import os
from pathlib import Path

import zfs_images
from contest import FLOOR, ROUNDS, Competitor, Missing, contest, installed, present
from payload import INITRD, KERNEL, TREE

from artefacts import debian
from artefacts.steps import BuildError


def _grub(disks: list[Path], loops: list[str], what: str, out: Path) -> list[str]:
    images = [str(disk) for disk in disks]
    return ["grub-fstest", "-c", str(len(disks)), *images, "cp", f"(loop0)/@/{what}", str(out / what)]


def _zdb_tree() -> Path:
    return debian.packages("trixie", ["zfsutils-linux"], ("main", "contrib"))


def _zdb(disks: list[Path], loops: list[str], what: str, out: Path) -> list[str]:
    tree = _zdb_tree()
    libraries = ":".join(str(tree / name) for name in ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"))
    loader = next(path for name in ("usr/lib64", "lib64") if (path := tree / name / "ld-linux-x86-64.so.2").exists())
    program = next(path for name in ("usr/sbin", "sbin") if (path := tree / name / "zdb").exists())
    search = out.parent / "members"
    search.mkdir()
    for disk in disks:
        (search / disk.name).symlink_to(disk)
    pool = "bench-" + disks[0].name.split(".")[0]
    return [
        str(loader),
        "--library-path",
        libraries,
        str(program),
        "-e",
        "-p",
        str(search),
        "-r",
        pool,
        what,
        str(out / what),
    ]


def _fetched() -> None:
    try:
        _zdb_tree()
    except BuildError as error:
        raise Missing(f"zdb cannot be fetched: {error}") from error


OTHERS = (
    Competitor("grub-fstest", _grub, installed("grub-fstest"), trees=False),
    Competitor("zdb", _zdb, _fetched, trees=False),
    FLOOR,
)


def main() -> None:
    field = list(present(OTHERS))
    made = zfs_images.members()
    print(f"best of {ROUNDS} rounds; ratios are our time divided by theirs; load {os.getloadavg()[0]:.1f}")
    healthy: dict[tuple[str, str], float] = {}
    for image in zfs_images.IMAGES:
        for what in (KERNEL, INITRD, TREE):
            seconds = healthy.get((image.of, what))
            more = {} if seconds is None else {"grub-fstest with all members": seconds}
            line, best = contest(image.name, image.present(made), what, field, more)
            if "grub-fstest" in best:
                healthy[image.name, what] = best["grub-fstest"]
            print(line, flush=True)
