"""One loop for every read that has a checksum: try the copies, verify, reconstruct, remember what healed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from fsdrivers.errors import Corrupt, FsError, ReadError
from fsdrivers.notes import Notes

MAX_ATTEMPTS = 4096  # reconstructions tried for one piece before it counts as lost
FEW = 8  # attempts that are made whatever they cost
EACH = 64 << 20  # bytes that further attempts for one piece may cost,
PATIENCE = 1 << 30  # and what a pool has beyond that for all its pieces that turn out lost
LEAST = 32 << 10  # bytes that an attempt costs at least
MAX_DEVICES = 1024  # devices, and sets of them, that damage is counted for


class Attempt(NamedTuple):
    """One way to get the bytes: a copy on a disk, or a reconstruction from parity.

    ``device`` is the name of the device whose copy this is (for a reconstruction: of the devices that it does
    without), ``offset`` its byte offset there, and ``fetch`` does the work.

    ``suspects`` is for layouts where one attempt reads several devices (RAID-Z), so that its failure says nothing
    about any single one of them: not None, it names the devices that turn out damaged if this attempt succeeds.
    """

    device: str
    offset: int
    fetch: Callable[[], bytes]
    suspects: tuple[str, ...] | None = None
    cost: int = 0


class Health:
    """What had to be healed while reading, counted by device, so that the user hears of it once."""

    def __init__(self) -> None:
        self.damage: dict[str, int] = {}
        self.examples: dict[str, str] = {}
        self.notes = Notes()
        self.patience = PATIENCE  # bytes

    def damaged(self, device: str, error: FsError) -> None:
        """Count one bad or unreadable copy on ``device``; the first error is kept as the example."""
        if device not in self.damage and len(self.damage) >= MAX_DEVICES:
            device = "other devices"
        self.damage[device] = self.damage.get(device, 0) + 1
        self.examples.setdefault(device, str(error))

    def note(self, text: str) -> None:
        """Remember a sentence that the user has to hear (an older tree served, a member left out)."""
        self.notes.append(text)

    def report(self) -> list[str]:
        """Lines for a person: notes first, then one line for each device with damage."""
        return [*self.notes] + [
            f"{device}: {count} damaged {_copies(count)} read around (first: {self.examples[device]})"
            for device, count in sorted(self.damage.items())
        ]


def read(
    attempts: Iterable[Attempt],
    verify: Callable[[bytes, Attempt], FsError | None],
    health: Health,
    lost: Callable[[], FsError],
) -> bytes:
    """The first result among ``attempts`` that ``verify`` accepts.

    ``attempts`` is consumed lazily, cheapest first.  ``verify(data, attempt)`` returns None for good data, or
    the error that says what is wrong with it.  When nothing is good, the error of the first copy that could be
    fetched is raised (it names device, structure and offset), else the last read error, else ``lost()``
    (nothing to try: every copy is on a missing device).  Damage is counted only when something good was found
    behind it, so that ``health`` speaks of healing.  What is lost costs no more than ``health`` has patience for.
    """
    failures: list[tuple[Attempt, FsError]] = []
    spent = 0
    for number, attempt in enumerate(attempts):
        if number >= FEW and (number >= MAX_ATTEMPTS or spent > EACH + health.patience):
            health.note(f"not all ways to read what is lost were tried: for one piece {number} were not enough")
            break
        try:
            data = attempt.fetch()
        except (ReadError, Corrupt) as error:
            failures.append((attempt, error))
            continue
        spent += max(len(data), attempt.cost, LEAST)
        wrong = verify(data, attempt)
        if wrong is None:
            for failed, failure in failures:
                if failed.suspects is None:
                    health.damaged(failed.device, failure)
            for device in attempt.suspects or ():
                health.damaged(device, failures[0][1] if failures else Corrupt(device, "copy", attempt.offset))
            return data
        failures.append((attempt, wrong))
    # A damaged pool in which everything can be found in the end is worth any effort, hopeless pieces are not.
    health.patience -= min(health.patience, max(0, spent - EACH))
    raise _worst(failures) if failures else lost()


def _copies(count: int) -> str:
    return "copy" if count == 1 else "copies"


def _worst(failures: list[tuple[Attempt, FsError]]) -> FsError:
    """The failure that tells most: a checksum mismatch before an unreadable device."""
    for _, error in failures:
        if isinstance(error, Corrupt):
            return error
    return failures[-1][1]
