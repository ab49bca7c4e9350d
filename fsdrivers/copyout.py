"""Copying out of a pool onto the reader's own disk: `fsdrivers cp`.

The source may be hostile: nothing is ever written outside of the destination, whatever names and links it holds.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Callable

from fsdrivers.errors import FsError, IsADirectory
from fsdrivers.filesystem import DIRECTORY, FILE, SYMLINK, File, Filesystem, Node, Stat
from fsdrivers.shown import NANO, printable
from fsdrivers.traverse import Found, Links, relative, walk

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


# Also for what no system call takes: an owner or a device of 64 bits, a target with a NUL in it.
_FAILURES = (FsError, OSError, OverflowError, ValueError)
_NOBODY, _UNCHANGED = 65534, (1 << 32) - 1  # the latter in chown(2): whoever copies would own it
_MAX_SECONDS = (1 << 63) - 1  # what fits into a time_t


class Progress:
    """A line on a terminal that says how far the copy is; silent when nobody watches."""

    def __init__(self) -> None:
        self.active = sys.stderr.isatty()
        self.bytes = self.files = 0
        self._next = 0.0

    def advance(self, path: str, count: int) -> None:
        """``count`` more bytes of ``path`` are done."""
        self.bytes += count
        if self.active and time.monotonic() >= self._next:
            self._next = time.monotonic() + 0.1
            sys.stderr.write(f"\r\033[K{self.files} files, {self.bytes / 2**20:.1f} MiB  {printable(path[-50:], '')}")
            sys.stderr.flush()

    def finish(self) -> None:
        """Leave an empty line behind."""
        if self.active:
            sys.stderr.write("\r\033[K")


def copy(
    filesystem: Filesystem,
    path: str,
    destination: str,
    recursive: bool,
    warn: Callable[[str], None],
    progress: Progress | None = None,
) -> bool:
    """Copy ``path`` to ``destination`` (into it, when it is a directory).

    Modes, times and extended attributes are kept as far as the destination can, owners too for root; sparse files stay
    sparse, hard links stay linked.  Objects that cannot be read or made are told to ``warn`` and left out; the result
    says whether all came through.  Raises IsADirectory for a directory without ``recursive``, OSError when the
    destination itself cannot be written.
    """
    node = filesystem.resolve(path)
    status = filesystem.stat(node)
    if status.type == DIRECTORY and not recursive:
        raise IsADirectory(path)
    name = os.path.basename(path.rstrip("/"))
    target = os.path.join(destination, name) if os.path.isdir(destination) and name else destination
    return _Copy(filesystem, warn, progress or Progress()).run(node, status, path, target)


class _Copy:
    """One run of copy(): what was made so far."""

    def __init__(self, filesystem: Filesystem, warn: Callable[[str], None], progress: Progress) -> None:
        self._fs, self._warn = filesystem, warn
        self._links = Links()
        self._directories: list[tuple[str, Node, Stat]] = []
        self._progress = progress
        self._root = os.geteuid() == 0
        self._complete = True
        self._blocked = ""  # below this source path nothing is copied: its directory could not be made

    def run(self, node: Node, status: Stat, path: str, target: str) -> bool:
        if status.type != DIRECTORY:
            self._one(Found(path, node, status, None), target)
        else:
            for found in walk(self._fs, path.rstrip("/") + "/"):
                below = relative(found.path, path)
                self._one(found, os.path.join(target, below) if below else target)
        # Last, and from the inside out: writing into a directory changes its time, and it may be read-only.
        for directory, own, about in reversed(self._directories):
            try:
                self._attributes(directory, own, about)
            except _FAILURES as error:
                self._failed(directory, error)
        self._progress.finish()
        return self._complete

    def _one(self, found: Found, target: str) -> None:
        if found.error is not None:
            self._failed(found.path, found.error)
        if found.stat is None or (self._blocked and found.path.startswith(self._blocked)):
            return
        self._blocked = ""
        try:
            self._make(found.node, found.stat, found.path, target)
        except _FAILURES as error:
            self._failed(found.path, error)
            if found.stat.type == DIRECTORY:
                # Something else stands in its place, maybe a symlink that leads out of the destination.
                self._blocked = found.path.rstrip("/") + "/"

    def _failed(self, path: str, error: Exception) -> None:
        self._complete = False
        self._progress.finish()
        self._warn(f"{path}: not copied: {error}")

    def _make(self, node: Node, status: Stat, path: str, target: str) -> None:
        known = self._links.before(node)
        if known is not None:
            _unlink(target)
            os.link(known, target, follow_symlinks=False)
            return
        if status.type == DIRECTORY:
            _directory(target)
            self._directories.append((target, node, status))
            return
        if status.type == FILE:
            self._file(node, status, path, target)
        else:
            _unlink(target)
            if status.type == SYMLINK:
                os.symlink(self._fs.link_target(node), target)
            else:
                os.mknod(target, status.st_mode, os.makedev(*status.rdev))
            self._attributes(target, node, status)
        self._progress.files += 1
        self._links.add(node, status, target)

    def _file(self, node: Node, status: Stat, path: str, target: str) -> None:
        try:
            fd = os.open(target, _CREATE, 0o600)
        except FileExistsError:
            os.unlink(target)
            fd = os.open(target, _CREATE, 0o600)
        end = 0
        try:
            for piece in File(self._fs, node, path, status.size).pieces():
                if piece.data is not None:
                    _write(fd, memoryview(piece.data), piece.offset)
                    end = piece.offset + piece.length
                self._progress.advance(path, piece.length)
            if end != status.size:
                os.ftruncate(fd, status.size)
            self._attributes(fd, node, status)
        except BaseException:
            # Half a file that looks whole is worse than none.
            os.unlink(target)
            raise
        finally:
            os.close(fd)

    def _attributes(self, target: str | int, node: Node, status: Stat) -> None:
        """Give ``target`` (a path, or an open file) what is known of its origin."""
        follow = isinstance(target, int)
        if self._root:
            uid, gid = (_NOBODY if owner == _UNCHANGED else owner for owner in (status.uid, status.gid))
            os.chown(target, uid, gid, follow_symlinks=follow)
        for name, value in self._fs.xattrs(node).items():
            # Best effort: the destination may know no such names, or let nobody but root set them.
            with contextlib.suppress(OSError, ValueError):
                os.setxattr(target, name, value, follow_symlinks=follow)
        if status.type != SYMLINK:
            # setuid bits only together with the owner that they are meant for
            os.chmod(target, status.mode if self._root else status.mode & 0o777)
        os.utime(target, ns=(_time(status.atime), _time(status.mtime)), follow_symlinks=follow)


def _time(nanoseconds: int) -> int:
    """The nearest time that can be asked for: what a disk states may have more bits."""
    return max(-_MAX_SECONDS, min(nanoseconds // NANO, _MAX_SECONDS)) * NANO + nanoseconds % NANO


def _directory(path: str) -> None:
    """Make ``path``; one that exists is used, a symlink in its place is not followed."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _write(fd: int, data: memoryview, offset: int) -> None:
    while data:
        done = os.pwrite(fd, data, offset)
        data, offset = data[done:], offset + done
