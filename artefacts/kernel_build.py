"""The bootstrap kernel: Debian's kernel source, our fragment, and a build that gives the same bytes to everybody.

The source is unpacked and compiled below the cache, outside of the source tree.  Objects stay there, so that a changed
fragment rebuilds only what it touches.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from artefacts import cache, debian, kernel_config, toolchain
from artefacts.counters import Kbuild, planned
from artefacts.kernel_config import Option, Version
from artefacts.steps import BuildError, run, step

PROJECT = Path(__file__).resolve().parent.parent
FRAGMENTS = PROJECT / "kernel-config"

_TOOLS = "bc bison flex libelf-dev libssl-dev make gcc xz-utils"
_HINT = f"apt install {_TOOLS}"

# What the kernel would take from the clock and the machine.
_IDENTITY = {
    "KBUILD_BUILD_USER": "poolboot",
    "KBUILD_BUILD_HOST": "poolboot",
    "KBUILD_BUILD_VERSION": "1",
    "LC_ALL": "C",
}


class Architecture(NamedTuple):
    """How the kernel of one architecture is built."""

    name: str
    """As in the fragment's file name."""
    arch: str
    """The kernel's name for it."""
    target: str
    image: str
    """Below the build directory."""


ARCHITECTURES = {
    one.name: one
    for one in (
        Architecture("x86_64", "x86", "bzImage", "arch/x86/boot/bzImage"),
        Architecture("arm64", "arm64", "Image", "arch/arm64/boot/Image"),
    )
}


class Source(NamedTuple):
    """An unpacked kernel source."""

    tree: Path
    package: str
    """Debian's version of it: "6.1.170-3"."""
    version: Version


class Built(NamedTuple):
    """A finished kernel in the cache."""

    image: Path
    config: Path
    release: str
    seconds: float
    """How long it took to compile, objects of an earlier build included."""


def build(suite: str = "bookworm", architecture: str = "x86_64", extra: Sequence[Path] = ()) -> Built:
    """The bootstrap kernel from the kernel source of Debian ``suite``; ``extra`` are more fragments on top.

    Raises BuildError; options that the kernel drops are named.
    """
    if architecture not in ARCHITECTURES:
        raise BuildError(f"there is no slim kernel for {architecture}", "--kernel PATH, --arch ARCH")
    arch = ARCHITECTURES[architecture]
    compiler = toolchain.prefix(architecture)
    source = fetch(suite)
    fragments = [FRAGMENTS / f"disk-{architecture}.config", *extra]
    options = [option for path in fragments for option in kernel_config.read(path, source.version)]
    lines = [option.line() for option in options]
    name = f"{source.package}-{architecture}-{cache.key(lines, _compiler_version(compiler, arch))}"

    def make(work: Path) -> None:
        _make(work, source, arch, compiler, options, name)

    made = cache.entry("kernel", name, make)
    about = json.loads((made / "about.json").read_text())
    return Built(made / "vmlinuz", made / "config", about["release"], about["seconds"])


def fetch(suite: str) -> Source:
    """The kernel source of Debian ``suite``, unpacked in the cache."""
    pattern = r"linux-source-[0-9.]+"
    packed = debian.packages(suite, ["linux-source"], dependencies=False, follow=r"linux-source-[0-9.]*")
    archives = sorted((packed / "usr/src").glob("linux-source-*.tar.xz"))
    if len(archives) != 1:
        raise BuildError(f"{packed} has {len(archives)} kernel sources, wanted one")
    archive = archives[0]
    found = re.match(pattern, archive.name)
    if not found:
        raise BuildError(f"{archive.name}: no version in its name")
    package = _package_version(packed / "usr/share/doc" / found[0].rstrip(".") / "changelog.Debian.gz")
    log = cache.root() / "kernel-source" / f"{package}.log"

    def unpack(work: Path) -> None:
        with step(f"unpacking the kernel source {package}", log):
            command: list[str | os.PathLike[str]] = [
                "tar",
                "-xf",
                archive,
                "--strip-components=1",
                "--no-same-owner",
                "-C",
                work,
            ]
            run(command, log=log, hint="apt install xz-utils; 2 GB of room are needed")

    tree = cache.entry("kernel-source", package, unpack)
    major, minor = re.findall(r"\d+", package)[:2]
    return Source(tree, package, (int(major), int(minor)))


def _package_version(changelog: Path) -> str:
    try:
        with gzip.open(changelog, "rt") as file:
            first = file.readline()
    except OSError as error:
        raise BuildError(f"{changelog}: {error.strerror}") from None
    found = re.match(r"\S+ \(([^)]+)\)", first)  # "linux (6.1.170-3) bookworm-security; urgency=high"
    if not found:
        raise BuildError(f"{changelog} does not begin with a version")
    return found[1]


def _make(work: Path, source: Source, arch: Architecture, compiler: str, options: list[Option], name: str) -> None:
    log = cache.root() / "kernel" / f"{name}.log"
    what, counter = f"building the kernel {source.package} for {arch.name}", Kbuild()
    with _objects(source, arch) as objects, step(what, log, counter):
        base: list[str | os.PathLike[str]] = ["make", "-C", source.tree, f"O={objects}", f"ARCH={arch.arch}"]
        if compiler:
            base.append(f"CROSS_COMPILE={compiler}")
        hint = _HINT + (f" {toolchain.package(arch.name)}" if compiler else "")
        configure(base, objects, source, arch, options, log, hint)
        seconds = -time.monotonic()
        environment = {**_IDENTITY, "KBUILD_BUILD_TIMESTAMP": _timestamp(source)}
        base.append(f"-j{len(os.sched_getaffinity(0))}")
        run([*base, "prepare"], log=log, hint=hint, env=environment)
        counter.total = counter.done + _planned(base, environment)
        run([*base, arch.target], log=log, hint=hint, env=environment)
        seconds += time.monotonic()
        shutil.copyfile(objects / arch.image, work / "vmlinuz")
        shutil.copyfile(objects / ".config", work / "config")
        release = (objects / "include/config/kernel.release").read_text().strip()
    (work / "about.json").write_text(json.dumps({"release": release, "seconds": round(seconds, 1)}))


def _planned(make: Sequence[str | os.PathLike[str]], environment: Mapping[str, str]) -> int:
    """How many objects are still to be made, by what make would do: 4 seconds of processor time for the whole kernel.

    It breaks off at the archive of what it did not make.  What wraps the kernel for the firmware is not in the number.
    """
    with tempfile.TemporaryFile() as plan:
        subprocess.run(
            [*make, "--dry-run", "vmlinux"],
            stdin=subprocess.DEVNULL,
            stdout=plan,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environment},
            check=False,
        )
        plan.seek(0)
        return planned(line.decode(errors="replace") for line in plan)


def configure(
    make: Sequence[str | os.PathLike[str]],
    objects: Path,
    source: Source,
    arch: Architecture,
    options: list[Option],
    log: Path,
    hint: str = _HINT,
) -> None:
    """Write ``objects/.config``: tinyconfig, the options, and off for whatever these make visible.

    tinyconfig itself is allnoconfig with two small files of answers.  Ours go behind them: the last answer wins.
    """
    answers = objects / "answers.config"
    tiny = (
        source.tree / "kernel/configs/tiny-base.config",
        source.tree / "kernel/configs/tiny.config",
        source.tree / f"arch/{arch.arch}/configs/tiny.config",
    )
    text = [path.read_text() for path in tiny if path.exists()]
    answers.write_text("\n".join([*text, *(option.line() for option in options), ""]))
    run([*make, "allnoconfig"], log=log, hint=hint, env={**_IDENTITY, "KCONFIG_ALLCONFIG": str(answers)})
    run([*make, "olddefconfig"], log=log, hint=hint, env=_IDENTITY)
    config = kernel_config.in_force((objects / ".config").read_text())
    kernel_config.check(options, config, f"the kernel {source.package} ({arch.name})")


@contextlib.contextmanager
def _objects(source: Source, arch: Architecture) -> Iterator[Path]:
    """The directory with the objects of earlier builds, for one build at a time."""
    directory = cache.root() / "kernel-objects" / f"{source.package}-{arch.name}"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory.parent / f".{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory


def _timestamp(source: Source) -> str:
    """The date that the kernel says it was built at: that of the source, not of the build."""
    stamp = int((source.tree / "Makefile").stat().st_mtime)
    return subprocess.run(
        ["date", "--utc", f"--date=@{stamp}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LC_ALL": "C"},
    ).stdout.strip()


def _compiler_version(prefix: str, arch: Architecture) -> str:
    """The first line of what the compiler says of itself: another compiler makes another image."""
    try:
        done = subprocess.run([f"{prefix}gcc", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        package = toolchain.package(arch.name) if prefix else "gcc"
        raise BuildError(f"{prefix}gcc does not run", f"apt install {package}") from None
    return done.stdout.splitlines()[0]
