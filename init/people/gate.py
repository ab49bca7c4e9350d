"""The gate before what is locked: what everybody may do, who gave a password, and what a wrong one costs.

One for the machine, whatever console a person sits at.  With Secure Boot on it is also the gate before what a person
types over what is signed: only a password of the signed command line's own lock opens that.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from init import config as _config
from init.config import BootConfig
from init.console.console import Console
from init.firmware import stub
from init.locks import EDITOR, Lock, told

TRIES = 3  # passwords in a row before the dialog ends
PATIENCE = 60.0  # seconds for typing one
LONGEST = 60.0  # seconds that a wrong password costs at most
UNSIGNED = "Secure Boot is on, and nobody has signed what is typed here: see poolboot.lock= in docs/knobs.md"


class Gate:
    """Which locks there are, and which of them are open."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.locks: tuple[Lock, ...] = ()  # those of the most trusted source first
        self._signed: BootConfig | None = None  # with Secure Boot on: what its owner signed
        self._open: set[tuple[int, Lock]] = set()  # with their places: others may repeat a signed one in theirs
        self._clock, self._failures, self._until = clock, 0, 0.0

    def hold(self, config: BootConfig, given: BootConfig) -> list[str]:
        """Take the locks of ``config``, the first of which are those of the command line, ``given``; returns what is
        worth telling of new ones."""
        new = [lock for lock in config.locks if lock not in self.locks]
        self.locks = config.locks
        self._signed = given if config.secure else None
        return list(told(new))

    def closed(self, level: str, typed: bool = False) -> str:
        """Why what ``level`` locks may not be done now, "" when it may; ``typed``: it changes what is booted to
        something that a person typed."""
        if self._shut(level):
            return "locked: it takes the password" if self._keys(level) else "locked, and no password opens it"
        if typed and self._signed is not None and self._open.isdisjoint(enumerate(self._signed.locks)):
            return UNSIGNED
        return ""

    def ask(self, console: Console, level: str, typed: bool = False) -> bool:
        """Whether that may be done, after asking for the password where that helps.  Raises Closed."""
        for _ in range(TRIES):
            if not self.closed(level, typed):
                return True
            if not self._keys(level, typed):
                return False
            self._serve(console)
            password = console.secret("Password: ", PATIENCE)
            if not password:
                return False
            if not self.opens(password):
                console.say(f"wrong password; the next try is in {self._until - self._clock():.0f} s")
                self._serve(console)
        return not self.closed(level, typed)

    def opens(self, password: str) -> bool:
        """Open the locks that ``password`` is for, and those of less trusted sources."""
        for number, lock in enumerate(self.locks):
            hits = [one.matches(password) for one in lock.hashes]  # all of them: time tells nothing
            if any(hits):
                self._open.update(list(enumerate(self.locks))[number:])
                self._failures = 0
                return True
        self._failures += 1
        self._until = self._clock() + min(2.0 ** (self._failures - 1), LONGEST)
        return False

    def objections(self, text: str) -> list[str]:
        """What is wrong with knobs that a person typed, but for what init/config.py says of them."""
        words = _config.split(text)
        found = [f"{word}: a quote in it does not end" for word in words if word.count('"') % 2]
        keys = [_config.key(name) for name, _ in _config.parse(text)]
        found += [f"poolboot.{key.replace('_', '-')} is not for typing" for key in keys if key in _config.LOCKING]
        if self._signed is not None and self.closed(EDITOR, True):
            found += stub.refused(self._signed, text, "typed")
        return found

    def typed(self, config: BootConfig, text: str) -> BootConfig:
        """``config`` with knobs that a person typed on top: while Secure Boot is on as a conf has them."""
        if self._signed is not None and self.closed(EDITOR, True):
            return stub.unsigned(config, self._signed, text, "typed")[0]
        return _config.more(config, text)

    def _shut(self, level: str) -> list[int]:
        """The places of the locks that keep ``level``."""
        return [at for at, lock in enumerate(self.locks) if lock.covers(level) and (at, lock) not in self._open]

    def _keys(self, level: str, typed: bool = False) -> bool:
        """Whether there is a password that could open what is closed of this."""
        last = min(self._shut(level), default=len(self.locks) - 1)
        if typed and self._signed is not None:
            last = min(last, len(self._signed.locks) - 1)
        return any(lock.hashes for lock in self.locks[: last + 1])

    def _serve(self, console: Console) -> None:
        """Let the time pass that a wrong password costs, on all consoles; what is typed meanwhile counts for nothing.

        Raises Closed."""
        while (left := self._until - self._clock()) > 0:
            console.key(left)
            console.forget()
