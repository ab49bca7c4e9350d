"""The ranges that a replayed log leaves of a file, against a plain array."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fsdrivers.zfs.ranges import BASE, ZERO, Ranges

SIZE = 64
operations = st.lists(
    st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE), st.sampled_from([None, ZERO])), max_size=20
)


@given(st.integers(0, SIZE), operations, st.integers(0, SIZE), st.integers(0, SIZE))
def test_as_an_array(base: int, changes: list[tuple[int, int, str | None]], low: int, high: int) -> None:
    ranges = Ranges(base)
    model: list[tuple[str, int]] = [(BASE, at) if at < base else (ZERO, 0) for at in range(SIZE)]
    for number, (start, end, source) in enumerate(changes):
        data = source or bytes([number]) * SIZE
        ranges.put(start, end, data, 0)
        for at in range(start, end):
            model[at] = (ZERO, 0) if data == ZERO else (f"data {number}", at - start)
    found: list[tuple[str, int]] = []
    expected = low
    for part in ranges.get(low, high):
        assert part.start == expected
        assert part.end > part.start
        expected = part.end
        for at in range(part.start, part.end):
            place = part.skip + at - part.start
            if part.source == BASE:
                found.append((BASE, at))
            elif part.source == ZERO:
                found.append((ZERO, 0))
            else:
                assert isinstance(part.source, bytes)
                found.append((f"data {part.source[0]}", place))
    assert found == model[low:high]


def test_beyond_the_end_are_zeros() -> None:
    ranges = Ranges(10)
    ranges.put(5, Ranges.END, ZERO)
    assert [(part.start, part.end, part.source) for part in ranges.get(0, 1 << 40)] == [
        (0, 5, BASE),
        (5, 1 << 40, ZERO),
    ]


def test_nonsense_changes_nothing() -> None:
    ranges = Ranges(10)
    ranges.put(7, 7, b"x")
    ranges.put(8, 3, b"x")
    ranges.put(-1, 3, b"x")
    ranges.put(3, Ranges.END + 1, b"x")
    assert [part.source for part in ranges.get(0, 10)] == [BASE]
