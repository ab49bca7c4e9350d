"""ZAP blocks by hand, and an object that has them without a disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

from built import zfs

from fsdrivers.errors import Corrupt
from fsdrivers.redundancy import Health
from fsdrivers.zfs import layout
from fsdrivers.zfs.dmu import Dnode
from fsdrivers.zfs.store import Store
from fsdrivers.zfs.zap import Zap


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
    head = zfs.ZAP_HEADER(
        zap_block_type=layout.ZBT_HEADER, zap_magic=layout.ZAP_MAGIC, zt_blk=2, zt_numblks=table_blocks, zt_shift=shift
    )
    raw = bytearray(head.ljust(size, b"\0"))
    raw[size // 2 : size // 2 + len(embedded)] = embedded
    return bytes(raw)


def leaf(size: int, chunks: list[bytes], prefix: int = 0, length: int = 0) -> bytes:
    """A leaf with ``chunks`` of 24 bytes each."""
    head = zfs.ZAP_LEAF_HEADER(
        lh_block_type=layout.ZBT_LEAF, lh_prefix=prefix, lh_magic=layout.ZAP_LEAF_MAGIC, lh_nentries=len(chunks),
        lh_prefix_len=length,
    )  # fmt: skip
    raw = bytearray(head.ljust(size, b"\0"))
    at = 48 + size // 32 * 2
    body = b"".join(chunks)
    raw[at : at + len(body)] = body
    return bytes(raw[:size])


def room(size: int) -> int:
    """How many chunks a leaf of ``size`` bytes has."""
    return (size - size // 32 * 2) // layout.ZAP_CHUNK - 2


def entry(name: int, name_bytes: int, value: int, count: int, width: int = 1) -> bytes:
    """An entry chunk: the first chunks and lengths of its name and its value."""
    return zfs.ZAP_LEAF_ENTRY(
        le_type=layout.ZAP_CHUNK_ENTRY, le_value_intlen=width, le_next=layout.ZAP_CHAIN_END, le_name_chunk=name,
        le_name_numints=name_bytes, le_value_chunk=value, le_value_numints=count,
    )  # fmt: skip


def array(data: bytes, following: int = 0xFFFF) -> bytes:
    return zfs.ZAP_LEAF_ARRAY(la_type=layout.ZAP_CHUNK_ARRAY, la_array=data, la_next=following)


def micro(entries: Iterable[tuple[bytes, int]]) -> bytes:
    """A block with all names and their numbers."""
    head = zfs.MZAP_HEADER(mz_block_type=layout.ZBT_MICRO)
    return head + b"".join(zfs.MZAP_ENTRY(mze_value=value, mze_name=name) for name, value in entries)
