"""The workshop: a throw-away guest in which the real mkfs and the kernel's own drivers make disks.

    made = make(Recipe("two-disks", 'mkfs.btrfs -d raid1 -m raid1 $DISKS\nmount /dev/vda /mnt ...', disks=(GIB, GIB)))
    made.disks[0], made.out / "manifest.find"

A recipe's script runs under ``bash -euo pipefail`` as root of the guest and finds

- its disks, zeroed: their device names, in order, in $DISKS and in the array ${DISK[@]};
- its inputs as files (or directories) in /in;
- the programs of BASE_PACKAGES and of the recipe's own packages;
- ``manifest DIR [NAME]``, which writes the kernel's view of a mounted tree to /out (read it with qemu.manifest);
- /out: what it leaves there comes back to the host.

The kernel is Debian's cloud kernel of the recipe's suite.  Nothing here needs root rights, loop devices or a driver on
the host.  What was made is cached by everything that went into it; treat it as read-only (Machine does).
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from artefacts import cache, debian
from artefacts.counters import Script
from artefacts.steps import full, no_room, step, warn
from qemu import guest
from qemu.machine import Disk, Machine, MachineError

MIB = 1 << 20
GIB = 1 << 30

BASE_PACKAGES = ("bash", "busybox", "coreutils", "findutils", "gzip", "mount", "tar", "util-linux", "zstd")
BASE_MODULES = ("virtio_pci", "virtio_blk", "loop")
OUT_BYTES = 4 * GIB  # size of the sparse disk that carries /out home


class Recipe(NamedTuple):
    """How disks are made.  Everything here is part of the cache's key (of ``inputs`` their names and content)."""

    name: str
    """Names the recipe in the cache and in messages: letters, digits, dots and dashes."""
    script: str
    disks: Sequence[int] = ()
    """Sizes in bytes."""
    suite: str = "bookworm"
    inputs: Sequence[Path] = ()
    packages: Sequence[str] = ("btrfs-progs",)
    components: Sequence[str] = ("main",)
    modules: Sequence[str] = ("btrfs",)
    """Kernel modules that are loaded before the script runs (their dependencies come along)."""
    kernel: debian.Kernel | None = None
    """Another kernel than that of ``suite``, perhaps with modules that Debian's own does not have."""
    timeout: float = 600
    """Seconds that the guest may take."""
    memory: int = 1024
    """MiB of RAM."""


class Made(NamedTuple):
    """What a recipe made, in the cache: raw sparse disk images in the recipe's order, and what was in /out."""

    disks: list[Path]
    out: Path


# An oops ends the guest at once, rather than leave its script waiting for what will never come.
_CMDLINE = "console=ttyS0 loglevel=4 panic=-1 oops=panic"
_PANIC = b"Kernel panic - not syncing"


class RecipeError(Exception):
    """The script failed, or the guest did.  The message carries the end of the console."""


class _Fell(RecipeError):
    """The guest's kernel had a fault of its own, which says nothing of the recipe: btrfs of Linux 6.1 follows a null
    pointer once in many rows of RAID6 that are written in part (raid56.c:finish_rmw).
    """


def make(recipe: Recipe) -> Made:
    """Make what ``recipe`` describes, or take it from the cache.

    Raises RecipeError when the script fails, artefacts.steps.BuildError when packages cannot be fetched.
    """
    kernel = recipe.kernel or debian.kernel(recipe.suite)
    names = sorted({*BASE_PACKAGES, *recipe.packages})
    tree = debian.packages(recipe.suite, names, recipe.components)
    parts = [
        recipe.script, list(recipe.disks), recipe.suite, list(recipe.modules), recipe.memory, kernel.release,
        tree.parent.name, [(path.name, fingerprint(path)) for path in recipe.inputs],
        _INIT, _LIBRARY,
    ]  # fmt: skip
    label = f"{recipe.name}-{cache.key(*parts)}"
    log = cache.root() / "workshop" / f"{label}.log"

    def fill(work: Path) -> None:
        counter = Script(recipe.script.count("\n"), partial(_written, work))
        with step(f"making the disks {recipe.name}", log, counter):
            try:
                _run(recipe, kernel, tree, work, log)
            except _Fell as fall:
                warn(f"{fall}; once more")
                _run(recipe, kernel, tree, work, log)

    made = cache.entry("workshop", label, fill)
    return Made([made / f"disk{number}.raw" for number in range(len(recipe.disks))], made / "out")


def _written(work: Path) -> int:
    """How many bytes the sparse images of disks hold by now."""
    return sum(path.stat().st_blocks * 512 for path in work.glob("disk*.raw"))


def fingerprint(path: Path) -> str:
    """A hash of a file's content, or of the names and contents of a directory's files."""
    if path.is_dir():
        return cache.key(
            [(p.relative_to(path).as_posix(), fingerprint(p)) for p in sorted(path.rglob("*")) if p.is_file()]
        )
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _run(recipe: Recipe, kernel: debian.Kernel, tree: Path, work: Path, log: Path) -> None:
    disks = [work / f"disk{number}.raw" for number in range(len(recipe.disks))]
    outcome, income, initrd = work / "out.tar", work / "in.tar", work / "initrd"
    for path, size in zip([*disks, outcome], [*recipe.disks, OUT_BYTES], strict=True):
        with path.open("wb") as file:
            file.truncate(size)
    with tarfile.open(income, "w", format=tarfile.GNU_FORMAT) as tar:
        for path in recipe.inputs:
            tar.add(path, path.name)
    os.truncate(income, -(-income.stat().st_size // 512) * 512)
    initrd.write_bytes(_initrd(recipe, kernel, tree))
    drives = [Disk(path, snapshot=False) for path in disks]
    drives += [Disk(income, readonly=True, snapshot=False), Disk(outcome, snapshot=False)]
    machine = Machine(
        kernel.vmlinuz, initrd, _CMDLINE, drives, memory=recipe.memory, log=log,
    )  # fmt: skip
    try:
        with machine, _while_there_is_room(machine, work):
            status = machine.expect(r"workshop: script ended with status (\d+)", recipe.timeout)[1]
            if status != "0":
                raise RecipeError(f"recipe {recipe.name}: the script ended with status {status}\n{machine.tail()}")
            machine.expect("workshop: out is home", recipe.timeout)
            machine.wait_exit(30)
    except MachineError as error:
        kind = _Fell if _PANIC in log.read_bytes() else RecipeError
        raise kind(f"recipe {recipe.name}: {error}") from None
    (work / "out").mkdir()
    with tarfile.open(outcome) as tar:
        _unpack(tar, work / "out")
    for path in (outcome, income, initrd):
        path.unlink()


@contextmanager
def _while_there_is_room(machine: Machine, work: Path) -> Iterator[None]:
    """Pull the plug when the disk of ``work`` is full: QEMU would stop the guest and wait for somebody to make room.

    Raises BuildError then.
    """
    over, filled = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(2):
            if full(work):
                filled.set()
                machine.kill()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except MachineError:
        if not filled.is_set():
            raise
        raise no_room("the disks of a guest", f"{work} is full") from None
    finally:
        over.set()
        watcher.join()


def _unpack(tar: tarfile.TarFile, directory: Path) -> None:
    """Plain files and directories only: a guest has no business with links and devices on the host."""
    for member in tar:
        parts = Path(member.name).parts
        if ".." in parts or member.name.startswith("/"):
            raise RecipeError(f"/out holds a strange name: {member.name!r}")
        target = directory.joinpath(*parts)
        if member.isdir():
            target.mkdir(exist_ok=True)
        elif member.isreg():
            source = tar.extractfile(member)
            assert source is not None
            with target.open("wb") as sink:
                while block := source.read(MIB):
                    sink.write(block)


def _initrd(recipe: Recipe, kernel: debian.Kernel, tree: Path) -> bytes:
    archive = guest.root()
    guest.add_programs(archive, tree)
    guest.add_modules(archive, kernel, [*BASE_MODULES, *recipe.modules])
    archive.file("init", _INIT.encode(), 0o755)
    archive.file("library", _LIBRARY.encode())
    archive.file("recipe", recipe.script.encode())
    archive.file("etc/passwd", b"root:x:0:0:root:/root:/bin/bash\n")
    archive.file("etc/group", b"root:x:0:\n")
    *devices, income, outcome = (_device(number) for number in range(len(recipe.disks) + 2))
    words = " ".join(devices)
    settings = f'DISKS="{words}"\nDISK=({words})\nINCOME={income}\nOUTCOME={outcome}\n'
    archive.file("settings", (settings + _TELL_LINES).encode())
    if "usr/bin/sh" not in archive:
        archive.symlink("usr/bin/sh", "bash")
    return archive.pack()


def _device(number: int) -> str:
    """The device of the virtio disk ``number`` (from 0).  Source: drivers/block/virtio_blk.c:virtblk_name_format."""
    letters = ""
    number += 1
    while number:
        number, digit = divmod(number - 1, 26)
        letters = chr(ord("a") + digit) + letters
    return f"/dev/vd{letters}"


# Tells the console which line of the recipe is being run, for the count of the host: not in the cache's key, as it
# makes nothing.  The init reads it too; the shell of the recipe is known by its "errexit".
_TELL_LINES = r"""
at_line() { if test $1 -gt $furthest; then furthest=$1; echo "workshop: at line $1" >/dev/console; fi; }
if [[ $- == *e* ]]; then
    set -T
    furthest=0
    trap 'if [[ ${BASH_SOURCE[0]:-} == /recipe ]]; then at_line $LINENO; fi' DEBUG
fi
"""

_INIT = """#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/usr/lib/busybox HOME=/root LC_ALL=C
die() { echo "workshop: $*"; sync; busybox poweroff -f; sleep 60; }
mount -t proc proc /proc
mkdir -p /usr/lib/busybox
/usr/bin/busybox --install -s /usr/lib/busybox
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
ln -s /proc/self/fd /dev/fd
while read -r module; do
    insmod "$module" || die "cannot load $module"
done </etc/modules
. /settings
for device in $DISKS $INCOME $OUTCOME; do
    for tick in $(seq 100); do test -b $device && break; sleep 0.1; done
    test -b $device || die "no $device"
done
tar -C /in -xf $INCOME || die "cannot unpack /in"
export DISKS
bash -euo pipefail -c '. /settings; . /library; cd /root; . /recipe'
status=$?
echo "workshop: script ended with status $status"
if test $status = 0; then
    sync
    tar -C /out -cf $OUTCOME . || die "cannot write /out"
    cut -d" " -f2 /proc/mounts | tac | while read -r where; do
        case "$where" in /mnt*|/media*|/tmp/*|/root/*) umount "$where" || umount -l "$where";; esac
    done
    sync
    echo "workshop: out is home"
fi
busybox poweroff -f
sleep 60
"""

_LIBRARY = r"""
# manifest DIR [NAME]: the kernel's view of the tree in DIR.  All fields end in NUL: names may hold anything else.
manifest() {
    local name=${2:-manifest}
    (cd "$1" && find . -printf '%P\0%y\0%m\0%U\0%G\0%s\0%T@\0%l\0') >"/out/$name.find"
    (cd "$1" && find . -type f -print0 | xargs -0 -r sha256sum -z) >"/out/$name.sha256"
    (cd "$1" && find . \( -type c -o -type b \) -exec stat --printf '%n\0%t %T\0' {} +) >"/out/$name.rdev"
}
"""
