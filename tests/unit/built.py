"""Structures of disks by name: ``btrfs.HEADER(bytenr=0x1000, level=1)`` is the bytes, all other fields zero.

They come from the drivers' own declarations, through construct.  That takes some 50 us for each: what a test needs a
hundred thousand of is packed by the declaration's Struct.
"""

from __future__ import annotations

from fsdrivers import partitions
from fsdrivers.btrfs import layout as _btrfs
from fsdrivers.desk.inspect.derived import Structures
from fsdrivers.fat import layout as _fat
from fsdrivers.zfs import layout as _zfs

btrfs, fat, tables = Structures(_btrfs), Structures(_fat), Structures(partitions)
zfs, zfs_big = Structures(_zfs), Structures(_zfs, _zfs.BIG)
