"""Geometry of btrfs chunks: where each byte lives, for every profile and shape."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsdrivers.btrfs import geometry, layout
from fsdrivers.btrfs.geometry import PROFILES, Chunk, Copy, Stripe
from fsdrivers.btrfs.layout import STRIPE_LEN

START = 0x1500000
MIRRORS = (layout.BLOCK_GROUP_DUP, layout.BLOCK_GROUP_RAID1, layout.BLOCK_GROUP_RAID1C3, layout.BLOCK_GROUP_RAID1C4)


def chunk(kind: int, stripes: int, rows: int = 8) -> Chunk:
    """A chunk of ``rows`` full rows, whose stripes start at 1 MiB times their number on their devices."""
    profile = PROFILES[kind]
    legs = tuple(Stripe(n + 1, (n + 1) << 20, uuid.UUID(int=n).bytes) for n in range(stripes))
    made = Chunk(START, 0, kind, profile, legs, 2 if kind == layout.BLOCK_GROUP_RAID10 else 1)
    return made._replace(length=rows * STRIPE_LEN * made.data_stripes)


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    kind = draw(st.sampled_from(sorted(PROFILES)))
    profile = PROFILES[kind]
    stripes = profile.smallest if profile.exact else draw(st.integers(profile.smallest, 9))
    if kind == layout.BLOCK_GROUP_RAID10:
        stripes -= stripes % 2
    return chunk(kind, stripes, draw(st.integers(1, 6)))


@given(chunks(), st.data())
def test_segments_cover_the_range_in_order(item: Chunk, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, item.length - 1))
    length = data.draw(st.integers(1, item.length - first))
    at = START + first
    for segment in geometry.segments(item, at, length):
        assert segment.start == at
        assert segment.length > 0
        assert len(segment.copies) == (1 if item.profile.parity else item.profile.copies)
        assert len({copy.stripe for copy in segment.copies}) == len(segment.copies)
        at += segment.length
    assert at == START + first + length


@given(chunks())
def test_no_two_bytes_share_a_place(item: Chunk) -> None:
    """Every element of every stripe is used exactly once: by one copy of one piece of data, or by parity."""
    used: list[tuple[int, int]] = []
    for segment in geometry.segments(item, START, item.length):
        step = STRIPE_LEN
        for copy in segment.copies:
            base = item.stripes[copy.stripe].offset
            used += [(copy.stripe, at) for at in range(copy.offset - base, copy.offset - base + segment.length, step)]
        if item.profile.parity and segment.column == 0:
            for place in geometry.row_places(segment)[item.data_stripes :]:
                used.append((place.stripe, place.offset - item.stripes[place.stripe].offset))
    depth = geometry.stripe_length(item)
    every = [(stripe, at) for stripe in range(len(item.stripes)) for at in range(0, depth, STRIPE_LEN)]
    assert sorted(used) == sorted(every)


@given(chunks(), st.data())
def test_a_part_lies_where_its_own_segment_would(item: Chunk, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, item.length - 1))
    whole = next(geometry.segments(item, START + first, min(item.length - first, STRIPE_LEN)))
    shift = data.draw(st.integers(0, whole.length - 1))
    alone = next(geometry.segments(item, whole.start + shift, whole.length - shift))
    assert geometry.part(whole, whole.start + shift, whole.length - shift) == alone


@pytest.mark.parametrize("kind", MIRRORS)
def test_mirrors_hold_everything_everywhere(kind: int) -> None:
    item = chunk(kind, PROFILES[kind].smallest)
    (segment,) = geometry.segments(item, START + 12345, 300000)
    assert segment.copies == tuple(Copy(n, ((n + 1) << 20) + 12345) for n in range(len(item.stripes)))


def test_raid0_takes_turns() -> None:
    item = chunk(layout.BLOCK_GROUP_RAID0, 3)
    places = [segment.copies for segment in geometry.segments(item, START, 4 * STRIPE_LEN)]
    assert places == [
        (Copy(0, 1 << 20),), (Copy(1, 2 << 20),), (Copy(2, 3 << 20),), (Copy(0, (1 << 20) + STRIPE_LEN),),
    ]  # fmt: skip


def test_raid10_pairs_neighbours() -> None:
    item = chunk(layout.BLOCK_GROUP_RAID10, 4)
    places = [[copy.stripe for copy in segment.copies] for segment in geometry.segments(item, START, 3 * STRIPE_LEN)]
    assert places == [[0, 1], [2, 3], [0, 1]]


def test_raid5_rotates_to_the_left() -> None:
    """fs/btrfs/volumes.c:map_blocks_raid56_read: data column c of row r is stripe (r + c) mod n, parity follows."""
    item = chunk(layout.BLOCK_GROUP_RAID5, 3)
    found = list(geometry.segments(item, START, 6 * STRIPE_LEN))
    assert [segment.copies[0].stripe for segment in found] == [0, 1, 1, 2, 2, 0]
    assert [geometry.row_places(segment)[2].stripe for segment in found] == [2, 2, 0, 0, 1, 1]


def test_raid6_has_p_before_q() -> None:
    item = chunk(layout.BLOCK_GROUP_RAID6, 5)
    segment = list(geometry.segments(item, START, 5 * STRIPE_LEN))[4]  # row 1, column 1
    assert (segment.row, segment.column, segment.copies[0].stripe) == (1, 1, 2)
    assert [place.stripe for place in geometry.row_places(segment)] == [1, 2, 3, 4, 0]
