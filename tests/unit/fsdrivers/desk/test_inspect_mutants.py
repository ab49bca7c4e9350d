"""Whatever is on a disk, `inspect` shows it or says one thing: no fault of ours, no output without end."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from inspected import start_image
from test_inspect_zfs import image as single_image  # noqa: F401 - a fixture

from fsdrivers.block import BlockDevice
from fsdrivers.btrfs import layout
from fsdrivers.btrfs.checksum import TYPES
from fsdrivers.desk.inspect import command
from fsdrivers.errors import FsError
from fsdrivers.pools import assemble

MOST = 32 << 20  # characters that a small image may lead to
BTRFS = (("super",), ("chunk",), ("tree", "root"), ("tree", "fs"), ("tree", "extent"), ("node", "5242880"))
ZFS = (
    ("labels",),
    ("uberblocks",),
    ("mos",),
    ("object", "mos", "1"),
    ("object", "tank", "34"),
    ("blkptr", "0:237200:400"),
)
OTHERS = (("gpt",), ("fat",))


class Patched(BlockDevice):
    """An image with other bytes in some places."""

    def __init__(self, content: bytes, patches: dict[int, bytes]) -> None:
        self.name, self.size = "d0", len(content)
        self._content, self._patches = content, patches

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check(offset, len(buffer))
        buffer[:] = self._content[offset : offset + len(buffer)]
        for at, data in self._patches.items():
            first, last = max(at, offset), min(at + len(data), offset + len(buffer))
            if first < last:
                buffer[first - offset : last - offset] = data[first - at : last - at]


def ask(device: Patched, monkeypatch: pytest.MonkeyPatch, *asked: str) -> bool | str:
    """What came of it; fails on anything but a complaint of the readers' own."""
    monkeypatch.setattr(command, "FileDevice", lambda name: device)
    written = 0

    def say(line: str) -> None:
        nonlocal written
        written += len(line)
        assert written < MOST
        json.loads(line)

    what, *arguments = asked
    try:
        return command.run(what, command.Asked(["d0"], lambda: assemble([device]), arguments), False, True, say)
    except FsError as error:
        return str(error)


def mutants(content: bytes, places: list[tuple[int, int]], seed: int) -> Iterator[Patched]:
    """Images with a few bytes changed, all of them in one of ``places`` (start, length)."""
    dice = random.Random(seed)
    for _ in range(8):
        start, length = dice.choice(places)
        patches = {}
        for _ in range(dice.randrange(1, 6)):
            size = dice.choice((1, 2, 4, 8))
            patches[start + dice.randrange(length - 8)] = dice.choice(
                (dice.randbytes(size), b"\xff" * size, bytes(size))
            )
        yield Patched(content, patches)


@pytest.mark.parametrize("seed", range(4))
def test_mutants_of_btrfs(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = start_image(tmp_path / "start.img").read_bytes()
    places = [(0x10000, 0x1000), (0x100000, 0x1000), (5246976, 4096), (5242880, 4096), (5255168, 4096), (0, 1024)]
    for mutant in mutants(content, places, seed):
        for asked in (*BTRFS, *OTHERS):
            ask(mutant, monkeypatch, *asked)
        # The same with checksums that hold, so that what is inside is looked at.
        for start in (0x10000, 0x100000, 5246976, 5242880, 5255168):
            block = bytearray(mutant.read(start, 4096))
            block[: TYPES[1].size] = TYPES[1].sum(bytes(block[layout.CSUM_FIELD :]))
            mutant._patches[start] = bytes(block)
        for asked in BTRFS:
            ask(mutant, monkeypatch, *asked)


@pytest.mark.parametrize("seed", range(4))
def test_mutants_of_zfs(seed: int, single_image: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    content = single_image.read_bytes()
    places = [(0x4000, 0x800), (0x21000, 0x10000), (0x400000 + 0x23EE00, 512), (0x400000 + 0x236A00, 0x800)]
    for mutant in mutants(content, places, seed):
        for asked in ZFS:
            ask(mutant, monkeypatch, *asked)


def test_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(7)
    for _ in range(20):
        noise = Patched(dice.randbytes(2 << 20), {0x10040: layout.SUPER_MAGIC, 510: b"\x55\xaa", 512: b"EFI PART"})
        for asked in (*BTRFS, *ZFS, *OTHERS):
            ask(noise, monkeypatch, *asked)
