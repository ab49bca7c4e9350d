"""SHA-256."""

from __future__ import annotations

from hashlib import sha256


def digest(data: bytes | bytearray | memoryview) -> bytes:
    """The 32 bytes of the digest; ZFS reads them as four big-endian words (OpenZFS module/zfs/sha2_zfs.c, 2.3)."""
    return sha256(data).digest()
