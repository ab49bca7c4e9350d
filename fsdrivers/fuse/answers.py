"""What a driver's tree answers to each request of the kernel.

The tree never changes, so the kernel may keep all it learned: names, attributes, symlinks, directory listings and data
are asked for once, and opening needs no request at all.
Sources: include/uapi/linux/fuse.h and fs/fuse/dir.c, file.c, readdir.c, v6.12.
"""

from __future__ import annotations

import errno
import os
import stat as _stat
from collections.abc import Callable, Iterator

from fsdrivers.errors import Corrupt, FsError
from fsdrivers.filesystem import DirEntry, Filesystem, Node, Stat
from fsdrivers.fuse import layout
from fsdrivers.fuse.nodes import Known, Nodes, inode_number
from fsdrivers.traverse import creatable

MAX_READ = 1 << 20  # bytes of one READ: 256 pages, the protocol's limit before Linux 6.13
FOREVER = 1 << 30  # seconds that names and attributes stay true
LISTINGS = 16  # directories whose listing is under way
MAX_KEPT = 512  # bytes of extended attributes that are remembered of one object
NANO = 1_000_000_000
_MAX_SECONDS = (1 << 63) - 1
_NOBODY = 65534  # Documentation/admin-guide/sysctl/fs.rst: overflowuid, v6.12

_NO_XATTRS: dict[str, bytes] = {}
_NAMELEN, _BLOCK = 255, 4096
_DT = {
    "file": 8, "directory": 4, "symlink": 10, "char": 2, "block": 6, "fifo": 1, "socket": 12, "unknown": 0,
}  # fmt: skip
_KNOWN_TYPES = frozenset((
    _stat.S_IFREG, _stat.S_IFDIR, _stat.S_IFLNK, _stat.S_IFCHR, _stat.S_IFBLK, _stat.S_IFIFO, _stat.S_IFSOCK,
))  # fmt: skip

Buffer = bytes | bytearray | memoryview
Reply = list[Buffer]


class Refused(Exception):
    """An answer that is an errno and no news for the log."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(os.strerror(code))


class Answers:
    """The answers of ``filesystem``, by opcode in ``handlers``; what is passed over is told to ``complain``.

    Each takes the object that is asked and the body of the request; it raises Refused, or FsError.
    """

    def __init__(self, filesystem: Filesystem, complain: Callable[[str], None], shared: bool) -> None:
        """``shared`` as it was mounted.  Raises FsError when the tree's root cannot be read."""
        self._shared = shared
        self._filesystem, self._complain = filesystem, complain
        root = filesystem.root()
        self.nodes = Nodes(root, filesystem.stat(root).inode)
        self._listings: dict[int, _Listing] = {}
        self._has_xattrs = type(filesystem).xattrs is not Filesystem.xattrs
        self._no_open = self._no_opendir = True
        self._zeros = bytes(0)
        self.handlers: dict[int, Callable[[Known, memoryview], Reply]] = {
            layout.LOOKUP: self._lookup,
            layout.GETATTR: self._getattr,
            layout.READLINK: self._readlink,
            layout.OPEN: self._open,
            layout.OPENDIR: self._opendir,
            layout.READ: self._read,
            layout.READDIR: self._readdir,
            layout.READDIRPLUS: self._readdirplus,
            layout.RELEASE: lambda known, body: [],
            layout.RELEASEDIR: lambda known, body: [],
            layout.STATFS: self._statfs,
            layout.GETXATTR: self._getxattr,
            layout.LISTXATTR: self._listxattr,
        }

    def init(self, body: memoryview) -> Reply:
        """Agree on the protocol: fs/fuse/inode.c:process_init_reply, v6.12."""
        major, minor, read_ahead, offered = layout.INIT_IN.unpack_from(body)
        if major != layout.MAJOR or minor < layout.MIN_MINOR:
            # A newer major asks again when it sees ours; an older one cannot be served.
            if major > layout.MAJOR:
                return [layout.INIT_OUT.pack(layout.MAJOR, layout.MINOR, *(0,) * 9)]
            self._complain(f"the kernel speaks FUSE {major}.{minor}, {layout.MAJOR}.{layout.MIN_MINOR} is needed")
            raise Refused(errno.EPROTO)
        wanted = (
            layout.ASYNC_READ | layout.DO_READDIRPLUS | layout.NO_OPEN_SUPPORT | layout.NO_OPENDIR_SUPPORT
            | layout.PARALLEL_DIROPS | layout.MAX_PAGES | layout.CACHE_SYMLINKS
        )  # fmt: skip
        if self._has_xattrs and self._shared:
            wanted |= layout.POSIX_ACL
        flags = offered & wanted
        self._no_open = bool(flags & layout.NO_OPEN_SUPPORT)
        self._no_opendir = bool(flags & layout.NO_OPENDIR_SUPPORT)
        answer = layout.INIT_OUT.pack(
            layout.MAJOR, min(minor, layout.MINOR), read_ahead, flags,
            12, 9,  # max_background, congestion_threshold: the kernel's defaults
            _BLOCK, 1,  # max_write (nobody writes), time granularity in ns
            MAX_READ // _BLOCK, 0, 0,
        )  # fmt: skip
        return [answer]

    # --- names and attributes -----------------------------------------------------------------

    def _lookup(self, parent: Known, body: memoryview) -> Reply:
        name = os.fsdecode(bytes(body[:-1]))
        node = self._filesystem.lookup(parent.node, name) if name not in (".", "..") else None
        if node is None:
            # Number 0 with a validity: the kernel remembers that there is no such name.
            return [layout.ENTRY_OUT.pack(0, 0, FOREVER, 0, 0, 0), bytes(layout.ATTR.size)]
        return [self._entry(parent, node, self._stat(node))]

    def _entry(self, parent: Known, node: Node, status: Stat) -> bytes:
        """fuse_entry_out, with one more reference to the object."""
        known = self.nodes.know(node, status.inode, parent)
        return layout.ENTRY_OUT.pack(known.id, 0, FOREVER, FOREVER, 0, 0) + _attributes(status, known.space)

    def _getattr(self, known: Known, body: memoryview) -> Reply:
        return [layout.ATTR_OUT.pack(FOREVER, 0, 0) + _attributes(self._stat(known.node), known.space)]

    def _stat(self, node: Node) -> Stat:
        """The attributes, as far as the kernel could take them."""
        status = self._filesystem.stat(node)
        if _stat.S_IFMT(status.st_mode & 0xFFFF) not in _KNOWN_TYPES or not 0 <= status.size < 1 << 63:
            name = self._filesystem.root_name or self._filesystem.kind
            raise Corrupt(name, f"inode {status.inode} (type or size)", 0, None, (oct(status.st_mode), status.size))
        return status

    def _readlink(self, known: Known, body: memoryview) -> Reply:
        return [os.fsencode(self._filesystem.link_target(known.node))]

    def _statfs(self, known: Known, body: memoryview) -> Reply:
        return [layout.STATFS_OUT.pack(0, 0, 0, 0, 0, _BLOCK, _NAMELEN, _BLOCK, 0)]

    def _getxattr(self, known: Known, body: memoryview) -> Reply:
        if not self._has_xattrs:
            raise Refused(errno.ENOSYS)  # the kernel will not ask again
        size, _ = layout.XATTR_SIZE.unpack_from(body)
        name = os.fsdecode(bytes(body[layout.XATTR_SIZE.size :]).partition(b"\0")[0])
        value = self._xattrs(known).get(name)
        if value is None:
            raise Refused(errno.ENODATA)
        return _sized(value, size)

    def _listxattr(self, known: Known, body: memoryview) -> Reply:
        if not self._has_xattrs:
            raise Refused(errno.ENOSYS)
        size, _ = layout.XATTR_SIZE.unpack_from(body)
        names = b"".join(os.fsencode(name) + b"\0" for name in self._xattrs(known))
        return _sized(names, size)

    def _xattrs(self, known: Known) -> dict[str, bytes]:
        """The extended attributes, remembered when they are few: the kernel caches none, and asks at every exec for
        capabilities, and an overlay at every look-up for its own."""
        if known.xattrs is not None:
            return known.xattrs
        found = self._filesystem.xattrs(known.node)
        if not found:
            known.xattrs = _NO_XATTRS
        elif sum(len(name) + len(value) for name, value in found.items()) <= MAX_KEPT:
            known.xattrs = found
        return found

    # --- contents -----------------------------------------------------------------------------

    def _open(self, known: Known, body: memoryview) -> Reply:
        if self._no_open:
            raise Refused(errno.ENOSYS)  # "opening needs no request", fs/fuse/file.c:fuse_file_open
        return [layout.OPEN_OUT.pack(0, layout.FOPEN_KEEP_CACHE, 0)]

    def _opendir(self, known: Known, body: memoryview) -> Reply:
        if self._no_opendir:
            raise Refused(errno.ENOSYS)
        return [layout.OPEN_OUT.pack(0, layout.FOPEN_KEEP_CACHE | layout.FOPEN_CACHE_DIR, 0)]

    def _read(self, known: Known, body: memoryview) -> Reply:
        _, offset, size, _ = layout.READ_IN.unpack_from(body)
        reply: Reply = []
        for piece in self._filesystem.pieces(known.node, offset, size):
            if piece.data is not None:
                reply.append(piece.data)
                continue
            if not self._zeros:
                self._zeros = bytes(MAX_READ)
            for start in range(0, piece.length, MAX_READ):
                reply.append(memoryview(self._zeros)[: min(MAX_READ, piece.length - start)])
        return reply

    def _readdir(self, known: Known, body: memoryview) -> Reply:
        return self._list(known, body, plus=False)

    def _readdirplus(self, known: Known, body: memoryview) -> Reply:
        return self._list(known, body, plus=True)

    def _list(self, known: Known, body: memoryview, plus: bool) -> Reply:
        _, offset, size, _ = layout.READ_IN.unpack_from(body)
        listing = self._listings.pop(known.id, None)
        if listing is None or listing.position != offset:
            listing = _Listing(self._filesystem, known.node)
            listing.skip(offset)
        if len(self._listings) >= LISTINGS:
            del self._listings[next(iter(self._listings))]
        reply: Reply = []
        room = size
        for entry in listing:
            name = os.fsencode(entry.name)
            if not creatable(entry.name) or len(name) > _NAMELEN:
                self._complain(f"directory entry named {entry.name!r} is passed over: no kernel would create it")
                continue
            length = -(-(layout.DIRENT.size + len(name)) // 8) * 8
            room -= length + plus * (layout.ENTRY_OUT.size + layout.ATTR.size)
            if room < 0:
                listing.back(entry)
                break
            reply += self._dirent(known, entry, name, listing.position, plus)
        else:
            return reply
        self._listings[known.id] = listing
        return reply

    def _dirent(self, parent: Known, entry: DirEntry, name: bytes, following: int, plus: bool) -> Reply:
        """One name, with its attributes if ``plus``; without them (the kernel will ask) when they cannot be read."""
        reply: Reply = []
        inode, kind = (1 << 32) - 1, _DT[entry.type]
        try:
            status = self._stat(entry.node)
            inode = inode_number(status.inode, self.nodes.space(entry.node, status.inode, parent))
            kind = (status.st_mode & 0xFFFF) >> 12
            if plus:
                reply.append(self._entry(parent, entry.node, status))
        except FsError as error:
            self._complain(str(error))
            if plus:
                reply.append(bytes(layout.ENTRY_OUT.size + layout.ATTR.size))
        reply += (layout.DIRENT.pack(inode, following, len(name), kind), name, bytes(-len(name) % 8))
        return reply


class _Listing:
    """A directory being listed; ``position`` counts the entries that were taken, which is the kernel's offset.

    "." and ".." are left out: POSIX allows that, and the kernel's own walk of a path does not need them.
    """

    def __init__(self, filesystem: Filesystem, node: Node) -> None:
        self._entries: Iterator[DirEntry] = filesystem.entries(node)
        self._pushed: DirEntry | None = None
        self.position = 0

    def __iter__(self) -> _Listing:
        return self

    def __next__(self) -> DirEntry:
        entry, self._pushed = self._pushed or next(self._entries), None
        self.position += 1
        return entry

    def back(self, entry: DirEntry) -> None:
        """Let ``entry``, just taken, be the next one again."""
        self._pushed = entry
        self.position -= 1

    def skip(self, offset: int) -> None:
        """Go to the kernel's ``offset``, or to the end when it lies behind that."""
        while self.position < offset and next(self, None) is not None:
            pass


def _attributes(status: Stat, space: int) -> bytes:
    """fuse_attr."""
    atime, atime_nsec = _time(status.atime)
    mtime, mtime_nsec = _time(status.mtime)
    ctime, ctime_nsec = _time(status.ctime)
    major, minor = status.rdev
    return layout.ATTR.pack(
        inode_number(status.inode, space), status.size, -(-status.size // 512), atime, mtime, ctime,
        atime_nsec, mtime_nsec, ctime_nsec, status.st_mode & 0xFFFF, status.nlink & 0xFFFFFFFF,
        _owner(status.uid), _owner(status.gid),
        (minor & 0xFF) | (major << 8) & 0xFFF00 | (minor & ~0xFF) << 12 & 0xFFFFFFFF, _BLOCK, 0,
    )  # fmt: skip


def _time(nanoseconds: int) -> tuple[int, int]:
    """Seconds and nanoseconds, as near as the protocol gets: what a disk states may have more bits."""
    seconds, rest = divmod(nanoseconds, NANO)
    return max(-_MAX_SECONDS, min(seconds, _MAX_SECONDS)), rest


def _owner(number: int) -> int:
    """The owner to show: one that has more bits than there are owners is nobody, and never root."""
    return number if 0 <= number <= 0xFFFFFFFF else _NOBODY


def _sized(value: bytes, size: int) -> Reply:
    """The answer to a question about xattrs: the value, or how large it is when the asker gave no room."""
    if size == 0:
        return [layout.XATTR_SIZE.pack(len(value), 0)]
    if len(value) > size:
        raise Refused(errno.ERANGE)
    return [value]
