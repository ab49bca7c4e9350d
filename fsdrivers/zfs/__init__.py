"""ZFS: pools of mirrors and RAID-Z groups, read-only.

The driver is imported when a device carries the mark of a label: a machine without ZFS does not pay for it.  On-disk
structures are in layout.py, which byte lives where in mapping.py, raidz.py and draid.py.  Knows what all drivers share,
and no other driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsdrivers.errors import ReadError
from fsdrivers.zfs import layout

if TYPE_CHECKING:
    from fsdrivers.block import BlockDevice
    from fsdrivers.pool import Member
    from fsdrivers.zfs.pool import ZfsPool

KIND = "zfs"


def probe(device: BlockDevice) -> Member | None:
    """The membership that ``device``'s labels claim, or None; raises Corrupt, Unsupported."""
    if not _marked(device):
        return None
    from fsdrivers.zfs import pool

    return pool.probe(device)


def assemble(members: list[Member]) -> ZfsPool:
    """The pool that ``members``, all with one guid, are part of."""
    from fsdrivers.zfs import pool

    return pool.assemble(members)


def _marked(device: BlockDevice) -> bool:
    """Whether any place of a label carries the magic of its embedded checksum: without it there is no label."""
    if device.size < layout.LABELS * layout.LABEL_SIZE:
        return False
    end = device.size & -layout.LABEL_SIZE
    marks = {eck.pack(layout.ECK_MAGIC, 0, 0, 0, 0)[:8] for eck in layout.ECK.values()}
    tail = layout.LABEL_NVLIST + layout.LABEL_NVLIST_SIZE - layout.ECK[layout.LITTLE].size
    for start in (0, layout.LABEL_SIZE, end - 2 * layout.LABEL_SIZE, end - layout.LABEL_SIZE):
        try:
            if device.read(start + tail, 8) in marks:
                return True
        except ReadError:
            continue
    return False


__all__ = ["KIND", "assemble", "probe"]
