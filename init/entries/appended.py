"""poolboot.append-initrd=: archives that go behind the initrd of whatever is booted."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from fsdrivers.block import BlockDevice
from fsdrivers.bounds import around
from fsdrivers.errors import FsError, NotFound, ReadError
from fsdrivers.filesystem import File, Piece
from init.config import BootConfig
from init.entries.entry import BootEntry

CHUNK = 1 << 20
OURS, ESP, ROOT = "initramfs:", "esp:", "root:"


class LocalFile(File):
    """A file of the initramfs that we run from."""

    def __init__(self, path: str) -> None:
        """Raises NotFound when there is no such file."""
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            raise NotFound(path) from None
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            raise FsError(f"{path}: not a regular file")
        self.path, self.size = path, status.st_size

    def __del__(self) -> None:
        fd = getattr(self, "_fd", None)
        if fd is not None:
            os.close(fd)

    def pieces(self, offset: int = 0, length: int | None = None) -> Iterator[Piece]:
        end = self.size if length is None else min(self.size, offset + length)
        while offset < end:
            try:
                data = os.pread(self._fd, min(CHUNK, end - offset), offset)
            except OSError as error:
                raise ReadError(self.path, offset, end - offset, error.strerror or str(error)) from error
            if not data:
                return
            yield Piece(offset, len(data), data)
            offset += len(data)


def attach(entry: BootEntry, config: BootConfig, devices: Iterable[BlockDevice]) -> BootEntry:
    """``entry`` with the archives that poolboot.append-initrd= names; ``devices``: the disks on which those of "esp:"
    are looked for, the most trusted first.  Raises FsError when one is not there."""
    if not config.append_initrd or entry.appended:
        return entry
    return entry._replace(appended=tuple(_open(name, entry, devices) for name in config.append_initrd))


def _open(name: str, entry: BootEntry, devices: Iterable[BlockDevice]) -> File:
    try:
        if name.startswith(OURS):
            return LocalFile("/" + name.removeprefix(OURS).lstrip("/"))
        if name.startswith(ESP):
            return _on_partitions("/" + name.removeprefix(ESP).lstrip("/"), devices)
        return entry.place.filesystem.open("/" + name.removeprefix(ROOT).lstrip("/"))
    except FsError as error:
        raise FsError(f"poolboot.append-initrd={name}: {error}") from error


def _on_partitions(path: str, devices: Iterable[BlockDevice]) -> File:
    """The file on the first EFI system or boot partition that has it."""
    from fsdrivers import fat
    from init.entries.stated import boot_partitions

    for partition in boot_partitions(devices, lambda text: None):
        try:
            with around(f"{partition.name}: its file system", [partition]):
                filesystem = fat.open(partition)
        except FsError:  # told by who looks for entries on partitions
            continue
        try:
            return filesystem.open(path)
        except NotFound:
            continue
    raise NotFound(path)
