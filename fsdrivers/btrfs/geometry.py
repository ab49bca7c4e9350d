"""Which byte of the filesystem's address space lives where: pure functions over chunks, no devices.

Source: fs/btrfs/volumes.c:btrfs_map_block and its map_blocks_* helpers, btrfs_raid_array, v6.12; limits from
fs/btrfs/tree-checker.c:btrfs_check_chunk_valid.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fsdrivers.btrfs import layout
from fsdrivers.btrfs.layout import STRIPE_LEN


class Profile(NamedTuple):
    """How a chunk spreads its data; ``copies`` of each byte, ``parity`` stripes per row, devices that may be lost."""

    name: str
    copies: int
    parity: int
    tolerated: int
    smallest: int  # least number of stripes
    exact: bool  # whether there must be exactly that many


SINGLE = Profile("single", 1, 0, 0, 1, True)
PROFILES = {
    0: SINGLE,
    layout.BLOCK_GROUP_DUP: Profile("dup", 2, 0, 0, 2, True),
    layout.BLOCK_GROUP_RAID0: Profile("raid0", 1, 0, 0, 1, False),
    layout.BLOCK_GROUP_RAID1: Profile("raid1", 2, 0, 1, 2, True),
    layout.BLOCK_GROUP_RAID1C3: Profile("raid1c3", 3, 0, 2, 3, True),
    layout.BLOCK_GROUP_RAID1C4: Profile("raid1c4", 4, 0, 3, 4, True),
    layout.BLOCK_GROUP_RAID10: Profile("raid10", 2, 0, 1, 2, False),
    layout.BLOCK_GROUP_RAID5: Profile("raid5", 1, 1, 1, 2, False),
    layout.BLOCK_GROUP_RAID6: Profile("raid6", 1, 2, 2, 3, False),
}


class Stripe(NamedTuple):
    """One leg of a chunk: ``offset`` in bytes from the start of the device."""

    devid: int
    offset: int
    dev_uuid: bytes


class Chunk(NamedTuple):
    """A range [start, start + length) of the address space and where it is stored."""

    start: int
    length: int
    type: int
    profile: Profile
    stripes: tuple[Stripe, ...]
    sub_stripes: int = 1

    @property
    def end(self) -> int:
        return self.start + self.length

    @property
    def data_stripes(self) -> int:
        """The number of stripes that one row of different data is spread over."""
        return (len(self.stripes) - self.profile.parity) // self.profile.copies if self.striped else 1

    @property
    def striped(self) -> bool:
        """Whether consecutive 64 KiB of data live on different stripes."""
        return bool(
            self.type
            & (
                layout.BLOCK_GROUP_RAID0
                | layout.BLOCK_GROUP_RAID10
                | layout.BLOCK_GROUP_RAID5
                | layout.BLOCK_GROUP_RAID6
            )
        )


class Copy(NamedTuple):
    """A place: byte ``offset`` of the device behind stripe number ``stripe`` of the chunk."""

    stripe: int
    offset: int


class Segment(NamedTuple):
    """A range of the address space that is contiguous in each of its copies; never longer than one stripe element
    (64 KiB) in striped chunks.  ``row`` and ``column`` say where in the grid of a parity profile it lies."""

    chunk: Chunk
    start: int
    length: int
    copies: tuple[Copy, ...]
    row: int = 0
    column: int = 0


def segments(chunk: Chunk, start: int, length: int) -> Iterator[Segment]:
    """Cut [start, start + length), which must lie inside of ``chunk``, into segments, in order."""
    if not chunk.striped:
        inside = start - chunk.start
        copies = tuple(Copy(index, stripe.offset + inside) for index, stripe in enumerate(chunk.stripes))
        yield Segment(chunk, start, length, copies)
        return
    width = chunk.data_stripes
    end = start + length
    while start < end:
        element, inside = divmod(start - chunk.start, STRIPE_LEN)
        row, column = divmod(element, width)
        size = min(STRIPE_LEN - inside, end - start)
        depth = row * STRIPE_LEN + inside
        if chunk.profile.parity:
            first, count = parity_stripe(chunk, row, column), 1
        else:
            count = chunk.profile.copies
            first = column * count
        copies = tuple(Copy(index, chunk.stripes[index].offset + depth) for index in range(first, first + count))
        yield Segment(chunk, start, size, copies, row, column)
        start += size


def parity_stripe(chunk: Chunk, row: int, column: int) -> int:
    """The stripe that holds ``column`` of ``row`` in RAID5/6: data columns first, then P, then Q; all rotate."""
    return (row + column) % len(chunk.stripes)


def row_places(segment: Segment) -> list[Copy]:
    """RAID5/6: the places beside ``segment`` in all columns of its row: data columns, P, and Q if there is one."""
    chunk = segment.chunk
    depth = segment.row * STRIPE_LEN + (segment.start - chunk.start) % STRIPE_LEN
    order = [parity_stripe(chunk, segment.row, column) for column in range(len(chunk.stripes))]
    return [Copy(index, chunk.stripes[index].offset + depth) for index in order]


def part(segment: Segment, start: int, length: int) -> Segment:
    """The sub-range [start, start + length) of ``segment``."""
    shift = start - segment.start
    copies = tuple(Copy(copy.stripe, copy.offset + shift) for copy in segment.copies)
    return segment._replace(start=start, length=length, copies=copies)


def stripe_length(chunk: Chunk) -> int:
    """Bytes that the chunk takes on each of its devices (volumes.c:btrfs_calc_stripe_length, v6.12)."""
    rows = -(-chunk.length // chunk.data_stripes)
    return -(-rows // STRIPE_LEN) * STRIPE_LEN if chunk.striped else rows
