"""A line that is being typed: the text with its cursor, history and completion, and how any terminal shows it.

Showing needs nothing of a terminal but carriage return and backspace, so that it works on the dumbest serial line: a
text that is wider than the terminal scrolls sideways and never wraps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from init.console import keys

MAX_LINE = 4096  # characters
MAX_HISTORY = 100
STOPS = " /,="  # where a word ends for ^W

_WIDE = (
    (0x1100, 0x115F), (0x2E80, 0xA4CF), (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0xFE30, 0xFE6F), (0xFF00, 0xFF60),
    (0xFFE0, 0xFFE6), (0x1F300, 0x1FAFF), (0x20000, 0x3FFFD),
)  # fmt: skip
_ZERO = ((0x300, 0x36F), (0x200B, 0x200F), (0xFE00, 0xFE0F))

# From the text left of the cursor: where the word begins that is to be completed, and what it may become.
Completer = Callable[[str], tuple[int, Sequence[str]]]


class Line:
    """The text, its cursor (0 to its length), and the lines before it."""

    def __init__(self, text: str = "", history: Sequence[str] = (), complete: Completer | None = None) -> None:
        self.text, self.cursor = text, len(text)
        self.offered: tuple[str, ...] = ()  # what the last Tab could have meant, when it meant several things
        self._history, self._complete = [*history, text], complete
        self._place = len(self._history) - 1

    def key(self, key: str) -> bool:
        """Take one key; whether it meant something here.  "enter", "escape" and "eof" are for whoever asks."""
        self.offered = ()
        if keys.is_text(key):
            if len(self.text) < MAX_LINE:
                self._replace(self.cursor, self.cursor, key)
            return True
        action = _ACTIONS.get(key)
        if action is None:
            return False
        action(self)
        return True

    def _replace(self, start: int, end: int, text: str) -> None:
        self.text = self.text[:start] + text + self.text[end:]
        self.cursor = start + len(text)

    def _move(self, cursor: int) -> None:
        self.cursor = min(max(cursor, 0), len(self.text))

    def _kill_word(self) -> None:
        start = self.cursor
        while start and self.text[start - 1] in STOPS:
            start -= 1
        while start and self.text[start - 1] not in STOPS:
            start -= 1
        self._replace(start, self.cursor, "")

    def _kill_end(self) -> None:
        self.text = self.text[: self.cursor]

    def _delete(self) -> None:
        self.text = self.text[: self.cursor] + self.text[self.cursor + 1 :]

    def _recall(self, step: int) -> None:
        place = self._place + step
        if 0 <= place < len(self._history):
            self._history[self._place] = self.text
            self._place, self.text = place, self._history[place]
            self.cursor = len(self.text)

    def _tab(self) -> None:
        if self._complete is None:
            return
        start, choices = self._complete(self.text[: self.cursor])
        common = common_prefix(choices)
        if len(common) > self.cursor - start or len(choices) == 1:
            self._replace(start, self.cursor, common)
        else:
            self.offered = tuple(choices)


_ACTIONS: dict[str, Callable[[Line], None]] = {
    "left": lambda line: line._move(line.cursor - 1),
    "right": lambda line: line._move(line.cursor + 1),
    "home": lambda line: line._move(0),
    "end": lambda line: line._move(len(line.text)),
    "backspace": lambda line: line._replace(max(line.cursor - 1, 0), line.cursor, ""),
    "delete": Line._delete,
    "kill-start": lambda line: line._replace(0, line.cursor, ""),
    "kill-end": Line._kill_end,
    "kill-word": Line._kill_word,
    "up": lambda line: line._recall(-1),
    "down": lambda line: line._recall(1),
    "tab": Line._tab,
}


def remember(history: list[str], text: str) -> None:
    """Add a line to ``history`` unless it is empty or the same as the last one."""
    if text.strip() and (not history or history[-1] != text):
        history.append(text)
        del history[:-MAX_HISTORY]


def common_prefix(words: Sequence[str]) -> str:
    """What all of ``words`` begin with; "" for none."""
    if not words:
        return ""
    low, high = min(words), max(words)
    length = next((i for i, (one, other) in enumerate(zip(low, high, strict=False)) if one != other), len(low))
    return low[:length]


def columns(words: Iterable[str], width: int) -> list[str]:
    """``words`` in as many columns as fit into ``width`` characters, read downwards as ls(1) does."""
    names = sorted(words)
    if not names:
        return []
    cell = max(map(len, names)) + 2
    count = max(1, width // cell)
    rows = -(-len(names) // count)
    return ["".join(name.ljust(cell) for name in names[row::rows]).rstrip() for row in range(rows)]


def width_of(char: str) -> int:
    """How many cells of a terminal ``char`` takes, by the ranges that matter (Unicode 15, EastAsianWidth.txt)."""
    code = ord(char)
    if code < 0x300:
        return 1
    if any(low <= code <= high for low, high in _ZERO):
        return 0
    return 2 if any(low <= code <= high for low, high in _WIDE) else 1


def cells(text: Iterable[str]) -> str:
    """``text`` with "?" for each character that does not take exactly one cell."""
    return "".join(char if char.isprintable() and width_of(char) == 1 else "?" for char in text)


class View:
    """What one terminal shows of a Line: turns each change into the few characters that bring it up to date."""

    def __init__(self, prompt: str, width: int = 80) -> None:
        self.prompt = prompt
        self._room = max(width - 1 - len(prompt), 8)
        self._shown, self._at, self._first = "", 0, 0

    def draw(self, line: Line) -> str:
        """The prompt and the line, on a fresh row."""
        self._shown, self._at = "", 0
        return self.prompt + self.update(line)

    def update(self, line: Line) -> str:
        """What leads from what is shown to ``line``."""
        text = cells(line.text)
        if not (self._first < line.cursor or not self._first) or line.cursor >= self._first + self._room:
            # Half a room of context on both sides of where the cursor went.
            self._first = max(0, line.cursor - self._room // 2)
        shown = text[self._first : self._first + self._room]
        at = line.cursor - self._first
        same = len(common_prefix((shown, self._shown)))
        if shown == self._shown:
            out = self._to(at, shown)
        else:
            blank = max(0, len(self._shown) - len(shown))
            out = self._to(same, self._shown) + shown[same:] + " " * blank
            self._at = len(shown) + blank
            out += self._to(at, shown)
        self._shown = shown
        return out

    def _to(self, at: int, text: str) -> str:
        """Move the cursor to ``at`` in ``text`` as it is shown."""
        back, self._at = self._at - at, at
        return "\b" * back if back >= 0 else text[at + back : at]
