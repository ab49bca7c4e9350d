"""Assignments in shell syntax (/etc/os-release, /etc/default/grub), read without running anything.

Quotes, escapes, comments, line continuations and $variables assigned earlier in the file are understood.  A value
that only a shell could compute (command substitution, arithmetic) and everything inside if, case, loops and
functions is passed over with a note: never guessed.
Source: POSIX.1-2017, Shell Command Language, 2.2 Quoting and 2.6.2 Parameter Expansion.
"""

from __future__ import annotations

import re
from functools import cache

_ASSIGNMENT = r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)(\+?)="
VARIABLE = r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})"
_FIRST_WORD = r"[ \t]*([A-Za-z_]+|[{}])?"
_OPENERS = frozenset(("if", "case", "for", "while", "until", "{"))
_CLOSERS = frozenset(("fi", "esac", "done", "}"))
# Compiled when the first file asks for them: most boots read none.
_pattern = cache(re.compile)
MAX_VALUE = 1 << 16  # characters; expansion could double a value with every line


class _NotText(Exception):
    """The value is more than text and variables."""


def parse(text: str, variables: dict[str, str] | None = None) -> tuple[dict[str, str], list[str]]:
    """The variables after ``text``, on top of ``variables``, and notes about what was passed over."""
    values, notes = dict(variables or {}), []
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
            position = _next_line(text, position)
            continue
        rest = text[position : _line_end(text, position)].strip()
        another = _pattern(_ASSIGNMENT).match(text, position) is not None
        if rest and not another and not rest.startswith(("#", ";")):
            continue  # "NAME=value command": the assignment is the command's alone
        values[name] = (values.get(name, "") + value if append else value)[:MAX_VALUE]
        if rest.startswith(";"):
            position = text.index(";", position) + 1
        elif not another:
            position = _next_line(text, position)
    return values, notes


def _value(text: str, position: int, variables: dict[str, str]) -> tuple[str, int]:
    """The word at ``position`` with quotes and variables resolved, and where it ends."""
    out: list[str] = []
    while position < len(text):
        char = text[position]
        if char in " \t\n;#" and not (char == "#" and out):
            break
        if char == "'":
            end = text.find("'", position + 1)
            if end < 0:
                raise _NotText("a quote that does not end")
            out.append(text[position + 1 : end])
            position = end + 1
        elif char == '"':
            position = _double_quoted(text, position + 1, variables, out)
        else:
            position = _character(text, position, variables, out, quoted=False)
    return "".join(out), position


def _double_quoted(text: str, position: int, variables: dict[str, str], out: list[str]) -> int:
    out.append("")  # so that a "#" right after the quotes is no comment
    while position < len(text):
        if text[position] == '"':
            return position + 1
        position = _character(text, position, variables, out, quoted=True)
    raise _NotText("a quote that does not end")


def _character(text: str, position: int, variables: dict[str, str], out: list[str], quoted: bool) -> int:
    """Take one character, escape or variable outside of single quotes; returns where the next one is."""
    char = text[position]
    if char == "\\":
        following = text[position + 1 : position + 2]
        if following != "\n":
            out.append(following if not quoted or following in '$`"\\' else "\\" + following)
        return position + 2
    if char == "`" or text.startswith("$(", position):
        raise _NotText("a command substitution")
    if char == "$":
        found = _pattern(VARIABLE).match(text, position)
        if found is not None:
            out.append(variables.get(found[1] or found[2], ""))
            return found.end()
        if text.startswith("${", position):
            raise _NotText("an expansion that only a shell can do")
    if not quoted and char in "&|<>()":
        raise _NotText("a command, not a value")
    out.append(char)
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
