"""The initramfs of a throw-away guest: programs and libraries of Debian packages, kernel modules, and a script as init.

Nothing of the host gets in, so that a guest is the same on every machine.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from artefacts import elf
from artefacts.cpio import Archive
from artefacts.debian import Kernel
from artefacts.kmod import Modules

PROGRAM_DIRECTORIES = ("usr/bin", "usr/sbin", "bin", "sbin")
MODULE_LIST = "etc/modules"

# The algorithms that filesystems ask the kernel's crypto API for when they are mounted, by the modules that have them.
_ALGORITHMS = ("crc32c_generic", "xxhash_generic", "sha256_generic", "blake2b_generic")


def root() -> Archive:
    """An empty root, with /bin, /sbin, /lib and /lib64 as links into /usr."""
    archive = Archive()
    for name in ("bin", "sbin", "lib", "lib64"):
        archive.directory(f"usr/{name}")
        archive.symlink(name, f"usr/{name}")
    for name in ("dev", "proc", "sys", "tmp", "run", "root", "mnt", "etc", "in", "out"):
        archive.directory(name)
    archive.character_device("dev/console", 5, 1, 0o600)
    return archive


def usr(path: str) -> str:
    """``path`` as it is called where /bin, /sbin, /lib and /lib64 are links into /usr; no leading slash."""
    path = path.lstrip("/")
    return f"usr/{path}" if path.startswith(("bin/", "sbin/", "lib/", "lib64/")) else path


def add_programs(archive: Archive, tree: Path) -> None:
    """Put every program of the unpacked packages in ``tree`` into ``archive``, with the libraries they need.

    Raises BuildError when the tree lacks a library.
    """
    for directory in PROGRAM_DIRECTORIES:
        for path in sorted((tree / directory).glob("*")):
            name = usr(path.relative_to(tree).as_posix())
            if path.is_symlink():
                archive.symlink(name, os.readlink(path))
            elif path.is_file():
                archive.file(name, path.read_bytes(), 0o755)
                if elf.is_elf(path):
                    _add_libraries(archive, tree, path)


def _add_libraries(archive: Archive, tree: Path, program: Path) -> None:
    for place, host in elf.closure(program, tree).items():
        if usr(place) not in archive:
            archive.file(usr(place), host.read_bytes(), 0o755)


def add_modules(archive: Archive, kernel: Kernel, names: Sequence[str]) -> None:
    """Put kernel modules and what they depend on into ``archive``, and their load order into /etc/modules.

    Raises BuildError for a name that the kernel has neither as a module nor built in.
    """
    available = Modules(kernel.modules)
    helpers = available.closure(_ALGORITHMS)
    wanted = available.closure(names, required=True)
    order = {module.name: module for module in (*helpers.modules, *wanted.modules)}
    for name, module in order.items():
        archive.file(f"usr/lib/modules/{name}.ko", module.data)
    archive.file(MODULE_LIST, "".join(f"/usr/lib/modules/{name}.ko\n" for name in order).encode())
