"""ELF files: what a static program must be, and which shared libraries a dynamic one needs."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.constants import P_FLAGS
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

from artefacts.steps import BuildError

# Where the dynamic loader looks without a cache file; the multiarch directories are those of Debian's glibc.
_LIBRARY_DIRECTORIES = ("/lib/{triplet}", "/usr/lib/{triplet}", "/lib", "/usr/lib", "/lib64", "/usr/lib64")
_TRIPLETS = {"EM_X86_64": "x86_64-linux-gnu", "EM_AARCH64": "aarch64-linux-gnu"}
_MAX_LINKS = 40


class Elf(NamedTuple):
    """What the loader of the kernel and of the C library read of a file."""

    machine: str
    """``EM_X86_64``, ``EM_AARCH64``, ..."""
    bits: int
    interpreter: str
    """PT_INTERP, or empty."""
    needed: tuple[str, ...]
    """DT_NEEDED, in order."""
    search: tuple[str, ...]
    """DT_RUNPATH, or DT_RPATH when there is none, unexpanded."""
    writable_code: tuple[int, ...]
    """Addresses of segments that are both writable and executable."""
    executable_stack: bool
    """PT_GNU_STACK asks for an executable stack, or is missing (the kernel then allows one)."""


def read(path: Path) -> Elf:
    """Raises BuildError when ``path`` is no ELF file or a damaged one."""
    try:
        with path.open("rb") as stream:
            return _parse(ELFFile(stream))
    except (ELFError, UnicodeDecodeError, KeyError, ValueError) as error:
        raise BuildError(f"{path} is not a usable ELF file: {error}") from None
    except OSError as error:
        raise BuildError(f"cannot read {path}: {error.strerror}") from None


def is_elf(path: Path) -> bool:
    """Whether the file starts like an ELF file."""
    with path.open("rb") as stream:
        return stream.read(4) == b"\x7fELF"


def check_static(path: Path) -> None:
    """Raise BuildError, naming every reason, unless the file runs alone and has no page to write code into."""
    found = read(path)
    complaints = []
    if found.interpreter:
        complaints.append(f"it asks for the interpreter {found.interpreter} (PT_INTERP)")
    if found.needed:
        complaints.append(f"it needs {', '.join(found.needed)} (DT_NEEDED)")
    if found.writable_code:
        where = ", ".join(f"{address:#x}" for address in found.writable_code)
        complaints.append(f"it has segments both writable and executable, at {where}")
    if found.executable_stack:
        complaints.append("it asks for an executable stack (PT_GNU_STACK)")
    if complaints:
        raise BuildError(f"{path} is not a safe static program: {'; '.join(complaints)}")


def closure(path: Path, sysroot: Path = Path("/")) -> dict[str, Path]:
    """The interpreter and all libraries that a program needs: absolute path in the target -> file on the host.

    ``path`` is a host path; when it lies below ``sysroot`` its ``$ORIGIN`` is the place there.  Libraries are looked
    for as glibc's ld.so does without a cache: RUNPATH, the directories of ``etc/ld.so.conf``, its built-in ones.
    One found only through ld.so.conf goes to ``/usr/lib``, since the target has no loader cache.
    Raises BuildError naming the library that is missing and who wants it.
    """
    found: dict[str, Path] = {}
    start = read(path)
    if start.interpreter:
        host = resolve(start.interpreter, sysroot)
        if not host.is_file():
            raise BuildError(f"{path} asks for the interpreter {start.interpreter}, which {sysroot} does not have")
        found[start.interpreter] = host
    names = {Path(place).name for place in found}
    todo = [(path, start)]
    while todo:
        user, facts = todo.pop(0)
        for name in facts.needed:
            if name in names:
                continue
            place, host = _locate(name, user, facts, start, sysroot)
            names.add(name)
            found[place] = host
            todo.append((host, read(host)))
    return found


def resolve(path: str, sysroot: Path) -> Path:
    """The host path of ``path`` as a process rooted at ``sysroot`` would see it: links never lead out of it."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    here: list[str] = []
    links = 0
    while parts:
        part = parts.pop(0)
        if part == "..":
            here = here[:-1]
            continue
        host = sysroot.joinpath(*here, part)
        if host.is_symlink():
            links += 1
            if links > _MAX_LINKS:
                raise BuildError(f"too many symbolic links in {path}")
            target = str(host.readlink())
            if target.startswith("/"):
                here = []
            parts = [piece for piece in target.split("/") if piece not in ("", ".")] + parts
        else:
            here.append(part)
    return sysroot.joinpath(*here)


def _parse(image: ELFFile) -> Elf:
    interpreter, needed, runpath, rpath = "", [], [], []
    writable_code, executable_stack = [], True
    for segment in image.iter_segments():
        kind, flags = segment["p_type"], segment["p_flags"]
        if isinstance(segment, InterpSegment):
            interpreter = segment.get_interp_name()
        elif kind == "PT_GNU_STACK":
            executable_stack = bool(flags & P_FLAGS.PF_X)
        elif kind == "PT_LOAD" and flags & P_FLAGS.PF_W and flags & P_FLAGS.PF_X:
            writable_code.append(int(segment["p_vaddr"]))
        elif isinstance(segment, DynamicSegment):
            for tag in segment.iter_tags():
                # pyelftools gives each of these tags an attribute of its own name.
                if tag.entry.d_tag == "DT_NEEDED":
                    needed.append(str(getattr(tag, "needed", "")))
                elif tag.entry.d_tag == "DT_RUNPATH":
                    runpath += str(getattr(tag, "runpath", "")).split(":")
                elif tag.entry.d_tag == "DT_RPATH":
                    rpath += str(getattr(tag, "rpath", "")).split(":")
    return Elf(
        machine=str(image["e_machine"]),
        bits=image.elfclass,
        interpreter=interpreter,
        needed=tuple(needed),
        search=tuple(path for path in (runpath or rpath) if path),
        writable_code=tuple(writable_code),
        executable_stack=executable_stack,
    )


def _locate(name: str, user: Path, facts: Elf, wanted: Elf, sysroot: Path) -> tuple[str, Path]:
    triplet = _TRIPLETS.get(wanted.machine, "")
    usual = [directory.format(triplet=triplet) for directory in _LIBRARY_DIRECTORIES]
    if "/" in name:
        candidates = [name]
    else:
        own = [f"{_expand(directory, user, sysroot, triplet)}/{name}" for directory in facts.search]
        candidates = [*own, *(f"{directory}/{name}" for directory in [*_configured(sysroot), *usual])]
    for place in candidates:
        host = resolve(place, sysroot)
        if not host.is_file():
            continue
        found = read(host)
        if (found.machine, found.bits) != (wanted.machine, wanted.bits):
            continue  # ld.so passes over libraries of other architectures, too
        known = "/" in name or str(Path(place).parent) in usual or place in own
        return (place if known else f"/usr/lib/{name}"), host
    raise BuildError(f"{user} needs {name}, which is nowhere in {sysroot}", f"install the package that has {name}")


def _expand(directory: str, user: Path, sysroot: Path, triplet: str) -> str:
    try:
        origin = "/" + str(user.resolve().parent.relative_to(sysroot.resolve()))
    except ValueError:
        origin = str(user.resolve().parent)
    for token, value in (("ORIGIN", origin), ("LIB", f"lib/{triplet}"), ("PLATFORM", "x86_64")):
        directory = directory.replace(f"${{{token}}}", value).replace(f"${token}", value)
    return directory.rstrip("/") or "/"


def _configured(sysroot: Path, name: str = "/etc/ld.so.conf", depth: int = 0) -> list[str]:
    """The directories of ld.so.conf and of what it includes."""
    host = resolve(name, sysroot)
    if depth > 8 or not host.is_file():
        return []
    directories = []
    for line in host.read_text(errors="replace").splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        if words[0] == "include":
            for pattern in words[1:]:
                full = pattern if pattern.startswith("/") else f"{Path(name).parent}/{pattern}"
                parent = resolve(str(Path(full).parent), sysroot)
                for path in sorted(parent.glob(Path(full).name)):
                    directories += _configured(sysroot, f"{Path(full).parent}/{path.name}", depth + 1)
        else:
            directories.append(words[0].rstrip("/"))
    return directories
