"""The menu as a state machine: keys and time go in, what is selected and shown comes out.  It knows no terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from fsdrivers.errors import FsError
from init.console.lineedit import Line
from init.entries.entry import BootEntry
from init.entries.snapshots import Snapshot
from init.locks import EDITOR, MENU
from init.people.gate import Gate

LIST, DETAILS, EDIT, HELP = "list", "details", "edit", "help"

WHOLE = "its command line is a part of what is signed"
DIGIT_PATIENCE = 3.0  # seconds between the digits of one number

HELP_LINES = (
    "Up, Down, Page Up, Page Down  select an entry (also k, j, Home and End)",
    "1 2 3 ...                     select by number",
    "Enter                         boot the selected entry",
    "e                             edit its command line, for this boot only",
    "d                             details: files, root, warnings",
    "s                             snapshots of its root",
    "m                             make it the default of all boots, or no longer",
    "r                             the rescue prompt",
    "l                             show the list again",
    "Escape                        back",
)


class Source(Protocol):
    """Where earlier states of a root come from.  Both may raise FsError."""

    def snapshots(self, entry: BootEntry) -> Sequence[Snapshot]:
        """The snapshots of ``entry``'s root, for a list."""

    def inside(self, snapshot: Snapshot, like: BootEntry) -> Sequence[BootEntry]:
        """What can be booted from one of them; ``like`` is the entry whose root it is a snapshot of."""


class Outcome(NamedTuple):
    """How a menu ended: with an entry to boot, or without one for the rescue prompt."""

    entry: BootEntry | None


class Level:
    """One list (of entries, or of snapshots to look into) and where the reader is in it."""

    def __init__(
        self, heading: str, items: Sequence[BootEntry | Snapshot], selected: int = 0, like: BootEntry | None = None
    ) -> None:
        self.heading, self.items, self.selected = heading, list(items), selected
        self.like = like  # for snapshots: the entry whose root they are of

    @property
    def item(self) -> BootEntry | Snapshot:
        """The selected one."""
        return self.items[self.selected]

    @property
    def entry(self) -> BootEntry | None:
        """The selected one when it can be booted as it is."""
        return self.item if isinstance(self.item, BootEntry) else None


class Menu:
    """What a person sees and does until ``outcome`` is there.

    ``left`` are the seconds until the selected entry is booted unasked, None when nothing happens by itself.
    ``prefer`` makes an entry the default, or no longer: what it did, in words; it may raise FsError.
    ``gate`` knows what is locked.  A key that it keeps from meaning anything stands in ``kept``, with what for, until
    somebody asked for the password and says so (let_in).
    """

    def __init__(
        self,
        entries: Sequence[BootEntry],
        selected: int = 0,
        left: float | None = None,
        source: Source | None = None,
        prefer: Callable[[BootEntry], str] | None = None,
        gate: Gate | None = None,
    ) -> None:
        self.gate = gate or Gate()
        self.kept: tuple[str, str, bool] | None = None  # the key, what locks it, and whether it leads to typing
        self.levels = [Level("What can be booted", entries, selected)]
        self.left, self._source, self._prefer = left, source, prefer
        self.alone = True  # what is selected may be booted when nobody can be heard
        self.page = LIST
        self.scroll = 0  # first line that is shown of DETAILS
        self.line = Line()
        self.message = ""
        self.outcome: Outcome | None = None
        self._digits, self._quiet = "", 0.0  # of a number that is being typed, and seconds since the last key

    @property
    def level(self) -> Level:
        """The list that is in front."""
        return self.levels[-1]

    def pass_time(self, seconds: float) -> None:
        """Let time pass; at the end of the countdown the selected entry is booted."""
        self._quiet += seconds
        if self.left is not None and self.outcome is None:
            self.left -= seconds
            if self.left <= 0:
                self.outcome = Outcome(self.levels[0].entry)

    def abandoned(self) -> Outcome:
        """What comes of it when nobody can be heard any more: what is selected, unless only a person with the password
        may have it booted."""
        entry = self.levels[0].entry
        locked = entry is not None and entry.snapshot is not None and bool(self.gate.closed(MENU))
        return Outcome(entry if self.alone and not locked else None)

    def key(self, key: str) -> None:
        """Take one key (see init/console/keys.py): any one stops the countdown, and then does what it does."""
        self.left, self.message = None, ""
        if not key.isdecimal() or self._quiet > DIGIT_PATIENCE:
            self._digits = ""
        self._quiet = 0.0
        if self.page == EDIT:
            self._edit(key)
        elif self.page == DETAILS:
            self._details(key)
        elif self.page == HELP:
            self.page = LIST
        else:
            self._list(key)

    def let_in(self, granted: bool) -> None:
        """Do what the kept key means, or say that it means nothing."""
        assert self.kept is not None
        (key, level, typed), self.kept = self.kept, None
        if granted:
            self.key(key)
        else:
            self.message = self.gate.closed(level, typed)

    def _free(self, key: str, level: str, typed: bool = False) -> bool:
        """Whether ``key`` may do what it means; else it is kept."""
        if self.gate.closed(level, typed):
            self.kept = (key, level, typed)
        return self.kept is None

    # --- the list -----------------------------------------------------------------------------

    def _list(self, key: str) -> None:
        level = self.level
        last = len(level.items) - 1
        moves = {
            "up": -1, "k": -1, "down": 1, "j": 1, "page-up": -10, "page-down": 10, "home": -last, "end": last,
        }  # fmt: skip
        if key in moves:
            level.selected = min(max(level.selected + moves[key], 0), last)
        elif key.isdecimal() and key.isascii():
            self._digit(key)
        elif key in ("escape", "left", "q"):
            if len(self.levels) > 1:
                self.levels.pop()
        elif key in ("h", "?"):
            self.page = HELP
        elif key == "s":
            if self._free(key, MENU):
                self._list_snapshots()
        else:
            self._act(key)

    def _act(self, key: str) -> None:
        """What can be done to the selected entry or snapshot."""
        item = self.level.item
        if key == "r":
            self.outcome = Outcome(None)
        elif key in ("d", "i"):
            self.page, self.scroll = DETAILS, 0
        elif isinstance(item, Snapshot):
            if key in ("enter", "accept", "b", "e", "right"):
                self._look_into(item)
        elif key in ("enter", "accept", "b"):
            if item.snapshot is None or self._free(key, MENU):
                self.outcome = Outcome(item)
        elif key == "e" and item.whole:
            self.message = WHOLE
        elif key == "e" and self._free(key, EDITOR, typed=True):
            self.line, self.page = Line(item.cmdline), EDIT
        elif key == "m" and self._free(key, EDITOR):
            self._make_default(item)

    def _make_default(self, entry: BootEntry) -> None:
        self.page = LIST
        try:
            self.message = self._prefer(entry) if self._prefer else "there is no memory from boot to boot yet"
        except FsError as error:
            self.message = f"not the default: {error}"

    def _digit(self, key: str) -> None:
        """Numbers may have several digits: each one extends the number before it while there is such an entry."""
        count = len(self.level.items)
        for digits in (self._digits + key, key):
            if 1 <= int(digits) <= count:
                self._digits, self.level.selected = digits, int(digits) - 1
                return
        self.message, self._digits = f"there is no entry {self._digits + key}", ""

    def _list_snapshots(self) -> None:
        entry = self.level.entry
        if entry is None or entry.snapshot is not None:
            self.message = "these are snapshots already"
            return
        try:
            found = self._source.snapshots(entry) if self._source else ()
        except FsError as error:
            self.message = f"snapshots of {entry.place.where}: {error}"
            return
        if not found:
            self.message = f"{entry.place.where} has no snapshots"
            return
        self.levels.append(Level(f"Snapshots of {entry.place.where}", found, like=entry))

    def _look_into(self, snapshot: Snapshot) -> None:
        like = self.level.like
        try:
            found = self._source.inside(snapshot, like) if self._source and like else ()
        except FsError as error:
            self.message = f"{snapshot.where}: {error}"
            return
        self.page = LIST
        if found:
            self.levels.append(Level(f"In {snapshot.title}", found))
        else:
            self.message = f"nothing can be booted from {snapshot.where}"

    # --- the other pages ----------------------------------------------------------------------

    def _details(self, key: str) -> None:
        moves = {"up": -1, "k": -1, "down": 1, "j": 1, "page-up": -10, "page-down": 10}
        if key in moves:
            self.scroll = max(0, self.scroll + moves[key])
        elif key in ("escape", "left", "q", "d", "i"):
            self.page = LIST
        else:
            self._act(key)

    def _edit(self, key: str) -> None:
        entry = self.level.entry
        if key in ("enter", "accept") and entry is not None:
            self.outcome = Outcome(entry._replace(cmdline=self.line.text.strip()))
        elif key in ("escape", "interrupt"):
            self.page = LIST
        else:
            self.line.key(key)


def tags(entry: BootEntry | Snapshot) -> str:
    """What a person should know of an entry before looking at its details, in a few characters."""
    if isinstance(entry, Snapshot):
        return "read-only" if entry.readonly else "writable"
    marks = [entry.disk] if entry.disk else []
    marks.append(entry.place.where)
    if entry.place.root.readonly:
        marks.append("read-only")
    if entry.rescue:
        marks.append("rescue mode")
    if entry.tries_left is not None:
        marks.append(f"{entry.tries_left} tries left")
    if entry.notes:
        marks.append("!")
    return " ".join(marks)


def details(entry: BootEntry | Snapshot) -> list[tuple[str, str]]:
    """All there is to know of an entry, as names and values; a "warning" for each of its notes."""
    if isinstance(entry, Snapshot):
        names = ("title", "made by", "when", "tree", "notes", "state")
        values = (entry.title, entry.tool, entry.when or "unknown", entry.where, entry.description or "none")
        return list(zip(names, (*values, "read-only" if entry.readonly else "writable"), strict=True))
    place = entry.place
    root = f"{place.pool.kind} {place.where}, pool {place.pool.state}"
    facts = [
        ("title", entry.title),
        ("id", entry.id),
        ("source", entry.source),
        ("kernel", entry.kernel + (f"  (version {entry.version})" if entry.version else "")),
        *(("initrd", path) for path in entry.initrds or ("its own" if entry.whole else "none",)),
        *([("disk", entry.disk)] if entry.disk else []),
        ("root", root + (", read-only" if place.root.readonly else "")),
        ("cmdline", entry.cmdline or ("its own" if entry.whole else "")),
    ]
    if entry.tries_left is not None:
        facts.append(("tries", f"{entry.tries_left} left of boot counting"))
    return facts + [("warning", note) for note in entry.notes]
