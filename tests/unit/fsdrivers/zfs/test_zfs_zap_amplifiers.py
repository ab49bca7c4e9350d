"""The worst ZAPs: names and values that share chunks, tables that lead to one leaf, sizes without end."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from functools import partial

import pytest
from bounded import bounded
from hypothesis import given
from hypothesis import strategies as st
from zaps import array, entry, header, leaf, micro, room, zap

from fsdrivers.errors import Corrupt
from fsdrivers.zfs.zap import MAX_BLOCK, MAX_SHIFT, Zap

SIZE = MAX_BLOCK
LOOP = array(b"A" * 21, 0)  # a chain that is its own end


def everything(make: Callable[[], Zap]) -> Callable[[], int]:
    """Makes the ZAP, looks for a name and goes through all names."""

    def run() -> int:
        found = make()
        found.get(b"name")
        return sum(1 for _ in itertools.islice(found.items(), 1 << 22))

    return run


def of_leaf(content: bytes, size: int = SIZE) -> Callable[[], Zap]:
    table = struct.pack("<Q", 1) * (size // 16)
    return lambda: zap(lambda number: content if number else header(size, (size // 16).bit_length() - 1, 0, table))


def shared_table(shift: int, content: bytes) -> Callable[[], Zap]:
    """All entries of the table lead to one leaf."""
    table = struct.pack("<Q", 1) * (SIZE // 8)
    first = header(SIZE, shift, 1 << 30)
    return lambda: zap(lambda number: first if not number else content if number == 1 else table)


def full(size: int) -> bytes:
    """A block of so many bytes with as many names as it has room for."""
    return micro((b"%d" % number, 7) for number in range(size // 64 - 1))


def _same(block: bytes, number: int) -> bytes:
    return block


WORST = {
    "values that share a loop": of_leaf(leaf(SIZE, [LOOP, *[entry(0, 2, 0, 8192)] * (room(SIZE) - 1)])),
    "wide values that share a loop": of_leaf(leaf(SIZE, [LOOP, *[entry(0, 2, 0, 1024, 8)] * (room(SIZE) - 1)])),
    "names that share a loop": of_leaf(leaf(SIZE, [LOOP, *[entry(0, 1024, 0, 0)] * (room(SIZE) - 1)])),
    "entries of nothing": of_leaf(leaf(SIZE, [entry(0xFFFF, 0, 0xFFFF, 0)] * room(SIZE))),
    "names as they come": of_leaf(
        leaf(
            SIZE,
            [
                chunk
                for at in range(0, room(SIZE) - 2, 2)
                for chunk in (entry(at + 1, 20, at + 1, 0), array(b"%020d" % at))
            ],
        )
    ),
    "a table that leads to one leaf": shared_table(MAX_SHIFT, leaf(SIZE, [LOOP, entry(0, 2, 0, 1)], 0, MAX_SHIFT)),
    "a leaf with more bits than the table": shared_table(20, leaf(SIZE, [], 0, 0xFFFF)),
    "a table beyond all tables": lambda: zap(lambda number: header(SIZE, 1 << 40)),
    "a table of 64 bits": lambda: zap(lambda number: header(SIZE, (1 << 64) - 1, 1 << 63)),
    "a block beyond all blocks": lambda: zap(lambda number: header(16 << 20, 20)),
    "one block of names": partial(zap, partial(_same, full(4 << 20))),
    "one block beyond that": partial(zap, partial(_same, full(128)[:64].ljust(16 << 20, b"\1"))),
}


@pytest.mark.parametrize("make", WORST.values(), ids=WORST)
def test_worst_tables(make: Callable[[], Zap]) -> None:
    bounded(everything(make))


def test_many_large_leaves() -> None:
    """What is kept of leaves is bounded, however large each of them becomes when decoded."""
    chunks = [array(b"\xff" * 21, at + 1) for at in range(room(SIZE))]
    values = range(0, room(SIZE) - 400, 392)
    for at in values:
        chunks[at + 391] = entry(at, 2, at, 8190)
    table = struct.pack("<8192Q", *(1 + at // 128 for at in range(8192)))
    blocks = [header(SIZE, 13, 0, table), *(leaf(SIZE, chunks, prefix, 6) for prefix in range(64))]
    names = len(values)
    assert bounded(everything(lambda: zap(blocks.__getitem__))).value == 64 * (names > 0)


def test_leaves_that_belong_elsewhere() -> None:
    table = struct.pack("<Q", 1) * (512 // 16)
    for prefix, length in ((1, 0), (1, 5), (0, 6), (0, 5)):
        content = leaf(512, [entry(1, 2, 1, 1), array(b"a")], prefix, length)
        found = zap(lambda number, content=content: content if number else header(512, 5, 0, table))  # type: ignore[misc]
        with pytest.raises(Corrupt, match="prefix"):
            list(found.items())


CHUNK = st.one_of(
    st.builds(
        entry,
        st.integers(0, 20),
        st.integers(0, 80),
        st.integers(0, 20),
        st.integers(0, 100),
        st.sampled_from((1, 2, 4, 8, 3)),
    ),
    st.builds(array, st.binary(min_size=21, max_size=21), st.integers(0, 20) | st.just(0xFFFF)),
)


@given(st.lists(CHUNK, max_size=room(512)))
def test_no_chunk_comes_out_twice(chunks: list[bytes]) -> None:
    """Names and values together have no more bytes than the chunks of a leaf."""
    found = of_leaf(leaf(512, chunks), 512)()
    try:
        entries = list(found.items())
    except Corrupt:
        return
    assert sum(len(name) + len(value) for name, value in entries) <= 21 * room(512)
