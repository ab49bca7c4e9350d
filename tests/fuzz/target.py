"""What a fuzz target is, and what counts as a finding in one."""

from __future__ import annotations

import hashlib
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
UNIT = PROJECT / "tests" / "unit"
DATA = UNIT / "data"
FINDINGS = HERE / "findings"
"""Inputs of past findings, a folder for each target: the tests try them again for ever."""
# The doubles that tests share lie beside the tests; the project itself comes first.
sys.path[:0] = [str(PROJECT), *sorted({str(test.parent) for test in UNIT.rglob("*.py")})]

from fsdrivers.block import BlockDevice  # noqa: E402
from fsdrivers.errors import FsError  # noqa: E402
from fsdrivers.filesystem import DIRECTORY, FILE, SYMLINK, Filesystem, Node  # noqa: E402

SECONDS, MEBIBYTES = 1.0, 64
PATIENCE = 10  # times the bound in seconds, until an execution is broken off


class Target(NamedTuple):
    """One parser or driver: ``run`` gives it bytes and asserts what must hold whatever they are.

    ``run`` may raise FsError and what is ``expected`` (what the parser documents), and nothing else.
    """

    name: str
    run: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]
    """Inputs of which at least one is read to its end without an error: the fuzzer starts from them."""
    room: int = 4096
    """Bytes of the largest input."""
    expected: tuple[type[Exception], ...] = ()
    native: bool = False
    """Whether it is about compiled code: its C is built with the sanitizers then."""


class Finding(NamedTuple):
    """What one execution did that it must not; ``kind`` is the same for alike ones."""

    kind: str
    text: str


class TooSlow(BaseException):
    """No Exception, as no reader's own catch-all may take it."""


def execute(target: Target, data: bytes) -> Finding | None:
    """Run ``target`` on ``data``, timed; memory is looked at by the peak that the process has had."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    _forget_the_peak()
    before, peak, start = _resident(), _peak(), time.process_time()
    handler = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS * PATIENCE, SECONDS)
    found: Finding | None = None
    try:
        target.run(data)
    except (FsError, *target.expected):
        pass
    except TooSlow as error:
        found = Finding(f"slow-{_place(error)}", f"broken off after {SECONDS * PATIENCE:.0f} s")
    except Exception as error:
        lines = "".join(traceback.format_tb(error.__traceback__)[-5:])
        found = Finding(f"{type(error).__name__}-{_place(error)}", f"{type(error).__name__}: {error}\n{lines}")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
    if found is None and (took := time.process_time() - start) > SECONDS:
        found = Finding("slow", f"{took:.2f} s, the bound is {SECONDS:g} s")
    if found is None and (now := _peak()) > max(peak, before + MEBIBYTES * 1024):
        found = Finding("large", f"{(now - before) // 1024} MiB, the bound is {MEBIBYTES} MiB")
    return found


def name_of(data: bytes) -> str:
    """How a file with ``data`` in it is called."""
    return hashlib.sha256(data).hexdigest()[:16]


def past_findings(target: Target) -> list[Path]:
    """The inputs of what was found in ``target`` before."""
    return sorted((FINDINGS / target.name).glob("*"))


def _place(error: BaseException) -> str:
    """Where ``error`` came from in the project's own code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/fsdrivers/" in frame.filename or "/init/" in frame.filename] or frames
    return f"{Path(own[-1].filename).name}-{own[-1].lineno}"


def _forget_the_peak() -> None:
    """What the process took before tells nothing (Documentation/filesystems/proc.rst, v6.12: clear_refs)."""
    with suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _resident() -> int:
    """KiB that the process has in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


def _peak() -> int:
    """KiB that it had at most since then."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


# --- what targets are made of ------------------------------------------------------------------------


class Disk(BlockDevice):
    """``data`` at the start of a device of ``size`` bytes; the rest is zeros."""

    def __init__(self, data: bytes, size: int = 0, name: str = "disk") -> None:
        self.data, self.size, self.name = data, max(size, len(data)), name

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check(offset, len(buffer))
        part = self.data[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        buffer[len(part) :] = bytes(len(buffer) - len(part))


def edits(data: bytes, most: int = 16) -> Iterator[tuple[int, int, bytes]]:
    """``data`` as changes of something larger: (which part, where in it, new bytes)."""
    at = 0
    for _ in range(most):
        if at + 6 > len(data):
            return
        part, offset, count = data[at] | data[at + 1] << 8, data[at + 2] | data[at + 3] << 8, 1 + data[at + 4] % 16
        yield part, offset, data[at + 5 : at + 5 + count]
        at += 5 + count


def edit(part: int, offset: int, new: bytes) -> bytes:
    """The input of edits() that makes one change."""
    return part.to_bytes(2, "little") + offset.to_bytes(2, "little") + bytes((len(new) - 1,)) + new


OBJECTS = 40  # of one tree that are looked at
READ = 1 << 20  # bytes of one file


def look_around(filesystem: Filesystem, paths: Sequence[str] = ()) -> int:
    """Ask ``filesystem`` for all that a user could, as far as OBJECTS and READ go; how much was answered.

    What one object refuses is no reason to spare the others.
    """
    answered = 0
    todo: list[Node] = [filesystem.root()]
    for path in paths:
        try:
            todo.append(filesystem.resolve(path))
        except FsError:
            continue
    seen = set(todo)
    for _ in range(OBJECTS):
        if not todo:
            break
        node = todo.pop(0)
        try:
            answered += _ask(filesystem, node, todo, seen)
        except FsError:
            continue
    return answered


def _ask(filesystem: Filesystem, node: Node, todo: list[Node], seen: set[Node]) -> int:
    status = filesystem.stat(node)
    filesystem.xattrs(node)
    if status.type == DIRECTORY:
        for _, entry in zip(range(OBJECTS), filesystem.entries(node), strict=False):
            assert entry.name, "a name without characters"
            filesystem.lookup(node, entry.name)
            if entry.node not in seen:
                seen.add(entry.node)
                todo.append(entry.node)
    elif status.type == SYMLINK:
        filesystem.link_target(node)
    elif status.type == FILE:
        for start in {0, max(0, status.size - READ // 2), status.size // 2}:
            assert_pieces(filesystem, node, start, min(READ, max(0, status.size - start)))
    return 1


def assert_pieces(filesystem: Filesystem, node: Node, start: int, length: int) -> None:
    """Pieces are in order and in bounds, without gaps, and as long as they say."""
    at = start
    for piece in filesystem.pieces(node, start, length):
        assert piece.offset == at, f"a piece at {piece.offset} instead of {at}"
        assert piece.length > 0, f"a piece of {piece.length} bytes"
        assert piece.data is None or len(piece.data) == piece.length, "a piece of another length than it says"
        at += piece.length
        assert at <= start + length, f"pieces to {at}, the end is {start + length}"
        if at - start > READ:
            return
    assert at == start + length, f"pieces to {at}, the end is {start + length}"
