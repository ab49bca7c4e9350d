"""Edon-R 512 over the pool's salt and the data, cut to 256 bits, as ZFS uses it.

Source: OpenZFS module/zfs/edonr_zfs.c:abd_checksum_edonr_tmpl_init, module/icp/algs/edonr/edonr.c:EdonRFinal, 2.3.
"""

from __future__ import annotations

from functools import lru_cache

from fsdrivers.native.hashes import edonr512_blocks

_BLOCK = 128
_INITIAL = b"".join(bytes(range(first, first + 8))[::-1] for first in range(0x80, 0x100, 8))


def digest(data: bytes | bytearray | memoryview, salt: bytes) -> bytes:
    """The 32 bytes of the digest; ``salt`` is the pool's (DMU_POOL_CHECKSUM_SALT), 32 bytes."""
    return _finish(_salted(bytes(salt)), _BLOCK, data)[:32]


@lru_cache(maxsize=16)
def _salted(salt: bytes) -> bytes:
    """The pipe after one block made of the salt's hash and the hash of that."""
    once = edonr512(salt)
    return edonr512_blocks(_INITIAL, once + edonr512(once))


def edonr512(data: bytes) -> bytes:
    """The plain hash, 64 bytes."""
    return _finish(_INITIAL, 0, data)


def _finish(pipe: bytes, before: int, data: bytes | bytearray | memoryview) -> bytes:
    """The hash of ``data`` and the ``before`` bytes that are in ``pipe`` already."""
    whole = len(data) // _BLOCK * _BLOCK
    tail = bytes(data[whole:]) + b"\x80"
    # The length in bits fills the last 8 bytes of a block.
    tail += bytes(-(len(tail) + 8) % _BLOCK) + (8 * (before + len(data))).to_bytes(8, "little")
    return edonr512_blocks(edonr512_blocks(pipe, bytes(data[:whole])), tail)[64:]
