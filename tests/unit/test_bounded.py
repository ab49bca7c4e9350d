"""The measure itself: what goes beyond a bound has to fail."""

from __future__ import annotations

import time

import pytest
from bounded import bounded

from fsdrivers.errors import Corrupt


def _spin() -> None:
    while True:
        pass


def _busy(seconds: float) -> None:
    """Whatever the processor and the version of Python."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def _raise(error: Exception) -> None:
    raise error


def test_a_call_within_its_bounds_gives_its_value() -> None:
    assert bounded(lambda: [1, 2]) == ([1, 2], "")
    assert bounded(lambda: lambda: None) == (None, "")


def test_an_error_of_ours_is_an_end_like_others() -> None:
    assert bounded(lambda: _raise(Corrupt("d", "thing", 4))).error == "Corrupt: d: corrupt thing at offset 0x4"


def test_any_other_error_fails() -> None:
    with pytest.raises(AssertionError, match="no FsError: ValueError: of ours"):
        bounded(lambda: _raise(ValueError("of ours")))


def test_time_is_bounded_also_of_what_never_ends() -> None:
    with pytest.raises(AssertionError, match=r"0\.\d+ s, the bound is 0\.05 s"):
        bounded(lambda: _busy(0.2), seconds=0.05)
    with pytest.raises(AssertionError, match=r"more than 0\.5 s, the bound is 0\.05 s"):
        bounded(_spin, seconds=0.05)


def test_memory_is_bounded_also_when_it_is_given_back() -> None:
    assert bounded(lambda: len(bytes(range(256)) * (16 << 12)), mebibytes=32).value == 16 << 20
    with pytest.raises(AssertionError, match=r"4\d MiB, the bound is 32 MiB"):
        bounded(lambda: len(bytes(range(256)) * (48 << 12)) and [bytes(i) for i in range(3)], mebibytes=32)
