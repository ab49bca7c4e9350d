"""The boot program: ``init`` and the drivers made by Nuitka into one file.

Static (the default) means one ELF file with CPython, the C library and our C modules inside.  Dynamic means Nuitka's
standalone directory, for distributions that ship no static libpython; its libraries travel along.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

from artefacts import NEWEST, NEWEST_STATIC, PYTHONS, cache, elf, native, started
from artefacts.counters import Files, Tally
from artefacts.steps import BuildError, run, short, step, warn
from artefacts.toolchain import NATIVE, Toolchain

PROJECT = native.PROJECT
_SOURCES = ("init", "fsdrivers")

# The packages that go into the program; nothing else that happens to be installed does.
_PACKAGES = _SOURCES

# The modules that Nuitka turns into C; the others travel as bytecode, frozen into the same file.  Measured on walking
# and hashing a Debian root of 7000 objects on btrfs RAID1: drivers in C 2.2 s, in bytecode 2.1 s; the C compiler takes
# 3 s for each module and the program grows by a quarter.  What has to run at machine speed is in fsdrivers/native.
_COMPILED = ("init.__main__",)

# Modules that Nuitka finds mentioned and that the program never needs: they are shared libraries, large, or absent
# from a static libpython, and whoever mentions them copes with ImportError.
_UNWANTED = (
    "_asyncio",
    "_bz2",
    "_contextvars",
    "_ctypes",
    "_decimal",
    "_hashlib",
    "_json",
    "_lzma",
    "_multiprocessing",
    "_opcode",
    "_posixsubprocess",
    "_queue",
    "_socket",
    "_ssl",
    "_typing",
    "_uuid",
    "_zoneinfo",
    "mmap",
    "pprint",
    "readline",
    "resource",
    "termios",
)
_UNWANTED_STATIC = ("ctypes",)


class Program(NamedTuple):
    """A built boot program."""

    binary: Path
    """The file that the kernel executes."""
    home: Path | None
    """The directory that it needs around it; None for a static program."""


def build(output: Path, *, static: bool = True, chain: Toolchain = NATIVE) -> Program:
    """Compile ``init`` into ``output/init`` (static) or ``output/init.dist/`` (dynamic).

    Does nothing when the sources and tools are those of the last build.  Raises BuildError.
    """
    if chain.prefix and not static:
        raise BuildError(f"a program for {chain.architecture} is static", "leave out --dynamic")
    _check_interpreter(static, chain)
    with cache.alone(output / ".program.lock", f"build: waiting for another build in {short(output)}"):
        return _build(output, static, chain)


def _build(output: Path, static: bool, chain: Toolchain) -> Program:
    log = output / "logs" / "program.log"
    key = output / ("init.key" if static else "init-dynamic.key")
    identity = _identity(static, chain)
    program = _existing(output, static)
    if program is not None and key.exists() and key.read_text() == identity and _still_starts(program, chain):
        print(f"build: {short(program.binary)} is up to date", flush=True)
        return program
    key.unlink(missing_ok=True)
    tally = Tally("modules compiled")
    with step(f"compiling the C modules of the {'static' if static else 'dynamic'} program", log, tally):
        work = output / "native"
        extensions = native.extensions(log)
        native.archive(extensions, work, log, chain, tally)
    made = Files(_folder(output, static) / "init.build", ".c", ".o", "files compiled")
    with step("compiling the program with Nuitka", output / "logs" / "nuitka.log", made):
        dist = _nuitka(output, work, [one.name for one in extensions], static, chain)
        program = _install(dist, output, static, chain)
    key.write_text(identity)
    return program


def _still_starts(program: Program, chain: Toolchain) -> bool:
    """Whether it is still what it was: a crash of the machine leaves empty files, an upgrade other libraries."""
    try:
        started.check(program.binary, chain)
    except BuildError as error:
        warn(f"{error.message}: it is made anew")
        return False
    return True


def _existing(output: Path, static: bool) -> Program | None:
    if static:
        return Program(output / "init", None) if (output / "init").is_file() else None
    dist = output / "init.dist"
    return Program(dist / "init", dist) if (dist / "init").is_file() else None


def _check_interpreter(static: bool, chain: Toolchain) -> None:
    version = ".".join(map(str, sys.version_info[:2]))
    if sys.version_info[:2] > NEWEST:
        raise BuildError(f"Python {version} is newer than what the boot program is built with", f"use Python {PYTHONS}")
    if static and sys.version_info[:2] > NEWEST_STATIC:
        # Nuitka 4.3, options/Options.py:_couldUseStaticLibPython, refuses it, and with reason: Debian's archive has the
        # modules _sha2 and _blake2 without the code of HACL* that they call since 3.14.
        raise BuildError(
            f"the static library of Python {version} lacks its hash functions, and Nuitka does not link it",
            f"build with --dynamic, or use Python {PYTHONS}",
        )
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        raise BuildError("the headers of Python are missing", f"apt install libpython{version}-dev")
    if not static:
        return
    name = f"libpython{version}.a"
    places = [sysconfig.get_config_var("LIBPL"), sysconfig.get_config_var("LIBDIR")]
    if not chain.libpython and not any(place and Path(place, name).exists() for place in places):
        raise BuildError(
            f"{sys.executable} has no static {name}",
            f"apt install libpython{version}-dev; or build with --dynamic where the distribution ships none",
        )
    if "_struct" not in sys.builtin_module_names or "zlib" not in sys.builtin_module_names:
        raise BuildError(
            f"{name} of {sys.executable} does not contain the standard library's C modules",
            "use the distribution's own /usr/bin/python3 for the virtual environment, or build with --dynamic",
        )


def _nuitka(output: Path, work: Path, builtins: list[str], static: bool, chain: Toolchain) -> Path:
    """Run Nuitka; the directory it leaves."""
    config = work / "plugin.json"
    config.write_text(
        json.dumps(
            {
                "builtins": builtins,
                "packages": _PACKAGES,
                "compiled": _COMPILED,
                "directory": str(work.resolve()),
                "dotted": any("." in name for name in builtins) and sys.version_info < (3, 12),
                "include": str(chain.include or ""),
                "libpython": str(chain.libpython or ""),
            }
        )
    )
    folder = _folder(output, static)
    unwanted = [*_UNWANTED, *(_UNWANTED_STATIC if static else ()), *builtins]
    sections = ["-ffunction-sections", "-fdata-sections", *chain.flags]
    linking = ["-Wl,--gc-sections", "-Wl,-z,noexecstack", *chain.flags]
    run(
        [
            *[sys.executable, "-m", "nuitka", "--mode=standalone", "--deployment", "--lto=no", "--quiet"],
            *[f"--static-libpython={'yes' if static else 'no'}", f"--user-plugin={_plugin()}"],
            "--python-flag=-m,no_docstrings,no_asserts,no_site,isolated",
            f"--nofollow-import-to={','.join(unwanted)}",
            *["--include-module=inspect", "--assume-yes-for-downloads", f"--jobs={os.cpu_count() or 1}"],
            *[f"--output-dir={folder}", "--output-filename=init", f"--report={output}/logs/nuitka-report.xml"],
            "init",
        ],
        log=output / "logs" / "nuitka.log",
        cwd=PROJECT,
        env={
            "POOLBOOT_PLUGIN": str(config.resolve()),
            "PYTHONPATH": "",
            "PYTHONHASHSEED": "0",
            **({"CC": chain.compiler} if chain.prefix else {}),
            "CFLAGS": " ".join(sections),
            "LDFLAGS": " ".join([*(["-static"] if static else []), *linking]),
        },
        hint=f"{chain.hint} libexpat1-dev zlib1g-dev patchelf binutils file",
    )
    return folder / "init.dist"


def _folder(output: Path, static: bool) -> Path:
    return output / ("nuitka" if static else "nuitka-dynamic")


def _plugin() -> Path:
    return Path(__file__).with_name("nuitka_plugin.py")


def _install(dist: Path, output: Path, static: bool, chain: Toolchain) -> Program:
    if not (dist / "init").is_file():
        raise BuildError(f"Nuitka left no {dist / 'init'}", "see build/logs/nuitka.log")
    log = output / "logs" / "nuitka.log"
    libraries = sorted(path for path in dist.rglob("*.so*") if path.is_file())
    if static:
        if libraries:
            names = ", ".join(path.name for path in libraries)
            raise BuildError(f"the program would load {names}", "add the module to _UNWANTED in artefacts/program.py")
        fresh = output / "init.new"
        shutil.copyfile(dist / "init", fresh)
        run([chain.tool("strip"), fresh], log=log, hint=chain.hint)
        fresh.chmod(0o755)
        elf.check_static(fresh)
        _start(fresh, fresh, chain)
        fresh.rename(output / "init")
    else:
        target, fresh = output / "init.dist", output / "init.dist.new"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(dist, fresh)
        run(["strip", fresh / "init", *(fresh / path.relative_to(dist) for path in libraries)], log=log)
        _start(fresh / "init", fresh, chain)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
    made = _existing(output, static)
    assert made is not None
    return made


def _start(binary: Path, whole: Path, chain: Toolchain) -> None:
    """Start a new program; one that is refused lies beside its place, to be looked into."""
    try:
        started.check(binary, chain)
    except BuildError:
        refused = whole.with_name(f"{whole.name.removesuffix('.new')}.refused")
        if refused.is_dir():
            shutil.rmtree(refused)
        whole.rename(refused)
        raise


def _identity(static: bool, chain: Toolchain) -> str:
    """A hash of everything that goes into the program."""
    digest = hashlib.sha256()
    files = [path for top in _SOURCES for kind in ("*.py", "*.c") for path in (PROJECT / top).rglob(kind)]
    for path in sorted([*files, *Path(__file__).parent.glob("*.py"), started.POOL]):
        digest.update(f"{path.relative_to(PROJECT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    versions = {
        name: importlib.metadata.version(name) for name in ("nuitka", "cython", "zstandard", "crc32c", "xxhash")
    }
    library = native.digest([chain.libpython]) if chain.libpython else platform.libc_ver()
    return cache.key(digest.hexdigest(), versions, sys.version, library, chain.version(), static)
