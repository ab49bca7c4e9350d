"""The disks of this machine, as they come and go."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from fsdrivers.block import BlockDevice, FileDevice
from fsdrivers.errors import ReadError

SECTOR = 512  # /sys counts in these whatever the disk's own sectors are

# Never a member of anything: images in files, RAM, swap in RAM, floppies.
_SKIPPED = ("loop", "ram", "zram", "fd", "mtdblock")


class Disks:
    """All whole disks that are there now; ``scan()`` looks again.

    Partitions are not listed, fsdrivers finds them; md and device-mapper devices are disks like others.
    """

    def __init__(self, sys: str = "/sys", dev: str = "/dev") -> None:
        self._sys, self._dev = sys, dev
        self._open: dict[str, FileDevice] = {}
        self.problems: dict[str, str] = {}  # disk -> why it cannot be opened

    @property
    def devices(self) -> list[BlockDevice]:
        """The disks that can be read, sorted by name."""
        return [self._open[name] for name in sorted(self._open)]

    def scan(self) -> bool:
        """Open new disks and close those that are gone; whether anything changed."""
        present = set(whole_disks(self._sys))
        changed = False
        for name in set(self.problems) - present:
            del self.problems[name]
        for name in set(self._open) - present:
            self._open.pop(name).close()
            changed = True
        for name in sorted(present - set(self._open)):
            try:
                self._open[name] = FileDevice(self._node(name))
            except (ReadError, OSError, ValueError) as error:
                self.problems[name] = str(error)
                continue
            self.problems.pop(name, None)
            changed = True
        return changed

    def close(self) -> None:
        """Close all disks; scan() opens them again."""
        for device in self._open.values():
            device.close()
        self._open.clear()

    def describe(self) -> list[str]:
        """A line for each disk, also of those that came or went since the last scan()."""
        present = set(whole_disks(self._sys)) if os.path.isdir(f"{self._sys}/class/block") else set(self._open)
        lines = []
        for name, device in sorted(self._open.items()):
            lines.append(f"{device.name}  {human(device.size)}{'' if name in present else ', gone'}")
        lines += [f"{name}  cannot be read: {why}" for name, why in sorted(self.problems.items())]
        new = sorted(present - set(self._open) - set(self.problems))
        return lines + [f"{self._dev}/{name}  new; retry looks at it" for name in new]

    def _node(self, name: str) -> str:
        """The path of the device node, made here when the kernel has no devtmpfs to do it."""
        path = f"{self._dev}/{name.replace('!', '/')}"
        if not os.path.exists(path):
            major, minor = attribute(f"{self._sys}/class/block/{name}/dev").split(":")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(int(major), int(minor)))
        return path


def whole_disks(sys: str = "/sys") -> Iterable[str]:
    """The names of all block devices with a size that are no partition and not taken by a device on top of them."""
    base = f"{sys}/class/block"
    try:
        names = os.listdir(base)
    except OSError:
        return
    for name in names:
        if name.rstrip("0123456789") in _SKIPPED or os.path.exists(f"{base}/{name}/partition"):
            continue
        if attribute(f"{base}/{name}/size") in ("", "0") or _list(f"{base}/{name}/holders"):
            continue
        yield name


def human(size: int) -> str:
    """A size in bytes for people."""
    value, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"


def attribute(path: str) -> str:
    """What a file of sysfs says; "" when it is not there."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _list(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
