"""The releases that a run of ring 0 is about, and one bare root for each."""

from __future__ import annotations

from collections.abc import Iterator

import bareroot
import pytest
from releases import RELEASES, Release, by_suite
from ring import Ring


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "release" in metafunc.fixturenames:
        chosen = _chosen(metafunc.config.getoption("--releases"))
        if metafunc.definition.get_closest_marker("zfs"):
            chosen = [one for one in chosen if one.openzfs]
        metafunc.parametrize("release", chosen, ids=[one.suite for one in chosen], scope="session")


def _chosen(option: str) -> list[Release]:
    if option == "all":
        return list(RELEASES)
    if option == "others":
        return [one for one in RELEASES if one.suite != bareroot.own_suite()]
    try:
        return [by_suite(option)]
    except ValueError as error:
        raise pytest.UsageError(f"--releases {error}") from None


@pytest.fixture(scope="session")
def ring(release: Release, pytestconfig: pytest.Config) -> Iterator[Ring]:
    """The steps of ring 0 for one release.  Its root goes away behind its last test."""
    with Ring(release) as steps:
        yield steps
