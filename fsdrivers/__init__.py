"""Readers for disks: partitions, btrfs, and what they share.  Nothing in here writes to a device."""
