"""A mount shows, through the kernel, what `walk` finds: pools that OpenZFS wrote, one without a member."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zfs_recipes

from fsdrivers import pools
from fsdrivers.block import FileDevice
from fsdrivers.desk.walk import record
from fsdrivers.filesystem import Filesystem
from fsdrivers.traverse import walk

pytestmark = [
    pytest.mark.images,
    pytest.mark.skipif(
        not os.access("/dev/fuse", os.R_OK | os.W_OK) or os.geteuid() != 0,
        reason="only root may mount, where the kernel has FUSE; test_fuse_protocol.py needs neither",
    ),
]


@contextmanager
def mounted(images: list[Path], directory: Path, *options: str) -> Iterator[Path]:
    """The tree that `fsdrivers mount` shows; it has to end cleanly at SIGTERM."""
    directory.mkdir()
    command = [sys.executable, "-m", "fsdrivers", *options, "mount", str(directory)]
    for image in images:
        command += ["-a", str(image)]
    with subprocess.Popen(command) as process:
        try:
            until = time.monotonic() + 60
            while not os.path.ismount(directory) and process.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
            assert os.path.ismount(directory)
            yield directory
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert not os.path.ismount(directory)


def seen(root: Path) -> dict[str, dict[str, object]]:
    """What the kernel says of every object below ``root``, in the fields of `walk`."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files, *([""] if Path(directory) == root else [])]:
            path = os.path.join(directory, name) if name else directory
            found["/" + os.path.relpath(path, root).removeprefix(".")] = _fields(path)
    return found


def _fields(path: str) -> dict[str, object]:
    status = os.lstat(path)
    fields: dict[str, object] = {
        "mode": stat.S_IMODE(status.st_mode), "format": stat.S_IFMT(status.st_mode), "uid": status.st_uid,
        "gid": status.st_gid, "size": status.st_size, "mtime": status.st_mtime_ns, "links": status.st_nlink,
        "xattrs": {name: os.getxattr(path, name, follow_symlinks=False)
                   for name in os.listxattr(path, follow_symlinks=False)},
    }  # fmt: skip
    if stat.S_ISLNK(status.st_mode):
        fields["target"] = os.readlink(path)
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            fields["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        fields["rdev"] = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return fields


def wanted(filesystem: Filesystem) -> dict[str, dict[str, object]]:
    """The same from the driver itself."""
    found = {}
    for item in walk(filesystem):
        assert item.stat is not None
        assert item.error is None
        status, of = item.stat, record(filesystem, item, sha256=True)
        fields: dict[str, object] = {
            "mode": status.mode, "format": stat.S_IFMT(status.st_mode), "uid": status.uid, "gid": status.gid,
            "size": status.size, "mtime": status.mtime, "links": status.nlink, "xattrs": filesystem.xattrs(item.node),
        }  # fmt: skip
        fields |= {key: of[key] for key in ("target", "sha256") if key in of}
        if status.type in ("char", "block"):
            fields["rdev"] = status.rdev
        found[item.path] = fields
    return found


@pytest.mark.parametrize(("name", "without"), [("raidz1", 1), ("codecs", None)])
def test_a_mount_shows_what_walk_finds(name: str, without: int | None, tmp_path: Path) -> None:
    images = [path for number, path in enumerate(zfs_recipes.unpack(name, tmp_path)) if number != without]
    (pool,) = pools.assemble([FileDevice(str(path)) for path in images])
    root = max((root for root in pool.roots() if "@" not in root.name), key=lambda root: _count(pool.open(root.name)))
    expected = wanted(pool.open(root.name))
    assert len(expected) > 5
    with mounted(images, tmp_path / "mnt", "--fs", root.name) as directory:
        found = seen(directory)
    differences = [(path, found.get(path), expected.get(path)) for path in sorted(set(found) | set(expected))]
    assert not [one for one in differences if one[1] != one[2]]


def _count(filesystem: Filesystem) -> int:
    return sum(1 for _ in walk(filesystem))
