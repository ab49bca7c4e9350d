"""What can be booted from a root: one parser for each source, composed here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fsdrivers.errors import FsError
from init.config import BootConfig
from init.entries import kernels, stated
from init.entries.entry import BootEntry
from init.entries.stated import on_partitions
from init.roots import BootRoot

__all__ = ["BootEntry", "find", "on_partitions"]

Source = Callable[[BootRoot, BootConfig, Callable[[str], None]], Iterator[BootEntry]]

# In the order of preference; each yields entries and says to its third argument what it passed over.
SOURCES: tuple[Source, ...] = (stated.find, kernels.find)


def find(place: BootRoot, config: BootConfig, note: Callable[[str], None]) -> list[BootEntry]:
    """All entries of ``place``; poolboot.kernel= replaces them by the one that it names."""
    if config.kernel:
        pair = kernels.Pair("", _absolute(config.kernel), tuple(map(_absolute, config.initrd)))
        try:
            place.filesystem.open(pair.kernel)
            return [kernels.make(place, config, pair, f"poolboot.kernel= on {place.where}", note)]
        except FsError as error:
            note(f"{place.where}: poolboot.kernel=: {error}")
            return []
    entries: list[BootEntry] = []
    for source in SOURCES:
        try:
            # A kernel that the boot loader's configuration names is not offered once more by its file name.
            known = {entry.kernel for entry in entries if entry.initrds and entry.files is None and not entry.rescue}
            for entry in source(place, config, note):
                if source is stated.find or entry.kernel not in known:
                    entries.append(entry)
        except FsError as error:
            note(f"{place.where}: {error}")
    if config.initrd:
        entries = [entry._replace(initrds=tuple(map(_absolute, config.initrd))) for entry in entries]
    return entries


def _absolute(path: str) -> str:
    return "/" + path.lstrip("/")
