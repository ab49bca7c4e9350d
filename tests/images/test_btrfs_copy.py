"""`fsdrivers cp -r` from a btrfs that the kernel wrote: content, holes, links and extended attributes arrive."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from btrfs_recipes import PROFILES
from test_btrfs import assemble, devices

from fsdrivers import copyout

pytestmark = pytest.mark.images


def test_a_whole_subvolume(tmp_path: Path) -> None:
    filesystem = assemble(devices(PROFILES[1])).open("@")
    told: list[str] = []
    complete = copyout.copy(filesystem, "/", str(tmp_path / "copy"), True, told.append)
    assert complete or os.geteuid(), told  # device nodes need root
    copy = tmp_path / "copy"
    for path in ("/boot/vmlinuz-6.1.0", "/boot/initrd.img-6.1.0", "/sparse", "/mixed", "/etc/4097", "/reflinked"):
        assert (copy / path[1:]).read_bytes() == filesystem.read_file(path, 1 << 24), path
    assert (copy / "sparse").stat().st_blocks * 512 < 1_000_000
    assert os.path.samefile(copy / "etc/tiny", copy / "etc/hard")
    assert os.readlink(copy / "vmlinuz") == "boot/vmlinuz-6.1.0"
    about = (copy / "etc/4095").stat()
    assert about.st_mtime_ns == 4105310706123456789


def test_attributes_where_the_destination_can(tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    probe.touch()
    filesystem = assemble(devices(PROFILES[1])).open("@")
    told: list[str] = []
    assert copyout.copy(filesystem, "/etc", str(tmp_path / "etc"), True, told.append), told
    try:
        os.setxattr(probe, "user.probe", b"1")
    except OSError:
        assert os.listxattr(tmp_path / "etc/tiny") == []
        return
    assert os.getxattr(tmp_path / "etc/tiny", "user.test") == b"\x00\xffA"
    assert os.getxattr(tmp_path / "etc", "user.directory") == b"d"
