"""The initramfs of a throw-away guest: programs and libraries of Debian packages, kernel modules, and a script as init.

Nothing of the host gets in, so that a guest is the same on every machine.
"""

from __future__ import annotations

import lzma
import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

import zstandard
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

from artefacts.debian import Kernel

PROGRAM_DIRECTORIES = ("usr/bin", "usr/sbin", "bin", "sbin")
LIBRARY_DIRECTORIES = tuple(
    f"{prefix}lib/{arch}"
    for arch in ("x86_64-linux-gnu", "aarch64-linux-gnu", "")
    for prefix in ("usr/", "")
)  # fmt: skip


class Files:
    """What goes into a guest: name in the guest (no leading slash) -> mode and content."""

    def __init__(self) -> None:
        self._items: dict[str, tuple[int, bytes]] = {}
        for directory in ("bin", "sbin", "lib", "lib64"):
            self.link(directory, f"usr/{directory}")
        for directory in ("dev", "proc", "sys", "tmp", "run", "root", "mnt", "etc", "in", "out", "usr/lib64"):
            self._directory(directory)

    def add(self, name: str, content: bytes, mode: int = 0o644) -> None:
        self._put(name, stat.S_IFREG | mode, content)

    def link(self, name: str, target: str) -> None:
        self._put(name, stat.S_IFLNK | 0o777, target.encode())

    def __contains__(self, name: str) -> bool:
        return _usr(name) in self._items

    def _put(self, name: str, mode: int, content: bytes) -> None:
        name = _usr(name)
        parent = os.path.dirname(name)
        if parent:
            self._directory(parent)
        self._items[name] = (mode, content)

    def _directory(self, name: str) -> None:
        if name not in self._items:
            self._put(name, stat.S_IFDIR | 0o755, b"")

    def cpio(self) -> bytes:
        """The files as an uncompressed "newc" archive (Documentation/driver-api/early-userspace/buffer-format.rst)."""
        parts: list[bytes] = []
        for inode, (name, (mode, content)) in enumerate(sorted(self._items.items()), 1):
            parts.append(_newc(inode, mode, name, content))
        parts.append(_newc(len(self._items) + 1, stat.S_IFCHR | 0o600, "dev/console", b"", rdev=(5, 1)))
        parts.append(_newc(0, 0, "TRAILER!!!", b""))
        return b"".join(parts)


def _usr(name: str) -> str:
    """``name`` as it is called where /bin, /sbin, /lib and /lib64 are links into /usr."""
    return f"usr/{name}" if name.startswith(("bin/", "sbin/", "lib/", "lib64/")) else name


def _newc(inode: int, mode: int, name: str, content: bytes, rdev: tuple[int, int] = (0, 0)) -> bytes:
    raw = os.fsencode(name) + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, *rdev, len(raw), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + raw
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def add_programs(files: Files, tree: Path) -> None:
    """Put every program of the unpacked packages in ``tree`` into ``files``, with the libraries they need."""
    for directory in PROGRAM_DIRECTORIES:
        for path in sorted((tree / directory).glob("*")):
            name = path.relative_to(tree).as_posix()
            if path.is_symlink():
                files.link(name, os.readlink(path))
            elif path.is_file():
                files.add(name, path.read_bytes(), 0o755)
                _add_libraries(files, tree, path)


def _add_libraries(files: Files, tree: Path, program: Path) -> None:
    """Add what ``program`` needs and what that needs.  A missing library raises FileNotFoundError."""
    with program.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            return
        elf = ELFFile(file)
        needed = []
        for segment in elf.iter_segments():
            if isinstance(segment, InterpSegment):
                name = segment.get_interp_name().lstrip("/")
                if name not in files:
                    files.add(name, _inside(tree, name).read_bytes(), 0o755)
        dynamic = elf.get_section_by_name(".dynamic")
        if isinstance(dynamic, DynamicSection):
            needed = [tag.needed for tag in dynamic.iter_tags("DT_NEEDED")]  # type: ignore[attr-defined]
    for library in needed:
        path = _library(tree, library)
        name = path.relative_to(tree).as_posix()
        if name not in files:
            target = _inside(tree, name)
            files.add(name, target.read_bytes(), 0o755)
            _add_libraries(files, tree, target)


def _library(tree: Path, soname: str) -> Path:
    for directory in LIBRARY_DIRECTORIES:
        path = tree / directory / soname
        if path.is_symlink() or path.exists():
            return path
    raise FileNotFoundError(f"{tree}: no library {soname}")


def _inside(tree: Path, name: str) -> Path:
    """The file that ``name`` means with ``tree`` as root: absolute symlinks stay inside the tree."""
    path = tree / name
    for _ in range(10):
        if not path.is_symlink():
            return path
        target = os.readlink(path)
        path = tree / target.lstrip("/") if target.startswith("/") else path.parent / target
    raise FileNotFoundError(f"{tree}: {name} is a loop of symlinks")


def add_modules(files: Files, kernel: Kernel, names: Sequence[str], extra: Iterable[Path] = ()) -> None:
    """Put kernel modules and what they depend on into ``files``, and their load order into /etc/modules.

    ``extra`` are module files from elsewhere that ``names`` may use.  A name that the kernel has neither as a module
    nor built in raises FileNotFoundError.
    """
    available = {_module_name(path): path for path in [*kernel.modules.rglob("*.ko*"), *extra]}
    builtin_list = kernel.modules / "modules.builtin"
    builtin = {_module_name(Path(line)) for line in builtin_list.read_text().splitlines()}
    order: dict[str, bytes] = {}

    def visit(name: str, required: bool) -> None:
        name = name.replace("-", "_")
        if name in order or name in builtin:
            return
        if name not in available:
            if required:
                raise FileNotFoundError(f"{kernel.release}: no module {name}")
            return
        content = _module_content(available[name])
        depends, wanted = _module_needs(content)
        for other in wanted:
            visit(other, False)
        for other in depends:
            visit(other, True)
        order[name] = content

    for name in names:
        visit(name, True)
    for name, content in order.items():
        files.add(f"usr/lib/modules/{name}.ko", content)
    files.add("etc/modules", "".join(f"/usr/lib/modules/{name}.ko\n" for name in order).encode())


def _module_name(path: Path) -> str:
    return path.name.split(".")[0].replace("-", "_")


def _module_content(path: Path) -> bytes:
    raw = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(raw)
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().decompressobj().decompress(raw)
    return raw


# The algorithms that filesystems ask the crypto API for at mount time, by their names there.
_ALGORITHMS = {
    "crc32c": "crc32c_generic",
    "xxhash64": "xxhash_generic",
    "sha256": "sha256_generic",
    "blake2b_256": "blake2b_generic",
}


def _module_needs(content: bytes) -> tuple[list[str], list[str]]:
    """Hard dependencies and soft ones (which may be absent) from the module's .modinfo strings."""
    depends: list[str] = []
    wanted: list[str] = []
    for found in re.finditer(rb"(?<=\0)(depends|softdep)=([^\0]*)\0", content):
        text = found[2].decode()
        if found[1] == b"depends":
            depends += [name for name in text.split(",") if name]
        elif text.startswith("pre:"):
            for name in text.removeprefix("pre:").split():
                plain = name.removeprefix("crypto-").replace("-", "_")
                wanted.append(_ALGORITHMS.get(plain, plain))
    return depends, wanted
