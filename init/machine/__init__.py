"""What the kernel shows of the machine: system calls, mounts, modules, disks, memory, signals, the watchdog.

Knows the kernel, and of ours devices alone: neither consoles nor settings nor booting.
"""
