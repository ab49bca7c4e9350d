"""What no input may exceed, whatever it is: a call under a clock and a count of memory, in a process of its own."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import pickle
import resource
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fsdrivers.errors import FsError

SECONDS, MEBIBYTES = 1.0, 64
TRIES = 3
PATIENCE = 10  # times the bound, until the process is ended: how far a call goes beyond it is worth knowing


class Ended(NamedTuple):
    """How a call ended: its ``value`` (None for what cannot be pickled), or the ``error`` that it raised, in words."""

    value: object
    error: str


def bounded(call: Callable[[], object], seconds: float = SECONDS, mebibytes: float = MEBIBYTES) -> Ended:
    """The end of ``call``; fails when it takes ``seconds`` of the processor or more, or memory beyond ``mebibytes``,
    or raises anything but FsError.

    Memory is what the process grew by at its peak, native libraries included.  A processor that others use, too, is
    slower now and then: a call that is nearly quick enough has another try.
    """
    for _ in range(TRIES):
        took, grew, fine, value, error = _measured(call, seconds)
        assert fine, f"no FsError: {error}"
        if took < seconds or took >= 2 * seconds:
            break
    assert took < seconds, f"{took:.2f} s, the bound is {seconds:g} s"
    assert grew < mebibytes, f"{grew:.0f} MiB, the bound is {mebibytes:g} MiB"
    return Ended(value, error)


def _measured(call: Callable[[], object], seconds: float) -> tuple[float, float, bool, object, str]:
    """Seconds and mebibytes that ``call`` took, whether its end was one of ours, its value, its error in words."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: the child uses none of them
        child = os.fork()
    if not child:
        _in_child(call, writer, seconds * PATIENCE)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        raw = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        assert number == signal.SIGXCPU, f"the call ended its process: {signal.Signals(number).name}"
        raise AssertionError(f"more than {seconds * PATIENCE:g} s, the bound is {seconds:g} s")
    found: tuple[float, float, bool, object, str] = pickle.loads(raw)
    return found


def _in_child(call: Callable[[], object], writer: int, patience: float) -> None:
    """Do the call and tell of it; does not come back."""
    try:
        gc.collect()
        gc.freeze()  # what the tests made is nobody's business here, and costs each collection its time
        ctypes.CDLL(None).malloc_trim(0)  # or the call would grow into what others left free
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew (proc_pid_clear_refs(5))
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + patience) + 1, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        before, start = _status("VmHWM"), time.process_time()
        value: object = None
        fine, error = True, ""
        try:
            value = call()
        except FsError as failure:
            error = f"{type(failure).__name__}: {failure}"
        except BaseException as failure:
            fine, error = False, f"{type(failure).__name__}: {failure}"
        took, grew = time.process_time() - start, (_status("VmHWM") - before) / 1024
        try:
            raw = pickle.dumps((took, grew, fine, value, error))
        except Exception:
            raw = pickle.dumps((took, grew, fine, None, error))
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(raw)
    finally:
        os._exit(0)


def _status(name: str) -> int:
    """A line of /proc/self/status in KiB."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{name}:")[2].split()[0])
