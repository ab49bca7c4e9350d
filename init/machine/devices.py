"""The disks of this machine, as they come and go."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from fsdrivers.block import BlockDevice, FileDevice
from fsdrivers.errors import ReadError

SECTOR = 512  # /sys counts in these whatever the disk's own sectors are

# Never a member of anything: images in files, RAM, swap in RAM, floppies.
MAX_BELOW = 16  # disks that another one lies on
MAX_MODEL = 40  # characters
_SKIPPED = ("loop", "ram", "zram", "fd", "mtdblock")


class About(NamedTuple):
    """What the kernel knows of a disk.  ``size`` in bytes."""

    size: int = 0
    model: str = ""
    removable: bool = False  # somebody may have plugged it in a minute ago
    bus: str = (
        ""  # "usb", "sd" for a card, "external" for another one; "" for what is built in, as far as anybody knows
    )


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

    def about(self) -> dict[str, About]:
        """What is known of each disk that can be read, by the name of its device."""
        return {device.name: about(name, self._sys) for name, device in self._open.items()}

    def describe(self) -> list[str]:
        """A line for each disk, also of those that came or went since the last scan()."""
        present = set(whole_disks(self._sys)) if os.path.isdir(f"{self._sys}/class/block") else set(self._open)
        lines = []
        for name, device in sorted(self._open.items()):
            known = about(name, self._sys)
            words = " ".join(filter(None, (human(device.size), known.model, known.bus)))
            lines.append(f"{device.name}  {words}{'' if name in present else ', gone'}")
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


def about(name: str, sys: str = "/sys") -> About:
    """What sysfs says of the disk ``name``; of one that lies on others (device-mapper, MD), whether one of them is
    removable.

    Sources: Documentation/ABI/stable/sysfs-block and testing/sysfs-block-device; block/genhd.c:disk_removable_show;
    drivers/mmc/core/bus.c:type_show, v6.12.  The attribute "removable" is about the medium (a card reader, a CD): a
    USB disk says 0, and so does one behind Thunderbolt.
    """
    base = f"{sys}/class/block/{name}"
    size = attribute(f"{base}/size")
    place = os.path.realpath(base)
    card = attribute(f"{base}/device/type") == "SD"
    bus = "usb" if "/usb" in place else "sd" if card else "external" if _external(place) else ""
    removable = bool(bus) or attribute(f"{base}/removable") == "1"
    below = _list(f"{base}/slaves")[:MAX_BELOW] if name.startswith(("dm-", "md")) else []
    removable = removable or any(about(one, sys).removable for one in below)
    vendor, model = (" ".join(attribute(f"{base}/device/{part}").split()) for part in ("vendor", "model"))
    # Of virtio and NVMe that is a number.
    model = f"{'' if vendor.startswith('0x') or vendor == 'ATA' else vendor} {model}".strip()
    shown = "".join(char for char in model if char.isprintable())[:MAX_MODEL]
    return About(int(size) * SECTOR if size.isdecimal() else 0, shown, removable, bus)


def _external(place: str) -> bool:
    """Whether any device that a disk hangs on can be taken off: what is behind a Thunderbolt or USB4 port, say.

    Source: Documentation/ABI/testing/sysfs-devices-removable; drivers/pci/probe.c:pci_set_removable, v6.12.
    """
    while "/devices/" in place:
        if attribute(f"{place}/removable") == "removable":
            return True
        place = os.path.dirname(place)
    return False


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
