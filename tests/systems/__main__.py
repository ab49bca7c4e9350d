"""Ring 0 from the command line.

python tests/systems fresh trixie [PART...]   make PART for each, in a bare root
python tests/systems table [SUITE...]         the README's table of systems
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

import table  # noqa: E402
from fresh import PARTS, fresh  # noqa: E402
from releases import RELEASES, by_suite  # noqa: E402

from artefacts.steps import BuildError  # noqa: E402
from qemu.machine import MachineError  # noqa: E402
from qemu.workshop import RecipeError  # noqa: E402


def main() -> int:
    """The exit status: 0 fine, 1 something did not work (said on stderr), 2 usage."""
    parser = argparse.ArgumentParser(
        prog="python tests/systems", description="Each supported system, from a bare root."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    newcomer = commands.add_parser("fresh", help="what a newcomer does, with nothing installed and nothing cached")
    newcomer.add_argument("suite", choices=[release.suite for release in RELEASES])
    newcomer.add_argument("words", nargs="*", metavar="PART|NAME=VALUE", help=f"for make; default: {' '.join(PARTS)}")
    page = commands.add_parser("table", help="the README's table; runs what is not proved yet")
    page.add_argument("suites", nargs="*", help="whose rows to write anew (default: all)")
    page.add_argument("--zfs", action="store_true", help="boot from ZFS too (compiles OpenZFS of each release once)")
    options = parser.parse_args()
    try:
        if options.command == "fresh":
            return 1 if fresh(by_suite(options.suite), options.words) else 0
        suites = options.suites or [release.suite for release in RELEASES]
        table.rewrite([table.prove(by_suite(suite), options.zfs) for suite in suites])
    except (BuildError, RecipeError, MachineError, ValueError) as error:
        hint = getattr(error, "hint", "")
        print(f"systems: error: {error}" + (f"\nsystems: hint: {hint}" if hint else ""), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
