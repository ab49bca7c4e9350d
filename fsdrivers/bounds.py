"""A wall around what a disk makes us do: so much of the processor's time, so much memory, and no more.

Each reader bounds what it takes from a disk.  This is for what nobody thought of: whoever reads a foreign disk, and
PID 1 above all, must come back.  A timer that runs while this process computes (setitimer(2): ITIMER_PROF) looks at
both between two steps of the interpreter, and raises Overrun there; a limit of the kernel's (getrlimit(2): RLIMIT_DATA,
which counts what is mapped for writing by us alone) stands a little above, for large requests.  That costs
microseconds, where a child process for each disk would cost milliseconds (docs/internals/foreign-disks.md).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from fsdrivers.block import BlockDevice, Slice
from fsdrivers.errors import Fault, FsError, OutOfBounds

if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # the module around it makes enums of all signals, which costs more than all of this

SECONDS = 30.0
"""Of the processor's time that one disk may cost until there is a list of what is on it.  Usual are 0.05, and 1 under
emulation."""
STEPS = 3  # one step of it may take this part: who has one slow file system has others
TICK = 0.05  # seconds of processor time between two looks
MUTE = 1.0  # seconds without a word
REMIND = 10.0  # seconds between further words
SHARE = 3  # each step gets this part of the memory that is left
LEAST, MOST = 48 << 20, 512 << 20  # bytes of it: threads' stacks alone take 16 MiB; nobody needs more
SLACK = 32 << 20  # bytes between the limit that we look at and the kernel's: what fits in between two looks

T = TypeVar("T")

Limit = Callable[[int], int]
"""Sets the soft RLIMIT_DATA in bytes, -1 for none, and returns what it was.  Raises OSError."""


class Overrun(BaseException):
    """Out of bounds; no Exception, as no reader's own catch-all may take it."""


class Wall:
    """The bounds of all disks, and what each has cost so far."""

    def __init__(
        self,
        say: Callable[[str], None] | None = None,
        seconds: float = SECONDS,
        memory: int = 0,
        limit: Limit | None = None,
    ) -> None:
        """``say`` is told what takes longer than a second.  ``seconds`` that one disk may cost in all.  ``memory``:
        bytes that all of them may take together, 0 for what the machine has free now."""
        self._say, self._seconds, self._limit = say, seconds, limit or _limit
        self._memory, self._ceiling = memory, 0
        self._spent: dict[str, float] = {}
        self._broken: dict[tuple[str, tuple[str, ...]], OutOfBounds] = {}
        self.inside: Step | None = None

    def allow(self, doing: str, disks: tuple[str, ...]) -> float:
        """Seconds that ``doing`` something with ``disks`` may take.  Raises OutOfBounds when that is none."""
        if (doing, disks) in self._broken:
            raise self._broken[doing, disks]
        for disk in disks:
            if self._spent.get(disk, 0.0) >= self._seconds:
                raise OutOfBounds(disk, f"what is on it took {self._seconds:.0f} s of the processor's time")
        left = min((self._seconds - self._spent.get(disk, 0.0) for disk in disks), default=self._seconds)
        return min(left, self._seconds / STEPS)

    def charge(self, doing: str, disks: tuple[str, ...], seconds: float, error: OutOfBounds | None) -> None:
        """``disks`` have cost ``seconds`` more, and ``doing`` that is not tried again when it broke its bounds."""
        for disk in disks:
            self._spent[disk] = self._spent.get(disk, 0.0) + seconds
        if error is not None and disks:
            self._broken[doing, disks] = error

    def share(self, used: int, parts: int = SHARE) -> int:
        """Bytes that a step may take when this process has ``used`` of its own: one of ``parts`` of what is left, so
        that what stays in memory of many disks is never all of it."""
        if not self._ceiling:
            self._ceiling = used + (self._memory or _available())
        return min(max((self._ceiling - used) // parts, LEAST), MOST)

    def tell(self, doing: str, passed: float, left: float) -> None:
        """Say that something takes long."""
        if self._say is not None:
            self._say(f"{doing}: busy for {passed:.0f} s, and for {max(left, 0):.0f} s more at most")

    def limit(self, value: int) -> int:
        """Set the kernel's limit, and return what it was; -1 for none, or when we cannot."""
        try:
            return self._limit(value)
        except OSError:
            return -1


class Step:
    """One piece of work inside of a wall."""

    def __init__(self, wall: Wall, doing: str, disks: Iterable[str], large: bool = False) -> None:
        self._wall, self._doing, self._disks, self._large = wall, doing, tuple(disks), large
        self._timed = False
        self.armed = False
        self.why = ""

    def __enter__(self) -> Step:
        wall = self._wall
        outer = self._outer = wall.inside
        if outer is not None and (not outer._disks or {*self._disks} <= {*outer._disks}):
            return outer
        self._allowed = wall.allow(self._doing, self._disks)
        used = self._used = data_size()
        self._share = wall.share(used, 1 if self._large else SHARE)
        self._most = used + self._share
        self._began = self._busy = time.process_time()
        self._start = time.monotonic()
        self._speak = self._start + MUTE
        self._before = wall.limit(self._most + SLACK) if used else None
        wall.inside = self
        self.armed = True
        try:
            self._handler: Any = signal.signal(signal.SIGPROF, self._look)
        except ValueError:  # signals are for the main thread alone
            return self
        self._timed = True
        signal.setitimer(signal.ITIMER_PROF, TICK, TICK)
        return self

    def renew(self) -> None:
        """See progress()."""
        self._busy = time.process_time()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.armed:
            return
        self.armed = False
        del trace
        broken = bool(self.why) or isinstance(error, MemoryError)
        if broken:
            # What was built up hangs on the frames that the error came through.  It goes before anything else: there
            # may be no memory left for the call that lifts the limit.
            _forget(error)
        try:
            if self._before is not None:
                self._wall.limit(self._before)
            problem = OutOfBounds(self._doing, self.why or self._too_large()) if broken else None
            self._account(problem)
        finally:
            self._put_back()
        if problem is not None:
            raise problem from None

    def _account(self, problem: OutOfBounds | None) -> None:
        """Charge what this has cost to its disks, and nothing to who is around it.

        Clearing up is a part of that cost, and over before the outer one's timer runs again: in a process with much in
        memory it takes longer than a look.
        """
        cost = time.process_time() - self._began
        self._wall.charge(self._doing, self._disks, cost, problem)
        if self._outer is not None:  # it was not at work meanwhile
            self._outer._busy += cost
            self._outer._began += cost
            self._outer._most += max(0, data_size() - self._used)

    def _put_back(self) -> None:
        """The timer as it was."""
        self._wall.inside = self._outer
        if self._timed:
            again = TICK if self._outer is not None else 0.0
            signal.setitimer(signal.ITIMER_PROF, again, again)
            signal.signal(signal.SIGPROF, self._handler or signal.SIG_DFL)

    def _look(self, number: int, frame: FrameType | None) -> None:
        """Between two steps of the interpreter, every TICK."""
        if not self.armed:
            return
        left = self._allowed - (time.process_time() - self._busy)
        if left <= 0:
            self.why = self.why or f"it took more than {self._allowed:.0f} s of the processor's time"
        elif data_size() > self._most:
            self.why = self.why or self._too_large()
        elif (now := time.monotonic()) >= self._speak:
            self._speak = now + REMIND
            self._wall.tell(self._doing, now - self._start, left)
        # In our own code the work is just beginning or over.  If somebody swallows it, the next look raises it again.
        if self.why and (frame is None or frame.f_globals is not globals()):
            raise Overrun

    def _too_large(self) -> str:
        return f"it took more than {self._share >> 20} MiB of memory"


_wall: Wall | None = None


def use(wall: Wall | None) -> None:
    """From now on ``wall`` is around all work in this process; None: none is."""
    global _wall
    _wall = wall


def around(doing: str, devices: Iterable[BlockDevice], large: bool = False) -> AbstractContextManager[Step | None]:
    """A context for ``doing`` something with ``devices``, inside of the wall if there is one.

    Raises OutOfBounds at its end when the body broke the bounds, and at its beginning when it did so before, or when
    one of the disks has used up what it may cost.  Within another context for the same disks it does nothing; within
    one for others that one's time stands still.  Without devices nothing is charged to anybody: a person asked for it.
    What is ``large`` may take all memory that is left.
    """
    if _wall is None:
        return nullcontext()
    return Step(_wall, doing, sorted({disk_of(device) for device in devices}), large)


def attempt(
    doing: str, devices: Iterable[BlockDevice], work: Callable[[], T], complain: Callable[[FsError], None]
) -> T | None:
    """What ``work`` returns, done in such a context; what is wrong (also a fault of ours) goes to ``complain`` as one
    error, and others may do."""
    problem: FsError
    context = around(doing, devices)
    try:
        with context:
            return work()
    except FsError as error:
        problem = error
    except MemoryError as error:
        if _wall is not None and _wall.inside is not None:
            raise  # the bounds are those of who is around us
        problem = Fault(doing, error)
    except Exception as error:
        problem = Fault(doing, error)
    complain(problem)
    return None


def progress() -> None:
    """What is rightly long got on, and has all its time again."""
    if _wall is not None and _wall.inside is not None:
        _wall.inside.renew()


def disk_of(device: BlockDevice) -> str:
    """The name of the whole disk that ``device`` is or lies on."""
    while isinstance(device, Slice):
        device = device.parent
    return device.name


def data_size() -> int:
    """Bytes of memory that this process has for itself, 0 when the kernel does not say.

    Source: fs/proc/task_mmu.c:task_statm, v6.12: data and stack in pages.
    """
    try:
        fd = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int(os.read(fd, 256).split()[5]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0
    finally:
        os.close(fd)


_PAGE = os.sysconf("SC_PAGE_SIZE")


def _available() -> int:
    """Bytes that the machine has free (Documentation/filesystems/proc.rst, v6.12: MemAvailable); MOST when unknown."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return SHARE * MOST


def _limit(value: int) -> int:
    """Limit, by the standard library; a program without that module brings its own.  Raises OSError."""
    try:
        import resource
    except ImportError:
        return -1
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (value, hard))
    except ValueError as error:
        raise OSError(str(error)) from error
    return soft


def _forget(error: BaseException | None) -> None:
    """Let go of all that ``error`` and those before it hold, and have it collected."""
    while error is not None:  # ends in a ring of them too: each link is cut on the way
        error.__traceback__ = None
        before = error.__context__ or error.__cause__
        error.__context__ = error.__cause__ = None
        error = before
    import gc

    gc.collect()
