"""`python -m fsdrivers`: the desk tool."""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn


def run() -> NoReturn:
    """The desk tool as a process of its own."""
    # Most objects live until the end: looking for garbage among them every 700 makes a tenth of a short run.
    gc.set_threshold(50_000)
    from fsdrivers.desk.cli import main

    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # The kernel gives everything back in less time than the interpreter takes for it.
    os._exit(status)


if __name__ == "__main__":
    run()
