"""Entries that other boot loaders' files state: of the Boot Loader Specification, both types, and extlinux.conf.

The file system is made by mkfs.btrfs, the unified images by ukify, the kernel on it is the slim one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from artefacts import cpio, debian, kernel_build
from loader.uki import TOOLS_SUITE
from qemu import layouts
from qemu.machine import Machine

pytestmark = pytest.mark.boot

Machines = Callable[..., Machine]
SECONDS = 120

# Tabs and blanks, keys more than once, variables: what the grammar allows and dictionaries lose.
BLS = """\
# written by hand
title\t\tStated by BLS
version    6.1.0-1-stated
sort-key\tstated
linux\t/boot/vmlinuz
initrd\t /boot/first.img
initrd\t /boot/second.img
options\troot=/dev/gone ro
options   $kernelopts\tbls=yes $tuned_params
grub_users $grub_users
"""
ENVIRONMENT = "# GRUB Environment Block\nkernelopts=from=grubenv\n"
EXTLINUX = """\
default other
menu title any
label other
    menu label Stated by ^extlinux
    kernel ../vmlinuz
    append initrd=../first.img,../second.img root=/dev/gone extlinux=yes
"""
PROFILES = {"plain": "uki=plain", "debug": "uki=debug"}


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One btrfs whose root states a kernel with two initrds in all three ways."""
    folder = tmp_path_factory.mktemp("stated")
    root = folder / "root"
    second = cpio.Archive()
    # There only when it came behind the first.
    second.file("init", layouts.telling("second archive, booted with").encode(), 0o755)
    first = layouts.initrd().read_bytes()
    files = {
        "etc/os-release": b'ID=stated\nPRETTY_NAME="Stated"\n', "sbin/init": b"#!/bin/sh\n",
        "boot/vmlinuz": kernel_build.build().image.read_bytes(),
        "boot/first.img": first + bytes(-len(first) % 4), "boot/second.img": second.pack(),
        "boot/loader/entries/stated.conf": BLS.encode(), "boot/extlinux/extlinux.conf": EXTLINUX.encode(),
        "boot/grub/grubenv": ENVIRONMENT.encode().ljust(1024, b"#"),
    }  # fmt: skip
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    unified(root, folder)
    image = folder / "image"
    image.touch()
    os.truncate(image, 256 << 20)
    subprocess.run(["mkfs.btrfs", "-q", "-L", "stated", "--rootdir", root, image], check=True)
    return image


def unified(root: Path, folder: Path) -> None:
    """A unified image with two profiles, and the initrds as they are, on what will be the EFI directory of ``root``."""
    tools = debian.packages(TOOLS_SUITE, ["systemd-boot-efi", "systemd-ukify"], dependencies=False)
    stubs = tools / "usr/lib/systemd/boot/efi"
    ukify = [sys.executable, tools / "usr/bin/ukify", "build"]
    joined = []
    for name, words in PROFILES.items():
        one = folder / f"{name}.efi"
        stub = f"--stub={stubs / 'addonx64.efi.stub'}"
        profile = [stub, f"--profile=ID={name}\nTITLE={name}", f"--cmdline=root=/dev/gone {words}", f"--output={one}"]
        subprocess.run([*ukify, *profile], check=True, capture_output=True)
        joined.append(f"--join-profile={one}")
    target = root / "boot/efi/EFI/Linux/stated-6.1.efi"
    target.parent.mkdir(parents=True)
    parts = [
        f"--stub={stubs / 'linuxx64.efi.stub'}",
        f"--linux={root / 'boot/vmlinuz'}", f"--initrd={root / 'boot/first.img'}",
        f"--initrd={root / 'boot/second.img'}", f"--os-release=@{root / 'etc/os-release'}", "--uname=6.1.0-1-stated",
    ]  # fmt: skip
    subprocess.run([*ukify, *parts, *joined, f"--output={target}"], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("wish", "title", "words"),
    [
        ("stated.conf", "Stated by BLS", ["from=grubenv", "bls=yes"]),
        # ukify puts a profile without a title before those that it is given.
        ("stated-6.1.efi@1", r"Stated \(plain\)", ["uki=plain"]),
        ("stated-6.1.efi@2", r"Stated \(debug\)", ["uki=debug"]),
        ("Stated by extlinux", "Stated by extlinux", ["extlinux=yes"]),
    ],
    ids=["type 1", "type 2", "a profile", "extlinux"],
)
def test_what_is_stated_starts(machine: Machines, disk: Path, wish: str, title: str, words: list[str]) -> None:
    with machine([disk], f'poolboot.entry="{wish}"') as guest:
        booting = guest.expect(rf"poolboot: booting {title} kernel=.* cmdline=(.*)", SECONDS)
        guest.expect(layouts.MARKER, SECONDS)
        line = guest.expect("second archive, booted with: (.*)")[1].strip()
        assert line == booting[1].strip()
        assert set(words) <= set(line.split())
        assert "$" not in line
        assert not {"initrd=../first.img,../second.img", "root=/dev/gone"} & set(line.split())
