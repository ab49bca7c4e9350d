"""The hardware watchdog: kept alive while we work and wait, and handed over running.

The pings come from a timer signal, which the interpreter only serves between two steps of the main thread: who hangs
in the kernel on a dead disk is not kept alive by a helper that does not know.
"""

from __future__ import annotations

import os
import signal
import struct

from init.machine.devices import attribute

# include/uapi/linux/watchdog.h, v6.12
WDIOC_KEEPALIVE, WDIOC_SETTIMEOUT, WDIOC_GETTIMEOUT = 0x80045705, 0xC0045706, 0x80045707
PINGS = 4  # in each of its periods
LONGEST, SHORTEST = 3600, 1  # seconds
HELD = 60  # seconds that a period has at least while kernel and initrd are loaded

MAX_DEVICES = 8
MAX_DIGITS = 9  # of a period that somebody asks for
SOFTWARE = "Software Watchdog"  # drivers/watchdog/softdog.c, v6.12: does not outlive the kernel

AUTO, OFF = "auto", "off"


class Watchdog:
    """One watchdog device, or none.  Nothing here raises: a machine without one boots as well."""

    def __init__(self, dev: str = "/dev", sys: str = "/sys") -> None:
        self._dev, self._sys = dev, sys
        self.fd: int | None = None
        self.seconds = 0

    def start(self, wish: str) -> str:
        """Do what poolboot.watchdog= wants ("auto", "off" or seconds); what was done in words, "" for nothing."""
        if wish == OFF or (wish == AUTO and not self._expected()):
            return ""
        path = self._device()
        if path is None:
            return "" if wish == AUTO else "warning: poolboot.watchdog=: this machine has no watchdog"
        try:
            self.fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            self.seconds = self._period(int(wish[:MAX_DIGITS]) if wish.isdecimal() else 0)
        except OSError as error:
            return f"warning: watchdog {path}: {error.strerror}"
        signal.signal(signal.SIGALRM, lambda number, frame: self.ping())
        self._timer(self.seconds / PINGS)
        return f"watchdog {path} restarts this machine when it hangs for {self.seconds} s"

    def ping(self) -> None:
        """Still here."""
        if self.fd is not None:
            try:
                os.write(self.fd, b"\0")  # any byte but "V", which would switch it off with the next close
            except OSError:
                return

    def hold(self) -> None:
        """Make room for calls into the kernel that last longer than a period: no ping is served in them."""
        if self.fd is not None and self.seconds < HELD:
            self._period(HELD)
            self.ping()

    def hand_over(self) -> None:
        """One more ping and no further ones from us; the device stays open and running, with its own period."""
        if self.fd is not None:
            self._timer(0.0)
            self._release()

    def resume(self) -> None:
        """The machine stays after all."""
        if self.fd is not None:
            self._timer(self.seconds / PINGS)
            self._release()

    def _release(self) -> None:
        """The end of hold()."""
        if self.seconds < HELD:
            self._period(self.seconds)
        self.ping()

    def _device(self) -> str | None:
        """The node of the first watchdog that is hardware; the kernel's own one only when there is no other."""
        found = []
        for name in [*(f"watchdog{number}" for number in range(MAX_DEVICES)), "watchdog"]:
            if os.path.exists(path := f"{self._dev}/{name}"):
                found.append((attribute(f"{self._sys}/class/watchdog/{name}/identity") == SOFTWARE, path))
        return min(found)[1] if found else None

    def _expected(self) -> bool:
        """Whether somebody has to open the watchdog: a running one is kept alive by the kernel until then, but not
        when it was told to do that for a limited time, or not at all.

        Source: drivers/watchdog/watchdog_dev.c:watchdog_worker_should_ping, watchdog_past_open_deadline, v6.12.
        """
        return self._parameter("open_timeout") not in ("", "0") or self._parameter("handle_boot_enabled") == "N"

    def _parameter(self, name: str) -> str:
        return attribute(f"{self._sys}/module/watchdog/parameters/{name}")

    def _period(self, wanted: int) -> int:
        """Set the period to ``wanted`` seconds (0: as it is), and return what the device made of it."""
        import fcntl

        fd = self.fd
        assert fd is not None
        if wanted:
            bounded = min(max(wanted, SHORTEST), LONGEST)
            try:
                return int(struct.unpack("i", fcntl.ioctl(fd, WDIOC_SETTIMEOUT, struct.pack("i", bounded)))[0])
            except OSError:  # some know one period only
                pass
        try:
            return max(1, int(struct.unpack("i", fcntl.ioctl(fd, WDIOC_GETTIMEOUT, bytes(4)))[0]))
        except OSError:
            return 30  # most have a minute; half of that is never too late

    def _timer(self, seconds: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
