"""The workshop's guest: what becomes of it when the disk is full."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import cast

import pytest

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
