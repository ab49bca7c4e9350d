"""The wall around what a disk makes us do, with drivers that loop, grow, recurse and swallow."""

from __future__ import annotations

import gc
import re
import resource
import signal
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from fsdrivers import bounds, pools
from fsdrivers.block import BlockDevice, Slice
from fsdrivers.bounds import Wall
from fsdrivers.errors import Fault, FsError, OutOfBounds
from fsdrivers.pool import Member
from init.machine import syscalls

SECONDS = 0.9  # a third of it for each step
MEMORY = 450 << 20


class Empty(BlockDevice):
    """A disk of zeros."""

    def __init__(self, name: str) -> None:
        self.name, self.size = name, 1 << 20

    def read_into(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = bytes(len(buffer))


DISK, OTHER = Empty("/dev/sda"), Empty("/dev/sdb")


@pytest.fixture(autouse=True, params=["resource", "prlimit64"])
def wall(request: pytest.FixtureRequest) -> Iterator[Wall]:
    limit = None if request.param == "resource" else syscalls.limit_data
    before = resource.getrlimit(resource.RLIMIT_DATA), signal.getsignal(signal.SIGPROF)
    made = Wall(seconds=SECONDS, memory=MEMORY, limit=limit)
    bounds.use(made)
    yield made
    bounds.use(None)
    assert (resource.getrlimit(resource.RLIMIT_DATA), signal.getsignal(signal.SIGPROF)) == before
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def loop() -> None:
    while True:
        pass


def swallow_once() -> str:
    try:
        loop()
    except BaseException:
        return "as if nothing had been"
    raise AssertionError


def backtrack() -> None:
    re.match(r"(a*)*b", "a" * 64)


def grow() -> None:
    kept = []
    while True:
        kept.append({len(kept): str(len(kept))})


def one_large_thing() -> bytearray:
    return bytearray(4 << 30)


def caught(work: Callable[[], object], device: BlockDevice = DISK, doing: str = "reading") -> list[FsError]:
    heard: list[FsError] = []
    bounds.attempt(doing, [device], work, heard.append)
    return heard


@pytest.mark.parametrize("work", [loop, swallow_once, backtrack])
def test_time_ends(work: Callable[[], object]) -> None:
    began = time.process_time()
    assert [str(error) for error in caught(work)] == [
        "reading: it took more than 0 s of the processor's time; left out"
    ]  # fmt: skip
    assert SECONDS / bounds.STEPS <= time.process_time() - began < SECONDS


def test_who_swallows_it_hears_it_again() -> None:
    rounds = []

    def stubborn() -> None:
        while len(rounds) < 3:
            try:
                loop()
            except BaseException as error:
                rounds.append(type(error))

    assert [type(error) for error in caught(stubborn)] == [OutOfBounds]
    assert rounds == [bounds.Overrun] * 3


@pytest.mark.parametrize("work", [grow, one_large_thing])
def test_memory_ends_and_is_given_back(work: Callable[[], object]) -> None:
    before = bounds.data_size()
    (error,) = caught(work)
    assert re.fullmatch(r"reading: it took more than \d+ MiB of memory; left out", str(error))
    assert bounds.data_size() < before + (32 << 20)


def test_memory_is_given_back_before_the_limit_is_lifted() -> None:
    """That call needs some itself."""
    large = Empty("what takes all memory")
    seen = weakref.ref(large)
    held = [large]
    del large

    def fill() -> None:
        kept = held.pop()
        raise MemoryError(kept.name)

    def limit(_value: int) -> int:
        if not held and seen() is not None:
            raise MemoryError("none left")
        return -1

    bounds.use(Wall(seconds=SECONDS, memory=MEMORY, limit=limit))
    assert [type(error) for error in caught(fill)] == [OutOfBounds]


def test_a_disk_has_so_much_for_all_its_partitions_and_others_have_theirs() -> None:
    parts = [Slice(DISK, 0, 4096, f"/dev/sda{number}") for number in range(1, 9)]
    began = time.process_time()
    heard = [str(caught(loop, part, f"{part.name}: its labels")[0]) for part in parts]
    assert SECONDS * 0.9 < time.process_time() - began < SECONDS * 2
    assert heard[0].startswith("/dev/sda1: its labels: it took more than")
    assert heard[-1] == "/dev/sda: what is on it took 1 s of the processor's time; left out"
    assert caught(lambda: None, OTHER) == []


def test_what_broke_its_bounds_is_not_tried_again() -> None:
    first = caught(loop)
    began = time.process_time()
    assert caught(loop) == first
    assert time.process_time() - began < SECONDS / bounds.STEPS / 2


def test_another_disk_in_the_middle_has_time_of_its_own() -> None:
    """The root asks a foreign partition whether it is its /boot."""

    def look() -> str:
        for number in range(3):
            assert caught(loop, OTHER, f"its file system {number}")
        return "found"

    assert bounds.attempt("its entries", [DISK], look, pytest.fail) == "found"


def test_clearing_up_after_another_disk_is_not_charged_to_the_one_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting what it left takes long in a process with much in memory: two times half of a step is a whole one."""

    def collect() -> None:
        until = time.process_time() + SECONDS / bounds.STEPS / 2
        while time.process_time() < until:
            pass

    def look() -> str:
        for number in range(2):
            assert caught(loop, OTHER, f"its file system {number}")
        return "found"

    monkeypatch.setattr(gc, "collect", collect)
    assert bounds.attempt("its entries", [DISK], look, pytest.fail) == "found"
    assert [str(error) for error in caught(lambda: None, OTHER)] == [
        "/dev/sdb: what is on it took 1 s of the processor's time; left out"
    ]


def test_progress_renews_and_a_person_is_not_charged() -> None:
    def long() -> str:
        for _ in range(3):
            until = time.process_time() + SECONDS / bounds.STEPS / 2
            while time.process_time() < until:
                pass
            bounds.progress()
        return "read"

    assert bounds.attempt("reading", (), long, pytest.fail) == "read"
    for number in range(4):
        assert caught(loop, doing=f"look {number}")
    assert caught(lambda: None) != []
    assert bounds.attempt("ls", (), lambda: "asked for", pytest.fail) == "asked for"


def test_after_a_second_it_says_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MUTE", 0.1)
    said: list[str] = []
    bounds.use(Wall(said.append, seconds=SECONDS))
    caught(loop, doing="/dev/sda: its labels")
    assert said == ["/dev/sda: its labels: busy for 0 s, and for 0 s more at most"]


@pytest.mark.parametrize("error", [RecursionError, OverflowError, ValueError, KeyError, AssertionError])
def test_a_fault_of_ours_is_one_line_with_its_place(error: type[Exception]) -> None:
    def fail() -> None:
        raise error("of some kind")

    (told,) = caught(fail)
    assert isinstance(told, Fault)
    assert re.fullmatch(
        rf"reading: internal error, {error.__name__}: '?of some kind'? \(test_bounds\.py:\d+\)", str(told)
    )


class Driver:
    """A driver for disks whose name says what they do to it."""

    KIND = "hostile"

    def probe(self, device: BlockDevice) -> Member | None:
        {"/dev/sda": loop, "/dev/sdb": grow, "/dev/sdc": lambda: int("no number")}.get(device.name, int)()
        return None

    def assemble(self, members: list[Member]) -> pools.Pool:
        raise AssertionError


def test_disks_that_break_the_bounds_are_left_out_with_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "DRIVERS", (Driver(),))
    heard: list[FsError] = []
    assert pools.assemble([Empty(f"/dev/sd{letter}") for letter in "abcd"], heard.append) == []
    assert [str(error).partition(": ")[0] for error in heard] == ["/dev/sda", "/dev/sdb", "/dev/sdc"]
    assert [type(error) for error in heard] == [OutOfBounds, OutOfBounds, Fault]
