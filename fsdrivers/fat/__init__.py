"""FAT12, FAT16 and FAT32 with long names, read-only: for the partitions that firmware and boot loaders share.

A FAT file system is no pool and holds no root; nobody probes for it.  Who knows by its partition type that a device
is an EFI system partition or an extended boot partition opens it here.  Knows what all drivers share, and no other
driver.
"""

from __future__ import annotations

from fsdrivers.block import BlockDevice
from fsdrivers.fat.layout import ESP, XBOOTLDR
from fsdrivers.filesystem import Filesystem

__all__ = ["ESP", "XBOOTLDR", "open"]


def open(device: BlockDevice) -> Filesystem:  # the module is the noun: fat.open(device)
    """The file system on ``device``.  Raises NotThisFs when it is none of ours, Corrupt, ReadError."""
    from fsdrivers.fat.filesystem import FatFilesystem  # when there is one: most boots open none
    from fsdrivers.fat.volume import Volume

    return FatFilesystem(Volume(device))
