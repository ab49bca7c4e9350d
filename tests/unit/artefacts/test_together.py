"""Two things at once, and what becomes of the one when the other fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from artefacts.steps import BuildError, run
from artefacts.together import both


def command(log: Path, *words: str) -> Callable[[], None]:
    return lambda: run(words, log=log)


def test_both_run_at_once() -> None:
    meeting = threading.Barrier(2, timeout=10)
    assert both(lambda: (meeting.wait(), 1)[1], lambda: (meeting.wait(), "two")[1]) == (1, "two")


def test_a_failure_stops_the_commands_beside_it(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(BuildError, match="false ended with status 1"):
        both(command(tmp_path / "long", "sleep", "100"), command(tmp_path / "short", "false"))
    assert time.monotonic() - start < 50


def test_a_failure_stops_them_at_any_depth_and_also_those_that_start_later(tmp_path: Path) -> None:
    def two_after_another() -> None:
        for number in range(2):
            try:
                run(["sleep", "100"], log=tmp_path / f"long{number}")
            except BuildError as error:
                ended.append(str(error))

    def fails_later() -> None:
        time.sleep(0.3)
        raise BuildError("the network is gone")

    ended: list[str] = []
    start = time.monotonic()
    with pytest.raises(BuildError, match="the network is gone"):
        both(lambda: both(two_after_another, command(tmp_path / "other", "sleep", "100")), fails_later)
    assert time.monotonic() - start < 50
    assert [error.split(";")[0] for error in ended] == ["sleep ended with status -15"] * 2
    # It is over: what runs later runs to its end.
    both(command(tmp_path / "one", "true"), command(tmp_path / "two", "sleep", "0.1"))


def test_a_command_on_its_own_is_not_kept(tmp_path: Path) -> None:
    run(["true"], log=tmp_path / "log")
    with pytest.raises(BuildError, match="status 3"):
        run(["sh", "-c", "exit 3"], log=tmp_path / "log")
