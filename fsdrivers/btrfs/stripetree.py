"""The raid-stripe-tree: where data really is in chunks that only set the space aside.

Each item maps a range of the address space, key (address, RAID_STRIPE, length), to one place for each copy.
Source: fs/btrfs/raid-stripe-tree.c:btrfs_get_raid_extent_offset, fs/btrfs/raid-stripe-tree.h:
btrfs_need_stripe_tree_update, fs/btrfs/tree-checker.c:check_raid_stripe_extent, v6.12.
"""

from __future__ import annotations

from collections.abc import Iterator

from fsdrivers.btrfs import layout
from fsdrivers.btrfs.geometry import Chunk, Copy, Segment
from fsdrivers.btrfs.tree import Item, Tree
from fsdrivers.errors import Corrupt, Unsupported

_PROFILES = (
    layout.BLOCK_GROUP_DUP
    | layout.BLOCK_GROUP_RAID0
    | layout.BLOCK_GROUP_RAID1
    | layout.BLOCK_GROUP_RAID1C3
    | layout.BLOCK_GROUP_RAID1C4
    | layout.BLOCK_GROUP_RAID10
)
_KINDS = layout.BLOCK_GROUP_DATA | layout.BLOCK_GROUP_SYSTEM | layout.BLOCK_GROUP_METADATA


class StripeTree:
    """Look-ups in ``tree``; ``name`` is what errors call the filesystem."""

    def __init__(self, tree: Tree, name: str, sectorsize: int) -> None:
        self._tree, self._name, self._sector = tree, name, sectorsize

    @staticmethod
    def covers(chunk: Chunk) -> bool:
        """Whether the data of ``chunk`` is where this tree says: data alone, in more than one place at a time."""
        return chunk.type & _KINDS == layout.BLOCK_GROUP_DATA and bool(chunk.type & _PROFILES)

    def segments(self, chunk: Chunk, start: int, length: int) -> Iterator[Segment]:
        """Cut [start, start + length), which must lie inside of ``chunk``, into segments, in order.

        Raises Corrupt where the tree has no item, and what reading it raises.
        """
        at, end = start, start + length
        before = self._tree.floor((start, layout.RAID_STRIPE, layout.MAX_KEY[2]))
        low = before.objectid if before is not None and before.type == layout.RAID_STRIPE else start
        for item in self._tree.items((low, 0, 0), (end - 1, *layout.MAX_KEY[1:])):
            stop = item.objectid + item.offset
            if item.type != layout.RAID_STRIPE or stop <= at:
                continue
            if (item.objectid | item.offset) % self._sector:
                raise Corrupt(self._name, "raid stripe (alignment)", item.objectid, None, item.offset)
            if item.objectid > at:
                break
            stop = min(stop, end)
            yield Segment(chunk, at, stop - at, self._copies(chunk, item, at - item.objectid))
            at = stop
            if at == end:
                return
        raise Corrupt(self._name, "raid stripe (there is none for this address)", at)

    def _copies(self, chunk: Chunk, item: Item, inside: int) -> tuple[Copy, ...]:
        """The places that ``item`` names, ``inside`` bytes further on."""
        size = layout.RAID_STRIDE.size
        if item.size % size == 8:
            raise Unsupported("btrfs raid_stripe_tree with encodings", "an early form, before it was declared final")
        if not item.size or item.size % size:
            raise Corrupt(self._name, "raid stripe (item size)", item.objectid, None, item.size)
        copies = []
        taken: set[int] = set()
        for devid, physical in layout.RAID_STRIDE.iter_unpack(item.data):
            # Both stripes of DUP are on one device, in the chunk's order.
            for index, stripe in enumerate(chunk.stripes):
                if stripe.devid == devid and index not in taken:
                    taken.add(index)
                    copies.append(Copy(index, physical + inside))
                    break
            else:
                raise Corrupt(self._name, "raid stripe (devid)", item.objectid, None, devid)
        return tuple(copies)
