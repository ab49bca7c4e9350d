"""How far steps are, as a log and as a terminal show it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from artefacts import bars
from artefacts.counters import Kbuild
from artefacts.steps import BuildError, run, step

PROJECT = Path(__file__).parents[3]


def test_a_log_gets_lines_with_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bars, "BEAT", 0.05)
    log, said = tmp_path / "log", ""
    with step("building", log, Kbuild(4)):
        for number, part in enumerate(("  CC      one.o\n  AR      built-in.a\n  CC      t", "wo.o\n"), 1):
            with log.open("a") as file:
                file.write(part)
            for _ in range(200):
                said += capsys.readouterr().out
                if f"{number} of 4" in said:
                    break
                time.sleep(0.05)
    lines = (said + capsys.readouterr().out).splitlines()
    assert lines[0] == f"build: building (log: {log}) ..."
    assert any(re.fullmatch(r"build: building: 1 of 4 files compiled, 25 %, \d+ s", line) for line in lines)
    assert any(re.fullmatch(r"build: building: 2 of 4 files compiled, 50 %, \d+ s", line) for line in lines)
    assert re.fullmatch(r"build: building: done in \d+\.\d s", lines[-1])
    assert not any("CC" in line for line in lines)


def test_a_step_that_fails_is_not_called_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    with pytest.raises(BuildError, match="false ended with status 1"), step("building {braces}", log):
        run(["false"], log=log)
    assert capsys.readouterr().out == f"build: building {{braces}} (log: {log}) ...\n"


_TWO_STEPS = """
import sys, threading, time
from pathlib import Path
from artefacts import bars
from artefacts.counters import Tally
from artefacts.steps import step

def work(what, total):
    tally = Tally("files")
    tally.total = total
    with step(what, Path(sys.argv[1]) / what, tally):
        for tally.done in range(1, total + 1):
            time.sleep(0.2)

threads = [threading.Thread(target=work, args=args) for args in (("kernel", 10), ("program", 5))]
for thread in threads:
    thread.start()
time.sleep(0.7)
print("between the bars")
for thread in threads:
    thread.join()
"""


def test_a_terminal_shows_the_bars_of_all_steps_in_place(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", _TWO_STEPS, str(tmp_path)]
    with subprocess.Popen(command, stdout=slave, stderr=slave, env=environment, cwd=tmp_path) as process:
        os.close(slave)
        shown = b""
        try:
            while block := os.read(master, 4096):
                shown += block
        except OSError:  # Linux's way to say that the other end is closed
            pass
        os.close(master)
    assert process.returncode == 0, shown
    text = shown.decode()
    assert re.search(r"kernel .*\n.*program ", text)  # one below the other
    assert text.count("\x1b[1A") > 4  # drawn again and again, from the first one's line on
    assert re.search(r"[1-5] of 5 files", text)
    assert re.search(r"[1-9] of 10 files", text)
    assert "between the bars" in text
    assert re.search(r"build: program: done in \d+\.\d s", text)
    assert "(log:" not in text
