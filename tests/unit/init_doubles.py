"""Doubles for tests of the init: pools of trees in memory, kernels that are only a header, a console on pipes."""

from __future__ import annotations

import os
import struct

from memoryfs import MemoryFilesystem

from fsdrivers.errors import FsError, NotFound
from fsdrivers.filesystem import Filesystem
from fsdrivers.pool import Pool, Root, Slot
from init.console.console import Console
from init.roots import TOP_LEVEL, BootRoot

UUID = "0f6c2a8e-1f7d-4c55-9a3e-5f0d8f8f2a11"


def bzimage(version: str, cmdline_size: int = 2047, size: int = 0x3000) -> bytes:
    """What identifies a bzImage, and nothing behind it."""
    image = bytearray(size)
    image[0x1FE:0x206] = b"\x55\xaa\xeb\x6aHdrS"
    struct.pack_into("<H", image, 0x206, 0x20F)
    struct.pack_into("<H", image, 0x20E, 0x1000 - 0x200)
    struct.pack_into("<HI", image, 0x236, 0x7F, cmdline_size)
    text = f"{version} (builder@host) #1 SMP\0".encode()
    image[0x1000 : 0x1000 + len(text)] = text
    return bytes(image)


def initrd(version: str) -> bytes:
    return f"initrd of {version}".encode()


def system(*versions: str, **etc: object) -> dict[str, object]:
    """The tree of an installed system with these kernels; ``etc`` are files in /etc."""
    boot: dict[str, object] = {f"vmlinuz-{version}": bzimage(version) for version in versions}
    boot |= {f"initrd.img-{version}": initrd(version) for version in versions}
    return {
        "boot": boot,
        "etc": {"os-release": b'PRETTY_NAME="Test Linux 1"\nNAME=Test\n', **etc},
        "sbin": {"init": b"\x7fELF init"},
        "usr": {"bin": {}},
        "lib": {"modules": {version: {} for version in versions}},
    }


class MemoryPool(Pool):
    """A btrfs pool of trees in memory, by name; the first is the default one and the top level when called "/"."""

    kind = "btrfs"

    def __init__(
        self,
        trees: dict[str, dict[str, object] | FsError],
        name: str = "tank",
        uuid: str = UUID,
        missing: int = 0,
        readonly: tuple[str, ...] = (),
        trouble: FsError | None = None,
        origins: dict[str, str] | None = None,
        kind: str = "btrfs",
    ) -> None:
        """``origins``: names of snapshots and of what they were made from."""
        self.name, self.uuid, self.trouble = name, uuid, trouble
        self.slots = tuple(
            Slot(
                i,
                f"slot-{i}",
                None if i <= missing else f"/dev/vd{chr(96 + i)}",
                "missing" if i <= missing else "online",
            )
            for i in range(1, 4)
        )
        self.trees = trees
        self.readonly = readonly
        self.kind, self.origins = kind, origins or {}
        self.opened: list[str] = []

    def roots(self) -> list[Root]:
        if self.trouble:
            raise self.trouble
        uuids = {name: f"uuid-{i}" for i, name in enumerate(self.trees)}
        return [
            Root(
                name,
                TOP_LEVEL if name == "/" else 256 + i,
                uuids[name],
                i == 0,
                name in self.readonly,
                (1_700_000_000 + i) * 10**9 if name in self.readonly else 0,
                max((other for other in self.trees if name.startswith(other + "/")), key=len, default="/"),
                origin=uuids.get(self.origins.get(name, ""), ""),
            )
            for i, name in enumerate(self.trees)
        ]

    def open(self, root: str | None = None) -> Filesystem:
        name = root if root is not None else next(iter(self.trees))
        self.opened.append(name)
        tree = self.trees.get(name)
        if tree is None:
            raise NotFound(name)
        if isinstance(tree, FsError):
            raise tree
        filesystem = MemoryFilesystem(tree, name)
        filesystem.uuid = self.uuid
        return filesystem


def place(tree: dict[str, object], name: str = "@", missing: int = 0) -> BootRoot:
    """One opened root that is a subvolume ``name`` but not the default."""
    pool = MemoryPool({"/": {}, name: tree}, missing=missing)
    root = next(root for root in pool.roots() if root.name == name)
    return BootRoot(pool, root, pool.open(name))


class TestConsole(Console):
    """A console whose input is a string typed in advance and whose output is kept."""

    __test__ = False

    def __init__(self, typed: str = "") -> None:
        self._out_read, out = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        source, sink = os.pipe2(os.O_CLOEXEC)
        os.write(sink, typed.encode())
        os.close(sink)
        super().__init__((out,), (source,))

    def output(self) -> str:
        """All that was printed since the last call."""
        data = b""
        while True:
            try:
                data += os.read(self._out_read, 65536)
            except BlockingIOError:
                return data.decode()

    def lines(self) -> list[str]:
        return self.output().splitlines()
