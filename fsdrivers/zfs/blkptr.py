"""Block pointers: where a block's copies are, how long it is, how it was checksummed and compressed.

Source: include/sys/spa.h:blkptr_t and its BP_GET_* macros, OpenZFS 2.3.4.
"""

from __future__ import annotations

from typing import NamedTuple

from fsdrivers.zfs.layout import BIG, BLKPTR, EMBEDDED_PAYLOAD, LITTLE, SECTOR_SHIFT

_DVA_MASK = (1 << 63) - 1


class Dva(NamedTuple):
    """A data virtual address: ``offset`` in bytes of top-level vdev ``vdev``, not counting its front labels."""

    vdev: int
    offset: int
    asize: int  # bytes allocated, parity and padding included
    gang: bool


class Blkptr(NamedTuple):
    """One decoded pointer.  Sizes in bytes; ``order`` is the byte order of the block it points to."""

    dvas: tuple[Dva, ...]
    lsize: int
    psize: int
    compress: int
    checksum: int
    type: int
    level: int
    order: str
    crypt: bool
    birth: int  # logical birth txg
    physical_birth: int  # when the first copy was written: what RAID-Z expansion and gang headers go by
    fill: int
    digest: tuple[int, int, int, int]
    embedded: int | None  # what an embedded pointer carries (layout.EMBEDDED_*), None for a real one
    payload: bytes

    @property
    def hole(self) -> bool:
        """Whether it stands for zeros that nobody stored."""
        return self.embedded is None and not self.dvas

    @property
    def name(self) -> tuple[int, int, int]:
        """What tells this block from every other: vdev and offset of the first copy, and when it was born."""
        dva = self.dvas[0]
        return dva.vdev, dva.offset, self.physical_birth


def parse(data: bytes | memoryview, offset: int, order: str) -> Blkptr:
    """The pointer at ``offset`` of a block whose own byte order is ``order``."""
    words = BLKPTR[order].unpack_from(data, offset)
    prop = words[6]
    own = LITTLE if prop >> 63 else BIG
    crypt = bool(prop >> 61 & 1)
    if prop >> 39 & 1:
        raw = bytes(data[offset : offset + 48]) + bytes(data[offset + 56 : offset + 80])
        raw += bytes(data[offset + 88 : offset + 128])
        if order != LITTLE:
            # The payload was put into the words as little-endian numbers (module/zfs/blkptr.c).
            raw = b"".join(raw[at : at + 8][::-1] for at in range(0, EMBEDDED_PAYLOAD, 8))
        return Blkptr(
            (), (prop & 0x1FFFFFF) + 1, (prop >> 25 & 0x7F) + 1, prop >> 32 & 0x7F, 2, prop >> 48 & 0xFF,
            prop >> 56 & 0x1F, own, crypt, words[10], words[10], 1, (0, 0, 0, 0), prop >> 40 & 0xFF, raw,
        )  # fmt: skip
    dvas: list[Dva] = []
    if words[0] | words[1]:  # spa.h:BP_IS_HOLE looks at the first address only
        # The third address of an encrypted block is its salt and IV.
        for at in (0, 2) if crypt and not prop >> 56 & 0x1F else (0, 2, 4):
            first, second = words[at], words[at + 1]
            if first | second:
                dvas.append(
                    Dva(
                        first >> 32 & 0xFFFFFF,
                        (second & _DVA_MASK) << SECTOR_SHIFT,
                        (first & 0xFFFFFF) << SECTOR_SHIFT,
                        bool(second >> 63),
                    )
                )
    return Blkptr(
        tuple(dvas), ((prop & 0xFFFF) + 1) << SECTOR_SHIFT, ((prop >> 16 & 0xFFFF) + 1) << SECTOR_SHIFT,
        prop >> 32 & 0x7F, prop >> 40 & 0xFF, prop >> 48 & 0xFF, prop >> 56 & 0x1F, own, crypt, words[10],
        words[9] or words[10], words[11], words[12:16], None, b"",
    )  # fmt: skip
