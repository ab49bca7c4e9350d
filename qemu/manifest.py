"""The kernel's view of a tree, as ``manifest`` in a Workshop recipe wrote it, as records to compare with ours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

# GNU find's %y -> the types of ``fsdrivers walk``.
_TYPES = {
    "f": "file", "d": "directory", "l": "symlink", "c": "char", "b": "block", "p": "fifo", "s": "socket",
}  # fmt: skip
_FIELDS = 8  # of the manifest function's find -printf


class Record(NamedTuple):
    """One object of the tree, as fields() of the same names and values as a record of ``fsdrivers.walk``."""

    path: str  # "/" for the tree's root
    type: str
    mode: int  # permission bits with setuid, setgid and sticky
    uid: int
    gid: int
    size: int  # bytes
    mtime: int  # nanoseconds since 1970
    target: str | None = None  # of symlinks
    sha256: str | None = None  # of files
    rdev: list[int] | None = None  # major and minor of devices

    def fields(self) -> dict[str, object]:
        """What ``fsdrivers.walk.record`` says of the same object; equal to it when we read correctly."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def read(out: Path, name: str = "manifest") -> dict[str, Record]:
    """The records by path from ``name``.find, .sha256 and .rdev in the directory ``out``.

    Names that are not UTF-8 come as surrogate escapes.  Raises ValueError when the files are not whole.
    """
    hashes = {}
    for item in _items(out / f"{name}.sha256"):
        digest, path = item.split(" ", 1)
        hashes[path[1:].removeprefix("./")] = digest  # "*" or " " comes before the path
    devices = {}
    words = _items(out / f"{name}.rdev")
    for path, numbers in zip(words[::2], words[1::2], strict=True):
        devices[path.removeprefix("./")] = [int(number, 16) for number in numbers.split()]
    records = {}
    items = _items(out / f"{name}.find")
    if len(items) % _FIELDS or not items:
        raise ValueError(f"{out}/{name}.find: {len(items)} fields")
    for start in range(0, len(items), _FIELDS):
        path, kind, mode, uid, gid, size, mtime, target = items[start : start + _FIELDS]
        records[f"/{path}"] = Record(
            f"/{path}",
            _TYPES[kind],
            int(mode, 8),
            int(uid),
            int(gid),
            int(size),
            _nanoseconds(mtime),
            target if kind == "l" else None,
            hashes[path] if kind == "f" else None,
            devices[path] if kind in "cb" else None,
        )
    return records


def _items(path: Path) -> list[str]:
    raw = path.read_bytes()
    if raw and not raw.endswith(b"\0"):
        raise ValueError(f"{path}: the last field has no end")
    return [os.fsdecode(item) for item in raw.split(b"\0")[:-1]]


def _nanoseconds(text: str) -> int:
    """find's %T@: whole seconds (rounded down, also before 1970), then the nanoseconds after that."""
    seconds, _, fraction = text.partition(".")
    return int(seconds) * 10**9 + int(fraction.ljust(9, "0")[:9] or "0")
