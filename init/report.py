"""The report of a crash: what a person needs to read, photograph and send in, in a few lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

from init import VERSION

MAX_CAUSES = 10


def crash(error: BaseException, doing: str, devices: Iterable[str]) -> list[str]:
    """The lines of a report on ``error``, which stopped us in ``doing``."""
    lines = [f"internal error while {doing}", *(f"  {line}" for line in causes(error)), f"  {versions()}"]
    return lines + [f"  disk {line}" for line in devices]


def causes(error: BaseException) -> Iterator[str]:
    """A line for ``error`` and each exception that led to it, with the place in the code that raised it."""
    current: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if current is None:
            return
        text = " ".join(str(current).split())
        yield f"{type(current).__name__}: {text}{_where(current)}"
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def versions() -> str:
    """What is running, in one line."""
    system = os.uname()
    python = ".".join(map(str, sys.version_info[:3]))
    return f"poolboot {VERSION}, Python {python}, Linux {system.release} {system.machine}"


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno})"
