"""The root's fstab and crypttab as a kernel can use them that has no driver for the disks they name.

systemd waits 90 seconds for each device that never appears, and a mount that fails stops the boot.  What is on disks is
therefore commented out, the rest stays as it is.  Source: fstab(5), crypttab(5) of util-linux 2.38 and systemd 252.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import NamedTuple

from init.entries.fstab import Line, parse

NOTE = "# left out by poolboot: "
MAX_SIZE = 1 << 20  # bytes of either file

# What names a disk, or something on one.
_DISKS = ("/dev/", "UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "ID=", "overlay/")
_ON_DISKS = frozenset(("zfs", "btrfs", "swap"))
# These need no device, and no word of /proc/filesystems either.
_NO_DRIVER = frozenset(("none", "auto", "bind"))


class Outcome(NamedTuple):
    """The new text of a table, and the lines that were left out of it."""

    text: str
    left_out: tuple[Line, ...]


def filter_fstab(text: str, filesystems: Container[str], keep: Callable[[Line], bool] = lambda line: False) -> Outcome:
    """``text`` with all lines commented out that the boot could not mount.

    ``filesystems`` are the types that the kernel has.  ``keep`` is asked first.  What nobody mounts by itself
    (``noauto``) stays, unless it is swap: the machine's disks are not written to.
    """
    return _filter(text, lambda line: keep(line) or mountable(line, filesystems))


def filter_crypttab(text: str) -> Outcome:
    """``text`` with all devices commented out that would be waited for."""
    return _filter(text, lambda line: "noauto" in line.options.split(","), crypttab=True)


def mountable(line: Line, filesystems: Container[str]) -> bool:
    """Whether the boot can mount ``line`` without any disk."""
    if line.fstype == "swap" or line.where == "/":
        return False
    if line.has("noauto"):
        return True
    if line.has("bind") or line.has("rbind"):
        return not line.what.startswith(_DISKS)
    if line.what.startswith(_DISKS) or line.fstype in _ON_DISKS:
        return False
    return line.fstype in _NO_DRIVER or line.fstype in filesystems or line.fstype.startswith("fuse.")


def _filter(text: str, keeps: Callable[[Line], bool], crypttab: bool = False) -> Outcome:
    lines, left_out = [], []
    for raw in text.splitlines():
        line = _parse_crypttab(raw) if crypttab else parse(raw)
        if line is None or keeps(line):
            lines.append(raw)
        else:
            lines.append(NOTE + raw.strip())
            left_out.append(line)
    return Outcome("".join(f"{line}\n" for line in lines), tuple(left_out))


def _parse_crypttab(text: str) -> Line | None:
    """One line of a crypttab: name, device, key, options."""
    words = text.split()
    if len(words) < 2 or words[0].startswith("#"):
        return None
    return Line(words[1], words[0], "crypt", words[3] if len(words) > 3 else "")
