"""The worst labels: read within a second and 64 MiB, whatever their lists say."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import places
import pytest
import zfslabels
from bounded import bounded
from hypothesis import given, settings
from hypothesis import strategies as st
from zfslabels import HEADER, ROOM, disk, packed, pair, string

from fsdrivers import pools
from fsdrivers.block import BlockDevice, FileDevice
from fsdrivers.errors import FsError
from fsdrivers.zfs import label, layout, nvlist, spa

NUMBER, TEXT, LIST, LISTS, TEXTS, BYTES, NUMBERS = 8, 9, 19, 20, 17, 10, 16

WORST = {
    "lists that overlap the pairs behind them": zfslabels.overlapping_lists(31),
    "many lists that overlap": zfslabels.overlapping_lists(4000),
    "names that reach over what follows": zfslabels.overlapping_names(4000),
    "values that reach over what follows": packed(*(pair(b"%d" % n, TEXT, b"\0\1\x80\0", size=28) for n in range(999))),
    "pairs of nothing": packed(*(pair(b"", 1, b"") for _ in range(ROOM // 20 - 1))),
    "pairs with a name each": packed(*(pair(b"%4d" % n, 1, b"") for n in range(ROOM // 24 - 1))),
    "lists of nothing": packed(pair(b"", LISTS, (HEADER + bytes(8)) * (ROOM // 16 - 3), ROOM // 16 - 3)),
    "texts of nothing": packed(pair(b"", TEXTS, bytes(ROOM - 60), (ROOM - 60) // 4)),
    "numbers": packed(pair(b"", NUMBERS, bytes(4) + b"\xee" * (ROOM - 64), (ROOM - 64) // 8)),
    "arrays without end": packed(pair(b"", NUMBERS, bytes(4), 1 << 16), pair(b"", 13, b"", (1 << 31) - 1)),
    "bytes without end": packed(*(pair(b"%d" % n, BYTES, b"", ROOM, size=28) for n in range(4000))),
    "lists in lists": b"\1\1\0\0" + (HEADER + struct.pack(">iiIii", ROOM, 1, 0, LIST, 1)) * (ROOM // 36),
    "native lists that have no end": b"\0\1\0\0" + bytes(8) + struct.pack("<ihhii8x", 24, 1, 0, 1 << 16, LISTS) * 4000,
    "native texts": b"\0\1\0\0"
    + bytes(8)
    + struct.pack("<ihhii8x", ROOM - 16, 1, 0, 1 << 10, TEXTS)
    + bytes(ROOM - 64),
}


@pytest.mark.parametrize("content", WORST.values(), ids=WORST)
def test_worst_lists(content: bytes) -> None:
    bounded(lambda: len(nvlist.parse(content.ljust(ROOM, b"\0"))))


def test_a_configuration_of_many_pairs_is_refused_by_name() -> None:
    content = packed(*(pair(b"", 1, b"") for _ in range(nvlist.MAX_PAIRS)))
    assert "more than 131072 pairs" in bounded(lambda: nvlist.parse(content)).error


def test_the_largest_configuration() -> None:
    """As large as dsl.py:packed_list lets through."""
    numbers = pair(b"", NUMBERS, bytes(4) + b"\xee" * (8 << 16), 1 << 16)
    many = packed(*(pair(b"%6d" % n, 1, b"") for n in range(100_000)), *[numbers] * 2)
    assert bounded(lambda: len(nvlist.parse(many))).value == 100_001


@pytest.mark.parametrize("content", [zfslabels.overlapping_lists(4000), zfslabels.overlapping_names(4000)])
@pytest.mark.parametrize("program", [["fsdrivers", "-a", "{}", "probe"], ["init", "--dry-run", "-a", "{}"]])
def test_a_disk_with_such_labels(content: bytes, program: list[str], tmp_path: Path) -> None:
    """The programs themselves: a line about the disk, within the time that they take for any other."""
    image = disk(tmp_path / "hostile.img", content)
    command = [sys.executable, "-m", *(word.format(image) for word in program)]
    before = sum(os.times()[2:4])
    found = subprocess.run(command, cwd=places.PROJECT, capture_output=True, text=True, timeout=60)
    assert found.returncode == 1
    lines = [line for line in (found.stdout + found.stderr).splitlines() if "hostile.img" in line]
    assert len(lines) == 1
    assert "corrupt label" in lines[0]
    assert len(lines[0]) < 300
    assert sum(os.times()[2:4]) - before < 2  # of which starting Python is the most


def test_a_disk_with_such_labels_in_bounds(tmp_path: Path) -> None:
    for name, content in WORST.items():
        image = disk(tmp_path / "hostile.img", content)
        complaints: list[FsError] = []

        def probe(image: Path = image, complaints: list[FsError] = complaints) -> list[str]:
            pools.assemble([FileDevice(str(image))], complaints.append)
            return [str(error) for error in complaints]

        said = bounded(probe).value
        assert isinstance(said, list), name
        assert all(len(line) < 600 for line in said), name


@pytest.mark.parametrize("name", [b"", None])
def test_a_pool_without_a_name(name: bytes | None, tmp_path: Path) -> None:
    """Nobody could ask for it, and no line of a menu would show it."""
    pairs = [pair(key, 8, struct.pack(">Q", value)) for key, value in ((b"version", 5000), (b"pool_guid", 6))]
    if name is not None:
        pairs.append(pair(b"name", 9, string(name)))
    complaints: list[FsError] = []
    path = disk(tmp_path / "d.img", packed(*pairs))
    assert pools.assemble([FileDevice(str(path), "d.img")], complaints.append) == []
    (complaint,) = complaints
    assert "d.img: corrupt label pool name" in str(complaint)


def test_a_pool_with_an_endless_name(tmp_path: Path) -> None:
    content = packed(pair(b"name", TEXT, string(b"x" * 50_000)), pair(b"version", NUMBER, struct.pack(">Q", 5000)))
    complaints: list[FsError] = []
    assert not pools.assemble([FileDevice(str(disk(tmp_path / "d.img", content)))], complaints.append)
    assert "label pool name" in str(complaints[0])
    assert len(str(complaints[0])) < 300


# --- shapes ------------------------------------------------------------------------------------------

UNIT = 32  # bytes of each pair below up to the list in it: sizes are such that many end where another pair begins
NAMES = st.integers(0, 99).map(lambda number: b"%02d" % number)
FLAT = NAMES.map(lambda name: pair(name, 1, bytes(8)))
OPEN = NAMES.map(lambda name: pair(name, LIST, HEADER, size=UNIT))  # a list, and what follows could be in it
ODD = st.builds(
    lambda name, kind, count, units, more: pair(name, kind, HEADER, count, UNIT * units + more),
    NAMES,
    st.sampled_from((LIST, LISTS, TEXT, TEXTS, BYTES)),
    st.sampled_from((1, 2, 8, 1 << 16)),
    st.sampled_from((1, 2, 3, 1 << 10)),
    st.sampled_from((0, 8, -4)),
)
WHOLE = st.builds(lambda name, value: pair(name, TEXT, string(value)), NAMES, st.binary(max_size=20))


@settings(max_examples=300)
@given(st.lists(st.one_of(OPEN, OPEN, OPEN, ODD, FLAT, WHOLE, st.just(bytes(8))), max_size=20), st.integers(0, 9))
def test_no_byte_comes_out_twice(pieces: list[bytes], ends: int) -> None:
    """Whatever sizes say of themselves: there is never more in the result than there was in the list."""
    data = b"\1\1\0\0" + HEADER + b"".join(pieces) + bytes(8) * ends
    try:
        found = nvlist.parse(data)
    except nvlist.NvError:
        return
    pairs, texts = _sum(found)
    assert 20 * pairs + texts <= len(data)


def _sum(value: object) -> tuple[int, int]:
    """Pairs, and bytes of names and texts, in ``value``."""
    if isinstance(value, dict):
        below = [_sum(one) for one in value.values()]
        names = sum(len(os.fsencode(name)) for name in value)
        return len(value) + sum(one[0] for one in below), names + sum(one[1] for one in below)
    if isinstance(value, list):
        below = [_sum(one) for one in value]
        return sum(one[0] for one in below), sum(one[1] for one in below)
    if isinstance(value, str):
        return 0, len(os.fsencode(value))
    return 0, len(value) if isinstance(value, bytes) else 0


class Rings(BlockDevice):
    """A device whose rings are full of uberblocks that no other device has."""

    def __init__(self, number: int) -> None:
        self.name, self.size, self._number = f"/dev/sda{number}", zfslabels.SIZE, number

    def read_into(self, offset: int, buffer: memoryview) -> None:
        for at in range(0, len(buffer), 1024):
            struct.pack_into("<3Q", buffer, at, layout.UBERBLOCK_MAGIC, 5000, (self._number << 40) + offset + at)


def test_rings_of_many_partitions() -> None:
    """What is kept of them is what is tried, not all 512 uberblocks of each."""
    empty = label.Label({}, (0,), 1, label.ACTIVE, 1, "pool", 1, 1, 0, "")
    used = [(Rings(number), empty) for number in range(255)]
    ended = bounded(lambda: [one.uberblock.txg for one in spa._candidates(used)][: spa.MAX_TRIES], seconds=6)
    assert isinstance(ended.value, list)
    assert ended.value == sorted(ended.value, reverse=True)
    assert ended.value[0] >> 40 == ended.value[-1] >> 40 == 254
