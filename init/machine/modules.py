"""Kernel modules: load what the machine's devices ask for, each module once, what it needs first.

The table is made by build.py: a line a module in dependency order, ``path<TAB>dep,dep<TAB>alias alias...``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from init.machine import syscalls

TABLE = "/lib/modules/poolboot.modules"
MAX_MODALIAS = 4096  # bytes; include/linux/mod_devicetable.h bounds each kind well below


class Module(NamedTuple):
    """One line of the table; ``needs`` are module names, ``aliases`` shell patterns as in modules.alias."""

    name: str
    path: str
    needs: tuple[str, ...]
    aliases: tuple[str, ...]


class Modules:
    """The modules of the table and which of them were tried."""

    def __init__(self, table: str, sys: str = "/sys", load: Callable[[str], None] | None = None) -> None:
        """``table`` is the text of the table, ``load`` puts the module file at a path into the kernel."""
        self.known = {module.name: module for module in parse(table)}
        self.loaded: list[str] = []
        self.problems: list[str] = []
        self._sys, self._load = sys, load or _load
        self._tried: set[str] = set()
        self._seen: set[str] = set()  # modaliases that were looked up
        # By the bus in front of the first ":", to look at few patterns for each device.
        self._aliases: dict[str, list[tuple[str, str]]] = {}
        for module in self.known.values():
            for alias in module.aliases:
                self._aliases.setdefault(alias.partition(":")[0], []).append((alias, module.name))

    def coldplug(self) -> int:
        """Load the modules for all devices there are, until that brings no new ones; returns how many it loaded."""
        before = len(self.loaded)
        while fresh := [alias for alias in modaliases(self._sys) if alias not in self._seen]:
            for alias in fresh:
                self._seen.add(alias)
                for pattern, name in self._aliases.get(alias.partition(":")[0], ()):
                    if name not in self._tried and matches(alias, pattern):
                        self.load(name)
        return len(self.loaded) - before

    def load(self, name: str) -> bool:
        """Load one module by name, what it needs first; whether it is in the kernel now.

        A failure is kept in ``problems``; a module that is not in the table counts as built in.
        """
        name = normal(name)
        module = self.known.get(name)
        if module is None or name in self._tried:
            return module is None or name in self.loaded
        self._tried.add(name)  # before its needs: a cycle in the table must end
        if not all(self.load(need) for need in module.needs):
            self.problems.append(f"module {name}: not loaded, as something it needs was not")
            return False
        try:
            self._load(module.path)
        except OSError as error:
            if error.errno != errno.EEXIST:
                self.problems.append(f"module {name}: {error.strerror or error}")
                return False
        self.loaded.append(name)
        return True


def read(path: str = TABLE) -> str:
    """The text of the table; "" when this initramfs carries no modules (everything is built in)."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def parse(table: str) -> Iterator[Module]:
    """The modules of a table, in its order."""
    for line in table.splitlines():
        path, _, rest = line.partition("\t")
        needs, _, aliases = rest.partition("\t")
        if path and not path.startswith("#"):
            yield Module(normal(path), path, tuple(normal(need) for need in needs.split(",") if need),
                         tuple(aliases.split()))  # fmt: skip


def normal(name: str) -> str:
    """A module's name from its name or path: without directories and suffixes, and "_" for "-" as modprobe does."""
    base = name.rpartition("/")[2]
    stem, suffix, _ = base.partition(".ko")
    return (stem if suffix else base).replace("-", "_")


def modaliases(sys: str = "/sys") -> Iterator[str]:
    """The modalias of every device on every bus: they all have a link there, which is cheaper than the whole tree."""
    for bus in _names(f"{sys}/bus"):
        for device in _names(f"{sys}/bus/{bus}/devices"):
            try:
                fd = os.open(f"{sys}/bus/{bus}/devices/{device}/modalias", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:  # most have none, and devices go away
                continue
            try:
                yield os.fsdecode(os.read(fd, MAX_MODALIAS)).strip()
            except OSError:
                continue
            finally:
                os.close(fd)


def matches(text: str, pattern: str) -> bool:
    """fnmatch(3) of a modalias, quick where it matters: nearly all patterns differ before their first wildcard."""
    head, star, rest = pattern.partition("*")
    if "[" in pattern or "?" in pattern:
        from fnmatch import fnmatchcase

        return fnmatchcase(text, pattern)
    if not text.startswith(head):
        return False
    if not star:
        return text == pattern
    *middle, tail = rest.split("*")
    position = len(head)
    for part in middle:
        position = text.find(part, position)
        if position < 0:
            return False
        position += len(part)
    return text.endswith(tail) and len(text) - len(tail) >= position


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _load(path: str) -> None:
    """Put the module file ``path`` into the kernel, which unpacks it if it is compressed."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.finit_module(fd, "", 0 if path.endswith(".ko") else syscalls.MODULE_INIT_COMPRESSED_FILE)
    finally:
        os.close(fd)
