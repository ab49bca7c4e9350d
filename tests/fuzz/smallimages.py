"""The committed images of tests/images, as far as they hold anything: disks in memory, without files in between."""

from __future__ import annotations

import io
import tarfile

import zstandard
from target import PROJECT

from fsdrivers.block import BlockDevice

BLOCK = 64 << 10


class SparseDisk(BlockDevice):
    """Blocks of BLOCK bytes by number, zeros elsewhere, with patches over them."""

    def __init__(self, name: str, size: int, blocks: dict[int, bytes], patches: dict[int, bytes] | None = None) -> None:
        self.name, self.size, self.blocks, self.patches = name, size, blocks, patches or {}

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check(offset, len(buffer))
        end = offset + len(buffer)
        for number in range(offset // BLOCK, -(-end // BLOCK)):
            start = number * BLOCK
            low, high = max(start, offset), min(start + BLOCK, end)
            block = self.blocks.get(number)
            buffer[low - offset : high - offset] = block[low - start : high - start] if block else bytes(high - low)
        for start, data in self.patches.items():
            low, high = max(start, offset), min(start + len(data), end)
            if low < high:
                buffer[low - offset : high - offset] = data[low - start : high - start]

    def patched(self, patches: dict[int, bytes]) -> SparseDisk:
        """The same disk with ``patches`` (bytes by offset) over it."""
        return SparseDisk(self.name, self.size, self.blocks, patches)


def disks(archive: str) -> list[SparseDisk]:
    """The disks in tests/images/``archive``.tar.zst."""
    path = PROJECT / "tests" / "images" / f"{archive}.tar.zst"
    found = []
    with (
        path.open("rb") as raw,
        zstandard.ZstdDecompressor().stream_reader(raw) as plain,
        tarfile.open(fileobj=io.BufferedReader(plain, 1 << 20), mode="r|") as tar,
    ):
        for member in tar:
            content = tar.extractfile(member) if member.name.endswith((".img", ".raw")) else None
            if content is None:
                continue
            blocks = {}
            for number in range(-(-member.size // BLOCK)):
                block = content.read(BLOCK)
                if block.count(0) != len(block):
                    blocks[number] = block.ljust(BLOCK, b"\0")
            found.append(SparseDisk(member.name.rpartition("/")[2], member.size, blocks))
    return sorted(found, key=lambda disk: disk.name)
