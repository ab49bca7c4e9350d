"""`make run`: what runs side by side, and how it ends when a part of it fails."""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from artefacts import steps
from artefacts.steps import BuildError
from qemu import images, run
from qemu.machine import Disk
from qemu.workshop import Made


class _Machine:
    """Takes what a Machine takes and is at its login at once."""

    made: tuple[object, ...] = ()

    def __init__(self, *arguments: object, **named: object) -> None:
        _Machine.made = arguments

    def __enter__(self) -> _Machine:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def expect(self, pattern: str, timeout: float) -> None:
        pass


@pytest.fixture
def options() -> argparse.Namespace:
    return argparse.Namespace(
        kernel="slim", suite="bookworm", bus="virtio", memory=512, append="", unplug=[1], timeout=1
    )


def test_image_and_debian_are_made_at_once(
    options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    meeting = threading.Barrier(2, timeout=10)

    def image(kernel: str) -> tuple[Path, Path]:
        meeting.wait()
        return Path("vmlinuz"), Path("initramfs")

    def debian(suite: str) -> Made:
        meeting.wait()
        return Made([Path("a"), Path("b"), Path("c")], Path("out"))

    monkeypatch.setattr(run, "build", image)
    monkeypatch.setattr(images, "debian_raid1", debian)
    monkeypatch.setattr(run, "Machine", _Machine)
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # no terminal
    assert run.run(options) == 0
    assert _Machine.made == (
        Path("vmlinuz"),
        Path("initramfs"),
        "console=ttyS0",
        [Disk(Path("a"), "virtio"), Disk(Path("c"), "virtio")],
    )
    said = capfd.readouterr().out
    assert "s  boot image (build.py)" in said
    assert said.splitlines()[-1].endswith("s  in all")


def test_without_a_network_the_compiler_does_not_run_on(
    options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiling = threading.Event()

    def image(kernel: str) -> tuple[Path, Path]:
        compiling.set()
        steps.run(["sleep", "100"], log=tmp_path / "log")
        raise AssertionError("it was not stopped")

    def debian(suite: str) -> Made:
        compiling.wait(10)
        raise BuildError("mmdebstrap ended with status 25", "check the network")

    monkeypatch.setattr(run, "build", image)
    monkeypatch.setattr(images, "debian_raid1", debian)
    start = time.monotonic()
    with pytest.raises(BuildError, match="mmdebstrap ended with status 25"):
        run.run(options)
    assert time.monotonic() - start < 50


def test_the_command_ends_with_one_line(tmp_path: Path) -> None:
    """With a kernel that does not exist and packages that cannot be fetched: no traceback, status 1."""
    script = (
        "import sys; from qemu import __main__, images; from artefacts.steps import BuildError\n"
        "def gone(suite): raise BuildError('no network', 'check it')\n"
        "images.debian_raid1 = gone; sys.argv[1:] = ['run', '--kernel', '/nonexistent/kernel']\n"
        "def full(kernel): raise OSError(28, 'No space left on device')\n"
        "from qemu import run; run.build = full\n"
        "sys.exit(__main__.main())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("qemu: error: ")
    assert "Traceback" not in done.stderr
