"""btrfs with one device or many, read-only.  ``probe`` and ``assemble`` are all that fsdrivers.pools needs.

The rest is imported when a device carries our magic: a machine without btrfs does not pay for it.  On-disk structures
are in layout.py, which byte lives where in geometry.py.  Knows what all drivers share, and no other driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsdrivers.btrfs import layout
from fsdrivers.errors import ReadError

if TYPE_CHECKING:
    from fsdrivers.block import BlockDevice
    from fsdrivers.btrfs.pool import BtrfsPool
    from fsdrivers.pool import Member

KIND = "btrfs"
_MAGIC_AT = layout.SUPERBLOCK.offset("magic")


def probe(device: BlockDevice) -> Member | None:
    """The membership that the superblock on ``device`` claims; raises Corrupt, Unsupported, ReadError."""
    if not any(_magic(device, offset) for offset in (*layout.SUPER_OFFSETS, layout.ZONED_OFFSET)):
        return None
    from fsdrivers.btrfs import pool

    return pool.probe(device)


def assemble(members: list[Member]) -> BtrfsPool:
    """The filesystem that ``members``, all with one uuid, are part of.  What is wrong with it shows in open()."""
    from fsdrivers.btrfs import pool

    return pool.assemble(members)


def _magic(device: BlockDevice, offset: int) -> bool:
    """Whether a superblock may be at ``offset``; one that cannot be read is for the real probe to complain about."""
    if offset + layout.SUPER_SIZE > device.size:
        return False
    try:
        return device.read(offset + _MAGIC_AT, len(layout.SUPER_MAGIC)) == layout.SUPER_MAGIC
    except ReadError:
        return True


__all__ = ["KIND", "assemble", "probe"]
