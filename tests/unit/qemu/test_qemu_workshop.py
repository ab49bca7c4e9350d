"""The workshop's guest: what becomes of it when the disk is full, or its kernel falls over."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import cast

import pytest

from artefacts import debian
from artefacts.steps import BuildError
from qemu import workshop
from qemu.machine import Machine, MachineError


class _Guest:
    """A machine that QEMU has stopped, as it does when it cannot write: it says nothing until the plug is pulled."""

    def __init__(self) -> None:
        self.off = threading.Event()

    def kill(self) -> None:
        self.off.set()

    def expect(self) -> None:
        if self.off.wait(30):
            raise MachineError("QEMU ended with status -9")


def test_a_guest_that_fills_the_disk_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = _Guest()
    monkeypatch.setattr(workshop, "full", lambda directory: True)
    start = time.monotonic()
    with (
        pytest.raises(BuildError, match="no room on the disk for the disks of a guest"),
        workshop._while_there_is_room(cast(Machine, guest), tmp_path),
    ):
        guest.expect()
    assert time.monotonic() - start < 25


def test_other_troubles_of_a_guest_stay_what_they_are(tmp_path: Path) -> None:
    guest = _Guest()
    guest.kill()
    with (
        pytest.raises(MachineError, match="status -9"),
        workshop._while_there_is_room(cast(Machine, guest), tmp_path),
    ):
        guest.expect()


@pytest.mark.parametrize("falls", [1, 2])
def test_a_guest_whose_kernel_fell_is_tried_once_more(
    falls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a real guest's last words: the oops of its kernel says nothing of the recipe."""
    monkeypatch.setenv("POOLBOOT_CACHE", str(tmp_path))
    monkeypatch.setattr(workshop, "_initrd", lambda *words: b"")
    monkeypatch.setattr(workshop, "OUT_BYTES", 10240)
    monkeypatch.setattr(workshop.debian, "packages", lambda *words: tmp_path / "packages" / "tree")
    tries: list[Path] = []

    class Fallen:
        def __init__(self, *words: object, log: Path, **options: object) -> None:
            assert "oops=panic" in str(words[2])
            tries.append(log)
            self.falls = len(tries) <= falls
            log.write_text("Kernel panic - not syncing: Fatal exception\n" if self.falls else "")

        def __enter__(self) -> Fallen:
            return self

        def __exit__(self, *words: object) -> None:
            pass

        def tail(self) -> str:
            return ""

        def wait_exit(self, seconds: float) -> None:
            pass

        def expect(self, pattern: str, seconds: float) -> list[str]:
            if self.falls:
                raise MachineError("QEMU ended with status 0")
            return ["", "0"]

    monkeypatch.setattr(workshop, "Machine", Fallen)
    kernel = debian.Kernel(tmp_path / "vmlinuz", tmp_path, "6.1")
    recipe = workshop.Recipe("falling", "true", disks=[1 << 20], kernel=kernel)
    if falls > 1:
        with pytest.raises(workshop.RecipeError, match="ended with status 0"):
            workshop.make(recipe)
    else:
        assert workshop.make(recipe).disks[0].stat().st_size == 1 << 20
    assert len(tries) == 2
