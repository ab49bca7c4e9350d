"""Readers for disks: devices and partitions, a driver for each format, what drivers share, and the tool for a desk.

Knows nothing of booting, and nothing in here writes to a device.  Drivers do not know each other: what two of them need
stands beside them in this folder.
"""
