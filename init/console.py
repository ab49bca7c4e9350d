"""What PID 1 says and hears: lines on every console of the kernel at once, plain text, no terminal control."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable

from init import syscalls

PREFIX = "poolboot: "
MAX_LINE = 4096  # bytes of input
# Kernel messages less urgent than this stay in dmesg: they would land in the middle of ours.
QUIET_LEVEL = 4  # include/linux/kern_levels.h, v6.12: errors (3) and worse are printed
_LOUD = ("debug", "ignore_loglevel", "loglevel", "earlyprintk", "initcall_debug")

TCSBRK = 0x5409  # include/uapi/asm-generic/ioctls.h, v6.12; with argument 1 it is tcdrain(3)


class Closed(Exception):
    """No console delivers input any more."""


class Console:
    """Some terminals that show the same and are all listened to.

    Nothing here raises because a terminal went away: whoever still listens hears the rest.
    """

    def __init__(self, outputs: Iterable[int] = (), inputs: Iterable[int] = ()) -> None:
        self._outputs, self._inputs = list(outputs), list(inputs)
        self._pending: dict[int, bytes] = {}
        self._said: set[str] = set()
        self.verbose = False

    # --- saying -------------------------------------------------------------------------------

    def write(self, text: str) -> None:
        """Print ``text`` and a line feed, as one write: that keeps it together on a shared line."""
        data = (printable(text) + "\n").encode("utf-8", "backslashreplace")
        for fd in self._outputs:
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(fd, rest) :]
            except OSError:
                continue

    def say(self, text: str) -> None:
        """A message, with the prefix that log readers look for."""
        self.write(PREFIX + text)

    def error(self, text: str) -> None:
        """Something failed."""
        self.say(f"error: {text}")

    def debug(self, text: str) -> None:
        """For poolboot.debug only."""
        if self.verbose:
            self.say(f"debug: {text}")

    def once(self, text: str) -> None:
        """A message that is worth saying only the first time."""
        if text not in self._said:
            self._said.add(text)
            self.say(text)

    def drain(self) -> None:
        """Wait until serial lines have sent everything, before the kernel speaks or leaves."""
        import fcntl

        for fd in self._outputs:
            try:
                if os.isatty(fd):
                    fcntl.ioctl(fd, TCSBRK, 1)
            except OSError:
                continue

    # --- hearing ------------------------------------------------------------------------------

    def readline(self, prompt: str, timeout: float | None = None) -> str | None:
        """The next line that anybody types, without its end; None after ``timeout`` seconds or for ^D.

        Raises Closed when there is nobody to listen to.
        """
        self._prompt(prompt)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            for fd, data in self._pending.items():
                if b"\n" in data:
                    line, _, self._pending[fd] = data.partition(b"\n")
                    return line.decode("utf-8", "surrogateescape").rstrip("\r")
            if not self._inputs:
                raise Closed
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = select.select(self._inputs, [], [], left)[0]
            if not ready:
                return None
            for fd in ready:
                if not self._receive(fd):
                    return None

    def _prompt(self, prompt: str) -> None:
        for fd in self._outputs:
            try:
                os.write(fd, prompt.encode())
            except OSError:
                continue

    def _receive(self, fd: int) -> bool:
        """Take in what ``fd`` has; False at ^D or when it was hung up (which closes it)."""
        try:
            data = os.read(fd, MAX_LINE)
        except OSError:
            self._inputs.remove(fd)
            return True
        if data:
            # A line longer than a terminal can send is noise.
            self._pending[fd] = (self._pending.get(fd, b"") + data)[-MAX_LINE:]
            return True
        if not os.isatty(fd):
            self._inputs.remove(fd)
        return False


def printable(text: str) -> str:
    """``text`` without what could drive a terminal: names on a disk may hold anything."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else f"\\x{ord(char):02x}" for char in text)


def open_consoles(sys: str = "/sys", dev: str = "/dev") -> Console:
    """All active consoles of the kernel, or /dev/console when they cannot be had."""
    try:
        with open(f"{sys}/class/tty/console/active", encoding="ascii") as file:
            names = file.read().split()
    except OSError:
        names = []
    # tty0 is whatever virtual terminal is in front: it cannot be read from on its own when hung up.
    fds = [fd for name in names if (fd := _open_tty(f"{dev}/{name}")) is not None]
    if not fds:
        fd = _open_tty(f"{dev}/console")
        fds = [0] if fd is None else [fd]
    _standard_streams(fds[0])
    return Console(fds, fds)


def quiet_kernel(parameters: Iterable[tuple[str, str | None]]) -> None:
    """Keep all but errors of the kernel off the consoles, unless the command line asks to hear more."""
    if any(name in _LOUD for name, _ in parameters):
        return
    try:
        syscalls.console_loglevel(QUIET_LEVEL)
    except OSError:  # only the looks suffer
        return


def _open_tty(path: str) -> int | None:
    try:
        # O_NONBLOCK: a serial line without a carrier must not hold us up.
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(fd, True)
    except OSError:
        return None
    return fd


def _standard_streams(fd: int) -> None:
    """Point descriptors 0 to 2 at a console, so that whatever Python itself prints is seen."""
    for number in (0, 1, 2):
        try:
            if fd != number:
                os.dup2(fd, number)
        except OSError:
            continue
