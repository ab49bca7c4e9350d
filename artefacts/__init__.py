"""Building blocks of build.py and of the test harness: everything that makes files on the host.

This package knows ELF files, kernel modules, cpio archives and packages of a distribution.  It imports nothing
from ``fsdrivers``, ``init`` or ``loader``: to the build these are sources to compile, not code to call.

Everything in here needs a Python that we know and the packages of the virtual environment; this file, which comes
first, says so in one line.  It has to be understood by a Python that is too old.
"""

import importlib.util
import sys

OLDEST, NEWEST_STATIC, NEWEST = (3, 11), (3, 13), (3, 14)
"""The versions of Python that the boot program is known to start with; with the last one only a dynamic program."""

PYTHONS = "%d.%d to %d.%d (%d.%d with --dynamic)" % (*OLDEST, *NEWEST_STATIC, *NEWEST)  # noqa: UP031


def _lacking():
    # type: () -> str
    """What is wrong with this interpreter, or nothing."""
    here = "%s is Python %d.%d" % (sys.executable, *sys.version_info[:2])  # noqa: UP031
    if sys.version_info < OLDEST:
        return here + ", which is too old: use Python " + PYTHONS + ", as Debian 12 and Ubuntu 24.04 or newer have it"
    missing = [name for name in ("elftools", "pefile", "rich", "zstandard") if importlib.util.find_spec(name) is None]
    if missing:
        return here + " without the package " + missing[0] + ": run ./setup.sh, then use .venv/bin/python"
    return ""


if _lacking():
    sys.exit("build: error: " + _lacking())
