"""Assignments in shell syntax (/etc/os-release, /etc/default/grub), read without running anything.

Quotes, escapes, comments, line continuations and $variables assigned earlier in the file are understood.  A value
that only a shell could compute (command substitution, arithmetic) and everything inside if, case, loops and
functions is passed over with a note: never guessed.
Source: POSIX.1-2017, Shell Command Language, 2.2 Quoting and 2.6.2 Parameter Expansion.
"""

from __future__ import annotations

import re
from functools import cache

from fsdrivers.notes import Notes

_ASSIGNMENT = r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)(\+?)="
VARIABLE = r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})"
_BLANKS = r"[^\S\n]*"
_FIRST_WORD = r"[ \t]*([A-Za-z_]+|[{}])?"
_OPENERS = frozenset(("if", "case", "for", "while", "until", "{"))
_CLOSERS = frozenset(("fi", "esac", "done", "}"))
# Compiled when the first file asks for them: most boots read none.
_pattern = cache(re.compile)
MAX_VALUE = 1 << 16  # characters; expansion could double a value with every line
MAX_TOTAL = 1 << 20  # of all values that are assigned, one after the other
TOO_LONG = f"a value of more than {MAX_VALUE} characters"


class _NotText(Exception):
    """The value is more than text and variables; ``position`` is where that shows."""

    def __init__(self, why: str, position: int) -> None:
        super().__init__(why)
        self.position = position


def parse(text: str, variables: dict[str, str] | None = None) -> tuple[dict[str, str], list[str]]:
    """The variables after ``text``, on top of ``variables``, and notes about what was passed over."""
    values, notes = dict(variables or {}), Notes()
    total = sum(map(len, values.values()))
    position, depth = 0, 0
    while position < len(text):
        found = _pattern(_ASSIGNMENT).match(text, position) if not depth else None
        if found is None:
            depth = max(0, depth + _nesting(text, position))
            position = _next_line(text, position)
            continue
        name, append, position = found[1], found[2], found.end()
        try:
            value, position = _value(text, position, values)
        except _NotText as why:
            notes.append(f"{name}: {why}: passed over")
            position = _next_line(text, why.position)
            continue
        rest = _pattern(_BLANKS).match(text, position).end()  # type: ignore[union-attr]
        following = text[rest : rest + 1]
        another = _pattern(_ASSIGNMENT).match(text, position) is not None
        if following not in ("", "\n", "#", ";") and not another:
            continue  # "NAME=value command": the assignment is the command's alone
        value = values.get(name, "") + value if append else value
        total += len(value)
        if total > MAX_TOTAL:
            notes.append(f"{name} and what follows: the values are too long: passed over")
            break
        if len(value) <= MAX_VALUE:
            values[name] = value
        else:
            notes.append(f"{name}: {TOO_LONG}: passed over")
        if following == ";":
            position = rest + 1
        elif not another:
            position = _next_line(text, position)
    return values, notes


class _Value:
    """The text of a value as it grows."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._room = MAX_VALUE

    def add(self, text: str, position: int) -> None:
        """Go on with ``text``.  Raises _NotText when it gets too long: joined it might fill the memory."""
        self._room -= len(text)
        if self._room < 0:
            raise _NotText(TOO_LONG, position)
        self.parts.append(text)


def _value(text: str, position: int, variables: dict[str, str]) -> tuple[str, int]:
    """The word at ``position`` with quotes and variables resolved, and where it ends."""
    out = _Value()
    while position < len(text):
        char = text[position]
        if char in " \t\n;#" and not (char == "#" and out.parts):
            break
        if char == "'":
            end = text.find("'", position + 1)
            if end < 0:
                raise _NotText("a quote that does not end", position)
            out.add(text[position + 1 : end], end)
            position = end + 1
        elif char == '"':
            position = _double_quoted(text, position + 1, variables, out)
        else:
            position = _character(text, position, variables, out, quoted=False)
    return "".join(out.parts), position


def _double_quoted(text: str, position: int, variables: dict[str, str], out: _Value) -> int:
    out.add("", position)  # so that a "#" right after the quotes is no comment
    start = position
    while position < len(text):
        if text[position] == '"':
            return position + 1
        position = _character(text, position, variables, out, quoted=True)
    raise _NotText("a quote that does not end", start)


def _character(text: str, position: int, variables: dict[str, str], out: _Value, quoted: bool) -> int:
    """Take one character, escape or variable outside of single quotes; returns where the next one is."""
    char = text[position]
    if char == "\\":
        following = text[position + 1 : position + 2]
        if following != "\n":
            out.add(following if not quoted or following in '$`"\\' else "\\" + following, position)
        return position + 2
    if char == "`" or text.startswith("$(", position):
        raise _NotText("a command substitution", position)
    if char == "$":
        found = _pattern(VARIABLE).match(text, position)
        if found is not None:
            out.add(variables.get(found[1] or found[2], ""), position)
            return found.end()
        if text.startswith("${", position):
            raise _NotText("an expansion that only a shell can do", position)
    if not quoted and char in "&|<>()":
        raise _NotText("a command, not a value", position)
    out.add(char, position)
    return position + 1


def _nesting(text: str, position: int) -> int:
    """By how much the line at ``position`` changes the depth of compound commands."""
    line = text[position : _line_end(text, position)].strip()
    if line.startswith("#"):
        return 0
    found = _pattern(_FIRST_WORD).match(line)
    first = found[1] if found is not None else None
    words = line.replace(";", " ").split()
    opened = first in _OPENERS or line.endswith("{")
    return opened - (words[-1:] != [] and (words[-1] in _CLOSERS or first in _CLOSERS))


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _next_line(text: str, position: int) -> int:
    return _line_end(text, position) + 1
