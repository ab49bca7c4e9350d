"""The btrfs driver.  ``probe`` and ``assemble`` are all that fsdrivers.pools needs; the rest is reached from them."""

from fsdrivers.btrfs.pool import KIND, assemble, probe

__all__ = ["KIND", "assemble", "probe"]
