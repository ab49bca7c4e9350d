"""Skein-512 with 256 bits of output, keyed with the pool's salt, as ZFS uses it.

Sources: The Skein Hash Function Family, version 1.3; OpenZFS module/zfs/skein_zfs.c, 2.3.
"""

from __future__ import annotations

from functools import lru_cache
from struct import pack

from fsdrivers.native.hashes import skein512_ubi

_KEY, _CONFIG, _MESSAGE, _OUTPUT = 0, 4, 48, 63  # types of UBI calls
_SCHEMA = 0x133414853  # "SHA3", version 1


def digest(data: bytes | bytearray | memoryview, salt: bytes) -> bytes:
    """The 32 bytes of the digest; ``salt`` is the pool's (DMU_POOL_CHECKSUM_SALT), 32 bytes."""
    state = _ubi(_keyed(bytes(salt), 32), data, _MESSAGE)
    return _ubi(state, bytes(8), _OUTPUT)[:32]


@lru_cache(maxsize=16)
def _keyed(key: bytes, size: int) -> bytes:
    """The chaining value before the message, for a key (empty: none) and a digest of ``size`` bytes."""
    state = _ubi(bytes(64), key, _KEY) if key else bytes(64)
    return _ubi(state, pack("<4Q", _SCHEMA, size * 8, 0, 0), _CONFIG)


def _ubi(state: bytes, data: bytes | bytearray | memoryview, kind: int) -> bytes:
    """One unique block iteration over all of ``data``."""
    length = len(data)
    padding = 64 - length if length < 64 else -length % 64
    whole = bytes(data) + bytes(padding) if padding else bytes(data)
    return skein512_ubi(state, whole, length, kind)
