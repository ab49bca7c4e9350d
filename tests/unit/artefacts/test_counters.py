"""Counts of long steps, on logs that real builds wrote."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from artefacts.counters import Apt, Count, Counter, Dkms, Files, Kbuild, Script, Tally, planned

LOGS = Path(__file__).parent.parent / "data" / "logs"
SETUP = Path(__file__).parents[3] / "setup.sh"


def lines(name: str) -> list[str]:
    return (LOGS / name).read_text().splitlines()


def states(counter: Counter, log: list[str]) -> list[Count | None]:
    """What the counter says after each line."""
    said = []
    for line in log:
        counter.feed([line])
        said.append(counter.count())
    return said


def test_a_count_in_words() -> None:
    assert str(Count(3, 0, "files compiled")) == "3 files compiled"
    assert str(Count(367, 1468, "files compiled")) == "367 of 1468 files compiled, 25 %"
    assert str(Count(12, 10, "files")) == "12 of 12 files, 100 %"
    assert str(Count(1, 4, "lines", "3 MB")) == "1 of 4 lines, 25 %, 3 MB"


def test_nothing_is_said_of_an_unknown_command() -> None:
    assert set(states(Counter(), lines("kernel.log"))) == {None}


def test_objects_of_the_kernel() -> None:
    """Programs of the host, archives and links are not among them: the plan does not count them either."""
    log = lines("kernel.log")
    counter = Kbuild()
    assert counter.count() is None
    counter.total = 300
    counter.feed(log)
    wanted = sum(line.startswith(("  CC  ", "  AS  ")) and line.endswith(".o") for line in log)
    assert wanted > 150
    assert counter.count() == Count(wanted, 300, "files compiled")


def test_what_make_plans() -> None:
    plan = lines("kernel-plan.log")
    names = [line.split("echo '  ")[1].split("'")[0].split() for line in plan]
    assert {"CC", "AR"} <= {kind for kind, _ in names}
    assert planned(plan) == sum(kind in ("CC", "AS") and name.endswith(".o") for kind, name in names)


def test_packages_of_a_root() -> None:
    log = lines("mmdebstrap-dkms.log")
    all_said = states(Apt(), log)
    said = [count for count in all_said if count]
    assert {count.unit for count in said} == {"MB fetched", "packages set up"}
    fetched = [count for count in said if count.unit == "MB fetched"]
    assert fetched[-1].done == pytest.approx(9.5 + 38.0 + 111, rel=0.02)
    assert fetched[-1].total == pytest.approx(fetched[-1].done, rel=0.02)
    essential = [count for count in said if count.total == 89]
    assert essential[0].done == 0
    assert essential[-1].done == 89
    assert (said[-1].done, said[-1].total) == (174, 174)
    assert said[-1].note == "174 unpacked"
    extracting = next(n for n, line in enumerate(log) if line == "I: extracting archives...")
    assert str(all_said[extracting]) == "0 of 89 packages set up, 0 %, 0 unpacked"


def test_dkms_below_mmdebstrap(tmp_path: Path) -> None:
    counter = Dkms("zfs")
    build = tmp_path / "var/lib/dkms/zfs/2.1.11/build"
    build.mkdir(parents=True)
    counter.feed([line.replace("/tmp/mmdebstrap.kWM0EYYApX", str(tmp_path)) for line in lines("mmdebstrap-dkms.log")])
    assert str(counter.count()) == "174 of 174 packages set up, 100 %, 174 unpacked"
    shutil.copy(LOGS / "dkms-config.log", build / "config.log")
    asked = sum(": checking " in line for line in lines("dkms-config.log"))
    assert counter.count() == Count(asked, 0, "questions of configure answered")
    for name in ("module/zfs/arc.c", "module/os/linux/zfs/abd_os.c", "module/os/freebsd/zfs/abd_os.c"):
        (build / name).parent.mkdir(parents=True, exist_ok=True)
        (build / name).touch()
    shutil.copy(LOGS / "dkms-make.log", build / "make.log")
    objects = sum(" [M] " in line and line.split()[0] in ("CC", "AS") for line in lines("dkms-make.log"))
    assert objects > 20
    assert counter.count() == Count(objects, 2, "files compiled")


def test_files_that_become_others(tmp_path: Path) -> None:
    counter = Files(tmp_path / "init.build", ".c", ".o", "files compiled")
    assert counter.count() is None
    (tmp_path / "init.build").mkdir()
    for name in ("__constants.c", "__helpers.c", "__helpers.o", "__constants.const"):
        (tmp_path / "init.build" / name).touch()
    assert counter.count() == Count(1, 2, "files compiled")


def test_a_tally() -> None:
    tally = Tally("modules compiled")
    assert tally.count() is None
    tally.total += 2
    tally.done += 1
    assert tally.count() == Count(1, 2, "modules compiled")


def test_a_script_in_a_guest() -> None:
    written = 0
    counter = Script(20, lambda: written)
    assert counter.count() is None
    counter.feed(
        ["[    3.2] workshop: at line 4", "\x1b[0mworkshop: at line 12", "workshop: script ended with status 0"]
    )
    written = 5_300_000
    assert counter.count() == Count(12, 20, "lines of the script", "5 MB on the disks")


def test_set_up_counts_in_plain_sh(tmp_path: Path) -> None:
    """By the function of setup.sh itself, which has to do without Python."""
    text = SETUP.read_text()
    function = text[text.index("far() {") : text.index("\n}\n", text.index("far() {")) + 3]

    def far(log: list[str]) -> str:
        (tmp_path / "log").write_text("\n".join(["$ an earlier command", "Setting up other (1) ...", *log, ""]))
        script = f"set -eu\nlog={tmp_path}/log\n{function}\nfar"
        return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.strip()

    apt = lines("mmdebstrap-dkms.log")
    start = next(n for n, line in enumerate(apt) if "newly installed" in line)
    counter = Apt()
    counter.feed(apt[start : start + 12])
    fetched = counter.count()
    assert fetched
    assert far(["$ apt-get install", *apt[start : start + 12]]) == f"{fetched.done:.0f} {fetched.total:.0f} MB fetched"
    configured = [n for n, line in enumerate(apt) if line.startswith("Setting up ")]
    assert far(["$ apt-get install", *apt[start : configured[20]]]) == "20 89 packages set up"
    pip = lines("pip.log")
    assert far(pip[:30]) == "8 0 packages found, 5.5 MB fetched"
    assert far(next(pip[:n] for n in range(len(pip)) if pip[n - 1].startswith("Installing "))).startswith(
        "35 0 packages"
    )
    assert far(["$ python3 -m venv"]) == ""


def test_set_up_shows_a_bar_on_a_terminal_and_lines_in_a_log(tmp_path: Path) -> None:
    text = SETUP.read_text()
    functions = (
        text[text.index("say() {") : text.index("die() {")] + text[text.index("far() {") : text.index("# step WHAT")]
    )
    (tmp_path / "log").write_text("\n".join(["$ apt-get install", *lines("mmdebstrap-dkms.log")[:300], ""]))
    script = tmp_path / "script"
    script.write_text(f"set -eu\nlog={tmp_path}/log\n{functions}\nshow installing 19\nshow installing 20\n")
    in_a_log = subprocess.run(["sh", script], capture_output=True, text=True, check=True).stdout
    assert in_a_log.endswith(", 20 s\n")
    assert in_a_log.count("\n") == 1
    command = ["script", "--quiet", "--return", "--command", f"sh {script}", "/dev/null"]
    on_terminal = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout.decode()
    assert "\r\x1b[Ksetup: installing: [" in on_terminal
    assert "s\r\x1b[Ksetup: installing: [" in on_terminal  # the second in the place of the first
    assert "\n" not in on_terminal
