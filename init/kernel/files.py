"""Files that no disk holds as they are: stretches of others, and what was unpacked into memory."""

from __future__ import annotations

from collections.abc import Iterator

from fsdrivers.filesystem import File, Piece

CHUNK = 1 << 20


class Part(File):
    """A stretch of another file, as a file of its own."""

    def __init__(self, whole: File, path: str, offset: int, size: int) -> None:
        self._whole, self._offset = whole, offset
        self.path, self.size = path, size

    def pieces(self, offset: int = 0, length: int | None = None) -> Iterator[Piece]:
        rest = max(0, self.size - offset)
        wanted = rest if length is None else min(length, rest)
        for piece in self._whole.pieces(self._offset + offset, wanted):
            yield piece._replace(offset=piece.offset - self._offset)


class MemoryFile(File):
    """A file whose content is in memory."""

    def __init__(self, path: str, data: bytes | bytearray) -> None:
        self.path, self.size, self._data = path, len(data), memoryview(data)

    def pieces(self, offset: int = 0, length: int | None = None) -> Iterator[Piece]:
        end = self.size if length is None else min(self.size, offset + length)
        for start in range(offset, end, CHUNK):
            data = self._data[start : min(start + CHUNK, end)]
            yield Piece(start, len(data), data)
