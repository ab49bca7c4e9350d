"""Block devices: things that have a name, a size and bytes at offsets.

Everything here opens for reading only; there is no way to write through these classes.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence

from fsdrivers.errors import ReadError

_ASIDE = 48
_VECTOR = 1024  # buffers that one system call fills (UIO_MAXIOV)
_ROOMS = 8  # rooms that are kept for the next ones who ask


class Rooms:
    """Memory to read into, used again once nobody looks at it any more: fresh memory costs its zeroing and page faults.

    The C library places large objects 16 bytes behind the start of a page, and there copies out of the page cache run
    at a sixth of their speed on AMD processors since Zen 3 (measured: 1.9 instead of 12 GB/s).
    """

    def __init__(self, size: int) -> None:
        """Rooms of ``size`` bytes are kept; others are made for the occasion, small things pin no large ones."""
        self._size = size
        self._kept: deque[bytearray] = deque()
        # The C library gives memory back to the kernel with every block that it frees, and has it zeroed again with
        # the next one, until it has seen a large block come and go (mallopt(3): M_MMAP_THRESHOLD).
        bytes(4 * size)

    def take(self, length: int) -> memoryview:
        """``length`` bytes with anything in them.  Threads may call this at the same time."""
        if not self._size // 4 < length <= self._size:
            return memoryview(bytearray(length + _ASIDE))[_ASIDE:]
        memory = self._free() or bytearray(_ASIDE + self._size)
        view = memoryview(memory)[_ASIDE : _ASIDE + length]
        # With a view on it, so that no other thread takes it for free.
        if len(self._kept) < _ROOMS:
            self._kept.append(memory)
        return view

    def _free(self) -> bytearray | None:
        """Memory that nobody has a view on, no longer kept here."""
        for _ in range(len(self._kept)):
            try:
                memory = self._kept.popleft()  # given out first, and so the likeliest to be free
            except IndexError:  # another thread has it
                break
            try:
                # Only what nobody has a view on can change its size.
                memory.pop()
                memory.append(0)
            except BufferError:
                self._kept.append(memory)
                continue
            return memory
        return None


class BlockDevice(ABC):
    """Something to read bytes from; offsets and sizes are in bytes.

    ``name`` is how messages call the device ("/dev/vda2", "d0.img").
    """

    name: str
    size: int

    @abstractmethod
    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes at ``offset``; raises ReadError when not all of them can be had."""

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes at ``offset``; raises ReadError when not all of them can be had."""
        # Checked before allocating: the length may come from a hostile disk.
        self.check(offset, length)
        buffer = bytearray(length)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_scattered(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill ``buffers`` one after the other with the bytes at ``offset``; raises ReadError when it cannot."""
        for buffer in buffers:
            self.read_into(offset, buffer)
            offset += len(buffer)

    def check(self, offset: int, length: int) -> None:
        """Raise ReadError unless ``length`` bytes at ``offset`` lie inside of the device."""
        if length < 0 or offset < 0 or offset + length > self.size:
            raise ReadError(self.name, offset, length, f"outside of the device ({self.size} bytes)")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.size} bytes>"


class FileDevice(BlockDevice):
    """A block special file or a disk image."""

    def __init__(self, path: str, name: str | None = None) -> None:
        """Open ``path`` read-only; raises ReadError when that fails or it has no size (a directory, a fifo)."""
        self.name = name if name is not None else path
        try:
            # O_NONBLOCK: opening a fifo or an empty drive must not hang.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise self._failed(0, 0, error) from error
        try:
            self.size = os.lseek(self._fd, 0, os.SEEK_END)
            os.pread(self._fd, 1, 0)
        except OSError as error:
            self.close()
            raise self._failed(0, 0, error) from error

    def read(self, offset: int, length: int) -> bytes:
        self.check(offset, length)
        try:
            data = os.pread(self._fd, length, offset)
        except OSError as error:
            raise self._failed(offset, length, error) from error
        if len(data) == length:
            return data
        # Short reads happen on signals and at 2 GiB: go the slow way for the whole.
        return super().read(offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        length, done = len(buffer), 0
        self.check(offset, length)
        while done < length:
            count = self._preadv(offset, length, [buffer[done:]], done)
            if not count:
                raise ReadError(self.name, offset, length, "the device ended early")
            done += count

    def read_scattered(self, offset: int, buffers: Sequence[memoryview]) -> None:
        length = sum(map(len, buffers))
        self.check(offset, length)
        if len(buffers) <= _VECTOR and self._preadv(offset, length, buffers) == length:
            return
        super().read_scattered(offset, buffers)

    def _preadv(self, offset: int, length: int, buffers: Sequence[memoryview], done: int = 0) -> int:
        """One call of preadv(2) behind the ``done`` bytes of ``length`` at ``offset`` that are there; how many came."""
        try:
            return os.preadv(self._fd, buffers, offset + done)
        except OSError as error:
            raise self._failed(offset, length, error) from error

    def _failed(self, offset: int, length: int, error: OSError) -> ReadError:
        return ReadError(self.name, offset, length, error.strerror or str(error))

    def close(self) -> None:
        """Close the file; reading afterwards raises ReadError.  Closing twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        if hasattr(self, "_fd"):  # opening may have failed
            self.close()

    def __enter__(self) -> FileDevice:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Slice(BlockDevice):
    """A part of another device: a partition, or a member inside a container; ``start`` in bytes."""

    def __init__(self, parent: BlockDevice, start: int, size: int, name: str) -> None:
        # A partition table may lie about sizes (a truncated image): what is not there is not ours.
        self.parent, self.start, self.name = parent, start, name
        self.size = max(0, min(size, parent.size - start))

    def read(self, offset: int, length: int) -> bytes:
        self.check(offset, length)
        return self.parent.read(self.start + offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check(offset, len(buffer))
        self.parent.read_into(self.start + offset, buffer)

    def read_scattered(self, offset: int, buffers: Sequence[memoryview]) -> None:
        self.check(offset, sum(map(len, buffers)))
        self.parent.read_scattered(self.start + offset, buffers)
