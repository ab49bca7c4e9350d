"""The loop that tries copies: order, verification, what counts as healed, what is raised."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fsdrivers import redundancy
from fsdrivers.errors import Corrupt, FsError, MissingDevices, ReadError
from fsdrivers.redundancy import Attempt, Health, read


def verify(data: bytes, attempt: Attempt) -> FsError | None:
    return None if data == b"good" else Corrupt(attempt.device, "extent", attempt.offset, b"good", data)


def lost() -> FsError:
    return MissingDevices("p", ["d0"], ["d1"])


def broken() -> bytes:
    raise ReadError("d2", 7, 4, "Input/output error")


def attempt(device: str, result: bytes | Callable[[], bytes]) -> Attempt:
    return Attempt(device, 7, result if callable(result) else lambda: result)


def test_the_first_good_copy_wins_and_the_rest_is_not_touched() -> None:
    def attempts() -> Iterator[Attempt]:
        yield attempt("d0", b"good")
        raise AssertionError("a second copy was asked for")

    health = Health()
    assert read(attempts(), verify, health, lost) == b"good"
    assert health.report() == []


def test_damage_is_healed_and_counted_by_device() -> None:
    health = Health()
    for _ in range(2):
        assert (
            read([attempt("d0", b"rott"), attempt("d2", broken), attempt("d1", b"good")], verify, health, lost)
            == b"good"
        )
    assert health.damage == {"d0": 2, "d2": 2}
    assert any(line.startswith("d0: 2 damaged copies") and "offset 0x7" in line for line in health.report())


def test_nothing_good_raises_the_checksum_error_and_heals_nothing() -> None:
    health = Health()
    with pytest.raises(Corrupt) as caught:
        read([attempt("d2", broken), attempt("d0", b"rott")], verify, health, lost)
    assert (caught.value.device, caught.value.structure, caught.value.offset) == ("d0", "extent", 7)
    assert not health.damage


def test_only_unreadable_devices_raise_the_read_error() -> None:
    with pytest.raises(ReadError, match="d2"):
        read([attempt("d2", broken)], verify, Health(), lost)


def test_no_copy_at_all_asks_the_caller_for_the_reason() -> None:
    with pytest.raises(MissingDevices, match="d1"):
        read([], verify, Health(), lost)


def test_endless_attempts_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redundancy, "MAX_ATTEMPTS", 5)

    def endless() -> Iterator[Attempt]:
        while True:
            yield attempt("d0", b"rott")

    with pytest.raises(Corrupt):
        read(endless(), verify, Health(), lost)


def test_notes_are_said_once() -> None:
    health = Health()
    health.note("generation 7 is served")
    health.note("generation 7 is served")
    assert health.report() == ["generation 7 is served"]


def test_notes_have_an_end() -> None:
    health = Health()
    for number in range(20_000):
        health.note(f"note {number % 10_000}")
    assert health.report()[-2:] == ["note 99", "and 19800 more notes"]
