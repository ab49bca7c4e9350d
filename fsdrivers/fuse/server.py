"""The server: reads requests of the kernel from a descriptor of /dev/fuse and has them answered.

One thread, one request at a time; whatever goes wrong costs the one request.
Sources: include/uapi/linux/fuse.h and fs/fuse/dev.c, v6.12.
"""

from __future__ import annotations

import errno
import os
import select
import struct
from collections.abc import Callable, Sequence

from fsdrivers.errors import FsError, NotFound
from fsdrivers.filesystem import Filesystem
from fsdrivers.fuse import layout
from fsdrivers.fuse.answers import Answers, Refused, Reply

BUFFER = 1 << 17  # bytes of the largest request: a name or an xattr that nobody can set here
MAX_LOGGED = 200  # different complaints that are logged
IDLE = 10.0  # seconds without a request
IOV = 1000  # pieces of one reply, below UIO_MAXIOV

# What a writable file system would be asked for; the mount is read-only, so few of these ever come.
_WRITES = frozenset((
    layout.SETATTR, layout.SYMLINK, layout.MKNOD, layout.MKDIR, layout.UNLINK, layout.RMDIR, layout.RENAME, layout.LINK,
    layout.WRITE, layout.SETXATTR, layout.REMOVEXATTR, layout.CREATE, layout.FALLOCATE, layout.RENAME2, layout.TMPFILE,
    layout.COPY_FILE_RANGE,
))  # fmt: skip


class Server:
    """Answers for ``filesystem`` on ``fd``; what cannot be read is told to ``log`` once and becomes EIO."""

    def __init__(self, filesystem: Filesystem, fd: int, log: Callable[[str], None], *, shared: bool = True) -> None:
        """``shared`` as it was mounted: access control lists make the kernel check permissions.

        Raises FsError when the tree's root cannot be read.
        """
        self.fd, self._log = fd, log
        self._logged: set[str] = set()
        answers = Answers(filesystem, self._complain, shared)
        self._nodes, self._handlers, self._init = answers.nodes, answers.handlers, answers.init
        self._running = True
        self._buffer = bytearray(BUFFER)
        self._whole = memoryview(self._buffer)
        os.set_blocking(fd, False)

    # --- the loop -----------------------------------------------------------------------------

    def serve(self, stop: int = -1) -> None:
        """Answer until the file system is unmounted, or until the descriptor ``stop`` becomes readable.

        Raises OSError only when the device itself fails.
        """
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        if stop >= 0:
            poll.register(stop, select.POLLIN)
        while self.answer():
            if any(fd == stop for fd, _ in poll.poll()):
                return

    def answer(self) -> bool:
        """Answer one request, if one is waiting; False when the file system is unmounted.

        Raises OSError only when the device itself fails.
        """
        try:
            length = os.readv(self.fd, (self._buffer,))
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.ECONNABORTED):
                return False
            if error.errno in (errno.ENOENT, errno.EINTR):
                return True  # the request was given up while we fetched it
            raise
        self.handle(self._whole[:length])
        return self._running

    def handle(self, request: memoryview) -> None:
        """Answer one request; what is shorter than it has to be is passed over."""
        try:
            length, opcode, unique, number, *_ = layout.IN_HEADER.unpack_from(request)
            body = request[layout.IN_HEADER.size : length]
            if opcode == layout.FORGET:
                self._nodes.forget(number, layout.FORGET_IN.unpack_from(body)[0])
                return
            if opcode == layout.BATCH_FORGET:
                self._batch_forget(body)
                return
        except struct.error:
            self._complain(f"a request of {len(request)} bytes is too short")
            return
        self._send(unique, *self._answer(opcode, number, body))

    def _answer(self, opcode: int, number: int, body: memoryview) -> tuple[int, Reply]:
        """The errno (0 for success) and the parts of the reply."""
        try:
            handler = self._handlers.get(opcode)
            if handler is not None:
                return 0, handler(self._nodes.get(number), body)
            if opcode == layout.INIT:
                return 0, self._init(body)
            if opcode == layout.DESTROY:
                self._running = False
                return 0, []
            return (errno.EROFS if opcode in _WRITES else errno.ENOSYS), []
        except Refused as refused:
            return refused.code, []
        except FsError as error:
            self._complain(str(error))
            return errno.ENOENT if isinstance(error, NotFound) else errno.EIO, []
        except KeyError:
            return errno.ESTALE, []
        except MemoryError:
            self._complain("out of memory")
            return errno.ENOMEM, []
        except Exception as error:
            # A root file system hangs on this loop: a bug must cost one request, not the machine.
            self._complain(f"internal: {type(error).__name__}: {error} (request {opcode}, please report)")
            return errno.EIO, []

    def _send(self, unique: int, code: int, reply: Reply) -> None:
        if len(reply) > IOV:
            reply = [b"".join(reply)]
        length = layout.OUT_HEADER.size + sum(map(len, reply))
        try:
            os.writev(self.fd, [layout.OUT_HEADER.pack(length, -code, unique), *reply])
        except OSError as error:
            # ENOENT: who asked was killed meanwhile.  ENODEV: unmounted, which the next read will tell.
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                self._complain(f"request {unique} was answered in a way that the kernel refuses: {error.strerror}")
                if reply:
                    self._send(unique, errno.EIO, [])

    def _complain(self, text: str) -> None:
        if text in self._logged or len(self._logged) > MAX_LOGGED:
            return
        self._logged.add(text)
        self._log(text if len(self._logged) <= MAX_LOGGED else "further errors are not shown")

    def _batch_forget(self, body: memoryview) -> None:
        count, _ = layout.BATCH_FORGET_IN.unpack_from(body)
        start = layout.BATCH_FORGET_IN.size
        count = min(count, (len(body) - start) // layout.FORGET_ONE.size)
        for number, lookups in layout.FORGET_ONE.iter_unpack(body[start : start + count * layout.FORGET_ONE.size]):
            self._nodes.forget(number, lookups)


def serve_all(servers: Sequence[Server], idle: Callable[[], None]) -> None:
    """Answer for all of ``servers`` until each is unmounted; calls ``idle`` when nobody asked for IDLE seconds.

    Raises OSError only when the device itself fails.
    """
    active = {server.fd: server for server in servers}
    poll = select.poll()
    for fd in active:
        poll.register(fd, select.POLLIN)
    while active:
        ready = poll.poll(int(IDLE * 1000))
        if not ready:
            idle()
        for fd, _ in ready:
            if not active[fd].answer():
                poll.unregister(fd)
                del active[fd]
