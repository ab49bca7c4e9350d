"""PID 1: finds the operating system on whatever disks are there, and hands over to it.

Here are the boot as a whole (``__main__``, and desk for its dry run), what it looks for and waits for (survey,
waiting), which disks go first (trust), and below all rooms what is asked (config, locks), which trees may hold a
system (roots), and how a boot is told of (phases, report, refused).  Knows fsdrivers but for its desk.
"""

from time import monotonic as _monotonic

VERSION = "0.1.0"
BEGAN = _monotonic()  # seconds; the console tells the time from here to the jump
