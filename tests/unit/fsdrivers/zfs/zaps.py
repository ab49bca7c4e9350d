"""ZAP blocks by hand, and an object that has them without a disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from fsdrivers.errors import Corrupt
from fsdrivers.redundancy import Health
from fsdrivers.zfs import layout
from fsdrivers.zfs.dmu import Dnode
from fsdrivers.zfs.store import Store
from fsdrivers.zfs.zap import Zap

HEADER, LEAF, ENTRY, ARRAY = (
    shape["<"] for shape in (layout.ZAP_HEADER, layout.ZAP_LEAF_HEADER, layout.ZAP_LEAF_ENTRY, layout.ZAP_LEAF_ARRAY)
)


class Blocks:
    """Stands for a Dnode: ``find(number)`` gives its blocks."""

    def __init__(self, find: Callable[[int], bytes], max_block: int = 1 << 40) -> None:
        self.find, self.max_block = find, max_block
        self.block_size = len(find(0))
        self.store, self.label = Store("pool", Health()), "object 7"

    def block(self, number: int, cached: bool = True) -> tuple[bytes, str]:
        return self.find(number), "<"

    def corrupt(self, what: str, offset: int, got: object = None) -> Corrupt:
        return Corrupt("pool", f"{self.label}: {what}", offset, got=got)


def zap(find: Callable[[int], bytes]) -> Zap:
    return Zap(cast(Dnode, Blocks(find)))


def header(size: int, shift: int, table_blocks: int = 0, embedded: bytes = b"") -> bytes:
    """Block 0 of a hash table; without ``table_blocks`` its second half is the table."""
    raw = bytearray(size)
    HEADER.pack_into(raw, 0, layout.ZBT_HEADER, layout.ZAP_MAGIC, 2, table_blocks, shift, *[0] * 8)
    raw[size // 2 : size // 2 + len(embedded)] = embedded
    return bytes(raw)


def leaf(size: int, chunks: list[bytes], prefix: int = 0, length: int = 0) -> bytes:
    """A leaf with ``chunks`` of 24 bytes each."""
    raw = bytearray(size)
    LEAF.pack_into(raw, 0, layout.ZBT_LEAF, 0, prefix, layout.ZAP_LEAF_MAGIC, 0, len(chunks), length, 0, 0)
    at = 48 + size // 32 * 2
    body = b"".join(chunks)
    raw[at : at + len(body)] = body
    return bytes(raw[:size])


def room(size: int) -> int:
    """How many chunks a leaf of ``size`` bytes has."""
    return (size - size // 32 * 2) // layout.ZAP_CHUNK - 2


def entry(name: int, name_bytes: int, value: int, count: int, width: int = 1) -> bytes:
    """An entry chunk: the first chunks and lengths of its name and its value."""
    return ENTRY.pack(layout.ZAP_CHUNK_ENTRY, width, 0xFFFF, name, name_bytes, value, count, 0, 0)


def array(data: bytes, following: int = 0xFFFF) -> bytes:
    return ARRAY.pack(layout.ZAP_CHUNK_ARRAY, data, following)
