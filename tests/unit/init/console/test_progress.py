"""Nobody sits before a mute machine: what is told while something large is read."""

from __future__ import annotations

import pytest
from init_doubles import place, system
from memoryfs import MemoryFilesystem

from fsdrivers.filesystem import Node, Piece
from init import config, entries
from init.console.progress import Progress
from init.handover import kexec
from init.machine import syscalls

MIB = 1 << 20


def test_a_wait_says_what_for_and_how_long() -> None:
    now, said = [0.0], []
    told = Progress("reading kernel and initrd", 100 * MIB, said.append, lambda: now[0])
    for second in range(1, 20):
        now[0] = second / 2
        told.advance(5 * MIB)
    assert said == [
        "reading kernel and initrd: 10.0 MiB of 100 MiB, about 9 s more",
        "reading kernel and initrd: 60.0 MiB of 100 MiB, about 4 s more",
    ]
    assert told.slow


def test_what_is_quick_says_nothing() -> None:
    said: list[str] = []
    told = Progress("reading", 10, said.append, lambda: 0.0)
    told.advance(5)
    told.advance(5)
    assert not said
    assert not told.slow


class Slow(MemoryFilesystem):
    """A disk that takes its time: four pieces, a second each."""

    now = 0.0

    def pieces(self, node: Node, offset: int, length: int):  # type: ignore[no-untyped-def]
        data = b"".join(piece.data or bytes(piece.length) for piece in super().pieces(node, offset, length))
        size = max(1, len(data) // 4)
        for start in range(0, len(data), size):
            Slow.now += 1 if len(data) > 4096 else 0
            part = data[start : start + size]
            yield Piece(offset + start, len(part), part)


def test_reading_a_kernel_and_handing_it_to_the_running_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress.__init__, "__defaults__", (lambda: Slow.now,))
    staged = []
    monkeypatch.setattr(syscalls, "kexec_file_load", lambda kernel, initrd, cmdline: staged.append(cmdline))
    monkeypatch.setattr(kexec, "preflight", lambda entry: [])
    where = place(system("6.1"))
    slow = Slow(system("6.1"), "@")
    slow.uuid = where.pool.uuid
    entry = entries.find(where._replace(filesystem=slow), config.read(""), print)[0]
    said: list[str] = []
    kexec.stage(entry, config.read(""), said.append)
    assert said[0] == "reading kernel and initrd: 3.0 KiB of 12.0 KiB, about 3 s more"
    assert said[-1] == "the kernel copies and checks 12.0 KiB, which takes roughly 1 s"
    assert len(staged) == 1
