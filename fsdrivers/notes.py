"""Sentences for a person, as many as anybody reads: a disk may give reasons for millions."""

from __future__ import annotations

from collections.abc import Iterable

from fsdrivers.shown import short

MAX_NOTES = 100
MAX_NOTE = 500  # characters of one


class Notes(list[str]):
    """A list that takes each text once, cuts long ones, and counts in its last line what is beyond ``most``."""

    def __init__(self, texts: Iterable[str] = (), most: int = MAX_NOTES) -> None:
        super().__init__()
        self._most, self._more = most, 0
        self.extend(texts)

    def append(self, text: str) -> None:
        """Take one more."""
        text = short(text, MAX_NOTE)
        if text in self:  # a handful: a look through them is quick
            return
        if len(self) < self._most:
            super().append(text)
            return
        self._more += 1
        self[self._most :] = [f"and {self._more} more notes"]

    def extend(self, texts: Iterable[str]) -> None:
        """Take them all."""
        for text in texts:
            self.append(text)

    def __iadd__(self, texts: Iterable[str]) -> Notes:  # type: ignore[override, misc]
        self.extend(texts)
        return self
