"""Handing the machine over to what was chosen: the only package that changes it.

Each way is a module with ``stage(entry, config, say)``, which makes everything ready or raises Refused, and ``go()``,
which does not return.  Knows the firmware, entries and all below them, and the FUSE server; neither people nor surveys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from fsdrivers.errors import FsError, TooLarge, Unsupported
from init.config import BootConfig
from init.entries.entry import BootEntry
from init.handover import kexec
from init.refused import Refused

__all__ = ["WAYS", "Refused", "Way", "rounds", "stage", "ways"]


class Way(Protocol):
    """One way of handing over."""

    def stage(self, entry: BootEntry, config: BootConfig, say: Callable[[str], None]) -> None:
        """Make ``entry`` ready to go.

        Raises Refused, TooLarge or Unsupported when another way may do; any other FsError when the root cannot be read.
        """

    def go(self) -> None:
        """Leave.  Raises Refused if the machine stays."""


class Firmware:
    """The module of that name, imported when its turn comes: most boots never need it, and importing costs time."""

    def stage(self, entry: BootEntry, config: BootConfig, say: Callable[[str], None]) -> None:
        """See Way."""
        from init.handover import firmware

        firmware.stage(entry, config, say)

    def go(self) -> None:
        """See Way."""
        from init.handover import firmware

        firmware.go()


class SwitchRoot:
    """As Firmware is; with it comes the FUSE server."""

    def stage(self, entry: BootEntry, config: BootConfig, say: Callable[[str], None]) -> None:
        """See Way."""
        from init.handover import switch_root

        switch_root.stage(entry, config, say)

    def go(self) -> None:
        """See Way."""
        from init.handover import switch_root

        switch_root.go()


LAST_RESORTS = ("switch_root",)
# The ladder of poolboot.handover=auto, first choice first.
WAYS: dict[str, Way] = {"kexec": kexec, "firmware": Firmware(), "switch_root": SwitchRoot()}


def ways(asked: str, whole: bool = False) -> list[str]:
    """The ways to try for poolboot.handover=``asked``; raises Refused for one that this build has not.

    ``whole`` (see BootConfig): a root runs under this kernel, unsigned as it is, only where it is asked for by name;
    with Secure Boot on nobody but the signed command line can.
    """
    if asked in ("auto", "none"):  # with none somebody at the prompt may still ask for a boot
        return [name for name in WAYS if not whole or name not in LAST_RESORTS]
    if asked not in WAYS:
        raise Refused(f"poolboot.handover={asked}: this build hands over by {', '.join(WAYS)} only")
    return [asked]


def rounds(asked: str, order: Sequence[BootEntry], whole: bool = False) -> Iterator[tuple[BootEntry, list[str] | None]]:
    """The entries of ``order`` to try by themselves, one after the other, and the ways to try for each (None: all);
    ``asked`` and ``whole`` as for ways().

    With poolboot.handover=auto no root runs under a kernel that is not its own while another entry can be started
    with its own; after that each root is tried once.
    """
    resort = [name for name in ways(asked, whole) if name in LAST_RESORTS] if asked == "auto" else []
    if not resort:
        yield from ((entry, None) for entry in order)
        return
    yield from ((entry, [name for name in WAYS if name not in resort]) for entry in order)
    seen = set()
    for entry in order:
        if entry.place.identity not in seen:
            seen.add(entry.place.identity)
            yield entry, resort


def stage(entry: BootEntry, config: BootConfig, say: Callable[[str], None], only: Sequence[str] | None = None) -> Way:
    """The first way of poolboot.handover= that makes ``entry`` ready; each that does not is told why it was refused.

    ``only`` these ways are tried if it is given.  Raises what the first of them said when none does.
    """
    first: FsError | None = None
    names = [name for name in ways(config.handover, config.whole) if only is None or name in only]
    if config.require_uki:
        if not entry.whole:
            raise Refused(f"{entry.kernel or entry.title} is no unified kernel image, and poolboot.require-uki")
        names = [name for name in names if name == "firmware"]
    for name in names:
        try:
            WAYS[name].stage(entry, config, say)
        except (Refused, TooLarge, Unsupported) as error:
            if len(names) > 1:
                say(f"handover by {name} is not possible: {error}")
            first = first or error
            continue
        return WAYS[name]
    if names and config.handover == "auto" and config.whole:
        say(f"handover by {', '.join(LAST_RESORTS)} is not tried: {_why_not(config)}")
    raise first or Refused("there is no way of handing over")


def _why_not(config: BootConfig) -> str:
    """Why no root runs under this kernel by itself."""
    if config.secure:
        return "Secure Boot is on, and the signed command line does not say poolboot.handover=switch_root"
    return "poolboot.require-uki"
