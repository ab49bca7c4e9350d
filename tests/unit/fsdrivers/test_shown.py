"""What reaches the eyes of a person."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from fsdrivers.shown import printable, when

DRIVING = "\x1b[2J\x9b31m\x07\r\u202e\u2066\u200b\x85\x7f\u2028\udc9b"


def test_nothing_drives_a_terminal() -> None:
    text = f"a{DRIVING}b c"
    assert printable(text, "") == "a\\x1b[2J\\x9b31m\\x07\\x0d\\x202e\\x2066\\x200b\\x85\\x7f\\x2028\\x9bb c"
    assert printable("a\tb\nc") == "a\tb\nc"
    assert printable("größe 日本") == "größe 日本"


@given(st.text())
def test_only_what_can_be_seen(text: str) -> None:
    assert printable(text, "").isprintable()


def test_times() -> None:
    assert when(1_700_000_000 * 10**9 + 5) == "2023-11-14 22:13"
    assert when(0, "%Y-%m-%dT%H:%M:%SZ") == "1970-01-01T00:00:00Z"
    assert when(-(10**9)) == "1969-12-31 23:59"
    assert when(((1 << 64) - 1) * 10**9) == "18446744073709551615"
    assert when(-(1 << 63) * 10**9) == "-9223372036854775808"


@given(st.integers(-(1 << 95), 1 << 95))
def test_any_time_is_one_word_or_a_date(nanoseconds: int) -> None:
    assert re.fullmatch(r"-?[0-9]+( [0-9:]+)?|-?[0-9]+-[0-9][0-9]-[0-9][0-9] [0-9][0-9]:[0-9][0-9]", when(nanoseconds))
