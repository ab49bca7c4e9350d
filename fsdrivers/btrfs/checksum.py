"""The four checksums of btrfs.

Source: fs/btrfs/fs.c:btrfs_csums, fs/btrfs/disk-io.c:csum_tree_block, v6.12.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack
from typing import NamedTuple

from fsdrivers.checksums.crc32c import crc32c
from fsdrivers.checksums.xxhash64 import xxhash64

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
