"""XXH64 with seed 0, as btrfs uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from fsdrivers.native import core

_intdigest = cast("Callable[..., int]", core("_xxhash", "xxhash._xxhash").xxh64_intdigest)


def xxhash64(data: bytes | bytearray | memoryview) -> bytes:
    """The 8 bytes that btrfs stores: little-endian, unlike the canonical form of the algorithm.

    Source: fs/btrfs/fs.c (csum type "xxhash64"), crypto/xxhash_generic.c:xxhash64_final (put_unaligned_le64), v6.12.
    """
    return _intdigest(data).to_bytes(8, "little")
