"""``make bench``: everything that is measured, or the parts that are named: ``make bench ARGS="btrfs"``."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]


def main(arguments: list[str]) -> int:
    wanted = arguments or ["algorithms", "btrfs", "zfs"]
    for name in wanted:
        if name == "algorithms":
            import algorithms

            algorithms.main()
        elif name == "btrfs":
            import btrfs

            btrfs.main()
        elif name == "zfs":
            import zfs

            zfs.main()
        else:
            print(f"unknown part {name!r}: algorithms, btrfs, zfs", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
