"""ZFS: pools of mirrors and RAID-Z groups, read-only."""

from fsdrivers.zfs.pool import KIND, ZfsPool, assemble, probe

__all__ = ["KIND", "ZfsPool", "assemble", "probe"]
