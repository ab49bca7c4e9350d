"""``make fresh SUITE=trixie``: what a newcomer does, in a bare root with nothing installed and nothing cached."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import bareroot
from releases import Release
from ring import LOGS

from artefacts import cache
from artefacts.steps import step

PARTS = ("setup", "run", "test")


def fresh(release: Release, words: Sequence[str]) -> int:
    """Run ``make PART`` for each of ``words`` in order, aloud; stops at the first that fails, with its status.

    Words with "=" are variables for every part; without other words the parts are PARTS.

    Raises BuildError when there is no root to do it in.
    """
    log = LOGS / f"{release.suite}-fresh.log"
    variables = [f"SUITE={release.suite}", *(word for word in words if "=" in word)]
    parts = [word for word in words if "=" not in word] or PARTS
    times: list[tuple[str, float]] = []
    status = 0
    tar = bareroot.bare(release.suite)
    shelf = cache.root() / "systems"
    shelf.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".fresh-", dir=shelf, ignore_cleanup_errors=True) as empty:
        with step(f"a bare {release.title}", log):
            root = bareroot.unpacked(tar, Path(empty))
        with root as entered:
            entered.put_checkout()
            for part in parts:
                start = time.monotonic()
                print(f"fresh: make {part} {' '.join(variables)}", flush=True)
                status = entered.aloud(["make", part, *variables], log)
                times.append((part, time.monotonic() - start))
                if status:
                    break
    for part, seconds in times:
        print(f"fresh: {seconds:7.1f} s  make {part}")
    print(f"fresh: {sum(seconds for _, seconds in times):7.1f} s  in all, in a bare {release.title}")
    if status:
        print(f"fresh: make {times[-1][0]} ended with status {status} (log: {log})")
    return status
