"""ZAP objects: names (or 64-bit keys) with values, in one block or in a hash table of leaf blocks.

Sources: include/sys/zap_impl.h, include/sys/zap_leaf.h, module/zfs/zap.c:zap_table_load, zap_leaf.c:zap_leaf_lookup,
zap_micro.c:zap_hash; OpenZFS 2.3.4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from fsdrivers.zfs import layout
from fsdrivers.zfs.dmu import Dnode
from fsdrivers.zfs.layout import ZAP_CHAIN_END, ZAP_CHUNK

Value = tuple[int, ...]  # the integers of a value; strings are bytes, one integer each

_INTEGERS = {1: "B", 2: "H", 4: "I", 8: "Q"}
MAX_VALUE = 8192 * 16  # bytes of one value; ZAP_MAXVALUELEN is 8 KiB
MAX_MICRO = 16 << 20  # large_microzap allows any block size
MAX_TABLE = 1 << 27  # entries of a pointer table


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
        self._leaves: dict[int, dict[bytes, Value]] = {}

    def get(self, name: bytes) -> Value | None:
        """The value of ``name``, None when it has none."""
        if self._micro is not None:
            return self._micro.get(name)
        if self.normalization or self._flags & layout.ZAP_FLAG_UINT64_KEY:
            # The hash is over a form of the name that only the kernel's own tables make: look at all of them.
            return next((value for key, value in self.items() if key == name), None)
        return self._leaf(self._leaf_block(self._hash(name))).get(name)

    def number(self, name: str) -> int | None:
        """The value of ``name`` when it is one integer."""
        value = self.get(name.encode("utf-8", "surrogateescape"))
        return value[0] if value else None

    def items(self) -> Iterator[tuple[bytes, Value]]:
        """All names with their values, in the disk's order."""
        if self._micro is not None:
            yield from self._micro.items()
            return
        seen = set()
        for index in range(1 << self._shift):
            block = self._table_entry(index)
            if block not in seen:  # a leaf has many entries while the table has more bits than it
                seen.add(block)
                yield from self._leaf(block).items()

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
        if magic != layout.ZAP_MAGIC or size & size - 1 or size < 512:
            raise self.dnode.corrupt("ZAP header", 0, magic)
        self._order = order
        if self._table_blocks:
            per_block = size // 8
            if self._shift > 27 or 1 << self._shift > self._table_blocks * per_block:
                raise self.dnode.corrupt("ZAP pointer table", 0, self._shift)
        elif 1 << self._shift != size // 16:
            raise self.dnode.corrupt("ZAP embedded pointer table", 0, self._shift)
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

    def _leaf(self, number: int) -> dict[bytes, Value]:
        found = self._leaves.get(number)
        if found is None:
            data, order = self.dnode.block(number)
            found = dict(_entries(self.dnode, number, data, order, bool(self._flags & layout.ZAP_FLAG_UINT64_KEY)))
            if len(self._leaves) >= 256:
                self._leaves.clear()
            self._leaves[number] = found
        return found


def _entries(dnode: Dnode, number: int, data: bytes, order: str, wide: bool) -> Iterator[tuple[bytes, Value]]:
    """The entries of one leaf block; with ``wide``, keys are 64-bit integers instead of strings that end in NUL."""
    kind, _, _, magic, *_ = layout.ZAP_LEAF_HEADER[order].unpack_from(data)
    where = number * dnode.block_size
    if kind != layout.ZBT_LEAF or magic != layout.ZAP_LEAF_MAGIC:
        raise dnode.corrupt("ZAP leaf header", where, magic)
    # A 48-byte header, a hash table of one u16 for every 32 bytes of block, then the chunks.
    chunks = memoryview(data)[48 + len(data) // 32 * 2 :]
    count = (len(data) - len(data) // 32 * 2) // ZAP_CHUNK - 2
    unpack = layout.ZAP_LEAF_ENTRY[order].unpack_from
    for at in range(0, count * ZAP_CHUNK, ZAP_CHUNK):
        if chunks[at] != layout.ZAP_CHUNK_ENTRY:
            continue
        _, width, _, name_chunk, name_length, value_chunk, value_length, _, _ = unpack(chunks, at)
        if width not in _INTEGERS or value_length * width > MAX_VALUE or name_length > 8192:
            raise dnode.corrupt("ZAP entry", where + at, width)
        name = _array(dnode, where, chunks, count, order, name_chunk, name_length * 8 if wide else name_length)
        raw = _array(dnode, where, chunks, count, order, value_chunk, value_length * width)
        # The integers of a value are big-endian on every machine.
        yield name if wide else name[:-1], struct.unpack(f">{value_length}{_INTEGERS[width]}", raw)


def _array(
    dnode: Dnode, where: int, chunks: memoryview, count: int, order: str, index: int, length: int
) -> bytes:  # fmt: skip
    """``length`` bytes from the chain of array chunks that starts at ``index``."""
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
