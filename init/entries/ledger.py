"""What is remembered from one boot to the next: how often an entry was started in vain, and which one is wanted.

The text is a line each, so that a shell script in the booted system can report that all went well:
``default ID``, ``once ID``, ``booting ID`` (started last, not heard of since), ``try N ID`` (N starts in vain), ``pool
UUID MEMBER...`` (booted from last: good, unless ``booting`` is there) and ``good UUID MEMBER...`` (before that).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

MAX_TEXT = 16384  # bytes
MAX_LINES = 256
MAX_TRIES = 999
MAX_IDENTITY = 1024  # characters
MAX_POOLS, MAX_MEMBERS = 4, 16


class Ledger(NamedTuple):
    """The memory of this machine; entries go by their ids."""

    default: str = ""
    once: str = ""
    booting: str = ""
    tries: tuple[tuple[str, int], ...] = ()
    pools: tuple[tuple[str, ...], ...] = ()  # booted from and not heard anything bad of: the uuid, those of members
    pool: tuple[str, ...] = ()  # likewise the one that was booted from last, and perhaps in vain

    def known(self) -> dict[str, frozenset[str]]:
        """The pools that were booted from and are not known to have failed, the last one at the end: their UUIDs, and
        those of their members."""
        return {uuid: frozenset(members) for uuid, *members in self._good().values()}

    def _good(self) -> dict[str, tuple[str, ...]]:
        good = {one[0]: one for one in self.pools}
        if self.pool and not self.booting:
            good.pop(self.pool[0], None)
            good[self.pool[0]] = self.pool
        return good

    def on(self, uuid: str, members: Iterable[str]) -> Ledger:
        """As it is when the pool ``uuid`` is about to be booted from; before started()."""
        now = (uuid, *sorted(members)[:MAX_MEMBERS])
        return self._replace(pools=tuple(self._good().values())[-MAX_POOLS:], pool=now)

    def count(self, identity: str) -> int:
        """How often the entry was started without being reported good since."""
        return dict(self.tries).get(identity, 0)

    def started(self, identity: str) -> Ledger:
        """As it is when the entry ``identity`` is about to be started, and counted."""
        tries = {name: count for name, count in self.tries if name != identity}
        tries[identity] = min(self.count(identity) + 1, MAX_TRIES)
        return self._replace(booting=identity, tries=tuple(tries.items())[-MAX_LINES:])

    def text(self) -> str:
        """As it is stored; "" when there is nothing to remember."""
        values = zip(_FIELDS, (self.default, self.once, self.booting), strict=True)
        lines = [f"{key} {value}" for key, value in values if value and fits(value)]
        lines += [f"good {' '.join(pool)}" for pool in self.pools if fits(" ".join(pool))]
        lines += [f"pool {' '.join(self.pool)}"] if self.pool and fits(" ".join(self.pool)) else []
        lines += [f"try {count} {name}" for name, count in self.tries if fits(name)]
        return "".join(f"{line}\n" for line in lines)


def fits(identity: str) -> bool:
    """Whether the id is one line: a file's name may hold more of them, and would say more than it is asked."""
    return not any(char in identity for char in "\n\r\0") and len(identity) <= MAX_IDENTITY


_FIELDS = ("default", "once", "booting")


def parse(text: str) -> Ledger:
    """The ledger in ``text``; lines that cannot be understood count for nothing."""
    values: dict[str, str] = {}
    tries: dict[str, int] = {}
    pools: list[tuple[str, ...]] = []
    pool: tuple[str, ...] = ()
    for line in text[:MAX_TEXT].split("\n")[:MAX_LINES]:
        key, _, value = line.strip("\r\0").partition(" ")
        if not fits(value):
            continue
        if key in _FIELDS:
            values[key] = value
        elif key == "good" and value:
            pools.append(tuple(value.split()[: MAX_MEMBERS + 1]))
        elif key == "pool":
            pool = tuple(value.split()[: MAX_MEMBERS + 1])
        elif key == "try":
            count, _, name = value.partition(" ")
            if count.isascii() and count.isdecimal() and len(count) < 5 and name:
                tries[name] = min(int(count), MAX_TRIES)
    wishes = (values.get("default", ""), values.get("once", ""), values.get("booting", ""))
    return Ledger(*wishes, tuple(tries.items()), tuple(one for one in pools if one)[-MAX_POOLS:], pool)
