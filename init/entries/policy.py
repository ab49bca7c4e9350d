"""Which entry is booted, and which ones are tried after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from init.entries.entry import BootEntry


class Choice(NamedTuple):
    """The entries to try, in this order, and the reasons for it in words."""

    order: tuple[BootEntry, ...]
    reasons: tuple[str, ...]
    warning: str = ""


def arrange(entries: Sequence[BootEntry]) -> list[BootEntry]:
    """The entries as they are numbered: roots in the order they were found, in each the best kernel first."""
    places: list[str] = []
    for entry in entries:
        if entry.place.where not in places:
            places.append(entry.place.where)
    return sorted(
        sorted(entries, key=lambda entry: entry.sort_key, reverse=True),
        key=lambda entry: places.index(entry.place.where),
    )


def choose(entries: Sequence[BootEntry], asked: str = "") -> Choice:
    """The order in which to try ``entries`` (arranged); ``asked`` is poolboot.entry=.

    After the asked or default one come the others of the same root, then those of other roots.
    """
    if not entries:
        return Choice((), ())
    chosen, reason, warning = entries[0], "it is the newest kernel with an initrd on the first bootable root", ""
    if not entries[0].initrds:
        reason = "it is the newest kernel on the first bootable root, and none has an initrd"
    usual = next((entry for entry in entries if entry.default and entry.place.where == entries[0].place.where), None)
    if usual is not None and usual.tries_left != 0:
        chosen, reason = usual, f"it is the default of the boot loader's configuration on {usual.source}"
    if asked:
        found = find(entries, asked)
        if found is None:
            warning = f"poolboot.entry={asked}: there is no such entry; taking the default"
        else:
            chosen, reason = found, f"poolboot.entry={asked} asks for it"
    rest = [entry for entry in entries if entry is not chosen]
    rest.sort(key=lambda entry: entry.place.where != chosen.place.where)
    return Choice((chosen, *rest), (reason,), warning)


def find(entries: Sequence[BootEntry], asked: str) -> BootEntry | None:
    """The entry that ``asked`` means: its number from 1, its id, its title, the first one of the root or snapshot of
    that name, or a part of id or title that only one has."""
    if asked.isdecimal():
        number = int(asked)
        return entries[number - 1] if 1 <= number <= len(entries) else None
    for entry in entries:
        if asked in (entry.id, entry.title):
            return entry
    for entry in entries:
        if asked == entry.place.where or (entry.snapshot is not None and asked in (entry.root.name, entry.root.uuid)):
            return entry
    low = asked.lower()
    partial = [entry for entry in entries if low in entry.title.lower() or low in entry.id.lower()]
    return partial[0] if len(partial) == 1 else None
