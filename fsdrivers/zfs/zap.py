"""ZAP objects: names (or 64-bit keys) with values, in one block or in a hash table of leaf blocks.

Sources: include/sys/zap_impl.h, include/sys/zap_leaf.h, module/zfs/zap.c:zap_table_load, fzap_cursor_retrieve,
zap_leaf.c:zap_leaf_lookup, zap_leaf_array_create, zap_micro.c:zap_hash; OpenZFS 2.3.4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import count
from typing import cast

from fsdrivers.zfs import layout
from fsdrivers.zfs.dmu import Dnode, Objset
from fsdrivers.zfs.layout import ZAP_CHAIN_END, ZAP_CHUNK

Value = tuple[int, ...]  # the integers of a value; strings are bytes, one integer each

_INTEGERS = {1: "B", 2: "H", 4: "I", 8: "Q"}
Leaf = tuple[
    dict[bytes, Value], int, int
]  # entries, and the bits that the hashes of their names begin with: value, count

MAX_VALUE = 8192  # bytes of one value: fs/zfs.h:ZAP_MAXVALUELEN
MAX_NAME = 1024  # bytes of one name with its NUL: ZAP_MAXNAMELEN_NEW
MAX_MICRO = 4 << 20  # of one block with all names; zap_micro.c:MZAP_MAX_SIZE is 1 MiB
MAX_BLOCK = 128 << 10  # of a hash table: SPA_OLD_MAXBLOCKSIZE, zap.c:zap_create_flags
MAX_SHIFT = 27  # log2 of the entries of a pointer table

_serials = count()


def opened(objset: Objset, number: int, *types: int) -> Zap:
    """The ZAP in object ``number`` of ``objset``, of one of ``types`` if any are given, kept for the next who asks."""
    found = cast("Zap | None", objset.zaps.get(number))
    if found is None:
        dnode = objset.dnode(number, *types)
        found = Zap(dnode)
        objset.zaps.put(number, found, 512 + dnode.block_size)
    return found


class Zap:
    """The ZAP in ``dnode``.  Names are bytes; for tables of 64-bit keys the keys' bytes, big-endian."""

    def __init__(self, dnode: Dnode) -> None:
        self.dnode = dnode
        block, order = dnode.block(0)
        self._micro: dict[bytes, Value] | None = None
        self.normalization = 0
        kind = struct.unpack_from(order + "Q", block)[0]
        if kind == layout.ZBT_MICRO:
            self._micro = self._read_micro(block, order)
        elif kind == layout.ZBT_HEADER:
            self._read_header(block, order)
        else:
            raise dnode.corrupt("ZAP block type", 0, kind)
        self._leaves = dnode.store.leaves  # those of other ZAPs too, which the serial tells apart
        self._serial = next(_serials)

    def get(self, name: bytes) -> Value | None:
        """The value of ``name``, None when it has none."""
        if self._micro is not None:
            return self._micro.get(name)
        if self.normalization or self._flags & layout.ZAP_FLAG_UINT64_KEY:
            # The hash is over a form of the name that only the kernel's own tables make: look at all of them.
            return next((value for key, value in self.items() if key == name), None)
        return self._leaf(self._leaf_block(self._hash(name)))[0].get(name)

    def number(self, name: str) -> int | None:
        """The value of ``name`` when it is one integer."""
        value = self.get(name.encode("utf-8", "surrogateescape"))
        return value[0] if value else None

    def items(self) -> Iterator[tuple[bytes, Value]]:
        """All names with their values, in the disk's order."""
        if self._micro is not None:
            yield from self._micro.items()
            return
        index, end = 0, 1 << self._shift
        while index < end:
            number = self._table_entry(index)
            found, prefix, length = self._leaf(number)
            # A leaf has many entries while the table has more bits than it, all of them and no others.
            span = self._shift - length
            if span < 0 or prefix << span != index:
                raise self.dnode.corrupt("ZAP leaf prefix", number * self.dnode.block_size, prefix)
            yield from found.items()
            index += 1 << span

    def _read_micro(self, block: bytes, order: str) -> dict[bytes, Value]:
        if len(block) > MAX_MICRO or self.dnode.max_block:
            raise self.dnode.corrupt("size of micro ZAP", 0, len(block))
        self.normalization = layout.MZAP_HEADER[order].unpack_from(block)[2]
        found: dict[bytes, Value] = {}
        entries = memoryview(block)[64 : len(block) & -64]
        for value, _, name in layout.MZAP_ENTRY[order].iter_unpack(entries):
            if name[0]:
                found[name[: name.find(0)] if 0 in name else name] = (value,)
        return found

    def _read_header(self, block: bytes, order: str) -> None:
        (
            _, magic, self._table_block, self._table_blocks, self._shift, _, _, _, _, _, self._salt,
            self.normalization, self._flags,
        ) = layout.ZAP_HEADER[order].unpack_from(block)  # fmt: skip
        size = len(block)
        if magic != layout.ZAP_MAGIC or size & size - 1 or not 512 <= size <= MAX_BLOCK:
            raise self.dnode.corrupt("ZAP header", 0, magic)
        self._order = order
        room = self._table_blocks * (size // 8) if self._table_blocks else size // 16
        if self._shift > MAX_SHIFT or 1 << self._shift > room or (not self._table_blocks and 1 << self._shift != room):
            raise self.dnode.corrupt("ZAP pointer table", 0, self._shift)
        self._embedded = block[size // 2 :]

    def _table_entry(self, index: int) -> int:
        """The block of the leaf for hash prefix ``index``."""
        if not self._table_blocks:
            block: int = struct.unpack_from(self._order + "Q", self._embedded, index * 8)[0]
        else:
            per_block = self.dnode.block_size // 8
            data, order = self.dnode.block(self._table_block + index // per_block)
            block = struct.unpack_from(order + "Q", data, index % per_block * 8)[0]
        if not 0 < block <= self.dnode.max_block:
            raise self.dnode.corrupt("ZAP leaf number", index, block)
        return block

    def _leaf_block(self, hashed: int) -> int:
        return self._table_entry(hashed >> 64 - self._shift if self._shift else 0)

    def _hash(self, name: bytes) -> int:
        # zap_micro.c:zap_hash; only the bits that choose the leaf matter here.
        table = crc64_table()
        value: int = self._salt
        for byte in name:
            value = value >> 8 ^ table[(value ^ byte) & 0xFF]
        return value

    def _leaf(self, number: int) -> Leaf:
        key = self._serial, number
        found = self._leaves.get(key)
        if found is None:
            data, order = self.dnode.block(number)
            found = _decoded(self.dnode, number, data, order, bool(self._flags & layout.ZAP_FLAG_UINT64_KEY))
            self._leaves.put(key, found, len(data))
        return found


def _decoded(dnode: Dnode, number: int, data: bytes, order: str, wide: bool) -> Leaf:
    """One leaf block; with ``wide``, keys are 64-bit integers instead of strings that end in NUL."""
    kind, _, prefix, magic, _, _, length, *_ = layout.ZAP_LEAF_HEADER[order].unpack_from(data)
    where = number * dnode.block_size
    if kind != layout.ZBT_LEAF or magic != layout.ZAP_LEAF_MAGIC:
        raise dnode.corrupt("ZAP leaf header", where, magic)
    return dict(_entries(dnode, where, data, order, wide)), prefix, length


def _entries(dnode: Dnode, where: int, data: bytes, order: str, wide: bool) -> Iterator[tuple[bytes, Value]]:
    """The entries of one leaf block, which is at byte ``where`` of the object."""
    # A 48-byte header, a hash table of one u16 for every 32 bytes of block, then the chunks.
    chunks = memoryview(data)[48 + len(data) // 32 * 2 :]
    count = (len(data) - len(data) // 32 * 2) // ZAP_CHUNK - 2
    unpack = layout.ZAP_LEAF_ENTRY[order].unpack_from
    left = count  # a chunk belongs to one name or one value: together they have no more than there are
    for at in range(0, count * ZAP_CHUNK, ZAP_CHUNK):
        if chunks[at] != layout.ZAP_CHUNK_ENTRY:
            continue
        _, width, _, name_chunk, name_length, value_chunk, value_length, _, _ = unpack(chunks, at)
        name_bytes, value_bytes = name_length * 8 if wide else name_length, value_length * width
        if width not in _INTEGERS or value_bytes > MAX_VALUE or name_bytes > MAX_NAME:
            raise dnode.corrupt("ZAP entry", where + at, width)
        left -= -(-name_bytes // layout.ZAP_ARRAY_BYTES) - (-value_bytes // layout.ZAP_ARRAY_BYTES)
        if left < 0:
            raise dnode.corrupt("ZAP chunks, which several chains share", where + at)
        name = _array(dnode, where, chunks, count, order, name_chunk, name_bytes)
        raw = _array(dnode, where, chunks, count, order, value_chunk, value_bytes)
        # The integers of a value are big-endian on every machine.
        value = (
            (int.from_bytes(raw, "big"),)
            if value_length == 1
            else struct.unpack(f">{value_length}{_INTEGERS[width]}", raw)
        )
        yield name if wide else name[:-1], value


def _array(
    dnode: Dnode, where: int, chunks: memoryview, count: int, order: str, index: int, length: int
) -> bytes:  # fmt: skip
    """``length`` bytes from the chain of array chunks that starts at ``index``."""
    if length <= layout.ZAP_ARRAY_BYTES and index < count and chunks[index * ZAP_CHUNK] == layout.ZAP_CHUNK_ARRAY:
        start = index * ZAP_CHUNK + 1  # most names and values have one chunk
        return bytes(chunks[start : start + length])
    parts = []
    left = length
    unpack = layout.ZAP_LEAF_ARRAY[order].unpack_from
    while left > 0:
        if index == ZAP_CHAIN_END or index >= count:
            raise dnode.corrupt("ZAP chunk chain", where, index)
        kind, data, index = unpack(chunks, index * ZAP_CHUNK)
        if kind != layout.ZAP_CHUNK_ARRAY:
            raise dnode.corrupt("ZAP chunk type", where, kind)
        parts.append(data)
        left -= layout.ZAP_ARRAY_BYTES
    return b"".join(parts)[:length]


_crc64: list[int] = []


def crc64_table() -> list[int]:
    """The table of the reflected CRC-64 that names are hashed with (zfs_crc64_table)."""
    if not _crc64:
        for byte in range(256):
            value = byte
            for _ in range(8):
                value = value >> 1 ^ (layout.CRC64_POLY if value & 1 else 0)
            _crc64.append(value)
    return _crc64
