"""What firmware and the kernel say: EFI variables, boot options, FUSE requests."""

from __future__ import annotations

import os
import struct
import tempfile
from functools import cache

from memoryfs import MemoryFilesystem
from target import Target

from fsdrivers.errors import FsError
from fsdrivers.fuse import Server, layout
from init.firmware import bootvars, efivars, stub
from init.firmware.efivars import GLOBAL, LOADER, POOLBOOT

# --- EFI variables -----------------------------------------------------------------------------------

NAMES = (
    f"Boot0001-{GLOBAL}", f"BootOrder-{GLOBAL}", f"BootNext-{GLOBAL}", f"SecureBoot-{GLOBAL}", f"StubInfo-{LOADER}",
    f"LoaderDevicePartUUID-{LOADER}", f"StubDevicePartUUID-{LOADER}", f"StubImageIdentifier-{LOADER}",
    f"{stub.KNOBS}-{POOLBOOT}",
)  # fmt: skip


class _Directory:
    """A directory that looks like efivarfs, for as long as the process lives."""

    def __init__(self) -> None:
        self._room = tempfile.TemporaryDirectory(prefix="efivars-")
        self.path = self._room.name


@cache
def _directory() -> _Directory:
    return _Directory()


def _variables(data: bytes) -> int:
    """Variables one after the other, each with its length (u16) in front."""
    path, at = _directory().path, 0
    for name in NAMES:
        size = int.from_bytes(data[at : at + 2], "little")
        content, at = data[at + 2 : at + 2 + size], at + 2 + size
        with open(f"{path}/{name}", "wb") as file:
            file.write(content)
    variables = efivars.Variables(path)
    menu = bootvars.BootMenu(variables)
    efivars.secure_boot(variables)
    came = stub.origin(variables)
    stub.read_variable(variables)
    for number in [*menu.order(), menu.next() or 0]:
        assert 0 <= number <= 0xFFFF
    for option in menu.options():
        assert option.name == "Boot0001"
    if came is None and not menu.options():
        raise FsError("nothing there")
    return len(menu.options())


def _variables_seed() -> bytes:
    part = bootvars.Partition(1, 2048, 4096, bytes(range(16)), True)
    contents = (
        bootvars.encode("Linux", bootvars.device_path(part, "/EFI/debian/shimx64.efi"), b"data"), b"\1\0\2\0", b"\1\0",
        b"\1", efivars.ucs2("systemd-stub 257"), efivars.ucs2("0" * 36), efivars.ucs2("1" * 36),
        efivars.ucs2("\\EFI\\poolboot\\poolboot.efi"), b"timeout=3\n",
    )  # fmt: skip
    whole = [b"\7\0\0\0" + content for content in contents]
    return b"".join(struct.pack("<H", len(one)) + one for one in whole)


def _boot_option(data: bytes) -> int:
    found = bootvars.decode(1, data)
    if found is None:
        raise FsError("none")
    assert "\0" not in found.description
    assert "\0" not in found.file
    assert len(found.data) <= len(data)
    return len(found.data)


def _boot_option_seed() -> bytes:
    part = bootvars.Partition(1, 2048, 4096, bytes(range(16)), True)
    return bootvars.encode("Linux", bootvars.device_path(part, "/EFI/debian/shimx64.efi"), b"data")


# --- FUSE --------------------------------------------------------------------------------------------

TREE: dict[str, object] = {"file": b"content" * 900, "link": "file", "directory": {"inner": b"x"}}


def _fuse(data: bytes) -> int:
    """Requests one after the other, each of the length that its header says, at least of a header's."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    log: list[str] = []
    try:
        server = Server(MemoryFilesystem(TREE), null, log.append)
        at = count = 0
        while at < len(data) and count < 64:
            size = max(1, int.from_bytes(data[at : at + 4], "little") % 4096)
            server.handle(memoryview(data)[at : at + size])
            at, count = at + size, count + 1
    finally:
        os.close(null)
    # The kernel sends no bodies that are too short, and does not read a directory as a file, which the tree's double
    # asserts: such requests, and no others, may be what the server did not expect.
    internal = [text for text in log if text.startswith("internal")]
    assert all("unpack_from requires" in text or "AssertionError:  (request" in text for text in internal), internal
    return count


def _request(opcode: int, node: int, body: bytes = b"") -> bytes:
    return layout.IN_HEADER.pack(layout.IN_HEADER.size + len(body), opcode, 77, node, 0, 0, 1, 0, 0) + body


def _fuse_seed() -> bytes:
    hello = _request(layout.INIT, 0, struct.pack("=IIII48x", 7, 41, 1 << 17, 0xFFFFFFFF))
    read = struct.pack("=QQIIQII", 0, 0, 4096, 0, 0, 0, 0)
    names = [_request(layout.LOOKUP, 1, name + b"\0") for name in (b"file", b"link", b"directory")]
    asked = [
        _request(layout.GETATTR, 1, bytes(16)), _request(layout.READDIR, 1, read),
        _request(layout.READDIRPLUS, 1, read),
        _request(layout.READ, 2, read), _request(layout.READLINK, 3), _request(layout.STATFS, 1),
        _request(layout.GETXATTR, 2, layout.XATTR_SIZE.pack(100, 0) + b"user.x\0"),
        _request(layout.LISTXATTR, 2, layout.XATTR_SIZE.pack(100, 0)), _request(layout.OPEN, 2, bytes(8)),
        _request(layout.FORGET, 2, layout.FORGET_IN.pack(1)), _request(layout.WRITE, 2, read),
        _request(layout.BATCH_FORGET, 0, layout.BATCH_FORGET_IN.pack(1, 0) + layout.FORGET_ONE.pack(3, 1)),
    ]  # fmt: skip
    return hello + b"".join(names + asked)


TARGETS = (
    Target("efi-variables", _variables, lambda: [_variables_seed()], 2048),
    Target("boot-option", _boot_option, lambda: [_boot_option_seed()], 2048),
    Target("fuse", _fuse, lambda: [_fuse_seed()], 4096),
)
