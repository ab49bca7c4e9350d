"""The chunk map: parsing chunk items, from the superblock's array and the chunk tree, and finding chunks.

Source: fs/btrfs/volumes.c:btrfs_read_sys_array, read_one_chunk; fs/btrfs/tree-checker.c:btrfs_check_chunk_valid, v6.12.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator

from fsdrivers import parity
from fsdrivers.btrfs import layout
from fsdrivers.btrfs.geometry import PROFILES, Chunk, Stripe
from fsdrivers.btrfs.superblock import Superblock
from fsdrivers.errors import Corrupt


class ChunkMap:
    """Chunks by address.  ``name`` is what errors call the filesystem."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._starts: list[int] = []
        self._chunks: dict[int, Chunk] = {}

    def add(self, chunk: Chunk) -> None:
        """Add ``chunk``; the same one again replaces it.  Raises Corrupt when it overlaps another."""
        if chunk.start in self._chunks:
            self._chunks[chunk.start] = chunk
            return
        index = bisect_right(self._starts, chunk.start)
        before = self._chunks[self._starts[index - 1]] if index else None
        after = self._starts[index] if index < len(self._starts) else None
        if (before and before.end > chunk.start) or (after is not None and after < chunk.end):
            raise Corrupt(self._name, "chunk (it overlaps another)", chunk.start)
        insort(self._starts, chunk.start)
        self._chunks[chunk.start] = chunk

    def at(self, address: int) -> Chunk:
        """The chunk around ``address``; raises Corrupt when there is none."""
        index = bisect_right(self._starts, address)
        if index:
            chunk = self._chunks[self._starts[index - 1]]
            if address < chunk.end:
                return chunk
        raise Corrupt(self._name, "address (outside of every chunk)", address)

    def __iter__(self) -> Iterator[Chunk]:
        for start in self._starts:
            yield self._chunks[start]

    def __len__(self) -> int:
        return len(self._starts)


def parse(data: bytes | memoryview, start: int, sectorsize: int, name: str) -> Chunk:
    """The chunk item ``data`` whose key's offset is ``start``; raises Corrupt naming the filesystem ``name``."""

    def demand(good: bool, what: str, got: object) -> None:
        if not good:
            raise Corrupt(name, f"chunk item ({what})", start, None, got)

    demand(len(data) >= layout.CHUNK.size + layout.STRIPE.size, "item size", len(data))
    length, _, stripe_len, kind, _, _, _, count, sub_stripes = layout.CHUNK.unpack_from(data)
    demand(len(data) == layout.CHUNK.size + count * layout.STRIPE.size, "num_stripes", count)
    demand(start % sectorsize == 0, "start", start)
    demand(length > 0 and length % sectorsize == 0 and start + length < 1 << 64, "length", length)
    demand(stripe_len == layout.STRIPE_LEN, "stripe_len", stripe_len)
    profile = PROFILES.get(kind & layout.BLOCK_GROUP_PROFILES)
    if profile is None:
        raise Corrupt(name, "chunk item (profile)", start, None, hex(kind))
    demand(bool(kind & 7) and kind < 1 << 11, "type", kind)
    demand(count == profile.smallest if profile.exact else count >= profile.smallest, "num_stripes", count)
    demand(not profile.parity or count - profile.parity <= parity.MAX_DATA, "num_stripes", count)
    if kind & layout.BLOCK_GROUP_RAID10:
        demand(sub_stripes == 2 and count % 2 == 0, "sub_stripes", sub_stripes)
    stripes = tuple(
        Stripe(*layout.STRIPE.unpack_from(data, layout.CHUNK.size + index * layout.STRIPE.size))
        for index in range(count)
    )
    return Chunk(start, length, kind, profile, stripes, sub_stripes)


def system_chunks(superblock: Superblock, name: str) -> Iterator[Chunk]:
    """The chunks in the superblock's array: those that hold the chunk tree.  Raises Corrupt."""
    array = superblock.sys_chunk_array
    at = 0
    while at < len(array):
        if at + layout.KEY.size + layout.CHUNK.size > len(array):
            raise Corrupt(name, "sys_chunk_array (it ends inside of an entry)", at)
        _, kind, start = layout.KEY.unpack_from(array, at)
        at += layout.KEY.size
        if kind != layout.CHUNK_ITEM:
            raise Corrupt(name, "sys_chunk_array (key type)", at, layout.CHUNK_ITEM, kind)
        count = layout.CHUNK.unpack_from(array, at)[7]
        size = layout.CHUNK.size + count * layout.STRIPE.size
        chunk = parse(array[at : at + size], start, superblock.sectorsize, name)
        if not chunk.type & layout.BLOCK_GROUP_SYSTEM:
            raise Corrupt(name, "sys_chunk_array (chunk type)", at, layout.BLOCK_GROUP_SYSTEM, chunk.type)
        yield chunk
        at += size
