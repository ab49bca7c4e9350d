"""Other trees of the root's own pool that its system mounts: /home or /var in a subvolume or dataset of their own.

Its fstab names them, and on ZFS also the properties that `zfs mount -a` goes by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from fsdrivers.errors import FsError, NotThisFs
from fsdrivers.filesystem import Filesystem
from fsdrivers.pool import Pool, Root
from init import roots
from init.config import flag, number
from init.entries import fstab
from init.machine import syscalls
from init.roots import TOP_LEVEL, BootRoot

MAX_BRANCHES = 32
_FLAGS = {
    "ro": syscalls.MS_RDONLY,
    "nosuid": syscalls.MS_NOSUID,
    "nodev": syscalls.MS_NODEV,
    "noexec": syscalls.MS_NOEXEC,
}


class Branch(NamedTuple):
    """A tree that belongs at ``line.where`` of the root."""

    line: fstab.Line
    filesystem: Filesystem
    name: str

    @property
    def flags(self) -> int:
        """For mount(2)."""
        return sum(value for name, value in _FLAGS.items() if self.line.has(name))


def find(text: str, place: BootRoot, note: Callable[[str], None]) -> list[Branch]:
    """The branches that the fstab ``text`` and the pool's own properties mount, those above others first.

    What cannot be opened is told to ``note`` and is no branch.
    """
    found: list[Branch] = []
    for line, root in sorted(_wanted(text, place, note), key=lambda one: one[0].where.rstrip("/").count("/")):
        name = roots.tree_name(place.pool, root.name)
        if len(found) >= MAX_BRANCHES:
            note(f"{line}: more than {MAX_BRANCHES} other trees of the pool")
            continue
        try:
            filesystem = place.pool.open(root.name)
            filesystem.stat(filesystem.root())
        except NotThisFs:  # a volume
            continue
        except FsError as error:
            note(f"{line}: {name} cannot be opened: {error}")
            continue
        found.append(Branch(line, filesystem, name))
    return found


def _wanted(text: str, place: BootRoot, note: Callable[[str], None]) -> Iterator[tuple[fstab.Line, Root]]:
    lines = [line for line in map(fstab.parse, text.splitlines()) if line is not None and _mounts(line, place.pool)]
    lines += _by_property(place, note)
    if not lines:
        return
    try:
        known = place.pool.roots()
    except FsError as error:
        note(f"the other trees of {place.where} cannot be listed: {error}")
        return
    seen = {"/"}
    for line in lines:
        where = line.where.rstrip("/")
        root = _root(line, known, place.pool)
        if root is not None and root.name != place.root.name and where.startswith("/") and where not in seen:
            seen.add(where)
            yield line, root


def _by_property(place: BootRoot, note: Callable[[str], None]) -> list[fstab.Line]:
    """What `zfs mount -a` of the root's system would mount, as lines of an fstab: its own datasets first, none that
    belong to another boot environment."""
    listing: Callable[[], list[tuple[str, str]]] | None = getattr(place.pool, "mounted", None)
    if listing is None:
        return []
    own = place.root.name.partition("@")[0]
    others = [one.name for one in roots.environments(place.pool, note) if one.name != own]
    try:
        found = listing()
    except FsError as error:
        note(f"{place.where}: what else its system mounts is not known: {error}")
        return []
    found = [(name, where) for name, where in found if not any(f"{name}/".startswith(f"{one}/") for one in others)]
    found.sort(key=lambda one: not one[0].startswith(f"{own}/"))
    return [fstab.Line(name, where, "zfs", "zfsutil") for name, where in found if name != own]


def _mounts(line: fstab.Line, pool: Pool) -> bool:
    """Whether the boot of the root would mount a tree of ``pool`` here."""
    if line.fstype != pool.kind or line.where.rstrip("/") == "" or line.has("noauto"):
        return False
    if pool.kind == "zfs":
        return line.what.partition("/")[0] == pool.name
    wanted = roots.wanted(line.what)
    return bool(wanted.key) and wanted.matches(pool)


def _root(line: fstab.Line, known: list[Root], pool: Pool) -> Root | None:
    if pool.kind == "zfs":
        return next((root for root in known if root.name == line.what), None)
    path, asked = flag(line.options, "subvol"), number(flag(line.options, "subvolid"))
    if asked is not None:
        return next((root for root in known if root.id == (asked or TOP_LEVEL)), None)
    if path is None:
        return next((root for root in known if root.default), None)
    path = path.strip("/")
    return next((root for root in known if roots.path_of(root) == path), None)
