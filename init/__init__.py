"""PID 1: finds the operating system on whatever disks are there, and hands over to it."""

from time import monotonic as _monotonic

VERSION = "0.1.0"
BEGAN = _monotonic()  # seconds; the console tells the time from here to the jump
