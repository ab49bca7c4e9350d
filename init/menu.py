"""The menu as a state machine: keys and time go in, what is selected and shown comes out.  It knows no terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fsdrivers.errors import FsError
from init.entries.entry import BootEntry
from init.lineedit import Line

LIST, DETAILS, EDIT, HELP = "list", "details", "edit", "help"

HELP_LINES = (
    "Up, Down, Page Up, Page Down, Home, End    select an entry (also k and j)",
    "1 2 3 ...                                  select by number",
    "Enter                                      boot the selected entry",
    "e                                          edit its command line, for this boot only",
    "d                                          details: files, root, warnings",
    "s                                          snapshots and copies of its root",
    "r                                          the rescue prompt",
    "l                                          show the list again",
    "Escape                                     back",
)

Snapshots = Callable[[BootEntry], Sequence[BootEntry]]


class Outcome(NamedTuple):
    """How a menu ended: with an entry to boot, or without one for the rescue prompt."""

    entry: BootEntry | None


class Level:
    """One list of entries and where the reader is in it."""

    def __init__(self, heading: str, entries: Sequence[BootEntry], selected: int = 0) -> None:
        self.heading, self.entries, self.selected = heading, list(entries), selected

    @property
    def entry(self) -> BootEntry:
        """The selected one."""
        return self.entries[self.selected]


class Menu:
    """What a person sees and does until ``outcome`` is there.

    ``left`` are the seconds until the selected entry is booted unasked, None when nothing happens by itself.
    """

    def __init__(
        self, entries: Sequence[BootEntry], selected: int = 0, left: float | None = None, snapshots: Snapshots | None = None
    ) -> None:
        self.levels = [Level("What can be booted", entries, selected)]
        self.left, self._snapshots = left, snapshots
        self.page = LIST
        self.scroll = 0  # first line that is shown of DETAILS
        self.line = Line()
        self.message = ""
        self.outcome: Outcome | None = None
        self._digits = ""

    @property
    def level(self) -> Level:
        """The list that is in front."""
        return self.levels[-1]

    def pass_time(self, seconds: float) -> None:
        """Let time pass; at the end of the countdown the selected entry is booted."""
        if self.left is not None and self.outcome is None:
            self.left -= seconds
            if self.left <= 0:
                self.outcome = Outcome(self.level.entry)

    def key(self, key: str) -> None:
        """Take one key (see init/keys.py): any one stops the countdown, and then does what it does."""
        self.left, self.message = None, ""
        if not key.isdecimal():
            self._digits = ""
        if self.page == EDIT:
            self._edit(key)
        elif self.page == DETAILS:
            self._details(key)
        elif self.page == HELP:
            self.page = LIST
        else:
            self._list(key)

    # --- the list -----------------------------------------------------------------------------

    def _list(self, key: str) -> None:
        level = self.level
        last = len(level.entries) - 1
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
            self._list_snapshots()
        else:
            self._act(key)

    def _act(self, key: str) -> None:
        """What can be done to the selected entry."""
        if key in ("enter", "accept", "b"):
            self.outcome = Outcome(self.level.entry)
        elif key == "e":
            self.line, self.page = Line(self.level.entry.cmdline), EDIT
        elif key in ("d", "i"):
            self.page, self.scroll = DETAILS, 0
        elif key == "r":
            self.outcome = Outcome(None)

    def _digit(self, key: str) -> None:
        """Numbers may have several digits: each one extends the number before it while there is such an entry."""
        count = len(self.level.entries)
        for digits in (self._digits + key, key):
            if 1 <= int(digits) <= count:
                self._digits, self.level.selected = digits, int(digits) - 1
                return
        self._digits = ""
        self.message = f"there is no entry {key}"

    def _list_snapshots(self) -> None:
        entry = self.level.entry
        try:
            found = self._snapshots(entry) if self._snapshots else ()
        except FsError as error:
            self.message = f"snapshots of {entry.place.where}: {error}"
            return
        if not found:
            self.message = f"{entry.place.where} has no snapshots that can be booted"
            return
        self.levels.append(Level(f"Snapshots of {entry.place.where}", found))

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
        if key in ("enter", "accept"):
            self.outcome = Outcome(self.level.entry._replace(cmdline=self.line.text.strip()))
        elif key in ("escape", "interrupt"):
            self.page = LIST
        else:
            self.line.key(key)


def tags(entry: BootEntry) -> str:
    """What a person should know of an entry before looking at its details, in a few characters."""
    marks = [entry.place.where]
    if entry.place.root.readonly:
        marks.append("read-only")
    if entry.rescue:
        marks.append("rescue mode")
    if entry.tries_left is not None:
        marks.append(f"{entry.tries_left} tries left")
    if entry.notes:
        marks.append("!")
    return " ".join(marks)


def details(entry: BootEntry) -> list[tuple[str, str]]:
    """All there is to know of an entry, as names and values; a "warning" for each of its notes."""
    place = entry.place
    root = f"{place.pool.kind} {place.where}, pool {place.pool.state}"
    facts = [
        ("title", entry.title),
        ("id", entry.id),
        ("source", entry.source),
        ("kernel", entry.kernel + (f"  (version {entry.version})" if entry.version else "")),
        *(("initrd", path) for path in entry.initrds or ("none",)),
        ("root", root + (", read-only" if place.root.readonly else "")),
        ("cmdline", entry.cmdline),
    ]
    if entry.tries_left is not None:
        facts.append(("tries", f"{entry.tries_left} left of boot counting"))
    return facts + [("warning", note) for note in entry.notes]
