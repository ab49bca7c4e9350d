"""docs/support-btrfs.md, from the tables that the tests run over: ``python tests/images/btrfs_matrix.py`` writes it."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PAGE = ROOT / "docs/support-btrfs.md"
if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(ROOT)]

import btrfs_crash_recipes  # noqa: E402
import btrfs_crossed_recipes as crossed  # noqa: E402
import btrfs_device_recipes  # noqa: E402
import test_btrfs  # noqa: E402
import test_btrfs_crossed  # noqa: E402
from btrfs_recipes import Layout  # noqa: E402
from btrfs_stripe_recipes import LAYOUTS  # noqa: E402

from fsdrivers.btrfs import features, geometry  # noqa: E402

_HEAD = """# What is read of btrfs

Made by `python tests/images/btrfs_matrix.py` from the tables that the tests run over; a test fails when this page is
older than they are.  All filesystems are made by btrfs-progs and the kernel, and every file of every case (type, mode,
owner, size, times, content) is compared with what the kernel's own driver shows.
"""


def page() -> str:
    """The text of the page."""
    return "\n".join([_HEAD, *_profiles(), *_crossed(), *_formats(), *_events(), *_features()])


def _profiles() -> list[str]:
    lines = [
        "## Profiles, missing disks, codecs, checksums",
        "",
        "*Missing*: the sets of absent disks that are read; *rotten*: sets of disks of which every sector is damaged",
        "(files without checksums are left out there: nothing can tell which of their versions is right).",
        "",
        "| image | disks | data | metadata | nodes | codec | checksum | missing | rotten |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for layout in (*test_btrfs.ALL, *LAYOUTS):
        text = _counted(test_btrfs.subsets(layout))
        cells = [layout.name, str(layout.disks), *_options(layout), text, text]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _crossed() -> list[str]:
    """The shapes, each of them with all checksums."""
    lines = [
        "Crossed: every filesystem of this table exists with each of the checksums "
        f"{', '.join(crossed.CHECKSUMS)}, and has",
        f"files in each of the codecs {', '.join(crossed.CODECS)}: {len(crossed.TABLE)} filesystems.",
        "",
        "| data | metadata | disks | data columns | missing | rotten |",
        "|---|---|---|---|---|---|",
    ]
    for one in crossed.TABLE:
        if one.checksum == crossed.CHECKSUMS[0]:
            shape = one.shape
            (profile,) = [item for item in geometry.PROFILES.values() if item.name == shape.data]
            striped = shape.data in ("raid0", "raid10", "raid5", "raid6")
            columns = (shape.disks - profile.parity) // profile.copies if striped else 1
            text = _counted(chosen for chosen in test_btrfs_crossed.subsets(one) if chosen)
            lines.append(f"| {shape.data} | {shape.metadata} | {shape.disks} | {columns} | {text} | {text} |")
    return [*lines, ""]


def _counted(sets: Iterable[tuple[int, ...]]) -> str:
    """The sets of disks by their size, in words."""
    counts = Counter(len(chosen) for chosen in sets)
    return ", ".join(f"{count} x {size}" for size, count in sorted(counts.items())) or "-"


def _options(layout: Layout) -> list[str]:
    """Profiles, node size, codec and checksum in words, from the options that made the filesystem."""

    def option(pattern: str, where: str, default: str) -> str:
        found = re.search(pattern, where)
        return found[1] if found else default

    mixed = "mixed groups, " if re.search(r"-M\b", layout.mkfs) else ""
    return [
        mixed + option(r"-d (\S+)", layout.mkfs, "single"),
        mixed + option(r"-m (\S+)", layout.mkfs, "dup"),
        option(r"-n (\d+)", layout.mkfs, "16384"),
        option(r"compress(?:-force)?=(\S+)", layout.mount, "none"),
        option(r"--csum (\S+)", layout.mkfs, "crc32c"),
    ]


def _formats() -> list[str]:
    refused = {feature.name for feature in features.INCOMPAT.values() if feature.refused}
    names = [f"- {name}" + (" (refused by name)" if name in refused else "") for name in btrfs_device_recipes.FORMATS]
    return ["## Other formats", "", *names, ""]


def _events() -> list[str]:
    devices = [f"- {name}" for name in (*btrfs_device_recipes.STORIES, "balance (interrupted while it moved metadata)")]
    crashes = [f"- {name}" for name in btrfs_crash_recipes.NAMES]
    return [
        "## Devices that came and went", "", *devices, "",
        "## Crashes, with the log replayed in memory", "", *crashes, "",
    ]  # fmt: skip


def _features() -> list[str]:
    lines = ["## Feature flags", "", "| field | bit | name | state |", "|---|---|---|---|"]
    for field, table in (("incompat", features.INCOMPAT), ("compat_ro", features.COMPAT_RO)):
        for bit, feature in table.items():
            state = f"refused: {feature.refused}" if feature.refused else f"read ({feature.test})"
            lines.append(f"| {field} | {bit} | {feature.name} | {state} |")
    return [*lines, "", "Unknown incompat bits are refused by number, unknown compat_ro bits are read with a note.", ""]


if __name__ == "__main__":
    PAGE.write_text(page())
