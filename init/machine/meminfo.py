"""How much memory this machine has.  Source: Documentation/filesystems/proc.rst, v6.12."""

from __future__ import annotations

PATH = "/proc/meminfo"


def memory_total(path: str = PATH) -> int:
    """MemTotal in bytes, 0 when the kernel does not say."""
    return _field("MemTotal", path)


def memory_available(path: str = PATH) -> int:
    """MemAvailable in bytes, 0 when the kernel does not say."""
    return _field("MemAvailable", path)


def _field(wanted: str, path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name == wanted:
                    return int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return 0
    return 0
