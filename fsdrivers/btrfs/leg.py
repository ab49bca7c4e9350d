"""The devices of a filesystem, and which of them to ask first."""

from __future__ import annotations

from fsdrivers.block import BlockDevice
from fsdrivers.btrfs.superblock import Superblock

STALE = 1 << 20  # rank of a leg that missed writes: after all others, however often those failed
SHUN = 16  # failures of a leg after which another copy is asked first


class Leg:
    """A member device in its place.  ``rank`` orders legs by how much they are worth asking; 0 is best."""

    def __init__(self, device: BlockDevice, superblock: Superblock, stale: bool = False) -> None:
        self.device, self.superblock, self.stale = device, superblock, stale
        self.failures = 0
        self.rank = STALE if stale else 0

    def failed(self) -> None:
        """Note a copy that could not be used, so that a dying disk is not asked first for ever."""
        self.failures += 1
        if self.failures % SHUN == 0:
            self.rank += 1
