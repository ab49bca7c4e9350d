"""The exceptions of the readers: every way in which a disk can disappoint.

Whatever a driver meets on a damaged, foreign or hostile disk ends in one of these.  Those that have a
counterpart in the standard library inherit from it too, so that code written against ``open()`` and
``os.listdir()`` keeps working.
"""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST = 255  # characters of a name in a message
_MOST = 64  # names in a message


class FsError(Exception):
    """Base of everything the readers raise on purpose."""


class NotThisFs(FsError):
    """The device does not carry what the driver reads."""


class Unsupported(FsError):
    """The disk uses a feature that we know we cannot read.

    ``feature`` is the name that the format's own documents use.
    """

    def __init__(self, feature: str, why: str = "") -> None:
        self.feature = feature
        super().__init__(f"unsupported feature: {_cut(feature)}" + (f" ({why})" if why else ""))


class ReadError(FsError):
    """A device did not deliver bytes that it should have (I/O error, end of a truncated image).

    ``offset`` and ``length`` are in bytes from the start of ``device``; no length: it cannot be opened at all.
    """

    def __init__(self, device: str, offset: int, length: int, why: str) -> None:
        self.device, self.offset, self.length = device, offset, length
        what = f"cannot read {length} bytes at offset {offset:#x}" if length or offset else "cannot be opened"
        super().__init__(f"{device}: {what}: {why}")


class Corrupt(FsError):
    """A structure on the disk is not what it has to be.

    ``offset`` is in bytes: on ``device``, or in the pool's own address space when ``device`` names a pool.
    """

    def __init__(self, device: str, structure: str, offset: int, wanted: object = None, got: object = None) -> None:
        self.device, self.structure, self.offset = device, structure, offset
        self.wanted, self.got = wanted, got
        text = f"{device}: corrupt {structure} at offset {offset:#x}"
        if wanted is not None:
            text += f": wanted {_short(wanted)}, got {_short(got)}"
        elif got is not None:
            text += f": {_short(got)}"
        super().__init__(text)


class BadData(FsError):
    """Compressed bytes that are no stream of their algorithm; who knows the place turns this into Corrupt."""

    def __init__(self, algorithm: str, why: str) -> None:
        self.algorithm = algorithm
        super().__init__(f"bad {algorithm} data: {why}")


class MissingDevices(FsError):
    """More members are absent than the pool's redundancy can make up for."""

    def __init__(self, pool: str, present: Sequence[str], missing: Sequence[str], why: str = "") -> None:
        self.pool, self.present, self.missing = pool, tuple(present), tuple(missing)
        super().__init__(
            f"pool {pool}: missing {_listed(missing)}; present: {_listed(present) or 'none'}"
            + (f" ({why})" if why else "")
        )


class Locked(FsError):
    """The data is encrypted and no key was given."""

    def __init__(self, pool: str, why: str) -> None:
        self.pool = pool
        super().__init__(f"{pool} is locked: {why}")


class Ambiguous(FsError):
    """Several things answer to what was asked for, and picking one would be a guess."""


class TooLarge(FsError):
    """An object is larger than the memory or the limit that it has to fit in; sizes in bytes."""

    def __init__(self, what: str, size: int, limit: int) -> None:
        self.size, self.limit = size, limit
        super().__init__(f"{what} is too large: {size} bytes, the limit is {limit}")


class TooMany(FsError):
    """A disk has more of something than this program is ready to go through; ``limit`` is how many that would be."""

    def __init__(self, what: str, limit: int) -> None:
        self.what, self.limit = what, limit
        super().__init__(f"too many {what}: the limit is {limit}")


class OutOfBounds(FsError):
    """``doing`` something that a disk asked for took more time or memory than any disk may cost; ``why`` says which."""

    def __init__(self, doing: str, why: str) -> None:
        self.doing, self.why = doing, why
        super().__init__(f"{doing}: {why}; left out")


class Fault(FsError):
    """A reader failed in a way that it should not, whatever is on the disk: its own fault, and no reason to stop."""

    def __init__(self, doing: str, error: BaseException) -> None:
        trace, where = error.__traceback__, ""
        while trace is not None:
            where, trace = f" ({trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno})", trace.tb_next
        text = " ".join(str(error)[:500].split())
        super().__init__(f"{doing}: internal error, {type(error).__name__}: {text}{where}")


class _PathError(FsError):
    """Base of the errors about one path, which they keep in ``path``."""

    text = "bad path"

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path}: {self.text}")

    def __str__(self) -> str:
        # OSError, the other parent of the subclasses, would format its arguments as "[Errno ...]".
        return f"{self.path}: {self.text}"


class NotFound(_PathError, FileNotFoundError):
    """No such file or directory."""

    text = "no such file or directory"


class NotADirectory(_PathError, NotADirectoryError):
    """A path goes through something that is no directory."""

    text = "not a directory"


class IsADirectory(_PathError, IsADirectoryError):
    """A file was wanted, a directory is there."""

    text = "is a directory"


class NotAFile(_PathError):
    """A regular file was wanted; a device node, fifo, socket or unresolved link is there."""

    text = "not a regular file"


class NotASymlink(_PathError):
    """A symbolic link was wanted."""

    text = "not a symbolic link"


class TooManyLinks(_PathError):
    """More symbolic links in one path than the kernel would follow either (40)."""

    text = "too many levels of symbolic links"


class PathTooLong(_PathError):
    """A path of more characters than the kernel would take either (4096)."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path[:60]}... ({len(path)} characters)")

    text = "path too long"


def _short(value: object) -> str:
    """One value for a message: numbers in hex where that is how people compare them, never kilobytes of bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 9:
        return hex(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        return data[:32].hex() + ("..." if len(data) > 32 else "")
    return _cut(str(value))


def _cut(text: str) -> str:
    """A name from a disk for a message: formats limit most of them, but not all fields are of the format."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _listed(names: Sequence[str]) -> str:
    """Names for a message; a pool may have thousands of devices."""
    more = len(names) - _MOST
    return ", ".join(map(_cut, names[:_MOST])) + (f" and {more} more" if more > 0 else "")
