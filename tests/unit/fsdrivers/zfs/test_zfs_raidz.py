"""RAID-Z geometry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsdrivers.zfs import draid
from fsdrivers.zfs.layout import BOOT_SIZE
from fsdrivers.zfs.raidz import Column, columns, rows

MIB = 1 << 20


def test_a_block_of_one_sector() -> None:
    assert columns(0, 4096, 12, 3, 1) == (Column(0, 0, 4096), Column(1, 0, 4096))
    assert columns(4096 * 5, 4096, 12, 3, 1) == (Column(2, 4096, 4096), Column(0, 8192, 4096))


def test_big_columns_come_first() -> None:
    # Five data sectors on 2 + 2: two full rows of two and a row of one, with two parities each.
    found = columns(0, 5 * 512, 9, 4, 2)
    assert [column.size // 512 for column in found] == [3, 3, 3, 2]


def test_single_parity_swaps_in_every_second_mebibyte() -> None:
    even, odd = columns(0, 8192, 12, 3, 1), columns(MIB * 3, 8192, 12, 3, 1)
    assert [column.child for column in even] == [0, 1, 2]
    first = (3 * MIB >> 12) % 3
    assert [column.child for column in odd] == [(first + 1) % 3, first, (first + 2) % 3]
    # Double parity never does.
    assert columns(MIB * 3, 4096, 12, 3, 2)[0].child == first


@given(
    st.integers(9, 16), st.integers(2, 20), st.integers(1, 3), st.integers(0, 1 << 20), st.integers(1, 300)
)  # fmt: skip
def test_every_sector_has_its_place(ashift: int, width: int, nparity: int, start: int, sectors: int) -> None:
    width = max(width, nparity + 1)
    found = columns(start << ashift, sectors << ashift, ashift, width, nparity)
    assert sum(column.size for column in found[nparity:]) == sectors << ashift
    # Consecutive sectors of the vdev go round the children; nothing is used twice.
    used = {
        (column.child, column.offset + at) for column in found for at in range(0, column.size, 1 << ashift)
    }  # fmt: skip
    total = sum(column.size for column in found) >> ashift
    assert len(used) == total
    assert used == {((start + n) % width, (start + n) // width << ashift) for n in range(total)} or len(found) == width
    assert len({column.child for column in found}) == len(found)


@given(st.integers(4, 12), st.integers(1, 3), st.integers(0, 5000), st.integers(1, 200))
def test_rows_of_the_same_width_are_the_columns(width: int, nparity: int, start: int, sectors: int) -> None:
    offset, size = start << 12, sectors << 12
    whole = columns(offset, size, 12, width, nparity)
    found = rows(offset, size, 12, width, width, nparity, None)
    places: dict[tuple[int, int], int] = {}
    at = 0
    for column in whole[nparity:]:
        for sector in range(0, column.size, 4096):
            places[column.child, column.offset + sector] = at
            at += 4096
    by_row = {
        (column.child, column.offset): place
        for row in found
        for column, place in zip(row.columns[nparity:], row.places, strict=True)
        if column.size
    }
    assert by_row == places


def test_rows_that_have_not_moved_yet_are_in_the_old_place() -> None:
    new = rows(0, 4096 * 6, 12, 4, 3, 1, 1 << 30)
    old = rows(0, 4096 * 6, 12, 4, 3, 1, 0)
    assert [column.child for row in new for column in row.columns] == [n % 4 for n in range(9)]
    assert [column.child for row in old for column in row.columns] == [n % 3 for n in range(9)]
    scratch = rows(0, 4096 * 6, 12, 4, 3, 1, 1 << 30, True)
    assert scratch[0].columns[0].offset == -BOOT_SIZE


@pytest.mark.parametrize("nparity", [1, 2, 3])
def test_parity_comes_first(nparity: int) -> None:
    found = columns(0, 4096, 12, 8, nparity)
    assert [column.child for column in found] == list(range(nparity + 1))


@pytest.mark.parametrize("children", [2, 3, 11, 31, 32, 64, 255])
def test_permutations_are_those_of_openzfs(children: int) -> None:
    # permutations() compares them with the sum that OpenZFS has for them.
    table = draid.permutations(children)
    for at in range(0, len(table), children):
        assert sorted(table[at : at + children]) == list(range(children))


@given(st.integers(0, 1 << 12), st.integers(1, 100))
def test_distributed_rows(stripe: int, sectors: int) -> None:
    shape = draid.Shape(6, 2, 1, 1, 5)
    assert shape.valid()
    found = draid.rows(shape, stripe * shape.width << 12, sectors << 12, 12)
    places = sorted(
        (place, column.size) for row in found for place, column in zip(row.places, row.columns[1:], strict=True)
    )
    end = 0
    for place, size in places:
        assert place == end or not size
        end += size
    assert end == sectors << 12
    for row in found:
        assert len({column.child for column in row.columns}) == shape.width
