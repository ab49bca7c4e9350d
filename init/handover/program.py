"""Whether a root holds an init that this machine can execute: found out before there is no way back."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping

from fsdrivers.errors import FsError
from fsdrivers.filesystem import Filesystem
from init import roots
from init.config import parse
from init.refused import Refused

MAX_SCRIPTS = 4  # interpreters that are scripts themselves; fs/exec.c:exec_binprm, v6.12 allows 5 rounds
MAX_VARIABLES = 32  # init/main.c:MAX_INIT_ENVS, v6.12
_VARIABLE = re.compile("[A-Z_][A-Z0-9_]*")
MAX_HEADERS = 128  # program headers that are looked at
_HEAD = 256  # bytes of a file's first line; include/uapi/linux/binfmts.h:BINPRM_BUF_SIZE, v6.12

# ELF header: 0x04 class, 0x05 data, 0x12 machine u16, 0x20 phoff u64, 0x36 phentsize u16, 0x38 phnum u16.
# Program header: 0x00 type u32, 0x08 offset u64, 0x20 filesz u64.  include/uapi/linux/elf.h, v6.12
_MACHINE, _PHOFF, _PHNUM = struct.Struct("<H"), struct.Struct("<Q"), struct.Struct("<HH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_PT_INTERP = 3
_CLASS64, _LITTLE = 2, 1
_MACHINES = {"x86_64": (62, "x86_64"), "aarch64": (183, "arm64")}


def find(filesystem: Filesystem, cmdline: str) -> str:
    """The init that ``cmdline`` asks for, else the first that the kernel would try; raises Refused without one."""
    asked = next((value for name, value in parse(cmdline) if name == "init" and value), "")
    path = roots.init_path(filesystem, asked)
    if path is None:
        raise Refused(f"the root has no init: {asked or ', '.join(roots.INITS)} not found")
    return path


def check(filesystem: Filesystem, path: str, machine: str | None = None, depth: int = 0) -> None:
    """Raise Refused when execve(2) of ``path`` could not work in the tree; a damaged file raises the driver's error.

    ``machine`` as uname(2) has it; default: this one.
    """
    machine = machine or os.uname().machine
    try:
        file = filesystem.open(path)
    except FsError as error:
        raise Refused(f"{path} cannot be started: {error}") from error
    if not filesystem.stat(filesystem.resolve(path)).mode & 0o111:
        raise Refused(f"{path} is not executable")
    head = file.read(0, _HEAD)
    if head.startswith(b"#!"):
        words = head[2:].partition(b"\n")[0].split()
        if not words or depth >= MAX_SCRIPTS:
            raise Refused(f"{path} is a script without an interpreter")
        check(filesystem, os.fsdecode(words[0]), machine, depth + 1)
        return
    if not head.startswith(b"\x7fELF") or len(head) < 0x40:
        raise Refused(f"{path} is neither an ELF program nor a script")
    number, name = _MACHINES.get(machine, (0, machine))
    if (head[4], head[5]) != (_CLASS64, _LITTLE) or (number and _MACHINE.unpack_from(head, 0x12)[0] != number):
        raise Refused(f"{path} is no program for {name}")
    offset, (size, count) = _PHOFF.unpack_from(head, 0x20)[0], _PHNUM.unpack_from(head, 0x36)
    if size != _PROGRAM_HEADER.size or count > MAX_HEADERS:
        raise Refused(f"{path} has no program headers that can be read")
    table = file.read(offset, size * count)
    for index in range(len(table) // size):
        kind, _, start, _, _, length, _, _ = _PROGRAM_HEADER.unpack_from(table, index * size)
        if kind == _PT_INTERP and length <= _HEAD:
            loader = os.fsdecode(file.read(start, length).rstrip(b"\0"))
            if not filesystem.exists(loader):
                raise Refused(f"{path} needs {loader}, which the root does not have")


def arguments(path: str, cmdline: str) -> list[str]:
    """The arguments that the kernel would give to ``path``: the words it does not know itself, and all behind "--".

    Source: init/main.c:unknown_bootoption and set_init_arg, v6.12.
    """
    from init.config import split

    words: list[str] = []
    todo = split(cmdline)
    while todo:
        word = todo.pop(0)
        if word == "--":
            words += todo
            break
        if word.startswith("init="):
            words.clear()  # what is in front of it is not meant for this one: init/main.c:init_setup
        elif "=" not in word and "." not in word and word not in _OF_THE_KERNEL:
            words.append(word)
    return [path, *(word.strip('"') for word in words)]


def environment(cmdline: str, usual: Mapping[str, str]) -> dict[str, str]:
    """The environment that the kernel would give to an init: the ``usual`` one, and what it does not know itself.

    Nobody here knows all that it knows; but none of that is written in capitals.  Source: as arguments().
    """
    found = dict(usual)
    for name, value in parse(cmdline):
        if value is not None and _VARIABLE.fullmatch(name) and (name in found or len(found) < MAX_VARIABLES):
            found[name] = value.replace("\0", "")
    return found


# Words without a value that mean something to the kernel, or to an initrd alone.
_OF_THE_KERNEL = frozenset((
    "ro", "rw", "rootwait", "quiet", "debug", "noresume", "nomodeset", "nosmp", "noapic", "nolapic", "nokaslr",
    "noinitrd", "earlyprintk", "ignore_loglevel", "degraded", "rhgb", "splash",
))  # fmt: skip
