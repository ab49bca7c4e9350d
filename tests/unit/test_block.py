"""Files as block devices: exact reads or one clear error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fsdrivers.block import FileDevice
from fsdrivers.errors import ReadError


def test_reads_exactly(tmp_path: Path) -> None:
    path = tmp_path / "d.img"
    path.write_bytes(b"0123456789")
    with FileDevice(str(path), "d") as device:
        assert device.size == 10
        assert device.read(2, 3) == b"234"
        assert device.read(10, 0) == b""
        buffer = bytearray(4)
        device.read_into(6, memoryview(buffer))
        assert buffer == b"6789"


@pytest.mark.parametrize(("offset", "length"), [(8, 3), (11, 0), (-1, 1), (0, -1), (0, 1 << 60)])
def test_outside_is_an_error_and_allocates_nothing(tmp_path: Path, offset: int, length: int) -> None:
    path = tmp_path / "d.img"
    path.write_bytes(b"0123456789")
    with pytest.raises(ReadError, match=r"d: cannot read"):
        FileDevice(str(path), "d").read(offset, length)


def test_a_file_that_shrinks_under_us(tmp_path: Path) -> None:
    path = tmp_path / "d.img"
    path.write_bytes(bytes(8192))
    device = FileDevice(str(path))
    os.truncate(path, 4096)
    with pytest.raises(ReadError, match="ended early"):
        device.read(4000, 200)


def test_what_is_no_disk_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in (".", "fifo", "missing"):
        with pytest.raises(ReadError, match=name if name != "." else "directory"):
            FileDevice(str(tmp_path / name) if name != "." else str(tmp_path))
