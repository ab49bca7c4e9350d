"""Object sets, dnodes and their blocks.

Sources: include/sys/dnode.h:dnode_phys_t, include/sys/dmu_objset.h:objset_phys_t, module/zfs/dbuf.c:dbuf_findbp,
module/zfs/dnode.c; OpenZFS 2.3.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fsdrivers.errors import Corrupt
from fsdrivers.filesystem import CHUNK, Piece
from fsdrivers.kept import Kept
from fsdrivers.zfs import blkptr, layout
from fsdrivers.zfs.blkptr import Blkptr
from fsdrivers.zfs.layout import BLKPTR_SIZE, DNODE_CORE, DNODE_SIZE
from fsdrivers.zfs.store import Store

_KEPT_DNODES = 4 << 20  # bytes of them, at least a KiB each
_KEPT_BLOCKS = 1 << 20  # bytes of blocks of dnodes, of 16 KiB each, which the store's cache keeps too
_KEPT_ZAPS = 4 << 20  # bytes of their blocks
_STEPS = 4096  # after so many looks for the end of a hole it comes as a piece
MAX_OBJECT_BYTES = 16 << 20  # of objects that are read as a whole (targets of symlinks, say)


class Dnode:
    """One object: a tree of blocks, and a bonus buffer beside its pointers.

    ``raw`` are its slots (512 bytes each) in byte order ``order``; ``label`` names the object in errors.
    """

    __slots__ = (
        "_lowest", "_pointers", "block_size", "bonus_length", "bonus_type", "flags", "indirect_shift", "label",
        "levels",
        "max_block", "order", "pointers", "raw", "store", "type", "used",
    )  # fmt: skip

    def __init__(self, store: Store, raw: bytes, order: str, label: str) -> None:
        self.store, self.raw, self.order, self.label = store, raw, order, label
        (
            self.type, self.indirect_shift, self.levels, self.pointers, self.bonus_type, _, _, self.flags,
            sectors, self.bonus_length, _, self.max_block, self.used,
        ) = layout.DNODE[order].unpack_from(raw)  # fmt: skip
        self.block_size: int = sectors << layout.SECTOR_SHIFT
        self._pointers: dict[int, Blkptr] = {}
        self._lowest: tuple[int, bytes, str] = (-1, b"", "")  # the last used block of pointers to data
        if self.type:
            self._check()
        else:  # a free one has nothing in it, whatever its other fields say
            self.levels, self.pointers, self.bonus_length, self.max_block, self.flags = 1, 0, 0, -1, 0

    def _check(self) -> None:
        """Bound all that later arithmetic relies on."""
        room = len(self.raw) - DNODE_CORE - (BLKPTR_SIZE if self.flags & layout.DNODE_SPILL else 0)
        if not self.bonus_length:
            # Long redaction lists: a spill block where there was no bonus lies over the third pointer, which is unused.
            self.pointers = min(self.pointers, room // BLKPTR_SIZE)
        wrong = (
            ("levels", not 1 <= self.levels <= layout.MAX_LEVELS, self.levels),
            ("block pointers", not 1 <= self.pointers <= 3, self.pointers),
            ("indirect block size",
             self.levels > 1 and not layout.INDIRECT_SHIFT_MIN <= self.indirect_shift <= layout.INDIRECT_SHIFT_MAX,
             self.indirect_shift),
            ("block size", not 512 <= self.block_size <= layout.MAX_BLOCK, self.block_size),
            ("bonus length", self.pointers * BLKPTR_SIZE + self.bonus_length > room, self.bonus_length),
        )  # fmt: skip
        for what, bad, value in wrong:
            if bad:
                raise self.corrupt(what, 0, value)

    def corrupt(self, what: str, offset: int, got: object = None) -> Corrupt:
        """An error about this object; ``offset`` is in bytes of its data."""
        return Corrupt(self.store.name, f"{self.label}: {what}", offset, got=got)

    @property
    def bonus(self) -> bytes:
        """The bonus buffer."""
        start = DNODE_CORE + self.pointers * BLKPTR_SIZE
        return self.raw[start : start + self.bonus_length]

    @property
    def spill(self) -> Blkptr | None:
        """The pointer to the block that holds what the bonus buffer has no room for."""
        if not self.flags & layout.DNODE_SPILL:
            return None
        return blkptr.parse(self.raw, len(self.raw) - BLKPTR_SIZE, self.order)

    @property
    def size(self) -> int:
        """Bytes that its blocks can hold: what an object without a length of its own has."""
        return int(self.max_block + 1) * self.block_size

    def pointer(self, number: int) -> Blkptr | None:
        """The pointer to data block ``number``, None when a hole covers it."""
        if number > self.max_block:
            return None
        if self.levels == 1:
            here = self._top(number)
        else:
            shift = self.indirect_shift - 7  # log2 of pointers in an indirect block
            index, block, order = self._lowest
            if index != number >> shift:
                found = self._indirect(number, shift)
                if found is None:
                    return None
                block, order = found
                self._lowest = (number >> shift, block, order)
                self.store.holds(self)
            here = blkptr.parse(block, (number & (1 << shift) - 1) * BLKPTR_SIZE, order)
        if here.hole:
            return None
        if here.level != 0:
            raise self.corrupt("level of data block", number * self.block_size, here.level)
        return here

    def _indirect(self, number: int, shift: int) -> tuple[bytes, str] | None:
        """The block of pointers that has the one to data block ``number``, and its byte order; None for a hole."""
        here = self._top(number >> shift * (self.levels - 1))
        for level in range(self.levels - 1, 0, -1):
            if here.hole:
                return None
            if here.level != level:
                raise self.corrupt(f"level of indirect block (wanted {level})", number * self.block_size, here.level)
            if here.lsize != 1 << self.indirect_shift:
                raise self.corrupt("size of indirect block", number * self.block_size, here.lsize)
            block = self.store.cached(here, f"{self.label}: indirect block")
            if level == 1:
                return block, here.order
            here = blkptr.parse(block, (number >> shift * (level - 1) & (1 << shift) - 1) * BLKPTR_SIZE, here.order)
        return None

    def _top(self, number: int) -> Blkptr:
        found = self._pointers.get(number)
        if found is None:
            if number >= self.pointers:
                raise self.corrupt("block number beyond the block pointers", number * self.block_size, number)
            found = self._pointers[number] = blkptr.parse(self.raw, DNODE_CORE + number * BLKPTR_SIZE, self.order)
        return found

    def block(self, number: int, cached: bool = True) -> tuple[bytes, str]:
        """Data block ``number`` and its byte order; zeros for holes."""
        pointer = self.pointer(number)
        if pointer is None:
            return bytes(self.block_size), self.order
        if pointer.lsize != self.block_size:
            raise self.corrupt("size of data block", number * self.block_size, pointer.lsize)
        read = self.store.cached if cached else self.store.read
        return read(pointer, self.label), pointer.order

    def forget(self) -> None:
        """Let go of the block of pointers that was used last."""
        self._lowest = (-1, b"", "")

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """The bytes [offset, offset + length) in order: stored data, and holes as such.

        Neighbouring holes come as one piece, if they are not very many.  The range may go beyond the last block: that
        is a hole too.
        """
        end = offset + length
        size = self.block_size
        hole = offset  # where the hole that we are in began
        steps = 0
        while offset < end:
            number = offset // size
            pointer = self.pointer(number)
            if pointer is None:
                offset = min(self._hole_end(number), end) if number <= self.max_block else end
                steps += 1
                if not steps % _STEPS and offset < end:
                    # Who reads holes without end gets to decide now and then whether to go on.
                    yield Piece(hole, offset - hole, None)
                    hole = offset
                continue
            if hole < offset:
                yield Piece(hole, offset - hole, None)
            data = self.store.read(pointer, self.label)
            if len(data) != size:
                raise self.corrupt("size of data block", offset, len(data))
            start = offset - number * size
            stop = min(end - number * size, size)
            view: bytes | memoryview = data if stop - start == size else memoryview(data)[start:stop]
            for at in range(0, len(view), 4 * CHUNK):
                part = view[at : at + 4 * CHUNK] if len(view) > 4 * CHUNK else view
                yield Piece(offset + at, len(part), part)
            offset = hole = number * size + stop
        if hole < end:
            yield Piece(hole, end - hole, None)

    def _hole_end(self, number: int) -> int:
        """The byte where the hole at block ``number`` ends at the earliest: skips what no indirect block covers."""
        shift = int(self.indirect_shift) - 7
        if self.levels > 1 and self._lowest[0] == number >> shift:  # its own pointer is the hole, and nothing above it
            return (number + 1) * self.block_size
        for level in range(self.levels - 1, 0, -1):
            # Whether the pointer to the level below is itself a hole.
            if self._missing_above(number, level):
                span = shift * level
                return ((number >> span) + 1 << span) * self.block_size
        return (number + 1) * self.block_size

    def _missing_above(self, number: int, level: int) -> bool:
        """Whether there is no indirect block of ``level`` on the way to block ``number``."""
        shift = self.indirect_shift - 7
        here = self._top(number >> shift * (self.levels - 1))
        for upper in range(self.levels - 1, level, -1):
            if here.hole:
                return True
            block = self.store.cached(here, f"{self.label}: indirect block")
            here = blkptr.parse(block, (number >> shift * (upper - 1) & (1 << shift) - 1) * BLKPTR_SIZE, here.order)
        return here.hole

    def whole(self, length: int, limit: int = MAX_OBJECT_BYTES) -> bytes:
        """The first ``length`` bytes in one piece; raises Corrupt beyond ``limit``."""
        if length > limit:
            raise self.corrupt(f"length above {limit}", 0, length)
        return b"".join(bytes(p.length) if p.data is None else p.data for p in self.pieces(0, length))


class Objset:
    """A set of objects: the pool's own (MOS), a file system, a snapshot."""

    def __init__(self, store: Store, pointer: Blkptr, label: str) -> None:
        """Read the set that ``pointer`` points to; ``label`` names it in errors."""
        self.store, self.label, self.pointer = store, label, pointer
        data = store.cached(pointer, f"{label}: object set")
        if len(data) not in layout.OBJSET_SIZES:
            raise Corrupt(store.name, f"{label}: object set", 0, "1024, 2048 or 4096 bytes", len(data))
        self.meta = Dnode(store, data[:DNODE_SIZE], pointer.order, f"{label}: meta dnode")
        if self.meta.type != layout.OT_DNODE:
            raise self.meta.corrupt("type", 0, self.meta.type)
        self.type, self.flags = layout.OBJSET_TAIL[pointer.order].unpack_from(data, layout.OBJSET_TYPE_OFFSET)
        self.zil_header = data[layout.ZIL_HEADER_OFFSET : layout.OBJSET_TYPE_OFFSET]
        self.zaps: Kept[int, Any] = Kept(_KEPT_ZAPS)  # for zap.py:opened
        self._dnodes: Kept[int, Dnode] = Kept(_KEPT_DNODES)
        self._blocks: Kept[int, tuple[bytes, str]] = Kept(_KEPT_BLOCKS)  # of the meta dnode

    def dnode(self, number: int, *types: int) -> Dnode:
        """Object ``number``, of one of ``types`` if any are given.  Raises Corrupt when there is none."""
        found = self._dnodes.get(number)
        if found is None:
            found = self._read(number)
            self._dnodes.put(number, found, 512 + len(found.raw))
        if not found.type or (types and found.type not in types):
            raise found.corrupt("type of object", 0, found.type)
        return found

    def _read(self, number: int) -> Dnode:
        label = f"{self.label}: object {number}"
        size = self.meta.block_size
        if number <= 0 or (number + 1) * DNODE_SIZE > self.meta.size:
            raise Corrupt(self.store.name, f"{label}: number", 0, f"1..{self.meta.size // DNODE_SIZE - 1}", number)
        index = number * DNODE_SIZE // size
        found = self._blocks.get(index)
        if found is None:
            found = self.meta.block(index)
            self._blocks.put(index, found, len(found[0]))
        block, order = found
        start = number * DNODE_SIZE % size
        slots = 1 + block[start + 12]  # dn_extra_slots
        if slots > layout.DNODE_MAX_SLOTS or start + slots * DNODE_SIZE > size:
            raise Corrupt(self.store.name, f"{label}: slots", start, got=slots)
        return Dnode(self.store, block[start : start + slots * DNODE_SIZE], order, label)
