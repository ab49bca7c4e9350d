"""Handing the machine over to what was chosen: the only package that changes it.

Each way is a module with ``stage(entry, say)``, which makes everything ready or raises Refused, and ``go()``,
which does not return.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from init.entries.entry import BootEntry
from init.handover import kexec
from init.handover.refused import Refused

__all__ = ["WAYS", "Refused", "Way", "stage", "ways"]


class Way(Protocol):
    """One way of handing over."""

    def stage(self, entry: BootEntry, say: Callable[[str], None]) -> None:
        """Make ``entry`` ready to go; raises Refused, or FsError when the root cannot be read."""

    def go(self) -> None:
        """Leave.  Raises Refused if the machine stays."""


# The ladder of poolboot.handover=auto, first choice first.
WAYS: dict[str, Way] = {"kexec": kexec}


def ways(asked: str) -> list[str]:
    """The ways to try for poolboot.handover=``asked``; raises Refused for one that this build has not."""
    if asked in ("auto", "none"):  # with none somebody at the prompt may still ask for a boot
        return list(WAYS)
    if asked not in WAYS:
        raise Refused(f"poolboot.handover={asked}: this build hands over by {', '.join(WAYS)} only")
    return [asked]


def stage(entry: BootEntry, asked: str, say: Callable[[str], None]) -> Way:
    """The first way that makes ``entry`` ready; raises Refused with all refusals when none does."""
    refusals = []
    for name in ways(asked):
        try:
            WAYS[name].stage(entry, say)
        except Refused as error:
            refusals.append(f"{name}: {error}")
            continue
        return WAYS[name]
    raise Refused("; ".join(refusals))
