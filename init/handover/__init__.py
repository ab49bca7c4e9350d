"""Handing the machine over to what was chosen: the only package that changes it.

Each way is a module with ``stage(entry, config, say)``, which makes everything ready or raises Refused, and ``go()``,
which does not return.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fsdrivers.errors import FsError, TooLarge, Unsupported
from init.config import BootConfig
from init.entries.entry import BootEntry
from init.handover import firmware, kexec, switch_root
from init.handover.refused import Refused

__all__ = ["WAYS", "Refused", "Way", "stage", "ways"]


class Way(Protocol):
    """One way of handing over."""

    def stage(self, entry: BootEntry, config: BootConfig, say: Callable[[str], None]) -> None:
        """Make ``entry`` ready to go.

        Raises Refused, TooLarge or Unsupported when another way may do; any other FsError when the root cannot be read.
        """

    def go(self) -> None:
        """Leave.  Raises Refused if the machine stays."""


# The ladder of poolboot.handover=auto, first choice first.
WAYS: dict[str, Way] = {"kexec": kexec, "firmware": firmware, "switch_root": switch_root}


def ways(asked: str) -> list[str]:
    """The ways to try for poolboot.handover=``asked``; raises Refused for one that this build has not."""
    if asked in ("auto", "none"):  # with none somebody at the prompt may still ask for a boot
        return list(WAYS)
    if asked not in WAYS:
        raise Refused(f"poolboot.handover={asked}: this build hands over by {', '.join(WAYS)} only")
    return [asked]


def stage(entry: BootEntry, config: BootConfig, say: Callable[[str], None]) -> Way:
    """The first way of poolboot.handover= that makes ``entry`` ready; each that does not is told why it was refused.

    Raises what the first of them said when none does.
    """
    first: FsError | None = None
    names = ways(config.handover)
    for name in names:
        try:
            WAYS[name].stage(entry, config, say)
        except (Refused, TooLarge, Unsupported) as error:
            if len(names) > 1:
                say(f"handover by {name} is not possible: {error}")
            first = first or error
            continue
        return WAYS[name]
    raise first or Refused("there is no way of handing over")
