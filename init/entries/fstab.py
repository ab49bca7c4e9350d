"""Lines of an fstab.  Source: fstab(5) of util-linux 2.38."""

from __future__ import annotations

from typing import NamedTuple

_OCTAL = {r"\040": " ", r"\011": "\t", r"\012": "\n", r"\134": "\\"}


class Line(NamedTuple):
    """One mount of an fstab; ``options`` as fstab has them."""

    what: str
    where: str
    fstype: str
    options: str

    def has(self, option: str) -> bool:
        """Whether ``option`` is one of the options, with or without a value."""
        return any(word.partition("=")[0] == option for word in self.options.split(","))

    def __str__(self) -> str:
        """For the console."""
        return f"{'swap' if self.fstype == 'swap' else self.where} ({self.what})"


def parse(text: str) -> Line | None:
    """One line of an fstab, or None for a comment, an empty line or something else that mount(8) passes over."""
    words = text.split()
    if len(words) < 3 or words[0].startswith("#"):
        return None
    what, where, fstype = (_unescape(word) for word in words[:3])
    return Line(what, where, fstype, words[3] if len(words) > 3 else "defaults")


def _unescape(word: str) -> str:
    for code, char in _OCTAL.items():
        word = word.replace(code, char)
    return word
