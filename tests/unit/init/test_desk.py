"""``--dry-run``: the decision of the boot and its reasons, and the manners of a program at a desk."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from init_doubles import MemoryPool
from test_init_boot import CMDLINE, Bench, tank

import init
from fsdrivers import pools
from init import desk, handover
from init.handover import Refused, kexec, program

HOUSE = Path(init.__file__).parents[1]


def dry_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], pool: MemoryPool, *words: str
) -> tuple[int, list[str]]:
    monkeypatch.setattr(pools, "assemble", lambda *given: [pool])
    status = desk.main(["--dry-run", "--machine", "x86_64", *words])
    return status, capsys.readouterr().out.splitlines()


def test_what_is_left_when_no_kernel_can_be_loaded_is_the_root_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the boot does it: kexec, firmware, and after all entries switch_root."""
    monkeypatch.setattr(program, "check", lambda *args: None)  # files in memory are not executable
    status, lines = dry_run(monkeypatch, capsys, tank(0, "6.12.1", "6.9"), "--memory", "16")
    assert status == 0
    passed = [line for line in lines if line.startswith("would pass over ")]
    assert [re.sub(r":.*not by", ": not by", line).split(": ")[:2] for line in passed] == [
        ["would pass over tank", "not by kexec"],
        ["would pass over tank", "not by firmware"],
    ] * 2
    assert "would boot tank:@/6.12.1, as no entry can be started with a kernel of its own" in lines
    assert "  by switch_root: init /sbin/init under the running kernel" in lines


def test_with_secure_boot_nothing_is_left_but_what_its_signed_command_line_asks_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "check", lambda *args: None)
    words = ["--memory", "16", "--secure-boot"]
    status, lines = dry_run(monkeypatch, capsys, tank(0, "6.12.1", "6.9"), *words)
    assert status == 1
    assert not any("by switch_root" in line for line in lines)
    assert any("Secure Boot" in line or "no EFI program" in line for line in lines)
    asked = ["--cmdline", "poolboot.handover=switch_root"]
    status, lines = dry_run(monkeypatch, capsys, tank(0, "6.12.1", "6.9"), *words, *asked)
    assert status == 0
    assert "  by switch_root: init /sbin/init under the running kernel" in lines


def test_the_boot_with_secure_boot_ends_where_every_kernel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, [tank(0, "6.12.1", "6.9")])])
    bench.machine.config = bench.machine.config._replace(secure=True)
    bench.refuse = {version: Refused("ENOKEY") for version in ("6.12.1", "6.9")}
    monkeypatch.setitem(handover.WAYS, "switch_root", Way(bench))
    lines = bench.boot()
    assert bench.staged == []
    assert any("handover by switch_root is not tried: Secure Boot is on" in line for line in lines)
    assert lines[-1] == "poolboot: error: none of the entries could be booted"


def test_the_boot_decides_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [(0, [tank(0, "6.12.1", "6.9")])])
    bench.refuse = {version: Refused("no room") for version in ("6.12.1", "6.9")}
    monkeypatch.setitem(handover.WAYS, "switch_root", Way(bench))
    lines = bench.boot()
    told = "poolboot: no entry could be started with a kernel of its own: now the roots under this kernel"
    assert lines.count(told) == 1
    assert bench.staged == [f"switch_root 6.12.1 {CMDLINE}"]


class Way:
    """Stands for a way of handing over."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.go = bench.go

    def stage(self, entry: handover.BootEntry, *rest: object) -> None:
        self._bench.staged.append(f"switch_root {entry.version} {entry.cmdline}")


@pytest.mark.parametrize(
    ("knobs", "status", "wanted"),
    [
        ("poolboot.handover=none", 1, "would stay at the rescue prompt: poolboot.handover=none"),
        ("poolboot.entry=2 poolboot.timeout=7", 0, "first a menu counts down 7 s"),
        ("root=UUID=other poolboot.on-error=reboot", 1, "would restart, as poolboot.on-error=reboot: the pool with uu"),
        ("poolboot.handover=firmware", 1, "would pass over tank:@/6.9: an EFI system partition called poolboot: the"),
    ],
)
def test_knobs_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], knobs: str, status: int, wanted: str
) -> None:
    efi = tank(0, "6.12.1", "6.9")
    monkeypatch.setattr("init.handover.firmware.preflight", lambda *args: None)
    assert dry_run(monkeypatch, capsys, efi, "--cmdline", knobs)[0] == status
    _, lines = dry_run(monkeypatch, capsys, efi, "--cmdline", knobs)
    assert any(line.startswith(wanted) for line in lines), lines


def test_names_on_the_disks_do_not_reach_the_terminal_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = tank()
    pool.name = "evil\x1b[2J\udcff\nlabel"
    _, lines = dry_run(monkeypatch, capsys, pool)
    assert any(r"evil\x1b[2J\xff\x0alabel" in line for line in lines)
    assert all(line.isprintable() and line.isascii() for line in lines)


def test_a_bug_is_told_without_a_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(kexec, "preflight", lambda *args: 1 / 0)
    monkeypatch.setattr(pools, "assemble", lambda *given: [tank()])
    assert desk.main(["--dry-run"]) == 1
    told = capsys.readouterr().err
    assert "poolboot: error: internal error while telling what would be booted\n" in told
    assert "ZeroDivisionError" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("target", ["/dev/full", "closed pipe"])
def test_output_that_cannot_be_written(tmp_path: Path, target: str) -> None:
    image = tmp_path / "foreign.img"
    image.write_bytes(b"\x55\xaa" * 4096)
    if target == "/dev/full":
        sink = os.open(target, os.O_WRONLY)
    else:
        source, sink = os.pipe()
        os.close(source)
    command = [sys.executable, "-m", "init", "--dry-run", "-a", str(image)]
    done = subprocess.run(command, stdout=sink, stderr=subprocess.PIPE, text=True, cwd=HOUSE, check=False)
    os.close(sink)
    assert done.returncode == 1
    assert done.stderr == ("poolboot: error: No space left on device\n" if target == "/dev/full" else "")


@pytest.mark.parametrize("words", [["--memory", "-5"], ["--memory", "x"], ["disk.img"], ["-a"]])
def test_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        desk.main(["--dry-run", *words])
    assert caught.value.code == 2
    assert "usage: " in capsys.readouterr().err


def test_only_pid_1_boots() -> None:
    done = subprocess.run([sys.executable, "-m", "init"], capture_output=True, text=True, cwd=HOUSE, check=False)
    assert (done.returncode, done.stdout) == (2, "")
