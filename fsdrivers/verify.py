"""What `fsdrivers verify` finds, in terms that all drivers share."""

from __future__ import annotations

from typing import NamedTuple


class Damage(NamedTuple):
    """One damaged stretch of one copy.

    ``device`` and ``offset`` (bytes) say where the bad bytes are; for what no device holds ``device`` names the pool
    and ``offset`` is in its address space.  ``what`` is the structure ("data", "tree node 0x1234 of tree 5", "P"),
    ``file`` the path of a file that uses it ("" when none does, or metadata).  ``lost`` is whether no good copy is
    left, so that a reader fails there.
    """

    device: str
    offset: int
    length: int
    what: str
    file: str
    lost: bool
    error: str

    def __str__(self) -> str:
        where = f" of {self.file}" if self.file else ""
        state = "LOST" if self.lost else "good elsewhere"
        return (
            f"{self.device}: offset {self.offset:#x}: {self.length} bytes of {self.what}{where}: {self.error} ({state})"
        )


class Totals:
    """What was read and what was wrong, by device; ``read`` and ``damaged`` in bytes, ``copies`` counts lines."""

    def __init__(self) -> None:
        self.read: dict[str, int] = {}
        self.damaged: dict[str, int] = {}
        self.copies: dict[str, int] = {}
        self.lost = 0

    def add_read(self, device: str, count: int) -> None:
        """``count`` more bytes of ``device`` were read and checked."""
        self.read[device] = self.read.get(device, 0) + count

    def add(self, damage: Damage) -> None:
        """Count one ``damage``."""
        self.damaged[damage.device] = self.damaged.get(damage.device, 0) + damage.length
        self.copies[damage.device] = self.copies.get(damage.device, 0) + 1
        self.lost += damage.lost

    def report(self) -> list[str]:
        """One line for each device."""
        return [
            f"{device}: {self.read.get(device, 0)} bytes checked, {self.copies.get(device, 0)} damaged places, "
            f"{self.damaged.get(device, 0)} bytes damaged"
            for device in sorted({*self.read, *self.damaged})
        ]
