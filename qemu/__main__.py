"""python -m qemu: the harness from the command line; `make run` calls `python -m qemu run`."""

from __future__ import annotations

import argparse
import sys

from artefacts.steps import BuildError, explain
from qemu import run
from qemu.machine import BUSES, MachineError
from qemu.workshop import RecipeError


def main() -> int:
    """The exit status: 0 fine, 1 something did not work (said on stderr), 2 usage."""
    parser = argparse.ArgumentParser(prog="python -m qemu", description="Real systems in virtual machines.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    boot = commands.add_parser("run", help="build the boot image, make a Debian on three btrfs disks, and boot it")
    boot.add_argument("--suite", default="bookworm", help="which Debian (default: %(default)s)")
    boot.add_argument(
        "--kernel", default="slim", metavar="PATH|slim|debian", help="bootstrap kernel (default: %(default)s)"
    )
    boot.add_argument(
        "--bus", default="virtio", choices=sorted(BUSES), help="what the disks are (default: %(default)s)"
    )
    boot.add_argument("--memory", type=int, default=1024, metavar="MIB", help="RAM (default: %(default)s)")
    boot.add_argument("--append", default="", metavar="KNOBS", help="more for the kernel command line")
    boot.add_argument("--unplug", type=int, action="append", default=[], metavar="N", help="leave out disk N (0, 1, 2)")
    boot.add_argument(
        "--timeout", type=float, default=600, metavar="S", help="without a terminal (default: %(default)s)"
    )
    options = parser.parse_args()
    try:
        return run.run(options)
    except (BuildError, RecipeError, MachineError, OSError) as failure:
        error = explain(failure) if isinstance(failure, OSError) else failure
        hint = getattr(error, "hint", "")
        print(f"qemu: error: {error}" + (f"\nqemu: hint: {hint}" if hint else ""), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
