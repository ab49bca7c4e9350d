"""Work done ahead: its order, its errors, and that it stops when nobody asks any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from fsdrivers.readahead import DEPTH, ahead


def jobs(count: int, made: list[int], bad: int = -1) -> Iterator[Callable[[], int]]:
    def work(number: int) -> int:
        time.sleep(0.002 if number % 3 else 0.01)
        if number == bad:
            raise ValueError(number)
        return number

    for number in range(count):
        made.append(number)
        yield lambda number=number: work(number)  # type: ignore[misc]


@pytest.mark.parametrize("count", [0, 1, 3, DEPTH, 50])
def test_order(count: int) -> None:
    assert list(ahead(jobs(count, []))) == list(range(count))


def test_never_further_ahead_than_agreed() -> None:
    made: list[int] = []
    for number in ahead(jobs(40, made)):
        assert len(made) <= number + DEPTH


def test_an_error_comes_in_its_turn() -> None:
    work = ahead(jobs(40, [], bad=7))
    assert [next(work) for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match="7"):
        next(work)


def test_an_error_of_the_planner() -> None:
    def planned() -> Iterator[Callable[[], int]]:
        yield lambda: 1
        raise KeyError("plan")

    with pytest.raises(KeyError):
        list(ahead(planned()))


def test_leaving_early_ends_the_work() -> None:
    made: list[int] = []
    work = ahead(jobs(1000, made))
    assert next(work) == 0
    work.close()  # type: ignore[attr-defined]
    before = len(made)
    time.sleep(0.05)
    assert len(made) == before <= DEPTH
