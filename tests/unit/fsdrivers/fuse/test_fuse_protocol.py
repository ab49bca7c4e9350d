"""The FUSE server's answers, byte by byte, over a socket that plays the kernel."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Iterator

import pytest
from memoryfs import Damaged, MemoryFilesystem

from fsdrivers.errors import Corrupt
from fsdrivers.filesystem import Filesystem, Node, Stat
from fsdrivers.fuse import Server, layout, serve_all, server
from fsdrivers.fuse.nodes import Nodes

# include/uapi/linux/fuse.h, v6.12
SIZES = {
    "IN_HEADER": 40, "OUT_HEADER": 16, "INIT_OUT": 64, "ATTR": 88, "ATTR_OUT": 16, "ENTRY_OUT": 40, "READ_IN": 24,
    "OPEN_OUT": 16, "DIRENT": 24, "STATFS_OUT": 80, "XATTR_SIZE": 8, "FORGET_ONE": 16,
}  # fmt: skip


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_sizes(name: str, size: int) -> None:
    assert getattr(layout, name).size == size


def test_opcodes() -> None:
    assert (layout.LINK, layout.STATFS, layout.FLUSH, layout.RELEASEDIR, layout.FSYNC) == (13, 17, 25, 29, 20)


class Kernel:
    """The other end: sends requests and takes replies apart."""

    def __init__(self, filesystem: Filesystem, minor: int = 41, flags: int = 0xFFFFFFFF, shared: bool = True) -> None:
        self.log: list[str] = []
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self._ours, self._theirs = ours, theirs
        self.server = Server(filesystem, theirs.fileno(), self.log.append, shared=shared)
        code, self.init = self.ask(layout.INIT, 0, struct.pack("=IIII48x", 7, minor, 1 << 17, flags))
        assert code == 0

    def send(self, opcode: int, node: int, body: bytes = b"") -> None:
        self.server.handle(memoryview(layout.IN_HEADER.pack(40 + len(body), opcode, 77, node, 0, 0, 1, 0, 0) + body))

    def ask(self, opcode: int, node: int, body: bytes = b"") -> tuple[int, bytes]:
        self.send(opcode, node, body)
        reply = self._ours.recv(4 << 20)
        length, code, unique = layout.OUT_HEADER.unpack_from(reply)
        assert (length, unique) == (len(reply), 77)
        return -code, reply[16:]

    def request(self, opcode: int, node: int, body: bytes = b"") -> None:
        """Let the server fetch a request from its descriptor."""
        self._ours.send(layout.IN_HEADER.pack(40 + len(body), opcode, 77, node, 0, 0, 1, 0, 0) + body)

    def answers(self) -> list[int]:
        """The errnos of all replies so far."""
        self._ours.setblocking(False)
        codes = []
        while True:
            try:
                codes.append(-layout.OUT_HEADER.unpack_from(self._ours.recv(1 << 16))[1])
            except BlockingIOError:
                return codes

    def lookup(self, parent: int, name: str) -> int:
        code, reply = self.ask(layout.LOOKUP, parent, os.fsencode(name) + b"\0")
        assert code == 0
        return int(layout.ENTRY_OUT.unpack_from(reply)[0])

    def read(self, node: int, offset: int, size: int) -> tuple[int, bytes]:
        return self.ask(layout.READ, node, struct.pack("=QQIIQII", 0, offset, size, 0, 0, 0, 0))

    def names(self, node: int, size: int, plus: bool = True) -> Iterator[tuple[str, int, int]]:
        """(name, type, node id) of a directory, asked for in replies of ``size`` bytes."""
        offset = 0
        while True:
            opcode = layout.READDIRPLUS if plus else layout.READDIR
            code, reply = self.ask(opcode, node, struct.pack("=QQIIQII", 0, offset, size, 0, 0, 0, 0))
            assert code == 0
            assert len(reply) <= size
            if not reply:
                return
            while reply:
                number = layout.ENTRY_OUT.unpack_from(reply)[0] if plus else 0
                reply = reply[128 if plus else 0 :]
                _, offset, length, kind = layout.DIRENT.unpack_from(reply)
                yield os.fsdecode(reply[24 : 24 + length]), kind, number
                reply = reply[-(-(24 + length) // 8) * 8 :]


class WithXattrs(MemoryFilesystem):
    def xattrs(self, node: Node) -> dict[str, bytes]:
        return {"user.a": b"1", "security.capability": b"\0" * 20} if node != 0 else {}


TREE: dict[str, object] = {
    "file": b"content of a file",
    "link": "file",
    "dir": {f"name-{number}": b"%d" % number for number in range(500)},
    "caf\udce9": b"not UTF-8",
    "broken": Damaged(Corrupt("d0.img", "extent", 0x1000)),
}


def test_init_asks_for_what_the_kernel_offers_only() -> None:
    fields = layout.INIT_OUT.unpack(Kernel(MemoryFilesystem(TREE), minor=27, flags=layout.ASYNC_READ | 1 << 31).init)
    assert fields[:4] == (7, 27, 1 << 17, layout.ASYNC_READ)
    fields = layout.INIT_OUT.unpack(Kernel(MemoryFilesystem(TREE)).init)
    assert fields[1] == layout.MINOR
    assert fields[3] & layout.MAX_PAGES
    assert fields[8] == 256
    assert not fields[3] & layout.POSIX_ACL  # a driver without xattrs has no ACLs
    assert layout.INIT_OUT.unpack(Kernel(WithXattrs(TREE)).init)[3] & layout.POSIX_ACL
    assert not layout.INIT_OUT.unpack(Kernel(WithXattrs(TREE), shared=False).init)[3] & layout.POSIX_ACL


def test_a_kernel_of_another_age() -> None:
    kernel = Kernel(MemoryFilesystem(TREE))
    code, reply = kernel.ask(layout.INIT, 0, struct.pack("=IIII", 8, 0, 0, 0))
    assert (code, layout.INIT_OUT.unpack(reply)[0]) == (0, 7)
    assert kernel.ask(layout.INIT, 0, struct.pack("=IIII", 7, 12, 0, 0))[0] == errno.EPROTO


def test_lookup_getattr_read() -> None:
    kernel = Kernel(MemoryFilesystem(TREE))
    number = kernel.lookup(1, "file")
    code, reply = kernel.ask(layout.GETATTR, number, bytes(16))
    assert code == 0
    attributes = layout.ATTR.unpack_from(reply, 16)
    assert attributes[1] == 17
    assert attributes[9] == stat.S_IFREG | 0o644
    assert (attributes[4], attributes[7]) == (10**9, 5)  # mtime
    assert kernel.read(number, 8, 4096) == (0, b"of a file")
    assert kernel.read(number, 100, 4096) == (0, b"")
    assert kernel.ask(layout.READLINK, kernel.lookup(1, "link")) == (0, b"file")
    assert kernel.read(kernel.lookup(1, "caf\udce9"), 0, 99) == (0, b"not UTF-8")


def test_absent_names_are_cached() -> None:
    kernel = Kernel(MemoryFilesystem(TREE))
    code, reply = kernel.ask(layout.LOOKUP, 1, b"absent\0")
    number, _, valid, *_ = layout.ENTRY_OUT.unpack_from(reply)
    assert (code, number, len(reply)) == (0, 0, 128)
    assert valid > 1 << 20


@pytest.mark.parametrize("plus", [True, False])
@pytest.mark.parametrize("size", [300, 1000, 4096, 1 << 17])
def test_every_name_once_whatever_the_reply_holds(size: int, plus: bool) -> None:
    kernel = Kernel(MemoryFilesystem(TREE))
    names = list(kernel.names(kernel.lookup(1, "dir"), size, plus))
    assert [name for name, _, _ in names] == [f"name-{number}" for number in range(500)]
    assert {kind for _, kind, _ in names} == {8}
    top = {name: kind for name, kind, _ in kernel.names(1, size, plus)}
    assert top == {"file": 8, "link": 10, "dir": 4, "caf\udce9": 8, "broken": 8}


def test_many_listings_at_once() -> None:
    tree: dict[str, object] = {f"d{number}": {"a": b"", "b": b"x", "c": b"y"} for number in range(40)}
    kernel = Kernel(MemoryFilesystem(tree))
    walks = [kernel.names(kernel.lookup(1, f"d{number}"), 160) for number in range(40)]
    for name in "abc":
        assert {next(walk)[0] for walk in walks} == {name}


def test_hostile_names_are_left_out() -> None:
    kernel = Kernel(MemoryFilesystem({"..": b"", "a/b": b"x", "n" * 300: b"y", "n\0": b"y", "good": b"z"}))
    assert [name for name, _, _ in kernel.names(1, 4096)] == ["good"]
    assert len(kernel.log) == 4


def test_damage_is_eio_and_logged_once() -> None:
    kernel = Kernel(MemoryFilesystem(TREE))
    number = kernel.lookup(1, "broken")
    for _ in range(3):
        assert kernel.read(number, 0, 4096) == (errno.EIO, b"")
    assert kernel.log == ["d0.img: corrupt extent at offset 0x1000"]


def test_forgotten_objects_leave() -> None:
    kernel = Kernel(MemoryFilesystem(TREE))
    for _ in range(3):
        number = kernel.lookup(1, "file")
    other = kernel.lookup(1, "link")
    assert len(kernel.server._nodes) == 3
    kernel.send(layout.FORGET, number, struct.pack("=Q", 2))
    assert len(kernel.server._nodes) == 3
    kernel.send(layout.BATCH_FORGET, 0, struct.pack("=IIQQQQ", 2, 0, number, 1, other, 1))
    assert len(kernel.server._nodes) == 1
    assert kernel.ask(layout.GETATTR, number, bytes(16))[0] == errno.ESTALE
    kernel.send(layout.FORGET, 1, struct.pack("=Q", 5))  # the root stays
    assert kernel.ask(layout.GETATTR, 1, bytes(16))[0] == 0


def test_opening_needs_no_request() -> None:
    kernel = Kernel(MemoryFilesystem(TREE))
    number = kernel.lookup(1, "file")
    assert kernel.ask(layout.OPEN, number, bytes(8))[0] == errno.ENOSYS
    assert kernel.ask(layout.OPENDIR, 1, bytes(8))[0] == errno.ENOSYS
    old = Kernel(MemoryFilesystem(TREE), flags=0)
    code, reply = old.ask(layout.OPEN, old.lookup(1, "file"), bytes(8))
    assert (code, layout.OPEN_OUT.unpack(reply)[1]) == (0, layout.FOPEN_KEEP_CACHE)


def test_writes_and_the_unknown_are_refused() -> None:
    kernel = Kernel(MemoryFilesystem(TREE))
    for opcode in (layout.SETATTR, layout.WRITE, layout.MKDIR, layout.UNLINK, layout.CREATE, layout.SETXATTR):
        assert kernel.ask(opcode, 1, bytes(64)) == (errno.EROFS, b"")
    assert kernel.ask(999, 1) == (errno.ENOSYS, b"")
    assert kernel.ask(layout.INTERRUPT, 1, bytes(8)) == (errno.ENOSYS, b"")
    assert kernel.ask(layout.READ, 1, bytes(4))[0] == errno.EIO  # a request that is too short


def test_xattrs() -> None:
    kernel = Kernel(WithXattrs(TREE))
    number = kernel.lookup(1, "file")

    def get(name: bytes, size: int) -> tuple[int, bytes]:
        return kernel.ask(layout.GETXATTR, number, layout.XATTR_SIZE.pack(size, 0) + name + b"\0")

    assert get(b"user.a", 100) == (0, b"1")
    assert get(b"security.capability", 0) == (0, layout.XATTR_SIZE.pack(20, 0))
    assert get(b"security.capability", 19) == (errno.ERANGE, b"")
    assert get(b"user.b", 100) == (errno.ENODATA, b"")
    listing = b"user.a\0security.capability\0"
    assert kernel.ask(layout.LISTXATTR, number, layout.XATTR_SIZE.pack(99, 0)) == (0, listing)
    plain = Kernel(MemoryFilesystem(TREE))
    assert plain.ask(layout.GETXATTR, 1, layout.XATTR_SIZE.pack(9, 0) + b"user.a\0")[0] == errno.ENOSYS


class Nested(MemoryFilesystem):
    """Every directory has the root's inode number, as the roots of btrfs subvolumes do."""

    def stat(self, node: Node) -> Stat:
        status = super().stat(node)
        return status._replace(inode=256) if status.type == "directory" else status._replace(inode=257)


def test_nested_trees_have_inode_numbers_of_their_own() -> None:
    def seen() -> list[int]:
        kernel = Kernel(Nested({"a": {"f": b"1"}, "b": {"f": b"2"}, "f": b"3"}))
        numbers = [kernel.lookup(1, name) for name in "abf"]
        numbers += [kernel.lookup(number, "f") for number in numbers[:2]]
        return [layout.ATTR.unpack_from(kernel.ask(layout.GETATTR, n, bytes(16))[1], 16)[0] for n in (1, *numbers)]

    first = seen()
    assert len(set(first)) == 6
    assert first[0] == 256
    assert first[3] == 257
    assert seen() == first


def test_holes_and_many_pieces() -> None:
    from fsdrivers.filesystem import Piece

    class Sparse(MemoryFilesystem):
        def pieces(self, node: Node, offset: int, length: int) -> Iterator[Piece]:
            yield Piece(offset, length - 1500, None)
            for index in range(1500):
                yield Piece(offset + length - 1500 + index, 1, b"x")

    kernel = Kernel(Sparse({"f": b"1"}))
    code, data = kernel.read(kernel.lookup(1, "f"), 0, 1 << 20)
    assert code == 0
    assert data == bytes((1 << 20) - 1500) + b"x" * 1500


def test_a_bug_costs_one_request() -> None:
    class Buggy(MemoryFilesystem):
        def link_target(self, node: Node) -> str:
            raise ZeroDivisionError

    kernel = Kernel(Buggy(TREE))
    assert kernel.ask(layout.READLINK, kernel.lookup(1, "link"))[0] == errno.EIO
    assert "internal" in kernel.log[0]


@pytest.mark.parametrize(
    "request_",
    [b"", bytes(39), layout.IN_HEADER.pack(40, layout.FORGET, 77, 1, 0, 0, 1, 0, 0),
     layout.IN_HEADER.pack(44, layout.BATCH_FORGET, 77, 1, 0, 0, 1, 0, 0) + bytes(4)],
    ids=["empty", "half a header", "forget", "batch forget"],
)  # fmt: skip
def test_requests_that_break_off_cost_nothing_else(request_: bytes) -> None:
    kernel = Kernel(MemoryFilesystem({"file": b"x"}))
    kernel.server.handle(memoryview(request_))
    assert kernel.log == [f"a request of {len(request_)} bytes is too short"]
    assert kernel.lookup(1, "file")


def test_numbers_are_never_used_again() -> None:
    nodes = Nodes("root", 256)
    first = nodes.know("x", 300, nodes.root).id
    nodes.forget(first, 1)
    assert nodes.know("x", 300, nodes.root).id != first


class CountingXattrs(WithXattrs):
    """Counts how often the disk would be asked."""

    asked = 0

    def xattrs(self, node: Node) -> dict[str, bytes]:
        self.asked += 1
        value = self._value(node)
        return {"user.large": bytes(4096)} if value == TREE["file"] else super().xattrs(node)


def test_few_xattrs_are_remembered_and_many_are_not() -> None:
    filesystem = CountingXattrs(TREE)
    kernel = Kernel(filesystem)
    ask = layout.XATTR_SIZE.pack(64, 0) + b"trusted.overlay.metacopy\0"
    root, link, file = layout.ROOT_ID, kernel.lookup(1, "link"), kernel.lookup(1, "file")
    for number, count in ((root, 1), (link, 1), (file, 3)):
        before = filesystem.asked
        assert [kernel.ask(layout.GETXATTR, number, ask)[0] for _ in range(3)] == [errno.ENODATA] * 3
        assert filesystem.asked - before == count
    assert kernel.ask(layout.GETXATTR, link, layout.XATTR_SIZE.pack(64, 0) + b"user.a\0") == (0, b"1")


def test_one_process_answers_for_several_mounts() -> None:
    first, second = Kernel(MemoryFilesystem(TREE)), Kernel(MemoryFilesystem({"other": b"x"}))
    idle: list[int] = []
    for kernel, name in ((first, "file"), (second, "other"), (second, "file")):
        body = name.encode() + b"\0"
        kernel.request(layout.LOOKUP, 1, body)
    for kernel in (first, second):
        kernel.request(layout.DESTROY, 0)  # unmounted
    serve_all([first.server, second.server], lambda: idle.append(1))
    assert first.answers() == [0, 0]
    assert second.answers() == [0, 0, 0]
    assert idle == []


def test_who_waits_for_requests_is_told_that_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(MemoryFilesystem(TREE))
    monkeypatch.setattr(server, "IDLE", 0.01)
    serve_all([kernel.server], lambda: kernel.request(layout.DESTROY, 0))
    assert kernel.answers() == [0]


@pytest.mark.parametrize("extreme", [0, (1 << 64) - 1, 1 << 63, -(1 << 63), -(1 << 64)])
def test_numbers_of_64_bits_are_shown_as_near_as_can_be(extreme: int) -> None:
    from fsdrivers.fuse.answers import _attributes

    status = Stat(0o100644 | 1 << 40, 1 << 32, extreme, 5, 1 << 40, 7, *(extreme * 10**9,) * 3)
    fields = layout.ATTR.unpack(_attributes(status, 0))
    assert abs(fields[3]) == min(abs(extreme), (1 << 63) - 1)
    assert fields[9] == 0o100644
    assert fields[11] == 65534  # the owner, who must not turn out to be root
