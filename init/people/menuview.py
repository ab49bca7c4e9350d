"""How terminals show a menu: as a screen where the cursor can be moved, else line by line.

Both are pure: a Menu goes in, text for one terminal comes out.  What is on the terminal already is remembered, so that
only what changed is sent: at 9600 baud a whole screen takes two seconds.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

from fsdrivers.shown import printable
from init import VERSION
from init.console.lineedit import View, cells, width_of
from init.people.menu import DETAILS, EDIT, HELP, HELP_LINES, LIST, Menu, details, tags

BAR, SELECTED, WARNING, LABEL, URGENT = "bar", "selected", "warning", "label", "urgent"
# ECMA-48 8.3.117 (SGR): with colours, and for terminals without
_COLOURS = {BAR: "1;37;44", SELECTED: "7", WARNING: "1;33", LABEL: "36", URGENT: "1"}
_PLAIN = {BAR: "7", SELECTED: "7", WARNING: "1", LABEL: "", URGENT: "1"}

KEYS = "Enter boots  e edit  d details  s snapshots  m default  r rescue  ? help"
SNAPSHOT_KEYS = "Enter looks into it  d details  r rescue  Escape back  ? help"
EDIT_KEYS = "Enter boots with this command line, once  Escape goes back unchanged"
DETAILS_KEYS = "Enter boots  e edit  r rescue  Escape back  Up and Down scroll"
FOOTER = 6  # rows below the list
PLAIN_ROWS = 18  # entries that are listed at once on a terminal without a screen
ITEM_ROWS = 2  # of an entry on a terminal without a screen
LEAST_TITLE = 24  # characters of a title that are always shown
MIN_ROWS, MIN_COLUMNS = 12, 40  # of a screen; smaller terminals get lines
ALWAYS_TOLD = 10  # from here on the countdown tells every second


class Row(NamedTuple):
    """One row of a screen."""

    text: str = ""
    style: str = ""


class Screen(NamedTuple):
    """A whole screen, and where its cursor is (row and column from 0; None for nowhere)."""

    rows: list[Row]
    cursor: tuple[int, int] | None = None


class Shown(Protocol):
    """A terminal's memory of what it shows."""

    def update(self, menu: Menu) -> str:
        """What to send to bring it up to date; the first time everything."""

    def finish(self, menu: Menu) -> str:
        """What to send when the menu is over: the next text begins on a fresh row."""


def has_room(rows: int, columns: int) -> bool:
    """Whether a terminal is large enough for a screen."""
    return rows >= MIN_ROWS and columns >= MIN_COLUMNS


def narrow(text: str) -> str:
    """``text`` in characters of which each takes one cell, whatever the font and whatever is on the disk."""
    text = printable(text.replace("\n", " ").replace("\t", " "))
    return text if text.isascii() else cells(char for char in text if width_of(char))


def cut(text: str, width: int) -> str:
    """``text`` in at most ``width`` cells; what is missing is marked."""
    text = narrow(text)
    return text if len(text) <= width else text[: max(0, width - 3)] + "..."


def wrap(text: str, width: int) -> list[str]:
    """``text`` in rows of ``width``, broken at blanks where there are any; at least one row."""
    rows, text = [], narrow(text)
    while len(text) > width:
        at = text.rfind(" ", 1, width + 1)
        at = at if at > width // 2 else width
        rows.append(text[:at])
        text = text[at:].removeprefix(" ")
    return [*rows, text]


# --- as a screen ------------------------------------------------------------------------------


def compose(menu: Menu, height: int, width: int) -> Screen:
    """The screen of ``height`` rows; the last column stays free, as some terminals wrap when it is written to."""
    width -= 1
    position = f"{menu.level.selected + 1} of {len(menu.level.items)}"
    heading = menu.level.heading if menu.page in (LIST, HELP) else menu.level.item.title
    left = cut(f" poolboot {VERSION}   {heading}", width - len(position) - 2)
    rows = [Row(left.ljust(width - len(position) - 1) + position + " ", BAR), Row()]
    cursor = None
    space = height - len(rows) - FOOTER
    if menu.page == LIST:
        rows += _list(menu, space, width)
    elif menu.page == DETAILS:
        rows += _details(menu, space, width)
    elif menu.page == EDIT:
        body, (row, column) = _edit(menu, space, width)
        cursor = (len(rows) + row, column)
        rows += body
    else:
        rows += [Row(cut(line, width)) for line in HELP_LINES[:space]]
    rows += [Row()] * (height - FOOTER - len(rows))
    return Screen(rows + _footer(menu, width), cursor)


def _list(menu: Menu, space: int, width: int) -> list[Row]:
    level = menu.level
    first = min(max(0, level.selected - space // 2), max(0, len(level.items) - space))
    digits = len(str(len(level.items)))
    rows = []
    for number, entry in enumerate(level.items[first : first + space], first + 1):
        chosen = number - 1 == level.selected
        edge = "^" if number == first + 1 > 1 else "v" if first + space == number < len(level.items) else " "
        head = f"{'>' if chosen else edge} {number:>{digits}}  "
        tail = cut(tags(entry), width // 3)
        room = width - len(head) - len(tail) - 2
        rows.append(Row(f"{head}{cut(entry.title, room):<{room}}  {tail}", SELECTED if chosen else ""))
    return rows


def _details(menu: Menu, space: int, width: int) -> list[Row]:
    rows = []
    for name, value in details(menu.level.item):
        for number, part in enumerate(wrap(value, width - 12)):
            rows.append(Row(f"  {name if not number else '':<9} {part}", WARNING if name == "warning" else ""))
    menu.scroll = min(menu.scroll, max(0, len(rows) - space))
    return rows[menu.scroll : menu.scroll + space]


def _edit(menu: Menu, space: int, width: int) -> tuple[list[Row], tuple[int, int]]:
    """The command line over as many rows as it takes, and where the cursor is among them."""
    text = cells(menu.line.text)
    at = divmod(menu.line.cursor, width)
    parts = [text[start : start + width] for start in range(0, len(text) + 1, width)]
    first = max(0, at[0] - space + 3)
    rows = [Row("Command line of the kernel:", LABEL), *map(Row, parts[first : first + space - 1])]
    return rows, (at[0] - first + 1, at[1])


def _footer(menu: Menu, width: int) -> list[Row]:
    entry = menu.level.entry
    news = Row(cut(menu.message, width), WARNING)
    if not menu.message and menu.page == LIST and entry and entry.notes:
        news = Row(cut(f"! {entry.notes[0]}", width), WARNING)
    lines = wrap(f"{entry.kernel}  {entry.cmdline}", width)[:2] if menu.page == LIST and entry else []
    facts = [Row(line, LABEL) for line in lines] + [Row()] * (2 - len(lines))
    count = Row(cut(countdown(menu), width), URGENT)
    return [Row(), news, *facts, count, Row(cut(keys(menu), width))]


def keys(menu: Menu) -> str:
    """What can be typed now."""
    usual = KEYS if menu.level.entry else SNAPSHOT_KEYS
    return {EDIT: EDIT_KEYS, DETAILS: DETAILS_KEYS, HELP: "any key goes back"}.get(menu.page, usual)


def countdown(menu: Menu) -> str:
    """What happens when nobody does anything, and when."""
    if menu.left is None:
        return ""
    return f"Booting entry {menu.level.selected + 1} in {math.ceil(menu.left)} s; any key stops this."


class Painter:
    """A terminal that moves its cursor: sends the rows that changed."""

    def __init__(self, height: int, width: int, colour: bool) -> None:
        self._height, self._width, self._styles = height, width, _COLOURS if colour else _PLAIN
        self._rows: list[Row] | None = None

    def update(self, menu: Menu) -> str:
        screen = compose(menu, self._height, self._width)
        out = "" if self._rows else "\x1b[0m\x1b[2J"
        for number, row in enumerate(screen.rows):
            if self._rows is None or self._rows[number] != row:
                out += f"\x1b[{number + 1};1H{self._styled(row)}\x1b[K"
        self._rows = screen.rows
        if screen.cursor is None:
            return out + "\x1b[?25l" if out else ""
        return out + f"\x1b[{screen.cursor[0] + 1};{screen.cursor[1] + 1}H\x1b[?25h"

    def finish(self, menu: Menu) -> str:
        return f"\x1b[{self._height};1H\x1b[?25h\n"

    def _styled(self, row: Row) -> str:
        code = self._styles.get(row.style, "")
        return f"\x1b[{code}m{row.text}\x1b[0m" if code else row.text


# --- line by line -----------------------------------------------------------------------------


class Printer:
    """A terminal that only prints: the list once, and then a line for each thing that changes."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._level: object = None
        self._selected, self._page, self._message, self._scroll = -1, "", "", 0
        self._told = 0  # the second of the countdown that was told last
        self._line: View | None = None
        self._open = False  # the row is not finished

    def update(self, menu: Menu) -> str:
        if menu.page == EDIT and self._page == EDIT and self._line:
            return self._line.update(menu.line)
        out = ""
        turned = (menu.level, menu.page) != (self._level, self._page)
        if turned and menu.page == EDIT:
            self._line = View("cmdline> ", self._width)
            out = self._fresh(EDIT_KEYS) + self._line.draw(menu.line)
            self._open = True
        elif turned or menu.scroll != self._scroll:
            out = self._fresh(self._text(menu))
        elif menu.level.selected != self._selected:
            out = self._fresh(_item(menu, menu.level.selected, self._width))
        if menu.message and menu.message != self._message:
            out += self._fresh(printable(menu.message, ""))
        out += self._count(menu)
        self._level, self._page, self._message = menu.level, menu.page, menu.message
        self._selected, self._scroll = menu.level.selected, menu.scroll
        return out

    def again(self) -> None:
        """The next update() shows everything once more."""
        self._level = None

    def finish(self, menu: Menu) -> str:
        return "\n" if self._open else ""

    def _fresh(self, text: str) -> str:
        """Whole lines, beginning on a row of their own."""
        start, self._open = "\n" if self._open else "", False
        return f"{start}{text}\n"

    def _text(self, menu: Menu) -> str:
        if menu.page == HELP:
            return "\n".join(HELP_LINES)
        if menu.page == DETAILS:
            return "\n".join(f"  {name:<9} {printable(value, '')}" for name, value in details(menu.level.item))
        level = menu.level
        first = min(max(0, level.selected - PLAIN_ROWS // 2), max(0, len(level.items) - PLAIN_ROWS))
        shown = range(first, min(len(level.items), first + PLAIN_ROWS))
        lines = [printable(f"{level.heading}:", ""), *(_item(menu, index, self._width) for index in shown)]
        if len(shown) < len(level.items):
            part = f"{shown[0] + 1} to {shown[-1] + 1} of {len(level.items)}"
            lines.append(f"  {part}; Up, Down or a number shows others")
        return "\n".join([*lines, "A number selects.", keys(menu)])

    def _count(self, menu: Menu) -> str:
        """The countdown: a sentence, then a number now and then on the same row."""
        if menu.left is None:
            stopped, self._told = self._told and self._open and menu.page != EDIT, 0
            self._open = self._open and not stopped
            return " stopped\n" if stopped else ""
        left = math.ceil(menu.left)
        if not self._told:
            self._told, self._open = left, True
            return countdown(menu)
        if left == self._told or (left > ALWAYS_TOLD and left % ALWAYS_TOLD):
            return ""
        self._told, self._open = left, True
        return f" {left}"


def _item(menu: Menu, index: int, width: int) -> str:
    """One entry as a line that takes no more than ITEM_ROWS rows of ``width``: a title may be long."""
    entry = menu.level.items[index]
    head = f"{'>' if index == menu.level.selected else ' '} {index + 1}. "
    title, tail = printable(entry.title, ""), printable(f"  [{tags(entry)}]", "")
    room = max(LEAST_TITLE, ITEM_ROWS * width - 1 - len(head) - len(tail))
    return head + (title if len(title) <= room else title[: room - 3] + "...") + tail
