"""The boot image: program, kernel modules, what the user adds, and the few files without which nothing starts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import zstandard

from artefacts import cache, cpio, elf, kmod
from artefacts.debian import Kernel
from artefacts.program import Program
from artefacts.steps import BuildError, replace, step, warn

BUDGET = 6 << 20  # bytes, compressed, without kernel modules
DYNAMIC_HOME = "usr/lib/poolboot"


class Part(NamedTuple):
    """A line of the size table."""

    what: str
    size: int
    """Bytes before compression."""


class Include(NamedTuple):
    """One ``--include``: a file or the name of a module, and where it shall lie (empty: where it lies here)."""

    source: str
    target: str


def parse_include(text: str) -> Include:
    """``PATH[:DEST]``; DEST is absolute, and a directory when it ends in a slash.  Raises BuildError."""
    source, colon, target = text.rpartition(":/")
    if not colon:
        return Include(text, "")
    if not source:
        raise BuildError(f"--include {text} names no file", "PATH[:/DEST]")
    return Include(source, f"/{target}")


def build(
    output: Path, program: Program, kernel: Kernel | None, release: str, includes: Sequence[Include]
) -> tuple[Path, list[Part]]:
    """Write ``output/initramfs.cpio.zst``.

    ``kernel`` is None for one that has everything built in; ``release`` is then only needed by modules among
    ``includes``.  Returns the file and the parts for the size table.  Raises BuildError.
    """
    archive = cpio.Archive()
    parts = [_skeleton(archive), _program(archive, program)]
    modules = kmod.Modules(kernel.modules) if kernel else None
    names = [include for include in includes if _names_module(include)]
    files = [include for include in includes if not _names_module(include)]
    without_modules = _copy(archive)
    if modules is not None:
        parts.append(_modules(archive, modules, release, names))
    elif names:
        raise BuildError(f"--include {names[0].source}: there are no modules for this kernel", "add --modules DIR")
    for include in files:
        parts.append(_file(archive, include))
    packed = archive.pack()
    target = output / "initramfs.cpio.zst"
    with cache.alone(output / ".initramfs.lock"), step(f"packing {len(packed) / 1e6:.1f} MB into {target.name}"):
        _compress(packed, target)
    if target.stat().st_size > BUDGET:
        _warn_over_budget(without_modules, target.stat().st_size)
    return target, parts


def _skeleton(archive: cpio.Archive) -> Part:
    """Directories, the nodes that are needed before devtmpfs is mounted, and the link that Nuitka's start-up reads."""
    for directory in ("dev", "etc", "proc", "root", "run", "sys", "tmp"):
        archive.directory(directory)
    # CPython stops without entropy, and the kernel gives an init without /dev/console no standard streams.
    archive.character_device("dev/console", 5, 1, 0o600)
    archive.character_device("dev/kmsg", 1, 11, 0o600)
    archive.character_device("dev/null", 1, 3, 0o666)
    archive.character_device("dev/urandom", 1, 9, 0o666)
    return Part("directories and device nodes", 0)


def _program(archive: cpio.Archive, program: Program) -> Part:
    if program.home is None:
        data = program.binary.read_bytes()
        archive.file("init", data, 0o755)
        # Read before anything can be mounted; the real /proc covers it later.
        archive.symlink("proc/self/exe", "/init")
        return Part("boot program (one static ELF file)", len(data))
    size = 0
    for path in sorted(path for path in program.home.rglob("*") if path.is_file()):
        data = path.read_bytes()
        place = f"{DYNAMIC_HOME}/{path.relative_to(program.home).as_posix()}"
        archive.file(place, data, 0o755 if elf.is_elf(path) else 0o644)
        size += len(data)
        if elf.is_elf(path):
            own = {one.name for one in program.home.iterdir()}
            size += _libraries(archive, path, skip=own)
    start = f"/{DYNAMIC_HOME}/{program.binary.name}"
    archive.symlink("init", start)
    archive.symlink("proc/self/exe", start)
    return Part("boot program and its libraries", size)


def _libraries(archive: cpio.Archive, path: Path, skip: Iterable[str] = ()) -> int:
    """Add the library closure of a program; how many bytes came in."""
    size = 0
    for place, host in elf.closure(path).items():
        if place in archive or Path(place).name in skip:
            continue
        data = host.read_bytes()
        archive.file(place, data, 0o755)
        size += len(data)
    return size


def _names_module(include: Include) -> bool:
    """Whether an ``--include`` is a kernel module: a module file, or a bare name that is no file here."""
    name = Path(include.source).name
    return ".ko" in Path(name).suffixes or ("/" not in include.source and not Path(include.source).exists())


def _modules(archive: cpio.Archive, modules: kmod.Modules, release: str, includes: Sequence[Include]) -> Part:
    wanted = [name for names in kmod.STORAGE.values() for name in names.split()]
    found = modules.closure(wanted)
    _report_missing(found.missing, release)
    chosen = {module.name: module for module in found.modules}
    for include in includes:
        for module in _extra_modules(modules, include):
            chosen.setdefault(module.name, module)
    for module in chosen.values():
        archive.file(f"lib/modules/{release}/{module.path}", module.data)
    archive.file(kmod.TABLE, kmod.table(chosen.values(), release).encode())
    size = sum(len(module.data) for module in chosen.values())
    return Part(f"{len(chosen)} kernel modules for {release}", size)


def _extra_modules(modules: kmod.Modules, include: Include) -> list[kmod.Module]:
    """The closure of one module that the user asked for."""
    if "/" not in include.source and not Path(include.source).exists():
        return list(modules.closure([include.source], required=True).modules)
    path = Path(include.source)
    if not path.is_file():
        raise BuildError(f"--include {include.source}: no such file")
    name = kmod.normal(path.name)
    module = kmod.parse(name, f"extra/{path.name.partition('.ko')[0]}.ko", kmod.load(path))
    return [*modules.closure(module.depends, required=True).modules, module]


def _report_missing(missing: Sequence[str], release: str) -> None:
    for group, names in kmod.STORAGE.items():
        absent = [name for name in names.split() if kmod.normal(name) in missing]
        if absent:
            whole = " (all of it)" if len(absent) == len(names.split()) else ""
            print(f"build: {release} has no driver for {group}{whole}: {', '.join(absent)}", flush=True)


def _file(archive: cpio.Archive, include: Include) -> Part:
    source = Path(include.source)
    if not source.is_file():
        raise BuildError(f"--include {include.source}: no such file", "PATH[:/DEST], or the name of a kernel module")
    target = include.target or str(source.absolute())
    if target.endswith("/"):
        target += source.name
    data = source.read_bytes()
    executable = bool(source.stat().st_mode & 0o111)
    size, note = len(data), ""
    try:
        archive.file(target, data, 0o755 if executable else 0o644)
        if elf.is_elf(source):
            more = _libraries(archive, source)
            size, note = size + more, " and its libraries" if more else ""
        elif data.startswith(b"#!"):
            interpreter = data[2:].split(b"\n", 1)[0].split()[:1]
            if not interpreter or interpreter[0].decode() not in archive:
                warn(f"{target} is a script: include {b''.join(interpreter).decode(errors='replace')} too")
    except ValueError as error:
        raise BuildError(f"--include {include.source}: {error}") from None
    return Part(f"{target}{note}", size)


def _compress(packed: bytes, target: Path) -> None:
    """Compress unless the file was made of the same bytes the last time."""
    key = target.with_suffix(".key")
    identity = f"{hashlib.sha256(packed).hexdigest()} zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))}\n"
    if target.exists() and key.exists() and key.read_text() == identity:
        return
    key.unlink(missing_ok=True)
    replace(target, cpio.compress(packed))
    key.write_text(identity)


def _copy(archive: cpio.Archive) -> cpio.Archive:
    copied = cpio.Archive(archive.mtime)
    copied.update(archive)
    return copied


def _warn_over_budget(without_modules: cpio.Archive, total: int) -> None:
    bare = len(cpio.compress(without_modules.pack()))
    if bare > BUDGET:
        warn(f"the initramfs has {bare / 2**20:.1f} MiB without modules and additions; the budget is 6 MiB")
    else:
        print(f"build: {bare / 2**20:.1f} of {total / 2**20:.1f} MiB are poolboot itself", flush=True)
