"""What can be booted: the one shape that every source of entries fills in."""

from __future__ import annotations

from typing import NamedTuple

from init.entries import version as _version
from init.roots import BootRoot


class BootEntry(NamedTuple):
    """One thing that can be booted.  Paths are in ``place``'s tree."""

    id: str  # stable over boots: "tank:@/6.1.0-28-amd64"
    title: str  # for people
    source: str  # where the entry comes from: "/boot of tank:@"
    place: BootRoot
    kernel: str
    initrds: tuple[str, ...]
    cmdline: str  # complete: what the kernel gets
    version: str  # of the kernel
    notes: tuple[str, ...] = ()  # what a person should know before choosing it

    @property
    def sort_key(self) -> tuple[bool, _version.Key]:
        """Larger is better, within one root: a kernel with its initrd first, then the newer one."""
        return (bool(self.initrds), _version.key(self.version))

    def describe(self) -> str:
        """As the "booting" line of the console has it."""
        return f"{self.title} kernel={self.kernel} initrd={','.join(self.initrds) or 'none'} cmdline={self.cmdline}"
