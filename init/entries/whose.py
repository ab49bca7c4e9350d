"""Which root a command line is for: what root=, rootflags= and init= in it name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from fsdrivers.pool import Pool, Root
from init import config as _config
from init import roots
from init.roots import TOP_LEVEL, BootRoot


class Named(NamedTuple):
    """What root= and rootflags= in a command line name: a pool, and the tree in it by the one or the other."""

    wanted: roots.Wanted
    subvol: str | None  # without the slashes around it
    number: int | None

    def meant(self, pool: Pool) -> bool:
        """Whether it is ``pool``; not by forms that only a device could tell."""
        return self.wanted.key in ("uuid", "label", "zfs", "kind") and self.wanted.matches(pool)


@lru_cache(maxsize=16)
def values(options: str) -> dict[str, str | None]:
    """The parameters of a command line by their names: each is asked about every root and its snapshots."""
    return dict(_config.parse(options))


@lru_cache(maxsize=16)
def named(options: str) -> Named:
    """What a command line names."""
    said = values(options)
    flags = said.get("rootflags") or ""
    subvol = _config.flag(flags, "subvol")
    return Named(
        roots.wanted(said.get("root") or ""),
        None if subvol is None else subvol.strip("/"),
        _config.number(_config.flag(flags, "subvolid")),
    )


def names(options: str, place: BootRoot) -> bool:
    """Whether root= and rootflags= in a command line name ``place``; not for forms that only a device could tell."""
    wish = named(options)
    return wish.meant(place.pool) and Index(place.pool, [place.root]).has(wish)


class Index:
    """Trees of one pool, to be found by what a command line names."""

    def __init__(self, pool: Pool, trees: Iterable[Root]) -> None:
        self._zfs = pool.kind == "zfs"
        self._names: set[str] = set()
        self._ids: set[int] = set()
        self._default = False
        for root in trees:
            self._names.add(root.name if self._zfs else roots.path_of(root))
            self._ids.add(root.id)
            self._default = self._default or root.default

    def has(self, wish: Named) -> bool:
        """Whether one of them is named by ``wish``."""
        if self._zfs:
            return wish.wanted.tree in self._names if wish.wanted.tree else self._default
        if wish.number is not None:
            return (wish.number or TOP_LEVEL) in self._ids
        return wish.subvol in self._names if wish.subvol is not None else self._default


def dataset(options: str, place: BootRoot) -> str:
    """The file system of ``place``'s ZFS pool that root= names, "" when it names none in there."""
    root = values(options).get("root") or ""
    wanted = roots.wanted(root)
    if place.pool.kind != "zfs":
        return ""
    if root.upper().startswith("ZFS=/"):
        # grub-mkconfig leaves the pool's name out where GRUB cannot read the pool.
        return place.pool.name + root[4:].rstrip("/")
    return wanted.tree if wanted.matches(place.pool) else ""


def own(options: str, place: BootRoot) -> bool:
    """Whether an entry that lies in ``place`` is for it: it names it, or nothing that could be another one."""
    said = values(options)
    wanted = roots.wanted(said.get("root") or "")
    if names(options, place) or wanted.key == "device" or said.get("root") in (None, "", "gpt-auto"):
        return True
    if place.pool.kind == "zfs":
        return dataset(options, place) == place.root.name
    pinned = any(_config.flag(said.get("rootflags") or "", key) is not None for key in ("subvol", "subvolid"))
    return place.pool.kind == "btrfs" and wanted.matches(place.pool) and not wanted.problem and not pinned


def among(options: str, places: Sequence[BootRoot], beside: set[str]) -> BootRoot | None:
    """The one of ``places`` that a command line is for; ``beside``: names of the root partitions on the same disk.

    It is the one whose root it names; with none named the only one that has the init that it asks for (NixOS names
    none: its initrd knows), or the one on the root partition of the same disk, as systemd-gpt-auto-generator(8) has it.
    """
    first = next((place for place in places if names(options, place)), None)
    said = values(options)
    init, root = said.get("init"), said.get("root") or ""
    if first is not None or root not in ("", "fstab", "gpt-auto"):
        return first
    if init and init not in (*roots.INITS, "/lib/systemd/systemd") and root != "gpt-auto":
        # An init that every system has would tell nothing.
        found = [place for place in places if place.has(init) or roots.elsewhere(place.filesystem, init)]
    elif root != "fstab":
        found = [
            place
            for place in places
            if place.pool.kind == "btrfs" and place.root.default and beside & {slot.device for slot in place.pool.slots}
        ]
    else:
        found = []
    return found[0] if len(found) == 1 else None
