"""One terminal: a serial line, a screen, or anything with a descriptor.  It may go away at any time."""

from __future__ import annotations

import errno
import os
import select
import struct
import time
from collections.abc import Callable

from init.console.keys import Decoder

# include/uapi/asm-generic/ioctls.h, v6.12; TCSBRK with argument 1 is tcdrain(3)
TCGETS, TCSETS, TCSBRK, TIOCOUTQ, TIOCGWINSZ = 0x5401, 0x5402, 0x5409, 0x5411, 0x5413
# include/uapi/asm-generic/termbits.h, v6.12: struct termios is c_iflag, c_oflag, c_cflag, c_lflag (u32 each), c_line,
# c_cc[19].  There is no termios module in a static program.
_TERMIOS = struct.Struct("=4IB19s")
_IFLAGS_OFF = 0x1 | 0x2 | 0x20 | 0x40 | 0x80 | 0x100 | 0x400  # IGNBRK BRKINT ISTRIP INLCR IGNCR ICRNL IXON
_LFLAGS_OFF = 0x1 | 0x2 | 0x8 | 0x8000  # ISIG ICANON ECHO IEXTEN
_VTIME, _VMIN = 5, 6

CHUNK = 4096  # bytes of input at once
STUCK = 2.0  # seconds in which a line sends nothing: longer, and nobody is at its other end
ROWS, COLUMNS = 24, 80  # of a terminal that does not say
MAX_ROWS, MAX_COLUMNS = 400, 998  # beyond that it is noise, or an echo of our question

DEVKMSG = "/proc/sys/kernel/printk_devkmsg"
RECORD = 900  # bytes of a record of the kernel's log; kernel/printk/internal.h:PRINTKRB_RECORD_MAX is 1024, v6.12

# Where is the cursor after having gone as far to the right and down as possible?  Then the traces are removed.
QUESTION = "\x1b7\x1b[999;999H\x1b[6n\x1b8\r\x1b[K"
# Long lines go on in the next row (DECAWM of the VT100): SeaBIOS leaves a serial terminal without that, and all that is
# beyond the edge lands in the last cell there.
WRAP = "\x1b[?7h"


class Terminal:
    """Reads from ``source`` and writes to ``sink``, either may be None.

    ``full`` tells whether it obeys cursor movements, ``colour`` whether it has colours.  A serial line is believed to
    have neither until it answers (``answered()``).
    """

    def __init__(self, source: int | None, sink: int | None, path: str = "", full: bool = False) -> None:
        self.source, self.sink, self.path = source, sink, path
        self.full = self.colour = full
        self.screen = full  # the machine's own, which keeps no lines that scrolled away
        self.rows, self.columns = ROWS, COLUMNS
        self.decoder = Decoder()
        self.asked = False  # once is enough
        self.term = ""  # what the command line says of it
        self._stuck = False
        self._saved: bytes | None = None
        self.tty = any(fd is not None and _is_tty(fd) for fd in (source, sink))

    # --- modes --------------------------------------------------------------------------------

    def raw(self) -> None:
        """Keys as they are pressed, and none of them shown by the kernel."""
        fd = self.source if self.source is not None else self.sink
        if not self.tty or fd is None:
            return
        import fcntl

        try:
            old = fcntl.ioctl(fd, TCGETS, bytes(_TERMIOS.size))
            iflag, oflag, cflag, lflag, discipline, chars = _TERMIOS.unpack(old)
            control = bytearray(chars)
            control[_VTIME], control[_VMIN] = 0, 1
            wanted = (iflag & ~_IFLAGS_OFF, oflag, cflag, lflag & ~_LFLAGS_OFF, discipline, bytes(control))
            fcntl.ioctl(fd, TCSETS, _TERMIOS.pack(*wanted))
            self._saved = self._saved or old
            rows, columns = struct.unpack_from("HH", fcntl.ioctl(fd, TIOCGWINSZ, bytes(8)))
        except OSError:  # then it stays as it is
            return
        self.resize(rows, columns)

    def restore(self) -> None:
        """The modes as they were before raw()."""
        fd = self.source if self.source is not None else self.sink
        if self._saved is not None and fd is not None:
            import fcntl

            try:
                fcntl.ioctl(fd, TCSETS, self._saved)
            except OSError:
                return

    def resize(self, rows: int, columns: int) -> bool:
        """Take over a size if it is one; whether it was."""
        if not (4 <= rows <= MAX_ROWS and 20 <= columns <= MAX_COLUMNS):
            return False
        self.rows, self.columns = rows, columns
        return True

    def ask(self) -> None:
        """Put the question that only a terminal with cursor movements answers; the answer comes as a key."""
        if self.tty and not self.full and not self.asked:
            self.asked = True
            self.write(QUESTION)

    def answered(self, rows: int, columns: int) -> None:
        """It did answer."""
        if self.resize(rows, columns):
            if not self.full:
                self.write(WRAP)
            self.full = self.colour = True

    # --- saying and hearing -------------------------------------------------------------------

    def write(self, text: str) -> None:
        """Send ``text``; a line that takes nothing for STUCK seconds loses it, and is not waited for again until it
        does take something.  Never raises: others may be reading elsewhere."""
        if self.sink is None:
            return
        data = text.encode("utf-8", "backslashreplace")
        while data:
            try:
                data = data[os.write(self.sink, data) :]
                self._stuck = False
            except BlockingIOError:
                if self._stuck or not self._moves(self._writable):
                    return
            except (OSError, ValueError):
                return

    def read(self) -> list[str] | None:
        """The keys that are there; None when the terminal went away."""
        if self.source is None:
            return None
        try:
            data = os.read(self.source, CHUNK)
        except BlockingIOError:
            return []
        except OSError as error:
            return [] if error.errno == errno.EINTR else None
        return self.decoder.feed(data) if data else None

    def drain(self) -> None:
        """Wait until everything was sent, as long as the line takes it at all."""
        if self.sink is None or not self.tty or self._stuck or not self._moves(lambda: self._unsent() == 0):
            return
        import fcntl

        try:
            fcntl.ioctl(self.sink, TCSBRK, 1)
        except OSError:
            return

    def _writable(self) -> bool:
        if self.sink is None:
            return True
        poll = select.poll()
        poll.register(self.sink, select.POLLOUT)
        return bool(poll.poll(0))

    def _moves(self, ready: Callable[[], bool]) -> bool:
        """Wait until ``ready``; False when nothing was sent for STUCK seconds before that.

        However slow the line is: at 9600 bits a second the kernel's buffer takes four seconds.
        """
        unsent, deadline = self._unsent(), time.monotonic() + STUCK
        while not ready():
            now = self._unsent()
            if now != unsent:
                unsent, deadline = now, time.monotonic() + STUCK
            elif time.monotonic() >= deadline:
                self._stuck = True
                return False
            time.sleep(0.004)
        return True

    def _unsent(self) -> int:
        """Bytes that wait in the kernel; 0 when it does not say."""
        if self.sink is None:
            return 0
        import fcntl

        try:
            return int(struct.unpack("i", fcntl.ioctl(self.sink, TIOCOUTQ, bytes(4)))[0])
        except OSError:
            return 0

    def close(self) -> None:
        """Let go of the descriptors."""
        for fd in {self.source, self.sink} - {None, 0, 1, 2}:
            try:
                os.close(fd)  # type: ignore[arg-type]
            except OSError:
                continue
        self.source = self.sink = None


class KernelLog(Terminal):
    """The kernel's log, where there is no console: each line is a record of it, and long ones are several."""

    def __init__(self, sink: int, ratelimit: str = DEVKMSG) -> None:
        super().__init__(None, sink)
        try:
            # "ratelimit" drops all but ten lines in five seconds: kernel/printk/printk.c:devkmsg_write, v6.12
            with open(ratelimit, "w", encoding="ascii") as file:
                file.write("on\n")
        except OSError:  # then some lines are lost
            return

    def write(self, text: str) -> None:
        """See Terminal."""
        size = RECORD if text.isascii() else RECORD // 4
        for line in text.split("\n"):
            for start in range(0, len(line), size):
                super().write(line[start : start + size])


def _is_tty(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except (OSError, ValueError):
        return False
