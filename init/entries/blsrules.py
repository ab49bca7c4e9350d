"""What both types of entries of the Boot Loader Specification have in common: how a file's keys and the counter in its
name are read, the order of all entries, and which of them loader.conf makes the default.

Sources: UAPI.1 Boot Loader Specification; src/boot/boot.c:line_get_key_value and config_select_default_entry of systemd
257.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cmp_to_key
from typing import NamedTuple

from fsdrivers.errors import FsError
from fsdrivers.filesystem import Filesystem
from init.entries import globs, version
from init.entries.item import Item, read_text

LOADER_CONFS = ("/boot/loader/loader.conf", "/loader/loader.conf")
MAX_ENTRY = 1 << 16  # bytes of one entry file

_COUNTER = r"\+([0-9]{1,9})(?:-([0-9]{1,9}))?$"
_BLANKS = r"[ \t]+"

Fields = dict[str, list[str]]


def parse(text: str) -> Fields:
    """The keys of an entry in small letters with all their values, in order.

    Key and value are divided by any blanks; a line without a value and "#" lines count for nothing.
    """
    fields: Fields = {}
    for line in text.split("\n"):
        line = line.lstrip(" \t").rstrip(" \t\r")
        key, *values = re.split(_BLANKS, line, maxsplit=1)
        if values and not key.startswith("#"):
            (value,) = values
            if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
                value = value[1:-1]
            fields.setdefault(key.lower(), []).append(value)
    return fields


def last(fields: Fields, key: str) -> str:
    """The last value of ``key``, "" when there is none."""
    return fields[key][-1] if key in fields else ""


def counter(name: str) -> tuple[str, int | None, int]:
    """A file name without ".conf" as (name, tries left, tries done): "x+2-1" is ("x", 2, 1), "x" is ("x", None, 0)."""
    found = re.search(_COUNTER, name)
    if found is None or not found.start():
        return name, None, 0
    return name[: found.start()], int(found[1]), int(found[2] or 0)


def plain(options: str) -> str:
    """A command line as one line, its blanks as they are when there are quotes in it."""
    options = options.replace("\n", " ")
    return " ".join(options.split()) if '"' not in options else options.strip()


def order(items: list[Item]) -> list[Item]:
    """The order of the specification's "Sorting": entries that used up their tries last, those with a sort-key first,
    by sort-key, machine-id and falling version, then by falling name."""
    keyed = [_Keyed(item, version.key(item.version), version.key(item.id)) for item in items]
    return [one.item for one in sorted(keyed, key=cmp_to_key(_compare))]


class _Keyed(NamedTuple):
    """An item with what is costly to compute for comparing it."""

    item: Item
    version: version.Key
    name: version.Key


def _compare(left: _Keyed, right: _Keyed) -> int:
    one, other = left.item, right.item
    spent = (one.tries_left == 0) - (other.tries_left == 0)
    keyed = (not one.sort_key) - (not other.sort_key)
    if spent or keyed:
        return spent or keyed
    if one.sort_key:
        for mine, yours in ((one.sort_key, other.sort_key), (one.machine_id, other.machine_id)):
            if mine != yours:
                return -1 if mine < yours else 1
        newer = (left.version < right.version) - (left.version > right.version)
        if newer:
            return newer
    named = (left.name < right.name) - (left.name > right.name)
    if named or one.tries_left == other.tries_left:
        return named
    return (other.tries_left or 0) - (one.tries_left or 0)


def default(filesystem: Filesystem, items: Sequence[Item], notes: list[str]) -> tuple[int | None, bool]:
    """(index of the default among ``items``, which are in order(), whether loader.conf names it).

    It is the first that its ``preferred`` or ``default`` matches; the first of all when they match none.
    Source: src/boot/boot.c:config_select_default_entry, systemd 257; loader.conf(5) of 259 for ``preferred``.
    """
    for path in LOADER_CONFS:
        try:
            fields = parse(read_text(filesystem, path, MAX_ENTRY))
        except FsError:
            continue
        for key in ("preferred", "default"):
            pattern = last(fields, key).lower()
            if not pattern:
                continue
            if pattern.startswith("@"):
                notes.append(f"{path}: {key} {pattern}: what was booted last is not known here; taking the first")
                continue
            for index, item in enumerate(items):
                spent = key == "preferred" and item.tries_left == 0
                if not spent and globs.matches(item.id.lower(), pattern.removesuffix(".conf")):
                    return index, True
            notes.append(f"{path}: the {key} {pattern!r} is not among the entries found")
    return (0 if items else None), False
