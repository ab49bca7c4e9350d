"""What the kernel shows of the machine: system calls, mounts, modules, disks, memory, signals, the watchdog.

Knows the kernel and nothing of ours: neither consoles nor booting.
"""
