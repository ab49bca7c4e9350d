"""C extension modules: sources, objects and the archive that is linked into the boot program.

Four kinds of C go into the program: the cores of three libraries (from the source distributions of the very versions
that are installed), Cython's output for ``fsdrivers/native``, ``init/machine/_sysc.c`` and ``init/kernel/_unpack.c``.
Each becomes one relocatable object whose only global symbol is its init function, so that modules written to be loaded
separately cannot clash.  Objects are cached by the hash of what they are made from.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from artefacts import cache
from artefacts.counters import Tally
from artefacts.steps import BuildError, replace, run, step
from artefacts.toolchain import NATIVE, Toolchain

PROJECT = Path(__file__).resolve().parent.parent
NATIVE_PACKAGE = "fsdrivers.native"
_FLAGS = ("-O2", "-g0", "-fPIC", "-DNDEBUG", "-ffunction-sections", "-fdata-sections")


# What a byte beyond a buffer, or arithmetic that C does not define, ends the process with.
_SANITIZED = (
    "-O1", "-g1", "-fPIC", "-w", "-fno-omit-frame-pointer", "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
)  # fmt: skip


class Extension(NamedTuple):
    """One extension module in C."""

    name: str
    """Under which it is imported in the program."""
    init: str
    """Its ``PyInit_`` function."""
    sources: tuple[Path, ...]
    identity: str
    """A hash of everything it is made from but compiler and flags."""
    flags: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    """Static libraries of the system (``lzma`` for liblzma.a) of which it takes what it needs."""


class _Library(NamedTuple):
    """Where the C core of a library is in its source distribution, and how its authors compile it."""

    package: str
    name: str
    init: str
    sources: tuple[str, ...]
    flags: tuple[str, ...]
    """``@`` stands for the directory of the sources."""


# The cores are imported under flat names, without the Python packages around them: importing `zstandard` costs 4 ms
# and `crc32c` (argparse, importlib.metadata) 95 ms of each boot, their cores 0.2 ms.
_LIBRARIES = (
    _Library(
        "zstandard",
        "_zstd_core",
        "PyInit_backend_c",
        ("c-ext/backend_c.c",),  # with ZSTD_SINGLE_FILE it includes zstd.c
        ("-I@/c-ext", "-I@/zstd", "-DZSTD_SINGLE_FILE", "-DZSTD_DISABLE_ASM", "-DZSTDLIB_VISIBLE=", "-w"),
    ),
    _Library("crc32c", "_crc32c", "PyInit__crc32c", ("src/crc32c/ext/*.c",), ()),
    _Library("xxhash", "_xxhash", "PyInit__xxhash", ("src/_xxhash.c", "deps/xxhash/xxhash.c"), ("-I@/deps/xxhash",)),
)


def extensions(log: Path) -> list[Extension]:
    """Every C module that the boot program has built in."""
    own = PROJECT / "init/machine/_sysc.c"
    return [
        *(_library(library, log) for library in _LIBRARIES),
        *cython_extensions(log),
        Extension("_sysc", "PyInit__sysc", (own,), digest([own])),
        unpack(),
    ]


def unpack() -> Extension:
    """xz and bzip2, which libpython's archive has not."""
    own = PROJECT / "init/kernel/_unpack.c"
    return Extension("_unpack", "PyInit__unpack", (own,), digest([own]), (), ("lzma", "bz2"))


def archive(
    modules: Iterable[Extension], directory: Path, log: Path, chain: Toolchain = NATIVE, tally: Tally | None = None
) -> Path:
    """``directory/libpoolboot.a`` with one object per module, and ``directory/register.c`` that names them.

    ``tally`` counts the modules.
    """
    directory.mkdir(parents=True, exist_ok=True)
    modules = sorted(modules)
    target = directory / "libpoolboot.a"
    target.unlink(missing_ok=True)
    objects = [_object(module, log, chain) for module in _counted(modules, tally)]
    run([chain.tool("ar"), "rcsD", target, *objects], log=log, hint=chain.hint)
    (directory / "register.c").write_text(_registration(modules))
    return target


def _counted(modules: Sequence[Extension], tally: Tally | None) -> Iterator[Extension]:
    """The modules one by one; each is counted when the next is asked for."""
    if tally is not None:
        tally.total += len(modules)
    for module in modules:
        yield module
        if tally is not None:
            tally.done += 1


def build_in_place(log: Path, tally: Tally | None = None) -> list[Path]:
    """Compile ``fsdrivers/native`` beside its sources, for uses without the boot program.

    Python prefers ``lzo.cpython-*.so`` to ``lzo.py``.  A library that is newer than its source stays as it is.
    ``tally`` counts the modules.
    """
    done = []
    for module in _counted(cython_extensions(log), tally):
        stem = module.name.rpartition(".")[2]
        target = (
            PROJECT
            / module.name.rpartition(".")[0].replace(".", "/")
            / (stem + str(sysconfig.get_config_var("EXT_SUFFIX")))
        )
        made = cache.entry("shared", f"{stem}-{_object_key(module, NATIVE)}", partial(link, module, log))
        library = made / "module.so"
        if not target.exists() or target.read_bytes() != library.read_bytes():
            # A new inode: a running program may have the old one mapped.
            replace(target, library.read_bytes(), 0o755)
        done.append(target)
    return done


def build_sanitized(log: Path) -> dict[str, Path]:
    """``fsdrivers/native`` with AddressSanitizer and UndefinedBehaviorSanitizer in it: libraries by module names.

    They do not name the sanitizers' library, whose one copy in a process comes with the program (LD_PRELOAD): that of
    atheris also counts branches.
    """
    made = {}
    for module in cython_extensions(log):
        stem = module.name.rpartition(".")[2]
        identity = cache.key(module.identity, _SANITIZED, NATIVE.version(), sys.version)
        made[module.name] = (
            cache.entry("sanitized", f"{stem}-{identity}", partial(_sanitize, module, log)) / "module.so"
        )
    return made


def _sanitize(module: Extension, log: Path, work: Path) -> None:
    """Compile a module of one source file with the sanitizers, and link it without their library."""
    (source,) = module.sources
    part = work / "module.o"
    run([NATIVE.compiler, *_SANITIZED, *NATIVE.python_flags(), "-c", source, "-o", part], log=log, hint=NATIVE.hint)
    run([NATIVE.compiler, "-shared", part, "-o", work / "module.so"], log=log, hint=NATIVE.hint)
    part.unlink()


def cython_extensions(log: Path) -> list[Extension]:
    """The modules of ``fsdrivers/native`` that begin with a line of Cython directives, translated to C."""
    found = []
    for source in sorted((PROJECT / NATIVE_PACKAGE.replace(".", "/")).glob("*.py")):
        if not source.read_bytes().startswith(b"# cython:"):
            continue
        identity = cache.key(digest([source]), importlib.metadata.version("cython"))
        made = cache.entry("cython", f"{source.stem}-{identity}", partial(_translate, source, log))
        found.append(
            Extension(
                f"{NATIVE_PACKAGE}.{source.stem}",
                f"PyInit_{source.stem}",
                (made / f"{source.stem}.c",),
                identity,
                ("-O3", "-w"),
            )
        )
    return found


def _translate(source: Path, log: Path, work: Path) -> None:
    relative = source.relative_to(PROJECT)  # the path gets into the C file: the same one for everybody
    module = ".".join(relative.with_suffix("").parts)
    command = [
        sys.executable,
        "-m",
        "cython",
        "-3",
        "--module-name",
        module,
        str(relative),
        "-o",
        str(work / f"{source.stem}.c"),
    ]
    run(command, cwd=PROJECT, log=log, hint="set up the virtual environment with the extra [build]")


def _library(library: _Library, log: Path) -> Extension:
    try:
        version = importlib.metadata.version(library.package)
    except importlib.metadata.PackageNotFoundError:
        raise BuildError(f"{library.package} is not installed", "set up the virtual environment") from None
    tree = cache.entry("sdist", f"{library.package}-{version}", partial(_fetch, library.package, version, log))
    sources = [path for pattern in library.sources for path in sorted(tree.glob(pattern))]
    if not sources:
        raise BuildError(f"{library.package} {version} has no {library.sources[0]} in its source distribution")
    flags = tuple(flag.replace("@", str(tree)) for flag in library.flags)
    return Extension(library.name, library.init, tuple(sources), f"{library.package}-{version}", flags)


def _fetch(package: str, version: str, log: Path, work: Path) -> None:
    """Unpack the source distribution of one version into ``work``."""
    wanted = f"{package}=={version}"
    with step(f"fetching the source of {wanted}"):
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--no-binary",
            package,
            "-d",
            str(work),
            wanted,
        ]
        failure = f"the source of {wanted} could not be fetched"
        run(command, log=log, hint="check the network and pip's configuration, then start this again", failure=failure)
        found = sorted(work.glob("*.tar.gz"))
        if len(found) != 1:
            raise BuildError(f"pip delivered no source distribution of {wanted}")
        unpack = ["tar", "-xf", str(found[0]), "--strip-components=1", "--no-same-owner", "-C", str(work)]
        run(unpack, log=log, hint="apt install tar gzip")
        found[0].unlink()


def _object(module: Extension, log: Path, chain: Toolchain) -> Path:
    """The module as one relocatable object with a single global symbol."""
    name = f"{module.name}-{_object_key(module, chain)}"
    return cache.entry("objects", name, partial(_compile, module, log, chain)) / "module.o"


def _compile(module: Extension, log: Path, chain: Toolchain, work: Path) -> None:
    parts = []
    for number, source in enumerate(module.sources):
        part = work / f"{number}.o"
        rename = f"-D{module.init}={_symbol(module)}"  # libpython has init functions too
        flags = [*_FLAGS, *module.flags, rename, *chain.python_flags()]
        run([chain.compiler, *flags, "-c", source, "-o", part], log=log, hint=chain.hint)
        parts.append(part)
    whole = work / "module.o"
    archives = [chain.library(name) for name in module.libraries]
    run([chain.tool("ld"), "-r", *parts, *archives, "-o", whole], log=log, hint=chain.hint)
    run([chain.tool("objcopy"), f"--keep-global-symbol={_symbol(module)}", whole], log=log, hint=chain.hint)
    for part in parts:
        part.unlink()


def link(module: Extension, log: Path, work: Path) -> None:
    """Compile a module into the shared library ``work/module.so`` for this machine."""
    flags = [*_FLAGS, *module.flags, *NATIVE.python_flags(), "-shared", "-s", "-Wl,--gc-sections"]
    libraries = [f"-l{name}" for name in module.libraries]
    command: list[str | Path] = [NATIVE.compiler, *flags, *module.sources, "-o", work / "module.so", *libraries]
    run(command, log=log, hint=NATIVE.hint)


def _object_key(module: Extension, chain: Toolchain) -> str:
    flags = [flag.replace(str(cache.root()), "") for flag in (*_FLAGS, *module.flags, *chain.flags)]
    libraries = digest([chain.library(name) for name in module.libraries])
    return cache.key(module.identity, flags, libraries, chain.version(), sys.version)


def _symbol(module: Extension) -> str:
    return "PyInit_poolboot_" + re.sub(r"\W", "_", module.name)


def _registration(modules: Sequence[Extension]) -> str:
    """C that adds the modules to CPython's table of built-ins before the interpreter starts."""
    lines = ["#include <Python.h>"]
    lines += [f"PyMODINIT_FUNC {_symbol(module)}(void);" for module in modules]
    lines += ["__attribute__((constructor)) static void poolboot_register(void)", "{"]
    lines += [f'    PyImport_AppendInittab("{module.name}", {_symbol(module)});' for module in modules]
    return "\n".join([*lines, "}", ""])


def digest(paths: Iterable[Path]) -> str:
    """A hash of the contents of files."""
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)).hexdigest()
