"""Long steps that say what they do, where their log is and how long they took; and the one build error.

While a step runs it shows how far it is (artefacts/bars.py).  What its commands print goes to a log file, of which the
last lines are shown when a command fails.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from artefacts import bars
from artefacts.counters import Counter

_TAIL_LINES = 12


class BuildError(Exception):
    """The build cannot go on.  ``hint`` says what a person can do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = message, hint
        super().__init__(message)


@contextmanager
def step(what: str, log: Path | None = None, counter: Counter | None = None) -> Iterator[None]:
    """Announce a step on stdout, show how far ``counter`` says it is, and print its duration at the end.

    ``log`` names the file that :func:`run` appends to; it starts empty with every step.
    """
    where = ""
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        where = f" (log: {short(log)})"
    with bars.shown(what, log, counter or Counter(), where):
        yield


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    log: Path,
    hint: str = "",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a command with its output appended to ``log``.  ``env`` is added to the environment.

    Raises BuildError with the end of the log when the command fails or does not exist.
    """
    words = [os.fspath(word) for word in command]
    with log.open("ab") as sink:
        sink.write(f"$ {shlex.join(words)}\n".encode())
        sink.flush()
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                check=False,
            )
        except FileNotFoundError:
            raise BuildError(f"{words[0]} is not installed", hint) from None
    if done.returncode:
        raise BuildError(f"{Path(words[0]).name} ended with status {done.returncode}; {_tail(log)}", hint)


def warn(message: str) -> None:
    """Print a warning that does not stop the build."""
    print(f"build: warning: {message}", file=sys.stderr, flush=True)


def replace(path: Path, data: bytes, permissions: int = 0o644) -> None:
    """Write a file under its name at once and whole, or leave what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(data)
    fresh.chmod(permissions)
    fresh.rename(path)


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    return f"the end of {short(log)}:\n" + "\n".join(f"    {line}" for line in lines)


def short(path: Path) -> str:
    """A path for messages: relative to the current directory when it is below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
