"""What PID 1 says and hears: on every console of the kernel at once, whatever becomes of each of them."""

from __future__ import annotations

import math
import select
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from fsdrivers.shown import printable
from init.console import keys, opening
from init.console.lineedit import Completer, Line, View, columns
from init.console.terminal import COLUMNS, Terminal
from init.machine import syscalls

PREFIX = "poolboot: "
# Kernel messages less urgent than this stay in dmesg: they would land in the middle of ours.
QUIET_LEVEL = 4  # include/linux/kern_levels.h, v6.12: errors (3) and worse are printed
_LOUD = ("debug", "ignore_loglevel", "loglevel", "earlyprintk", "initcall_debug")

ESCAPE_PATIENCE = 0.3  # seconds between the bytes of one key: management boards send each in a packet of its own
REOPEN = 5.0  # seconds between attempts to get a lost console back
OFFERED = 100  # completions that are shown at once
PIECE = 4  # rows of a long line that are shown at once
MORE = "-- more: Space for a page, Enter for a line, q to stop --"


class Closed(Exception):
    """No console delivers input any more."""


class Enough(Exception):
    """The reader of a long output wants no more of it."""


class Console:
    """Some terminals that show the same and are all listened to.

    Nothing here raises because a terminal went away: whoever still listens hears the rest.
    """

    def __init__(
        self, outputs: Iterable[int] = (), inputs: Iterable[int] = (), terminals: Sequence[Terminal] | None = None
    ) -> None:
        if terminals is None:
            sinks, sources = list(outputs), list(inputs)
            terminals = [Terminal(fd if fd in sources else None, fd) for fd in sinks]
            terminals += [Terminal(fd, None) for fd in sources if fd not in sinks]
        self.terminals = list(terminals)
        self._lost: list[Terminal] = []
        self._reopen_at = 0.0
        self._queue: deque[str] = deque()
        self._typed = ""  # of a line that nobody finished in time
        self._said: set[str] = set()
        self._paged: int | None = None  # lines since the last stop, while a long output is shown page by page
        self.verbose = False

    # --- saying -------------------------------------------------------------------------------

    def write(self, text: str) -> None:
        """Print ``text`` and a line feed, as one write: that keeps it together on a shared line.

        While pages are shown (pages()), line by line.
        """
        text = printable(text)
        for part in [text + "\n"] if self._paged is None else self._parts(text):
            self._pause(part)
            self._put(part)

    def say(self, text: str) -> None:
        """A message, on one line, with the prefix that log readers look for."""
        self.write(PREFIX + printable(text, ""))

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
        for terminal in self.terminals:
            terminal.drain()

    # --- page by page -------------------------------------------------------------------------

    def pages(self, on: bool) -> None:
        """Whether write() stops at the end of each page, where a terminal shows pages.  It may then raise Enough."""
        self._paged = 0 if on else None

    def interrupted(self) -> None:
        """Raise Enough when somebody has pressed ^C; what was typed before that is forgotten."""
        if self.heard(0) and "interrupt" in self._queue:
            self._queue.clear()
            raise Enough

    def _parts(self, text: str) -> Iterator[str]:
        """Its lines, those that fill much of a page in pieces."""
        size = PIECE * self._size()[1]
        for line in text.split("\n"):
            yield from (line[start : start + size] for start in range(0, len(line) - size, size))
            yield line[-(len(line) % size or size) :] + "\n" if line else "\n"

    def _size(self) -> tuple[int, int]:
        """Rows and columns of the smallest terminal that shows pages, 0 and COLUMNS when none does."""
        full = [terminal for terminal in self.terminals if terminal.full]
        rows, width = min((one.rows for one in full), default=0), min((one.columns for one in full), default=COLUMNS)
        return rows, width

    def _pause(self, part: str) -> None:
        """Before ``part`` is shown: a stop when the page is full, the end when somebody wants no more."""
        if self._paged is None:
            return
        self.interrupted()
        rows, width = self._size()
        height = max(1, -(-len(part.removesuffix("\n")) // width))
        self._paged += height
        if not rows or self._paged < rows:
            return
        self._paged = None  # the question itself is not paged
        self._put(MORE)
        try:
            key = self.key()
            while key in ("redraw", "resized"):
                key = self.key()
        finally:
            self._put("\r" + " " * len(MORE) + "\r")
        if key in ("q", "Q", "escape", "interrupt", "eof"):
            raise Enough
        self._paged = rows - 1 if key == "enter" else height

    # --- hearing ------------------------------------------------------------------------------

    def raw(self) -> None:
        """Take keys as they are pressed on every terminal."""
        for terminal in self.terminals:
            terminal.raw()

    def restore(self) -> None:
        """Leave every terminal as it was found, for whoever comes next."""
        for terminal in self.terminals:
            terminal.restore()

    def close(self) -> None:
        """Let go of all terminals."""
        self.restore()
        for terminal in self.terminals:
            terminal.close()
        self.terminals.clear()

    @property
    def listening(self) -> bool:
        """Whether there is any terminal that may bring input."""
        return bool(self._lost) or any(terminal.source is not None for terminal in self.terminals)

    def waiting(self) -> bool:
        """Whether somebody pressed a key that nobody asked for yet; it stays to be heard."""
        try:
            key = self.key(0)
        except Closed:
            return False
        while key is not None and not keys.is_deliberate(key):
            key = self.key(0)
        if key is not None:
            self._queue.appendleft(key)
        return key is not None

    def key(self, timeout: float | None = None) -> str | None:
        """The next key of any terminal (see init/console/keys.py), None after ``timeout`` seconds.

        "resized" comes when a terminal told its size or came back.  Raises Closed when there is nobody to listen to.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._queue:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            self._listen(left)
            if not self._queue and deadline is not None and time.monotonic() >= deadline:
                return None
        return self._queue.popleft()

    def heard(self, timeout: float) -> bool:
        """Take in what comes within ``timeout`` seconds, for key() later; False when there is nobody to listen to."""
        try:
            self._listen(max(0.0, timeout))
        except Closed:
            return False
        return True

    def _listen(self, timeout: float | None) -> None:
        """Wait for input at most ``timeout`` seconds, and queue the keys that it brings."""
        self._reopen()
        heard = {terminal.source: terminal for terminal in self.terminals if terminal.source is not None}
        if not self.listening:
            raise Closed
        pending = [terminal for terminal in heard.values() if terminal.decoder.pending]
        bounds = [timeout, ESCAPE_PATIENCE if pending else None, REOPEN if self._lost else None]
        bound = min((one for one in bounds if one is not None), default=None)
        poll = select.poll()  # select() takes no descriptor above 1023, which many disks and trees may use up
        for source in heard:
            poll.register(source, select.POLLIN)
        ready = [source for source, _ in poll.poll(None if bound is None else math.ceil(bound * 1000))]
        for source in ready:
            self._receive(heard[source])
        for terminal in pending:
            if terminal.source not in ready and bound == ESCAPE_PATIENCE:
                self._queue += terminal.decoder.flush()

    def _receive(self, terminal: Terminal) -> None:
        found = terminal.read()
        if found is None:
            self._lose(terminal)
            return
        for key in found:
            size = keys.answer(key)
            if size is None:
                self._queue.append(key)
            elif not terminal.screen:
                terminal.answered(*size)
                self._queue.append("resized")

    # --- coming and going ---------------------------------------------------------------------

    def _lose(self, terminal: Terminal) -> None:
        """A terminal was hung up, or its input ended."""
        if terminal.path:
            self.terminals.remove(terminal)
            terminal.close()
            self._lost.append(terminal)
            self._reopen_at = time.monotonic() + REOPEN
        else:
            terminal.source = None

    def _reopen(self) -> None:
        if not self._lost or time.monotonic() < self._reopen_at:
            return
        self._reopen_at = time.monotonic() + REOPEN
        for lost in list(self._lost):
            terminal = opening.terminal(lost.path, lost.term)
            if terminal is not None:
                self._lost.remove(lost)
                self.terminals.append(terminal)
                self._queue.append("resized")

    # --- lines --------------------------------------------------------------------------------

    def forget(self) -> None:
        """Let go of keys that nobody asked for yet."""
        self.heard(0)
        self._queue.clear()

    def secret(self, prompt: str, timeout: float) -> str | None:
        """A line as readline() has it that is shown nowhere and kept nowhere; None also for Escape and ^C."""
        self._put(prompt)
        line = Line()
        deadline = time.monotonic() + timeout
        try:
            while (key := self.key(max(0.0, deadline - time.monotonic()))) not in ("enter", "accept"):
                if key in (None, "escape", "interrupt", "eof"):
                    return None
                if key not in ("redraw", "resized"):
                    line.key(key)
            return line.text
        finally:
            self._put("\n")

    def readline(
        self, prompt: str, timeout: float | None = None, history: Sequence[str] = (), complete: Completer | None = None
    ) -> str | None:
        """The next line that anybody types, without its end; None after ``timeout`` seconds or for ^D.

        Raises Closed when there is nobody to listen to.
        """
        line = Line("", history, complete)
        line.text, line.cursor = self._typed, len(self._typed)
        self._typed = ""
        views = self._views(prompt, line)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            key = self.key(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if key is None:
                self._typed = line.text
                return None
            if key in ("enter", "accept"):
                self._finish(views, line)
                return line.text
            if key == "eof" and not line.text:
                self._finish(views, line)
                return None
            if key == "interrupt":
                self._finish(views, line)
                line = Line("", history, complete)
                views = self._views(prompt, line)
            elif key in ("redraw", "resized"):
                self._finish(views, line)
                views = self._views(prompt, line)
            elif line.key(key):
                self._show(views, line, prompt)

    def _views(self, prompt: str, line: Line) -> list[tuple[Terminal, View]]:
        """Show the prompt; returns a view for each terminal on which the line is to be seen as it grows."""
        views = []
        for terminal in self.terminals:
            view = View(prompt, terminal.columns)
            terminal.write(view.draw(line if terminal.tty else Line()))
            if terminal.tty:
                views.append((terminal, view))
        return views

    def _show(self, views: list[tuple[Terminal, View]], line: Line, prompt: str) -> None:
        for terminal, view in views:
            text = view.update(line)
            if line.offered:
                rows = columns([printable(one, "") for one in line.offered[:OFFERED]], terminal.columns - 1)
                if more := len(line.offered[OFFERED:]):
                    rows.append(f"... and {more} more")
                text += "\n" + "\n".join(rows) + "\n" + view.draw(line)
            terminal.write(text)

    def _finish(self, views: list[tuple[Terminal, View]], line: Line) -> None:
        line.cursor = len(line.text)
        for terminal, view in views:
            terminal.write(view.update(line) + "\n")

    def _put(self, text: str) -> None:
        for terminal in self.terminals:
            terminal.write(text)


def open_consoles(sys: str = "/sys", dev: str = "/dev", term: str = "") -> Console:
    """The Console of the terminals that opening.terminals() finds, which says what the arguments are."""
    console = Console(terminals=opening.terminals(sys, dev, term))
    console.raw()
    return console


def quiet_kernel(parameters: Iterable[tuple[str, str | None]]) -> None:
    """Keep all but errors of the kernel off the consoles, unless the command line asks to hear more."""
    if any(name in _LOUD for name, _ in parameters):
        return
    try:
        syscalls.console_loglevel(QUIET_LEVEL)
    except OSError:  # only the looks suffer
        return
