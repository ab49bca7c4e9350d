"""GRUB's environment block: variables that survive a boot.  Source: grub-core/lib/envblk.c, GRUB 2.12."""

from __future__ import annotations

from fsdrivers.errors import FsError
from fsdrivers.filesystem import Filesystem
from init.entries.item import read_text

PATHS = ("/boot/grub2/grubenv", "/boot/grub/grubenv", "/grub2/grubenv", "/grub/grubenv")
SIGNATURE = "# GRUB Environment Block\n"
MAX_SIZE = 1 << 16  # bytes; grub-editenv makes 1024
MAX_VARIABLES = 256


def parse(text: str) -> dict[str, str] | None:
    """The variables of a block, or None when it is none.  A backslash keeps the character behind it."""
    if not text.startswith(SIGNATURE):
        return None
    values: dict[str, str] = {}
    for line in _lines(text[len(SIGNATURE) :]):
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#") and len(values) < MAX_VARIABLES:
            values[name] = value
    return values


def _lines(text: str) -> list[str]:
    """The lines, with escaped line ends inside of them and other escapes resolved."""
    lines, line, escaped = [], "", False
    for char in text:
        if escaped:
            line, escaped = line + char, False
        elif char == "\\":
            escaped = True
        elif char == "\n":
            lines.append(line)
            line = ""
        else:
            line += char
    return lines


def read(filesystem: Filesystem, paths: tuple[str, ...] = PATHS) -> dict[str, str]:
    """The variables of the first block found at ``paths``; empty without one, or when it is damaged."""
    for path in paths:
        try:
            values = parse(read_text(filesystem, path, MAX_SIZE))
        except FsError:
            continue
        if values is not None:
            return values
    return {}
