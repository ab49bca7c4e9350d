"""Snapshots of a root: which trees of its pool are earlier states of it, when they were made, and what for.

The layouts are those of the tools that make them: snapper (``P/.snapshots/N/snapshot``, with ``info.xml`` beside it),
timeshift (``timeshift-btrfs/snapshots/DATE/@``), and ZFS, whose snapshots carry their file system in the name.
Sources: snapper(8) and snapper/Snapshot.cc of snapper 0.11; src/Core/Snapshot.vala of timeshift 24.01.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import NamedTuple

from fsdrivers.errors import FsError
from fsdrivers.filesystem import Filesystem
from fsdrivers.pool import Pool, Root
from fsdrivers.shown import when
from init.roots import BootRoot, path_of, tree_name

MAX_SNAPSHOTS = 512  # of one root that are listed, the newest
MAX_DESCRIBED = 64  # of them whose description is read: each costs a look at the disk
MAX_INFO = 1 << 16  # bytes of a description

SNAPPER, TIMESHIFT, ZFS, BTRFS = "snapper", "timeshift", "zfs", "btrfs"

Note = Callable[[str], None]

_SNAPPER = r"(?:(?P<above>.*)/)?(?:\.snapshots|@?\.?snapshots)/(?P<number>[0-9]+)/snapshot"
_TIMESHIFT = r"timeshift-btrfs/snapshots(?:-[a-z]+)?/(?P<number>[^/]+)/(?P<of>[^/]+)"
_TIMESHIFT_DATE = r"([0-9]{4})-([0-9]{2})-([0-9]{2})_([0-9]{2})-([0-9]{2})-([0-9]{2})"
# One element of info.xml or one member of info.json with a text in it.
_XML = r"<(date|description|type)>([^<]*)</\1>"
_JSON = r'"(comments|created)"\s*:\s*"((?:[^"\\]|\\.)*)"'
_ESCAPE = r"\\(?:u([0-9A-Fa-f]{4})|(.))"
_ENTITY = r"&(?:(lt|gt|quot|apos|amp)|#([0-9]{1,7})|#x([0-9A-Fa-f]{1,6}));"
_CHARACTERS = {"lt": "<", "gt": ">", "quot": '"', "apos": "'", "amp": "&"}


class Snapshot(NamedTuple):
    """One earlier state of a root; not opened yet."""

    pool: Pool
    root: Root
    tool: str  # which made it: SNAPPER, TIMESHIFT, ZFS, or BTRFS for one that no tool's layout fits
    number: str  # what its tool calls it: a number, a date, the name behind the "@"; else its path
    created: int  # nanoseconds since 1970, 0 when nobody knows
    description: str = ""

    @property
    def where(self) -> str:
        """As BootRoot.where: entries of this snapshot have ids that begin with it."""
        return tree_name(self.pool, self.root.name)

    @property
    def when(self) -> str:
        """The date for people, in UTC; "" when nobody knows, a number when it is beyond all calendars."""
        return when(self.created) if self.created else ""

    @property
    def readonly(self) -> bool:
        """Whether the tree itself can only be read."""
        return self.root.readonly

    @property
    def title(self) -> str:
        """One line for a list: date, number, description, whether it is read-only."""
        parts = [self.when, f"snapshot {self.number}", self.description, "read-only" if self.readonly else ""]
        return ", ".join(part for part in parts if part)

    def named(self, asked: str) -> bool:
        """Whether ``asked`` (poolboot.entry=) means this snapshot or an entry in it."""
        return asked in (self.root.name, self.root.uuid) or f"{asked}/".startswith(f"{self.where}/")


def of(place: BootRoot, note: Note) -> list[Snapshot]:
    """The snapshots of the root ``place``, the newest first, without descriptions: nothing but names is read."""
    try:
        roots = place.pool.roots()
    except FsError as error:
        note(f"{place.where}: its snapshots cannot be listed: {error}")
        return []
    lineage = _lineage(place.root, roots)
    known = {root.uuid for root in roots}
    found = []
    for root in roots:
        if root.id == place.root.id:
            continue
        # btrfs remembers what a snapshot was made from; where that is gone the tool's layout has to tell.
        made = root.origin in lineage if root.origin in known or root.origin in lineage else None
        one = _snapshot(place, root, made)
        if one is not None:
            found.append(one)
    found.sort(key=lambda one: (one.created, one.root.id), reverse=True)
    if len(found) > MAX_SNAPSHOTS:
        note(f"{place.where}: the newest {MAX_SNAPSHOTS} of {len(found)} snapshots are listed")
    return found[:MAX_SNAPSHOTS]


def _lineage(own: Root, roots: list[Root]) -> set[str]:
    """The uuids of ``own`` and of what it was made from: after a rollback a root is itself a snapshot."""
    by_uuid = {root.uuid: root for root in roots}
    found: set[str] = set()
    here = own.uuid
    while here and here not in found:
        found.add(here)
        here = by_uuid[here].origin if here in by_uuid else ""
    return found


def _snapshot(place: BootRoot, root: Root, made: bool | None) -> Snapshot | None:
    """``root`` as a snapshot of ``place``, or None; ``made``: whether it was made from it, None when nobody knows."""
    pool, own = place.pool, path_of(place.root)
    if pool.kind == "zfs":
        dataset, _, name = root.name.partition("@")
        return Snapshot(pool, root, ZFS, name, root.created) if name and dataset == own.partition("@")[0] else None
    path = path_of(root)
    if found := re.fullmatch(_SNAPPER, path):
        above, inside = found["above"] or "", re.fullmatch(_SNAPPER, own)
        alike = above == ((inside["above"] or "") if inside else own)
        if made or (made is None and (alike or _beside(own, above))):
            return Snapshot(pool, root, SNAPPER, found["number"], root.created)
    elif found := re.fullmatch(_TIMESHIFT, path):
        if made or (made is None and found["of"] == (own or "@")):
            # Its name has the local time of the system, that of its making is in UTC.
            return Snapshot(pool, root, TIMESHIFT, found["number"], root.created or _date(found["number"]))
    elif made and root.readonly:
        return Snapshot(pool, root, BTRFS, path, root.created)
    return None


def _beside(own: str, above: str) -> bool:
    """Whether a subvolume for snapshots at the top of the pool ("@snapshots") goes with the root at ``own``: it is
    mounted at its /.snapshots, while that of another configuration has the name of its own subvolume in front."""
    return not above and own != "" and "/" not in own


def described(snapshots: list[Snapshot]) -> list[Snapshot]:
    """``snapshots`` with what their tools noted about the first MAX_DESCRIBED of them."""
    trees: dict[str, Filesystem | None] = {}
    return [_described(one, trees) for one in snapshots[:MAX_DESCRIBED]] + snapshots[MAX_DESCRIBED:]


def _described(one: Snapshot, trees: dict[str, Filesystem | None]) -> Snapshot:
    if one.tool == SNAPPER:
        text = _beside_text(one, one.root.name.strip("/").removesuffix("snapshot") + "info.xml", trees)
        values = {key: _entities(value) for key, value in re.findall(_XML, text)}
        kind = values.get("type", "")
        words = [kind if kind in ("pre", "post") else "", values.get("description", "")]
        about = " ".join(word for word in words if word)
        return one._replace(description=_clean(about), created=_date(values.get("date", "")) or one.created)
    if one.tool == TIMESHIFT:
        text = _beside_text(one, one.root.name.strip("/").rpartition("/")[0] + "/info.json", trees)
        values = dict(re.findall(_JSON, text))
        about, seconds = _clean(re.sub(_ESCAPE, _unescaped, values.get("comments", ""))), values.get("created", "")
        known = seconds.isascii() and seconds.isdecimal() and len(seconds) < 12
        return one._replace(description=about, created=int(seconds) * 10**9 if known else one.created)
    return one


def _beside_text(one: Snapshot, path: str, trees: dict[str, Filesystem | None]) -> str:
    """The file at ``path`` from the top of the pool, out of the subvolume that holds it; "" when that fails."""
    holder = one.root.parent.strip("/")
    if holder not in trees:
        try:
            names = [root.name for root in one.pool.roots() if path_of(root) == holder]
            trees[holder] = one.pool.open(names[0]) if names else None
        except FsError:
            trees[holder] = None
    tree = trees[holder]
    if tree is None:
        return ""
    try:
        return tree.read_file(path.removeprefix(holder), MAX_INFO).decode("utf-8", "replace")
    except FsError:
        return ""


def _date(text: str) -> int:
    """Nanoseconds since 1970 of timeshift's "2024-05-01_12-00-00" or snapper's "2024-05-01 12:00:00" (UTC), else 0."""
    found = re.fullmatch(_TIMESHIFT_DATE, text.replace(" ", "_").replace(":", "-"))
    if found is None:
        return 0
    from calendar import timegm

    try:
        return timegm(time.strptime("".join(found.groups()), "%Y%m%d%H%M%S")) * 10**9
    except ValueError:
        return 0


def _entities(text: str) -> str:
    """The text of XML's references: libxml2, with which snapper writes, has numbers for all that is not ASCII."""
    return re.sub(_ENTITY, _character, text)


def _character(found: re.Match[str]) -> str:
    if found[1]:
        return _CHARACTERS[found[1]]
    number = int(found[2]) if found[2] else int(found[3], 16)
    return chr(number) if number <= 0x10FFFF else "?"


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else {"n": " ", "t": " "}.get(found[2], found[2])


def _clean(text: str) -> str:
    """One line that no console can be fooled with."""
    return "".join(char if char.isprintable() else " " for char in text)[:80].strip()
