"""What a disk says, for the eyes of a person: no name drives a terminal, and no time is beyond a calendar."""

from __future__ import annotations

import time

NANO = 1_000_000_000
MINUTES = "%Y-%m-%d %H:%M"


def printable(text: str, kept: str = "\n\t") -> str:
    """``text`` without what could drive a terminal, except the characters ``kept``: names on a disk may hold anything.

    Control characters (C0 and C1), what changes the direction of text, and bytes that are no UTF-8 (surrogate escapes)
    are shown as their numbers.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in kept else _escaped(ord(char)) for char in text)


def _escaped(code: int) -> str:
    return f"\\x{code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code:02x}"


def short(text: str, most: int) -> str:
    """``text`` in at most ``most`` characters; what is missing is marked."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def when(nanoseconds: int, form: str = MINUTES) -> str:
    """A time since 1970 in UTC, as time.strftime() has it; its seconds as a number when no calendar goes that far."""
    seconds = nanoseconds // NANO
    try:
        return time.strftime(form, time.gmtime(seconds))
    except (OverflowError, OSError, ValueError):
        return str(seconds)
