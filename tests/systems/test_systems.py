"""What the README says, in a bare root of every release: set-up, program, tests, lint; and what it builds boots."""

from __future__ import annotations

import pytest
from releases import Release
from ring import Ring

pytestmark = [pytest.mark.systems, pytest.mark.usefixtures("aloud")]


def test_the_program_is_built_and_starts(ring: Ring, release: Release) -> None:
    assert _series(ring.image().python) == release.python


def test_a_debian_on_btrfs_boots_to_its_own_user_space(ring: Ring, release: Release) -> None:
    assert _series(ring.boot_btrfs()) == release.kernel


def test_the_unit_tests_pass(ring: Ring) -> None:
    assert ring.unit_tests() > 1500  # and none has failed: the number tells a run from one that found nothing to run


def test_lint_passes(ring: Ring) -> None:
    ring.lint()


@pytest.mark.zfs
def test_a_debian_on_zfs_boots_to_its_own_user_space(ring: Ring, release: Release) -> None:
    assert _series(ring.boot_zfs()) == release.kernel


def _series(version: str) -> str:
    return ".".join(version.split(".")[:2])
