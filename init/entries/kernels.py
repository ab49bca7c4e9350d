"""Entries from what lies in /boot: a kernel and the initrd that goes with it, by their names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from fsdrivers.errors import FsError, NotADirectory, NotFound
from fsdrivers.filesystem import DIRECTORY, FILE, File, Filesystem
from fsdrivers.shown import short
from init.config import BootConfig
from init.entries import cmdline, shellvars
from init.entries.entry import BootEntry
from init.entries.item import MAX_ITEMS, MAX_TITLE
from init.kernel import image
from init.roots import OS_RELEASE, BootRoot, is_nixos, looks_like_root

BOOT = "/boot"
MAX_NAMES = 4096  # names in one directory that are looked at
MAX_OS_RELEASE = 1 << 16  # bytes

# The names that kernels have, and what the initrd of version V may be called, best first.
# Source: util/grub.d/10_linux.in of GRUB 2.12, and Alpine's and Arch's kernel packages.
_KERNELS = ("vmlinuz-", "vmlinux-", "kernel-", "bzImage-", "Image-")
_INITRDS = (
    "initrd.img-{}", "initrd-{}.img", "initramfs-{}.img", "initrd-{}.gz", "initrd-{}", "initramfs-{}",
    "initramfs-genkernel-{}", "initramfs-genkernel-x86_64-{}",
)  # fmt: skip
_PLAIN_KERNELS = ("vmlinuz", "bzImage", "Image")
_PLAIN_INITRDS = ("initrd.img", "initrd", "initramfs.img", "initrd.gz")
# Microcode goes in front of any initrd.
_MICROCODE = ("intel-ucode.img", "intel-uc.img", "amd-ucode.img", "amd-uc.img", "early_ucode.cpio", "microcode.cpio")
# What the name of anything that matters here begins with.
_BEGINNINGS = (*_KERNELS, *_PLAIN_KERNELS, *_PLAIN_INITRDS, *_MICROCODE, "initrd", "initramfs")
# Left behind by package managers, signatures of a kernel, or its symbols for debuggers.
_GARBAGE = (
    ".xz", ".gz", ".zst", ".rpmsave", ".rpmnew", ".rpmorig", ".sig", ".hmac", ".sha512hmac", ".map", "~", ".tmp",
    ".bls", ".efi",
)  # fmt: skip


class Pair(NamedTuple):
    """A kernel with its initrds, full paths; ``version`` from the name, "" when that has none."""

    version: str
    kernel: str
    initrds: tuple[str, ...]


def find(place: BootRoot, config: BootConfig, note: Callable[[str], None]) -> Iterator[BootEntry]:
    """An entry for each kernel in /boot of ``place``, or in its top directory when /boot has none."""
    for directory in (BOOT, "/"):
        try:
            names = [entry.name for entry in place.files.listdir(directory, lambda name: name.startswith(_BEGINNINGS))]
        except (NotFound, NotADirectory):
            continue
        except FsError as error:
            note(f"{place.where}: {directory}: {error}")
            continue
        pairs = list(islice(_real(place.files, pair(names[:MAX_NAMES], directory), note), MAX_ITEMS + 1))
        if len(pairs) > MAX_ITEMS:
            note(f"{place.where}: {directory}: only {MAX_ITEMS} kernels are looked at")
        if pairs:
            system = _System(place, config, note)
            for found in pairs[:MAX_ITEMS]:
                yield _entry(system, found, f"{directory} of {place.where}")
            return


class _System:
    """What the entries of one root have in common."""

    def __init__(self, place: BootRoot, config: BootConfig, note: Callable[[str], None]) -> None:
        """Notes about the command line go to ``note``."""
        self.place, self.name = place, pretty_name(place.filesystem)
        self.settings = cmdline.Settings(place, config)
        for line in self.settings.notes:
            note(f"{place.where}: {line}")


def make(place: BootRoot, config: BootConfig, found: Pair, source: str, note: Callable[[str], None]) -> BootEntry:
    """The entry for one kernel; notes about its command line go to ``note``, about itself into the entry.

    Raises Unwritable when the root has a name that no command line can carry.
    """
    return _entry(_System(place, config, note), found, source)


def _entry(system: _System, found: Pair, source: str) -> BootEntry:
    place = system.place
    version = found.version
    if not version[:1].isdigit():
        version = _header_version(place.files, found.kernel) or version
    name = found.kernel.rpartition("/")[2]
    remarks = []
    if not found.initrds:
        remarks.append("no initrd: only a kernel with the root's driver built in can start this")
    remarks += without_modules(place, version)
    return BootEntry(
        id=f"{place.where.removesuffix('/')}/{found.version or name}",
        title=f"{system.name}, kernel {version or name}",
        source=source,
        place=place,
        kernel=found.kernel,
        initrds=found.initrds,
        cmdline=system.settings.line(lambda: _initrd(place.files, found.initrds)),
        version=version,
        notes=tuple(remarks),
        files=place.boot,
    )


def without_kernel(place: BootRoot, config: BootConfig, note: Callable[[str], None]) -> list[BootEntry]:
    """The entry of a root that holds a system but no kernel: enough for poolboot.handover=switch_root."""
    if not looks_like_root(place.filesystem):
        return []
    text, notes = cmdline.compute(place, config, None)
    for line in notes:
        note(f"{place.where}: {line}")
    return [
        BootEntry(
            id=f"{place.where.removesuffix('/')}/running",
            title=f"{pretty_name(place.filesystem)}, the running kernel",
            source=place.where,
            place=place,
            kernel="",
            initrds=(),
            cmdline=text,
            version="",
        )
    ]


def _initrd(filesystem: Filesystem, paths: tuple[str, ...]) -> File | None:
    """The last of the initrds, which is the one that is more than microcode."""
    try:
        return filesystem.open(paths[-1]) if paths else None
    except FsError:  # the handover will say what is wrong with it
        return None


def without_modules(place: BootRoot, version: str) -> list[str]:
    """A remark for an entry whose kernel has no modules in its root, else nothing."""
    try:
        missing = version[:1].isdigit() and not place.filesystem.exists(f"/lib/modules/{version}")
    except FsError:  # the walk to them is damaged: their kernel will say so, if it ever looks for them
        missing = True
    if not missing or is_nixos(place.filesystem):  # which has them in its store
        return []
    return [f"no /lib/modules/{version} in this root"]


def pair(names: list[str], directory: str) -> list[Pair]:
    """The kernels among the file names of one directory, each with the initrds that are there for it."""
    present = set(names)
    base = "" if directory == "/" else directory
    microcode = tuple(f"{base}/{name}" for name in _MICROCODE if name in present)
    pairs = []
    for name in sorted(names):
        prefix = next((prefix for prefix in _KERNELS if name.startswith(prefix)), None)
        if name.endswith(_GARBAGE) or ".dpkg-" in name:
            continue
        if prefix is not None:
            version = name.removeprefix(prefix)
            # "vmlinuz-6.1.old" may have kept the initrd of 6.1.
            versions = (version, version.removesuffix(".old"))
            options = [pattern.format(wanted) for wanted in dict.fromkeys(versions) for pattern in _INITRDS]
        elif name in _PLAIN_KERNELS:
            version, options = "", list(_PLAIN_INITRDS)
        else:
            continue
        initrd = next((option for option in options if option in present), None)
        pairs.append(Pair(version, f"{base}/{name}", (*microcode, f"{base}/{initrd}") if initrd else ()))
    return pairs


def _real(filesystem: Filesystem, pairs: list[Pair], note: Callable[[str], None]) -> Iterator[Pair]:
    """The pairs whose kernel is a regular file, each file once: plain names are often links to versioned ones."""
    seen = set()
    # Slackware has one initrd.gz, for what its vmlinuz leads to.
    for found in sorted(pairs, key=lambda pair: (not pair.initrds, not pair.version)):
        try:
            node = filesystem.resolve(found.kernel)
            kind = filesystem.stat(node).type
        except FsError as error:
            note(f"kernel passed over: {error}")
            continue
        if kind not in (FILE, DIRECTORY):
            note(f"kernel passed over: {found.kernel} is a {kind}")
        if kind == FILE and node not in seen:
            seen.add(node)
            yield found


def pretty_name(filesystem: Filesystem) -> str:
    """The name of the system in this tree, from its os-release."""
    for path in OS_RELEASE:
        try:
            text = filesystem.read_file(path, MAX_OS_RELEASE)
        except FsError:
            continue
        values, _ = shellvars.parse(text.decode("utf-8", "replace"))
        return short(values.get("PRETTY_NAME") or values.get("NAME") or "Linux", MAX_TITLE)
    return "Linux"


def _header_version(filesystem: Filesystem, path: str) -> str:
    try:
        return image.identify(filesystem.open(path), os.uname().machine).version
    except FsError:  # the handover will say what is wrong with it
        return ""
