"""``make fuzz SECONDS=600``: every target for its share of that time, as many at once as there are processors.

``ARGS="zfs-label bls"`` names some of them.  Inputs that broke something are kept in build/fuzz/TARGET, with a text
beside each that says what; so is the corpus, from which the next run goes on.  Exit code 1 when there is any.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from target import PROJECT, Target, name_of, past_findings  # noqa: E402
from targets import TARGETS  # noqa: E402

from artefacts import native  # noqa: E402
from fsdrivers.errors import FsError  # noqa: E402

ROOM = PROJECT / "build" / "fuzz"
LEAST = 1  # seconds of a target's share
HUNG = 60  # seconds of one execution that not even a signal ends
MEMORY = 2048  # MiB
FOUND_BY_LIBFUZZER = ("crash-*", "oom-*", "timeout-*", "leak-*")


class Outcome(NamedTuple):
    """What became of one target."""

    executions: int
    coverage: int
    findings: list[Path]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="of all targets together")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    options = parser.parse_args(arguments)
    unknown = [name for name in options.targets if name not in TARGETS]
    if unknown:
        parser.error(f"no target {unknown[0]!r}: {', '.join(TARGETS)}")
    wanted = [TARGETS[name] for name in options.targets or TARGETS]
    jobs = max(1, min(len(os.sched_getaffinity(0)), len(wanted)))
    seconds = max(LEAST, round(options.seconds * jobs / len(wanted)))
    ROOM.mkdir(parents=True, exist_ok=True)
    sanitized = {name: str(path) for name, path in native.build_sanitized(ROOM / "native.log").items()}
    print(f"{len(wanted)} targets for {seconds} s each, {jobs} at once", flush=True)
    count = 0
    with ThreadPoolExecutor(jobs) as pool:
        for target, outcome in zip(wanted, pool.map(lambda one: _fuzz(one, seconds, sanitized), wanted), strict=True):
            findings = [path for path in outcome.findings if _confirmed(target, path)]
            count += len(findings)
            print(
                f"{target.name:18} {outcome.executions:10,} executions  coverage {outcome.coverage:5}  "
                f"{len(findings)} finding{'' if len(findings) == 1 else 's'}",
                *(f"\n  {path.relative_to(PROJECT)}" for path in findings),
                sep="",
                flush=True,
            )
    return 1 if count else 0


def _fuzz(target: Target, seconds: int, sanitized: dict[str, str]) -> Outcome:
    room = ROOM / target.name
    corpus = room / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for data in (*target.seeds(), *(path.read_bytes() for path in past_findings(target))):
        (corpus / name_of(data)).write_bytes(data)
    before = set(room.iterdir())
    command = [
        sys.executable, str(HERE / "child.py"), target.name, str(room), str(corpus), f"-max_total_time={seconds}",
        f"-max_len={target.room}", f"-timeout={HUNG}", f"-rss_limit_mb={MEMORY}", f"-artifact_prefix={room}/",
        "-print_final_stats=1",
    ]  # fmt: skip
    with (room / "log").open("wb") as log:
        ended = subprocess.run(command, stdout=log, stderr=log, env=_environment(target, sanitized), cwd=PROJECT)
    text = (room / "log").read_text(errors="replace")
    findings = [path for path in sorted(set(room.iterdir()) - before) if path.suffix != ".txt" and path.name != "log"]
    if ended.returncode and not findings:
        findings.append(room / "log")
    executed = re.findall(r"^stat::number_of_executed_units: (\d+)|^#(\d+)\t", text, re.M) or [("0", "")]
    return Outcome(int(max(executed[-1])), max(map(int, re.findall(r" cov: (\d+)", text)), default=0), findings)


def _environment(target: Target, sanitized: dict[str, str]) -> dict[str, str]:
    if not target.native:
        return dict(os.environ)
    import atheris  # type: ignore[import-not-found]

    return {
        **os.environ,
        "POOLBOOT_SANITIZED": json.dumps(sanitized),
        # It has libFuzzer in it, too: two copies would count apart.
        "LD_PRELOAD": f"{atheris.path()}/asan_with_fuzzer.so",
        "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=16",  # Python leaves much at its end
        "PYTHONMALLOC": "malloc",  # with memory around each object that nobody may touch
    }


def _confirmed(target: Target, path: Path) -> bool:
    """Whether an input breaks a bound in a Python that counts no branches, too; what ended a process counts anyway."""
    if path.name == "log" or any(path.match(pattern) for pattern in FOUND_BY_LIBFUZZER):
        return True
    from bounded import bounded  # target.py made it known

    data = path.read_bytes()

    def call() -> None:
        try:
            target.run(data)
        except target.expected as error:
            raise FsError("as it is documented") from error

    for seed in target.seeds()[:1]:
        target.run(seed)  # what is loaded once is nobody's memory
    try:
        bounded(call)
    except AssertionError as error:
        path.with_name(path.name + ".txt").open("a").write(f"alone: {error}\n")
        return True
    path.unlink()
    path.with_name(path.name + ".txt").unlink(missing_ok=True)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
