"""The worst intent logs: more than memory is there for, and writes that cut each other into pieces."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import cast

import pytest
from bounded import bounded

from fsdrivers.errors import TooMany
from fsdrivers.zfs import zil
from fsdrivers.zfs.blkptr import Blkptr
from fsdrivers.zfs.dmu import Objset
from fsdrivers.zfs.ranges import Ranges
from fsdrivers.zfs.zil import Block, Record


def kept(monkeypatch: pytest.MonkeyPatch, blocks: int, size: int, records: int) -> int:
    """How many records come out of a log of ``blocks`` of ``size`` bytes with ``records`` each."""
    one = Record(zil.REMOVE, False, 1, bytes(size // records - 32), "<")

    def chain(objset: Objset) -> Iterator[Block]:
        for _ in range(blocks):
            yield Block(cast(Blkptr, None), bytes(size), [(one, 5)] * records)

    monkeypatch.setattr(zil, "chain", chain)
    monkeypatch.setattr(zil, "_header", lambda objset: (0, 0, None, 0, 0, 0))
    return sum(1 for _ in zil.records(cast(Objset, None), 4))


def test_logs_that_are_too_large_are_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not replayed up to some point in silence."""
    assert kept(monkeypatch, 200, 128 << 10, 100) == 20_000
    with pytest.raises(TooMany, match="operations in it"):
        kept(monkeypatch, 40, 128 << 10, 4000)
    with pytest.raises(TooMany, match="bytes to keep"):
        kept(monkeypatch, 1000, 128 << 10, 1)


def test_writes_anywhere_in_a_file() -> None:
    dice = random.Random(1)
    places = [dice.randrange(1 << 40) for _ in range(30_000)]

    def run() -> int:
        ranges = Ranges(1 << 40)
        for place in places:
            ranges.put(place, place + 4096, b"x")
        return sum(1 for _ in ranges.get(0, 1 << 40))

    assert cast(int, bounded(run).value) > 50_000


def test_writes_that_cover_each_other() -> None:
    def run() -> tuple[int, int]:
        nested, stairs = Ranges(0), Ranges(0)
        for number in range(20_000):
            nested.put(number, (1 << 40) - number, b"x")
            stairs.put(number, number + (1 << 40), b"x")
        return sum(1 for _ in nested.get(0, 1 << 41)), sum(1 for _ in stairs.get(0, 1 << 41))

    assert bounded(run).value == (40_000, 20_001)
