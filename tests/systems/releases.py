"""The releases that poolboot is built and run on.  Ring 0 proves every cell; the README's table is made of them."""

from __future__ import annotations

from typing import NamedTuple


class Release(NamedTuple):
    """A release of Debian, and what ring 0 has to find in it."""

    suite: str
    title: str
    python: str
    """major.minor of its /usr/bin/python3."""
    kernel: str
    """major.minor of its stock kernel, which its Debian boots to."""
    openzfs: str = ""
    """major.minor of the OpenZFS whose pools its Debian boots from; "" where that is not tried."""


RELEASES = (
    Release("bookworm", "Debian 12", "3.11", "6.1", openzfs="2.1"),
    Release("trixie", "Debian 13", "3.13", "6.12", openzfs="2.3"),
)


def by_suite(suite: str) -> Release:
    """Raises ValueError with the suites that there are."""
    for release in RELEASES:
        if release.suite == suite:
            return release
    raise ValueError(f"{suite}: no supported release; there are {', '.join(one.suite for one in RELEASES)}")
