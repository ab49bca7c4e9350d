"""Patterns of names as systemd-boot has them, with * ? and [...]."""

from __future__ import annotations

MAX_PATTERN = 256  # characters: of a longer one the regular expression behind it takes its time
MAX_NAME = 1024


def matches(name: str, pattern: str) -> bool:
    """Whether ``pattern`` fits ``name``; one that is too long fits nothing."""
    from fnmatch import fnmatchcase  # not before it is needed

    return len(pattern) <= MAX_PATTERN and len(name) <= MAX_NAME and fnmatchcase(name, pattern)
