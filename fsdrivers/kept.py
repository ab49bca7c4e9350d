"""What was read and decoded once and may be wanted again."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Kept(dict[K, V]):
    """A dict that forgets everything when what was put into it weighs more than ``room`` together.

    Counting things is no bound where a disk says how large each of them is: ``put`` takes a weight, in whatever unit
    ``room`` has.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room
        self._weight = 0

    def put(self, key: K, value: V, weight: int = 1) -> None:
        """Keep ``value``, which was not there yet."""
        self._weight += weight
        if self._weight > self._room:
            self.clear()
            self._weight = weight
        self[key] = value
