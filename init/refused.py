"""The exception of those who act on the machine: the ways of handing over, and what writes for the firmware."""

from __future__ import annotations

from fsdrivers.errors import FsError


class Refused(FsError):
    """The kernel, the firmware or our own preflight would not take what was chosen; the message says what to do."""
