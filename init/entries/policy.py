"""Which entry is booted, and which ones are tried after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from init.config import MAX_DIGITS
from init.entries import globs
from init.entries.entry import BootEntry

Spent = Callable[[BootEntry], str]


class Wish(NamedTuple):
    """Something that was asked for: as find() takes it, and the reason for choosing it in words."""

    asked: str
    reason: str
    once: bool = False  # for this boot alone: how often it was started before does not matter
    loud: bool = False  # whether a person should know when there is no such entry
    person: bool = False  # it comes from whoever owns this machine: what needs a person may be meant


class Choice(NamedTuple):
    """The entries to try, in this order, and the reasons for it in words."""

    order: tuple[BootEntry, ...]
    reasons: tuple[str, ...]
    warning: str = ""


def arrange(entries: Sequence[BootEntry]) -> list[BootEntry]:
    """The entries as they are numbered: roots in the order they were found, in each the best kernel first."""
    places: dict[tuple[str, ...], int] = {}
    for entry in entries:
        places.setdefault(entry.place.identity, len(places))
    best = sorted(entries, key=lambda entry: entry.sort_key, reverse=True)
    return _told_apart(sorted(best, key=lambda entry: (places[entry.place.identity], bool(entry.ask))))


def _told_apart(entries: Sequence[BootEntry]) -> list[BootEntry]:
    """The entries with an id each: those that share one, as two boot loaders may call them the same, get numbers."""
    seen: dict[str, int] = {}
    result = []
    for entry in entries:
        seen[entry.id] = times = seen.get(entry.id, 0) + 1
        result.append(entry if times == 1 else entry._replace(id=f"{entry.id}~{times}"))
    return result


def choose(entries: Sequence[BootEntry], wishes: Sequence[Wish] = (), spent: Spent = lambda entry: "") -> Choice:
    """The order in which to try ``entries`` (arranged): what the first wish that can be met asks for, else the usual
    one; after it the others of the same root, then those of other roots, then earlier states of a root.

    Entries for which ``spent`` gives a reason come last of all, except the one that is wished for this boot alone.
    Those that need a person are left out, while there are others and nobody asked for them.
    """
    everything = entries
    entries = [entry for entry in everything if not entry.ask] or [entry for entry in everything if not entry.never]
    if not entries:
        return Choice((), ())
    chosen, reason = _usual(entries)
    warnings, once = [], False
    for wish in wishes:
        found = _wished(wish, entries, everything)
        if found is not None:
            chosen, reason, once = found, wish.reason, wish.once
            break
        if wish.loud:
            many = len(_partly(entries, wish.asked))
            what = f"that may be {many} of the entries" if many else "there is no such entry"
            warnings.append(f"{wish.reason.partition(' asks for it')[0]}: {what}; taking the default")
    if chosen.ask and chosen is entries[0] and not chosen.place.pool.rivals:
        warnings.append(f"{chosen.title} is all there is to boot: {chosen.ask}")
    rest = [entry for entry in entries if entry is not chosen]
    rest.sort(key=lambda entry: (entry.snapshot is not None, entry.place.identity != chosen.place.identity))
    order: list[BootEntry] = []
    over: list[BootEntry] = []
    for entry in (chosen, *rest):
        why = "" if once and entry is chosen else spent(entry)
        (over if why else order).append(entry)
        if why and entry is chosen:
            warnings.append(f"{entry.title} is passed over: {why}")
            reason = "those before it were started in vain"
    if not order:
        warnings.append("no entry has any tries left: taking them in their order")
    return Choice((*order, *over), (reason,), "; ".join(warnings))


def _wished(wish: Wish, entries: Sequence[BootEntry], everything: Sequence[BootEntry]) -> BootEntry | None:
    """The entry that ``wish`` means: one of ``entries`` if any, before a stick has its title, or makes it ambiguous.

    One that needs a person is meant by its whole id or the name of its root alone, and only by a person.
    """
    if wish.person and wish.asked.isdecimal():  # as it is listed
        found = find(everything, wish.asked)
        return found if any(entry is found for entry in entries) else None
    found = find(entries, wish.asked)
    if found is not None or not wish.person:
        return found
    return next((entry for entry in everything if wish.asked in (entry.id, entry.place.where)), None)


def _usual(entries: Sequence[BootEntry]) -> tuple[BootEntry, str]:
    """The entry that nobody has to ask for, and why."""
    first = entries[0]
    usual = next((entry for entry in entries if entry.default and entry.place.identity == first.place.identity), None)
    if usual is not None and usual.tries_left != 0:
        return usual, f"it is the default of the boot loader's configuration on {usual.source}"
    if not first.initrds and not first.whole:
        return first, "it is the newest kernel on the first bootable root, and none has an initrd"
    return first, "it is the newest kernel with an initrd on the first bootable root"


def find(entries: Sequence[BootEntry], asked: str) -> BootEntry | None:
    """The entry that ``asked`` means: its number from 1, its id, its title, what its own boot loader calls it (".conf"
    may follow) when that is one entry only, the first one of the root or snapshot of that name, or a part of id or
    title that only one has."""
    if asked.isdecimal():
        number = int(asked[:MAX_DIGITS])
        return entries[number - 1] if 1 <= number <= len(entries) else None
    for entry in entries:
        if asked in (entry.id, entry.title):
            return entry
    if (named := called(entries, asked)) is not None:
        return named
    for entry in entries:
        if asked == entry.place.where or (entry.snapshot is not None and asked in (entry.root.name, entry.root.uuid)):
            return entry
    partial = _partly(entries, asked)
    return partial[0] if len(partial) == 1 else None


def called(entries: Sequence[BootEntry], asked: str) -> BootEntry | None:
    """The one entry that its own boot loader calls ``asked``, in small letters as systemd-boot does (src/boot/boot.c:
    boot_entry_add_type1, v257); None when there are several."""
    low = asked.lower()
    named = [entry for entry in entries if entry.name.lower() in (low, low.removesuffix(".conf"))]
    return named[0] if len(named) == 1 else None


def matching(entries: Sequence[BootEntry], pattern: str) -> BootEntry | None:
    """The first entry whose boot loader's name a pattern of bootctl set-default fits, as systemd-boot takes it.

    Source: src/boot/boot.c:config_find_entry, v257.  Entries stand in another order there, but the newest first, too.
    """
    if not any(char in pattern for char in "*?["):
        return None
    low = pattern.lower().removesuffix(".conf")
    return next((entry for entry in entries if entry.name and globs.matches(entry.name.lower(), low)), None)


def _partly(entries: Sequence[BootEntry], asked: str) -> list[BootEntry]:
    low = asked.lower()
    return [entry for entry in entries if low in entry.title.lower() or low in entry.id.lower()]
