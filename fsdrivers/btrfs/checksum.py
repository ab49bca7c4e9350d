"""The four checksums of btrfs, and the tree that keeps those of the data.

Source: fs/btrfs/fs.c:btrfs_csums, fs/btrfs/disk-io.c:csum_tree_block, fs/btrfs/file-item.c:btrfs_lookup_csum, v6.12.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack
from typing import TYPE_CHECKING, NamedTuple

from fsdrivers.btrfs import layout
from fsdrivers.checksums.crc32c import crc32c
from fsdrivers.checksums.xxhash64 import xxhash64
from fsdrivers.errors import Corrupt

if TYPE_CHECKING:
    from fsdrivers.btrfs.tree import Tree

Buffer = bytes | bytearray | memoryview


class Type(NamedTuple):
    """One kind of checksum: ``size`` in bytes as stored, ``sum`` of one buffer, ``sums`` of each sector of a buffer."""

    name: str
    size: int
    sum: Callable[[Buffer], bytes]
    sums: Callable[[memoryview, int], bytes]


def _crc32c_sum(data: Buffer) -> bytes:
    return crc32c(data).to_bytes(4, "little")


def _crc32c_sums(data: memoryview, sector: int) -> bytes:
    crc = crc32c
    values = [crc(data[at : at + sector]) for at in range(0, len(data), sector)]
    return pack(f"<{len(values)}I", *values)


def _sha256_sum(data: Buffer) -> bytes:
    from hashlib import sha256  # costs milliseconds, and few filesystems need it

    return sha256(data).digest()


def _blake2b_sum(data: Buffer) -> bytes:
    from hashlib import blake2b

    return blake2b(data, digest_size=32).digest()


def _by_sector(one: Callable[[Buffer], bytes]) -> Callable[[memoryview, int], bytes]:
    def sums(data: memoryview, sector: int) -> bytes:
        return b"".join([one(data[at : at + sector]) for at in range(0, len(data), sector)])

    return sums


TYPES = {
    0: Type("crc32c", 4, _crc32c_sum, _crc32c_sums),
    1: Type("xxhash64", 8, xxhash64, _by_sector(xxhash64)),
    2: Type("sha256", 32, _sha256_sum, _by_sector(_sha256_sum)),
    3: Type("blake2b", 32, _blake2b_sum, _by_sector(_blake2b_sum)),
}


def name_hash(name: bytes) -> int:
    """The hash that DIR_ITEM keys carry: CRC-32C from the seed ~1 without the final inversion.

    Source: fs/btrfs/dir-item.c:btrfs_name_hash, v6.12.
    """
    return crc32c(name, 1) ^ 0xFFFFFFFF


class DataSums:
    """The checksums of file data, from the checksum tree."""

    def __init__(self, tree: Tree, size: int, sectorsize: int, name: str) -> None:
        self._tree, self._size, self._sector, self._name = tree, size, sectorsize, name
        self._start = self._end = 0
        self._data: memoryview = memoryview(b"")

    def lookup(self, start: int, length: int) -> bytes | memoryview:
        """One checksum for each sector of [start, start + length); raises Corrupt when one is absent."""
        parts = []
        at, end = start, start + length
        while at < end:
            if not self._start <= at < self._end:
                self._seek(at)
            stop = min(end, self._end)
            first = (at - self._start) // self._sector * self._size
            last = (stop - self._start) // self._sector * self._size
            parts.append(self._data[first:last])
            at = stop
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _seek(self, address: int) -> None:
        """Make the item around ``address`` the current one."""
        item = self._tree.at_or_before(layout.EXTENT_CSUM_ID, layout.EXTENT_CSUM, address)
        if item is not None:
            covered = item.size // self._size * self._sector
            if item.offset % self._sector == 0 and address < item.offset + covered:
                self._start, self._end = item.offset, item.offset + covered
                self._data = memoryview(item.raw)[item.start : item.start + item.size]
                return
        raise Corrupt(self._name, "data checksums (there is none for this address)", address)
