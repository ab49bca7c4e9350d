"""Kernel versions sort as people and package managers expect."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from init.entries import version

# Each list rises; the order of the first three is that of dpkg, of the fourth that of rpm.
RISING = [
    ["6.1.0-9-amd64", "6.1.0-28-amd64", "6.1.0-28+1-amd64", "6.1.0-100-amd64", "6.9.7-amd64",
     "6.12.6-amd64", "6.12.38-amd64"],
    ["5.15.0-9-generic", "5.15.0-130-generic", "6.2.0-39-generic", "6.8.0-49-generic", "6.11.0-8-generic"],
    ["6.12~rc6-amd64", "6.12-amd64", "6.12.1-amd64", "6.13~rc1-amd64"],
    ["0-rescue-3d1f", "6.9.12-200.fc40.x86_64", "6.11.0-0.rc3.20240814git.30.fc41.x86_64", "6.11.0-63.fc41.x86_64",
     "6.11.10-200.fc40.x86_64", "6.12.0-60.fc42.x86_64"],
    ["6.12.0-rc1", "6.12.0-rc2", "6.12.0-rc10", "6.12.0", "6.12.0-1-default", "6.12.1-1-default"],
    ["6.6.63-0-lts", "6.12.1-0-lts"],
    ["6.9.1-arch1-1", "6.9.1-arch1-2", "6.9.1-arch2-1", "6.10.1-arch1-1"],
    ["6.1.7.old", "6.1.7", "6.1.8.old", "6.1.8"],
    ["linux-hardened", "linux-lts"],
    ["", "1"],
]  # fmt: skip


@pytest.mark.parametrize("rising", RISING, ids=lambda rising: rising[-1])
def test_order(rising: list[str]) -> None:
    shuffled = random.Random(1).sample(rising, len(rising))
    assert sorted(shuffled, key=version.key) == rising


@given(
    st.lists(st.integers(0, 999), min_size=2, max_size=4),
    st.integers(0, 3),
    st.integers(1, 500),
    st.text("-.amd64", max_size=5),
)
def test_a_larger_number_is_newer_however_it_is_written(numbers: list[int], where: int, more: int, tail: str) -> None:
    newer = list(numbers)
    newer[where % len(newer)] += more
    old, new = (".".join(map(str, value)) + "-x" + tail for value in (numbers, newer))
    assert version.key(old) < version.key(new)


@given(
    st.lists(st.integers(1, 999), min_size=2, max_size=4), st.integers(1, 20), st.sampled_from(["-rc", "~rc", "-0.rc"])
)
def test_a_candidate_is_older_than_its_release_and_newer_than_the_one_before(
    numbers: list[int], rc: int, how: str
) -> None:
    release = ".".join(map(str, numbers))
    before = ".".join(map(str, [*numbers[:-1], numbers[-1] - 1]))
    assert version.key(before + "-5") < version.key(f"{release}{how}{rc}") < version.key(release)


@given(st.text(), st.text())
def test_any_two_names_can_be_compared(one: str, other: str) -> None:
    assert (version.key(one) < version.key(other)) + (version.key(one) > version.key(other)) <= 1
