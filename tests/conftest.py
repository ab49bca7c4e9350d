"""What all rings of tests share: their order, their time limits, and what takes long to make."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from qemu import images, run, workshop

# Quick rings first: who broke a parser hears of it before the first machine starts.
RINGS = ("unit", "fuzz", "systems", "images", "boot")
SLOW = ("images", "boot", "firmware", "zfs", "arm64", "systems")
SLOW_SECONDS = 1800  # the first test that needs an image waits until it is made


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--suite", default="bookworm", help="the Debian that the boot tests boot")
    parser.addoption(
        "--releases", default="others", help="ring 0: a suite, all, or (default) the others than this machine's own"
    )
    parser.addoption("--kernel", default="slim", help="bootstrap kernel for the boot tests: a path, slim or debian")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "arm64: cross-builds for arm64 and boots that (make arm64)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_ring)
    for item in items:
        if any(item.get_closest_marker(name) for name in SLOW) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


def _ring(item: pytest.Item) -> int:
    directory = item.path.relative_to(Path(__file__).parent).parts[0]
    return RINGS.index(directory) if directory in RINGS else len(RINGS)


class BootImage(NamedTuple):
    """The bootstrap kernel and the initramfs under test."""

    kernel: Path
    initrd: Path


@contextmanager
def _aloud(config: pytest.Config) -> Iterator[None]:
    """Long steps tell of their progress, which pytest would hide.

    The processes of pytest-xdist talk to their master through standard output: what they say goes to standard error.
    """
    capture = config.pluginmanager.getplugin("capturemanager")
    worker = "PYTEST_XDIST_WORKER" in os.environ
    with capture.global_and_fixture_disabled(), redirect_stdout(sys.stderr if worker else sys.stdout):
        print(flush=True)
        yield


@pytest.fixture
def aloud(request: pytest.FixtureRequest) -> Iterator[None]:
    """The long steps of a test tell of their progress."""
    with _aloud(request.config):
        yield


@pytest.fixture(scope="session")
def boot_image(request: pytest.FixtureRequest) -> BootImage:
    """What build.py makes of the sources as they are now."""
    with _aloud(request.config):
        return BootImage(*run.build(request.config.getoption("--kernel")))


@pytest.fixture(scope="session")
def debian(request: pytest.FixtureRequest) -> workshop.Made:
    """A Debian on three disks, btrfs RAID1."""
    with _aloud(request.config):
        return images.debian_raid1(request.config.getoption("--suite"))
