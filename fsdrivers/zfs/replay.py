"""A file system with its intent log replayed on top, in memory.

Source: module/zfs/zfs_replay.c, OpenZFS 2.3.4.  What a replay sets to the time of the mount (the modification time of
a file that was written, of a directory with a new name) keeps the time of the last txg or takes the one in the log.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Hashable, Iterator
from typing import cast

from fsdrivers.errors import Corrupt, FsError, TooMany
from fsdrivers.filesystem import CHUNK, MAX_PATH, DirEntry, Piece
from fsdrivers.kept import Kept
from fsdrivers.redundancy import Health
from fsdrivers.zfs import blkptr, layout, zil
from fsdrivers.zfs.blkptr import Blkptr
from fsdrivers.zfs.dmu import Objset
from fsdrivers.zfs.filesystem import TYPES, ZfsFilesystem
from fsdrivers.zfs.ranges import BASE, ZERO, Ranges
from fsdrivers.zfs.sa import Attributes, nanoseconds
from fsdrivers.zfs.zil import Record

_NAMES = ("user", "security", "system", "trusted")
# include/linux/fs.h:ATTR_*, v6.12: the mask of a setattr record is the one of the host's kernel
_MODE, _UID, _GID, _SIZE, _ATIME, _MTIME = 1, 2, 4, 8, 16, 32
_XVATTR = 1 << 31  # ATTR_XVATTR: optional attributes follow
MAX_LOOKS = 1 << 19  # names compared for operations that disregard case

Name = bytes


class LoggedFilesystem(ZfsFilesystem):
    """As ZfsFilesystem, after the operations in ``records``."""

    def __init__(
        self, objset: Objset, label: str, uuid: str, root_name: str, health: Health, records: list[Record]
    ) -> None:
        super().__init__(objset, label, uuid, root_name, health)
        self._own: dict[int, Attributes] = {}  # attributes that the log has changed
        self._names: dict[int, dict[Name, int | None]] = {}  # directory entries that it has made or removed
        self._content: dict[int, Ranges] = {}
        self._xattrs: dict[int, dict[str, bytes | None]] = {}
        self._made: set[int] = set()  # objects of which the disk knows nothing
        self._looks = MAX_LOOKS
        for done, record in enumerate(records):
            try:
                self._replay(record)
            except (struct.error, KeyError, FsError) as error:
                health.note(f"{root_name}: the intent log ends after {done} of {len(records)} operations: {error!r}")
                return
        health.note(f"{root_name}: replayed {len(records)} operations of the intent log in memory")

    # --- what readers see ----------------------------------------------------------------------

    def attributes(self, number: int) -> Attributes:
        own = self._own.get(number)
        return own if own is not None else super().attributes(number)

    def lookup(self, directory: Hashable, name: str) -> Hashable | None:
        number = cast(int, directory)
        changed = self._names.get(number, {})
        key = os.fsencode(name)
        if key in changed:
            return changed[key]
        if number in self._made:
            return None
        found = self._entry(number, name)
        # On a dataset that ignores case the name found may be one that the log has removed.
        return None if found is None or found[0] in changed else self._object(self._directory(number), found[1])

    def entries(self, directory: Hashable) -> Iterator[DirEntry]:
        number = cast(int, directory)
        changed = self._names.get(number, {})
        if number not in self._made:
            for entry in super().entries(directory):
                if os.fsencode(entry.name) not in changed:
                    yield entry
        for name, target in changed.items():
            if target is not None:
                kind = TYPES.get(self.attributes(target).mode >> 12 & 0xF, "unknown")
                yield DirEntry(os.fsdecode(name), kind, target)

    def pieces(self, node: Hashable, offset: int, length: int) -> Iterator[Piece]:
        number = cast(int, node)
        content = self._content.get(number)
        if content is None:
            yield from super().pieces(node, offset, length)
            return
        end = min(offset + length, self.attributes(number).size)
        blocks: Kept[Blkptr, bytes] = Kept(2 * layout.MAX_BLOCK)  # later writes may have cut one into many ranges
        for part in content.get(offset, end) if offset < end else ():
            source, span = part.source, part.end - part.start
            if source == BASE:
                yield from self._objset.dnode(number).pieces(part.start, span)
            elif source == ZERO:
                yield Piece(part.start, span, None)
            else:
                data = source if isinstance(source, bytes) else self._logged(cast(Blkptr, source), blocks)
                if len(data) < part.skip + span:
                    raise Corrupt(self.label, f"{self.root_name}: length of logged data", part.start, span, len(data))
                for at in range(0, span, 4 * CHUNK):
                    chunk = data[part.skip + at : part.skip + min(span, at + 4 * CHUNK)]
                    yield Piece(part.start + at, len(chunk), chunk)

    def _logged(self, pointer: Blkptr, blocks: Kept[Blkptr, bytes]) -> bytes:
        """The block that the log has only a pointer to."""
        data = blocks.get(pointer)
        if data is None:
            data = self._objset.store.read(pointer, f"{self.root_name}: intent log")
            blocks.put(pointer, data, len(data))
        return data

    def xattrs(self, node: Hashable) -> dict[str, bytes]:
        number = cast(int, node)
        found = {} if number in self._made and not self.attributes(number).xattr else super().xattrs(node)
        for name, value in self._xattrs.get(number, {}).items():
            shown = name if name.partition(".")[0] in _NAMES else f"user.{name}"
            if value is None:
                found.pop(shown, None)
            else:
                found[shown] = value
        return found

    # --- the operations ------------------------------------------------------------------------

    def _replay(self, record: Record) -> None:
        kind, body, order = record.kind, record.body, record.order
        if kind in (zil.CREATE, zil.MKDIR, zil.SYMLINK, zil.MKXATTR):
            self._create(kind, body, order, 72)
        elif kind in (zil.CREATE_ATTR, zil.MKDIR_ATTR):
            self._create(kind, body, order, 72 + _xvattr_size(body, 72, order))
        elif kind in (zil.CREATE_ACL, zil.MKDIR_ACL, zil.CREATE_ACL_ATTR, zil.MKDIR_ACL_ATTR):
            self._create(kind, body, order, self._behind_acl(kind, body, order))
        elif kind in (zil.REMOVE, zil.RMDIR):
            (directory,) = _words(body, order, 1)
            self._unlink(directory, self._actual(directory, _string(body, 8), record.ignore_case))
        elif kind == zil.LINK:
            directory, target = _words(body, order, 2)
            self._link(directory, _string(body, 16), target)
            own = self.attributes(target)
            self._own[target] = own._replace(links=own.links + 1)
            self._touch(directory, 1, 0)
        elif kind in (zil.RENAME, zil.RENAME_EXCHANGE, zil.RENAME_WHITEOUT):
            self._rename(record)
        elif kind in (zil.WRITE, zil.WRITE2):
            self._write(kind, body, order)
        elif kind == zil.CLONE_RANGE:
            self._clone(body, order)
        elif kind == zil.TRUNCATE:
            number, offset, length = _words(body, order, 3)
            if self._exists(number):
                self._truncate(number & layout.DIRENT_OBJECT, offset, length)
        elif kind == zil.SETATTR:
            self._setattr(body, order)
        elif kind == zil.SETSAXATTR:
            number, size = _words(body, order, 2)
            name = _string(body, 16)
            start = 16 + len(name) + 1
            value = body[start : start + size] if size else None
            self._xattrs.setdefault(number & layout.DIRENT_OBJECT, {})[os.fsdecode(name)] = value
        elif kind not in (zil.ACL, zil.ACL_V0):  # access lists are not what a reader shows
            raise KeyError(f"record type {kind}")

    def _create(self, kind: int, body: bytes, order: str, name_at: int) -> None:
        directory, target, mode, uid, gid, generation, seconds, rest, rdev = _words(body, order, 9)
        target &= layout.DIRENT_OBJECT
        when = nanoseconds(seconds, rest)
        mode &= 0xFFFF
        is_directory = stat.S_ISDIR(mode)
        self._made.add(target)
        self._names[target] = {}
        self._xattrs.pop(target, None)
        self._content[target] = Ranges(0)
        symlink = None
        if kind != zil.MKXATTR:
            name = _string(body, name_at)
            if kind == zil.SYMLINK:
                symlink = _string(body, name_at + len(name) + 1)[:MAX_PATH]
        size = 2 if is_directory else len(symlink) if symlink is not None else 0
        self._own[target] = Attributes(
            mode, size, 2 if is_directory else 1, uid, gid, generation, directory, 0, when, when, when, rdev, 0, 0,
            symlink, None,
        )  # fmt: skip
        if kind == zil.MKXATTR:
            self._own[directory] = self.attributes(directory)._replace(xattr=target)
            return
        self._link(directory, name, target)
        self._touch(directory, 1, int(is_directory), when)

    def _behind_acl(self, kind: int, body: bytes, order: str) -> int:
        """Where the name is in a create record with an access list: behind attributes, list, ids and domains."""
        _, domains, ids, length, _ = struct.unpack_from(order + "5Q", body, 72)
        at: int = 112
        if kind in (zil.CREATE_ACL_ATTR, zil.MKDIR_ACL_ATTR):
            at += _xvattr_size(body, at, order)
        at += (length + 7 & ~7) + 8 * ids
        for _ in range(min(domains, 256)):
            at += len(_string(body, at)) + 1
        return at

    def _touch(self, directory: int, entries: int, subdirectories: int, when: int | None = None) -> None:
        own = self.attributes(directory)
        own = own._replace(size=own.size + entries, links=own.links + subdirectories)
        self._own[directory] = own if when is None else own._replace(mtime=when, ctime=when)

    def _link(self, directory: int, name: Name, target: int) -> None:
        if not self.attributes(directory) or not name:
            raise KeyError("name in a directory")
        self._names.setdefault(directory, {})[name] = target

    def _actual(self, directory: int, name: Name, ignore_case: bool) -> Name:
        """The name as the directory has it, for operations that were asked for in any case."""
        if ignore_case and self.lookup(directory, os.fsdecode(name)) is not None:
            wanted = os.fsdecode(name).upper()
            for entry in self.entries(directory):
                self._looks -= 1
                if self._looks < 0:
                    raise TooMany("names to compare without regard to case", MAX_LOOKS)
                if entry.name.upper() == wanted:
                    return os.fsencode(entry.name)
        return name

    def _unlink(self, directory: int, name: Name) -> None:
        target = cast("int | None", self.lookup(directory, os.fsdecode(name)))
        if target is None:
            return
        self._names.setdefault(directory, {})[name] = None
        own = self.attributes(target)
        is_directory = stat.S_ISDIR(own.mode)
        self._own[target] = own._replace(links=0 if is_directory else max(0, own.links - 1))
        self._touch(directory, -1, -int(is_directory))

    def _rename(self, record: Record) -> None:
        body, order = record.body, record.order
        source, target = _words(body, order, 2)
        at = 80 if record.kind == zil.RENAME_WHITEOUT else 16
        old = _string(body, at)
        new = _string(body, at + len(old) + 1)
        old = self._actual(source, old, record.ignore_case)
        moved = cast("int | None", self.lookup(source, os.fsdecode(old)))
        if moved is None:
            raise KeyError(f"rename of {old!r}")
        other = cast("int | None", self.lookup(target, os.fsdecode(new)))
        is_directory = int(stat.S_ISDIR(self.attributes(moved).mode))
        if record.kind == zil.RENAME_EXCHANGE:
            if other is None:
                raise KeyError(f"exchange with {new!r}")
            self._names.setdefault(source, {})[old] = other
            self._names.setdefault(target, {})[new] = moved
            return
        if other == moved and (source, old) != (target, new):
            return  # two names of one object: rename(2) does nothing
        if other is not None and other != moved:
            self._unlink(target, new)
        self._names.setdefault(source, {})[old] = None
        self._touch(source, -1, -is_directory)
        self._link(target, new, moved)
        self._touch(target, 1, is_directory)
        if record.kind == zil.RENAME_WHITEOUT:
            # The fields of a create record without the directory follow the two directories.
            whiteout = struct.pack(order + "Q", source) + body[16:80] + old + b"\0"
            self._create(zil.CREATE, whiteout, order, 72)

    def _exists(self, number: int) -> bool:
        """Whether the object is still there: writes are logged out of order, also after a removal."""
        number &= layout.DIRENT_OBJECT
        try:
            return self.attributes(number).links > 0
        except Corrupt:
            return False

    def _ranges(self, number: int) -> Ranges:
        content = self._content.get(number)
        if content is None:
            content = self._content[number] = Ranges(self.attributes(number).size)
        return content

    def _write(self, kind: int, body: bytes, order: str) -> None:
        number, offset, length = _words(body, order, 3)
        if not self._exists(number):
            return
        number &= layout.DIRENT_OBJECT
        end = offset + length
        if end > Ranges.END:
            raise KeyError("a write beyond the end of all files")
        content = self._ranges(number)
        if kind == zil.WRITE and len(body) > 32 + layout.BLKPTR_SIZE:
            data = body[32 + layout.BLKPTR_SIZE :][:length]
            content.put(offset, offset + len(data), data)
        elif kind == zil.WRITE:
            # One whole block was written to its final place; the log has the pointer to it.
            pointer = blkptr.parse(body, 32, order)
            size = pointer.lsize
            start = offset - offset % size if length < size else offset
            content.put(start, start + size, ZERO if pointer.hole else pointer)
        own = self.attributes(number)
        self._own[number] = own._replace(size=max(own.size, end))

    def _clone(self, body: bytes, order: str) -> None:
        number, offset, length, size, count = _words(body, order, 5)
        if not self._exists(number):
            return
        number &= layout.DIRENT_OBJECT
        if not 0 < size <= layout.MAX_BLOCK or count > len(body) // layout.BLKPTR_SIZE or offset + length > Ranges.END:
            raise KeyError("clone of too much")
        content = self._ranges(number)
        for index in range(count):
            pointer = blkptr.parse(body, 40 + index * layout.BLKPTR_SIZE, order)
            content.put(offset + index * size, offset + (index + 1) * size, ZERO if pointer.hole else pointer)
        own = self.attributes(number)
        self._own[number] = own._replace(size=max(own.size, offset + length))

    def _truncate(self, number: int, offset: int, length: int) -> None:
        content, own = self._ranges(number), self.attributes(number)
        if length:  # zfs_znode_os.c:zfs_freesp: a length punches a hole
            content.put(offset, min(offset + length, own.size), ZERO)
            return
        content.put(offset, Ranges.END, ZERO)
        self._own[number] = own._replace(size=offset)

    def _setattr(self, body: bytes, order: str) -> None:
        number, mask, mode, uid, gid, size, *times = _words(body, order, 10)
        if not self._exists(number):
            return
        number &= layout.DIRENT_OBJECT
        if mask & _SIZE:
            self._truncate(number, size, 0)
        own = self.attributes(number)
        if mask & _MODE:
            own = own._replace(mode=stat.S_IFMT(own.mode) | (mode & 0o7777))
        if mask & _UID:
            own = own._replace(uid=uid)
        if mask & _GID:
            own = own._replace(gid=gid)
        if mask & _ATIME:
            own = own._replace(atime=nanoseconds(times[0], times[1]))
        if mask & _MTIME:
            own = own._replace(mtime=nanoseconds(times[2], times[3]))
        self._own[number] = own


def _words(body: bytes, order: str, count: int) -> tuple[int, ...]:
    """The first ``count`` 64-bit words of a record behind its common header."""
    return struct.unpack_from(f"{order}{count}Q", body)


def _string(body: bytes, at: int) -> bytes:
    """The string that starts at ``at`` and ends in NUL."""
    end = body.find(b"\0", at)
    if end < 0:
        raise KeyError("a string without an end")
    return body[at:end]


def _xvattr_size(body: bytes, at: int, order: str) -> int:
    """Bytes of the optional attributes at ``at`` (zil.h:ZIL_XVAT_SIZE)."""
    masks: int = struct.unpack_from(order + "I", body, at)[0]
    return 8 + 4 * (min(masks, 1024) - 1) + 56
