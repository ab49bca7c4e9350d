"""The cache of things that are costly to make: one directory an entry, keyed by what was asked for.

An entry is made in a temporary directory beside its final place and renamed when complete, under a lock: what is in
the cache is whole, and two builds that want the same thing at the same time make it once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def root() -> Path:
    """``$POOLBOOT_CACHE``, else ``poolboot`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; made when missing."""
    own = os.environ.get("POOLBOOT_CACHE")
    base = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "poolboot"
    base.mkdir(parents=True, exist_ok=True)
    return base.resolve()


def key(*parts: object) -> str:
    """A short hash of JSON-serialisable ``parts``, for names of cache entries."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def alone(lock: Path, waiting: str = "") -> Iterator[None]:
    """Hold a lock file; the lock goes with the process.  ``waiting`` is printed when somebody else has it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                print(waiting, flush=True)
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def entry(kind: str, name: str, make: Callable[[Path], None]) -> Path:
    """The directory ``kind/name`` of the cache; ``make(directory)`` fills it when it is not there yet."""
    shelf = root() / kind
    shelf.mkdir(parents=True, exist_ok=True)
    final = shelf / name
    if final.is_dir():
        return final
    with alone(shelf / f".{name}.lock"):
        if final.is_dir():
            return final
        _sweep(shelf, name)
        work = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=shelf))
        try:
            work.chmod(0o755)
            make(work)
            work.rename(final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return final


def _sweep(shelf: Path, name: str) -> None:
    """Remove what a build that was killed has left of this entry; its lock is held, so nobody works there."""
    rest = re.compile(rf"\.{re.escape(name)}\.[a-z0-9_]{{8}}")  # as mkdtemp names it
    for path in shelf.iterdir():
        if rest.fullmatch(path.name) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
