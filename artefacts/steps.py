"""Long steps that say what they do, where their log is and how long they took; and the one build error.

While a step runs it shows how far it is (artefacts/bars.py).  What its commands print goes to a log file, of which the
last lines are shown when a command fails.
"""

from __future__ import annotations

import errno
import os
import pwd
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from artefacts import bars, together
from artefacts.counters import Counter

_TAIL_LINES = 12

# What commands say of it in the C locale (glibc's strerror of ENOSPC and EDQUOT).
_NO_ROOM = ("No space left on device", "Disk quota exceeded")
_LITTLE = 1 << 16  # bytes
_ROOM_HINT = "free some, or say with --output, POOLBOOT_CACHE and TMPDIR where there is more; then start this again"


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
    failure: str = "",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a command with its output appended to ``log``.  ``env`` is added to the environment.

    ``failure`` says what it means when the command fails, where its name does not.
    Raises BuildError with the end of the log when the command fails or does not exist.
    """
    words = [os.fspath(word) for word in command]
    with log.open("ab") as sink:
        sink.write(f"$ {shlex.join(words)}\n".encode())
        sink.flush()
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
            )
        except FileNotFoundError:
            raise BuildError(f"{words[0]} is not installed", hint) from None
        together.stoppable(process)
        with process:
            status = process.wait()
    if status:
        _complain_of_room(words[0], log)
        ended = f"{Path(words[0]).name} ended with status {status}; {_tail(log)}"
        raise BuildError(f"{failure}: {ended}" if failure else ended, hint)


def warn(message: str) -> None:
    """Print a warning that does not stop the build."""
    print(f"build: warning: {message}", file=sys.stderr, flush=True)


def replace(path: Path, data: bytes, permissions: int = 0o644) -> None:
    """Write a file under its name at once and whole, or leave what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    fresh = Path(name)  # of its own name: two builds in one tree may write the same file
    try:
        with open(handle, "wb") as file:
            file.write(data)
        fresh.chmod(permissions)
        fresh.rename(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def explain(error: OSError) -> BuildError:
    """What the system refused, and what to do about it."""
    place = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BuildError(f"there is no room on the disk{place and f' for {place}'}: {error.strerror}", _ROOM_HINT)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and place:
        return BuildError(
            f"{short(Path(place))} cannot be used: {error.strerror}{_whose(Path(place))}",
            "give it to yourself (chown -R), or say with --output and POOLBOOT_CACHE what to use instead",
        )
    return BuildError(str(error))


def _whose(path: Path) -> str:
    """The owner of a path or of the nearest directory above it that there is, when that is somebody else."""
    while not path.exists() and path != path.parent:
        path = path.parent
    owner = path.stat().st_uid
    if owner == os.geteuid():
        return ""
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = f"user {owner}"
    return f" ({short(path)} belongs to {name})"


def _complain_of_room(command: str, log: Path) -> None:
    """Raise BuildError when a full disk is why a command failed, whatever else it says at its end."""
    told = [line.strip() for line in _last_lines(log) if any(words in line for words in _NO_ROOM)]
    if not told and full(log.parent):  # what it said could not be written either
        told = [f"{short(log.parent)} is full"]
    if told:
        raise no_room(Path(command).name, told[-1])


def full(directory: Path) -> bool:
    """Whether the disk that ``directory`` is on has no room left."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize < _LITTLE


def no_room(what: str, told: str) -> BuildError:
    """The error for ``what`` that found a full disk, and what it ``told`` of it."""
    return BuildError(f"there is no room on the disk for {what}: {told}", _ROOM_HINT)


def _last_lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]


def _tail(log: Path) -> str:
    return f"the end of {short(log)}:\n" + "\n".join(f"    {line}" for line in _last_lines(log))


def short(path: Path) -> str:
    """A path for messages: relative to the current directory when it is below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
