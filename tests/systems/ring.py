"""What ring 0 does in the bare root of a release: set it up, build, test; and boot what came out of it.

Costly steps are kept by the hash of what went into them, like everything in the cache: the root with its packages and
.venv, what was built, and that tests have passed.  A step that failed leaves nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import bareroot
from bareroot import PROJECT, Root
from releases import Release

from artefacts import cache, kernel_build
from artefacts.steps import BuildError, step
from qemu import images, run, workshop, zfs_images
from qemu.machine import Disk, Machine

LOGS = run.BUILD / "systems"
BOOT_SECONDS = 400

# What the program and its archive are made of.
_PROGRAM = ("init", "fsdrivers", "artefacts", "build.py", "pyproject.toml", "setup.sh")

# .venv is costly; the rest of a checkout is put in anew.
_BUT_VENV = "find . -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +"

_CLOSING = re.compile(r"^=+ (?:\d+ failed, )?(\d+) passed.* in .*=+$", re.MULTILINE)


class Image(NamedTuple):
    """A boot image whose program was built in a release's root."""

    initrd: Path
    kernel: Path
    python: str
    """The full version of the root's Python, "3.13.5"."""


class Ring:
    """The steps for one release.  Everything raises BuildError."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self._checkout = {path: _print(PROJECT / path) for path in bareroot.files()}
        self._open = contextlib.ExitStack()
        self._root: Root | None = None

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._root = None

    def log(self, what: str) -> Path:
        """Where the output of a step goes."""
        return LOGS / f"{self.release.suite}-{what}.log"

    def root(self) -> Root:
        """A root with the checkout, set up as the README says; made when first asked for, gone with the ring."""
        if self._root is None:
            tar, log = ready(self.release), self.log("setup")
            with step(f"setting up a checkout in {self.release.title}", log):
                root = self._open.enter_context(bareroot.unpacked(tar, store(self.release)))
                root.put_checkout()
                self._check(root)
                root.run(["./setup.sh"], log)
            self._root = root
        return self._root

    def _check(self, root: Root) -> None:
        """What is proved is kept by what the checkout was: it must not be another one by now."""
        for path in {*self._checkout, *bareroot.files()}:
            copied = root.checkout / path
            if not os.path.lexists(copied) or _print(copied) != self._checkout.get(path):
                raise BuildError(f"{path} changed while ring 0 started", "leave the checkout alone, and start it again")

    def image(self) -> Image:
        """The boot image by ``build.py`` in the root, around this machine's slim kernel; its program has started."""
        kernel = kernel_build.build().image
        identity = [self._identity(*_PROGRAM), workshop.fingerprint(kernel)]

        def make(work: Path) -> None:
            root, log = self.root(), self.log("program")
            with step(f"building the program in {self.release.title}", log):
                shutil.copyfile(kernel, root.checkout / "build/machine-vmlinuz")
                root.run([".venv/bin/python", "build.py", "--kernel", "build/machine-vmlinuz"], log)
                # As a person would first; the build itself has tried more.
                root.run(["build/init", "--help"], log)
            version = root.output([".venv/bin/python", "-c", "import platform; print(platform.python_version())"])
            shutil.copyfile(root.checkout / "build/initramfs.cpio.zst", work / "initramfs.cpio.zst")
            shutil.copyfile(kernel, work / "vmlinuz")
            (work / "python").write_text(version)

        made = cache.entry("systems", f"image-{self.release.suite}-{cache.key(*identity)}", make)
        return Image(made / "initramfs.cpio.zst", made / "vmlinuz", (made / "python").read_text().strip())

    def unit_tests(self) -> int:
        """Run `make unit-test` in the root; returns how many tests have passed."""

        def prove() -> int:
            root, log = self.root(), self.log("unit-test")
            with step(f"unit tests in {self.release.title}", log):
                root.run(["make", "unit-test"], log)
            closing = _CLOSING.findall(log.read_text(errors="replace"))
            if not closing:
                raise BuildError(f"{log} has no closing line of pytest")
            return int(closing[-1])

        return int(self._proved("unit-test", prove, self._identity()))

    def lint(self) -> None:
        """Run `make lint` in the root."""

        def prove() -> bool:
            root, log = self.root(), self.log("lint")
            with step(f"lint in {self.release.title}", log):
                root.run(["make", "lint"], log)
            return True

        self._proved("lint", prove, self._identity())

    def boot_btrfs(self) -> str:
        """Boot a Debian of the release on a btrfs RAID1 to its own marker; returns its kernel's version."""
        return self._boot("btrfs", images.debian_raid1(self.release.suite).disks)

    def boot_zfs(self) -> str:
        """The same on a RAID-Z1 minus one.  Compiles OpenZFS of the release when its modules are not cached."""
        first, end = zfs_images.POOLS["raidz1"]
        return self._boot("zfs", zfs_images.debian(self.release.suite).disks[first : end - 1])

    def _boot(self, what: str, disks: list[Path]) -> str:
        image = self.image()
        inputs = [workshop.fingerprint(image.initrd), workshop.fingerprint(image.kernel), [str(path) for path in disks]]

        def prove() -> str:
            log = self.log(f"boot-{what}")
            with step(f"booting {self.release.title} from {what}", log):
                return _marker_of(image, disks, log)

        return str(self._proved(f"boot-{what}", prove, inputs))

    def _proved(self, what: str, prove: Callable[[], Any], inputs: object) -> Any:
        """What ``prove`` returned when it was last called with these inputs: now, or in an earlier run."""
        fresh = False

        def make(work: Path) -> None:
            nonlocal fresh
            fresh = True
            result = prove()
            (work / "proof.json").write_text(json.dumps({"result": result, "at": time.strftime("%Y-%m-%d %H:%M")}))

        made = cache.entry("systems", f"{what}-{self.release.suite}-{cache.key(inputs)}", make)
        proof = json.loads((made / "proof.json").read_text())
        if not fresh:
            print(f"systems: {what} of {self.release.suite}: proved on {proof['at']} with the same inputs", flush=True)
        return proof["result"]

    def _identity(self, *below: str) -> list[object]:
        """What a step in the root depends on: the root, and the checkout or what of it is ``below`` these names."""
        chosen = [path for path in self._checkout if not below or path.parts[0] in below]
        return [_ready_key(self.release), [(str(path), self._checkout[path]) for path in chosen]]


def store(release: Release) -> Path:
    """The directory for what roots of the release keep."""
    return cache.root() / "systems" / f"store-{release.suite}"


def ready(release: Release) -> Path:
    """A root in which setup.sh has run, with .venv in its checkout: a zstd-compressed tar.  Raises BuildError."""
    log = LOGS / f"{release.suite}-ready.log"

    def make(work: Path) -> None:
        tar = bareroot.bare(release.suite)
        with (
            cache.alone(store(release) / "lock"),  # apt does not wait for another in the same archives
            step(f"setup.sh in a bare {release.title}", log),
            bareroot.unpacked(tar, store(release)) as root,
        ):
            root.put_checkout()
            root.run(["./setup.sh"], log)
            root.run(["sh", "-c", _BUT_VENV], log)
            root.pack(work / "root.tar.zst", log)

    return cache.entry("systems", f"ready-{release.suite}-{_ready_key(release)}", make) / "root.tar.zst"


def _ready_key(release: Release) -> str:
    """What is installed; every run calls setup.sh again, for whatever else that has come to do."""
    packages = re.findall(r'^packages="(.*)"$', (PROJECT / "setup.sh").read_text(), re.MULTILINE)
    return cache.key(release.suite, bareroot.BARE, packages, (PROJECT / "pyproject.toml").read_text())


def _print(path: Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    return f"{path.stat().st_mode & 0o111:o} {workshop.fingerprint(path)}"


def _marker_of(image: Image, disks: list[Path], log: Path) -> str:
    with Machine(image.kernel, image.initrd, run.CMDLINE, [Disk(path) for path in disks], log=log) as guest:
        python = guest.expect(r"poolboot: \S+, Python ([0-9.]+), Linux", 90)[1]
        if python != image.python:
            raise BuildError(f"the program in the machine is of Python {python}, not {image.python}")
        kernel = guest.expect(r"poolboot: booting .* kernel=\S*?vmlinuz-(\S+)", 120)[1]
        guest.expect(images.MARKER, BOOT_SECONDS)
        guest.expect("booted with: .*", 60)
    return kernel
