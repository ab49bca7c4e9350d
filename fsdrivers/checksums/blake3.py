"""BLAKE3, keyed with the pool's salt, as ZFS uses it.

Sources: BLAKE3, one function, fast everywhere (2021-11); OpenZFS module/zfs/blake3_zfs.c, 2.3.
"""

from __future__ import annotations

from fsdrivers.native.blake3 import blake3_nodes

_CHUNK = 1024  # bytes
_CHUNK_START, _CHUNK_END, _PARENT, _ROOT, _KEYED = 1, 2, 4, 8, 16  # flags of blocks


def digest(data: bytes | bytearray | memoryview, salt: bytes) -> bytes:
    """The 32 bytes of the digest; ``salt`` is the pool's (DMU_POOL_CHECKSUM_SALT), 32 bytes."""
    key, data = bytes(salt), bytes(data)
    if len(data) <= _CHUNK:
        return blake3_nodes(key, data, _CHUNK, _KEYED, _CHUNK_START, _CHUNK_END | _ROOT)
    nodes = blake3_nodes(key, data, _CHUNK, _KEYED, _CHUNK_START, _CHUNK_END)
    # Pairing neighbours and handing an odd last one up gives the tree whose left sides are full.
    while len(nodes) > 64:
        odd = len(nodes) % 64
        paired = nodes[: len(nodes) - odd]
        nodes = blake3_nodes(key, paired, 64, _KEYED | _PARENT, 0, 0) + nodes[len(paired) :]
    return blake3_nodes(key, nodes, 64, _KEYED | _PARENT | _ROOT, 0, 0)
