"""Files as block devices: exact reads or one clear error."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from fsdrivers.block import FileDevice, Rooms, Slice
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


def test_scattered(tmp_path: Path) -> None:
    path = tmp_path / "d.img"
    path.write_bytes(b"0123456789")
    for device in (FileDevice(str(path), "d"), Slice(FileDevice(str(path), "d"), 0, 10, "d")):
        buffers = [memoryview(bytearray(size)) for size in (1, 3, 2)]
        device.read_scattered(3, buffers)
        assert [bytes(buffer) for buffer in buffers] == [b"3", b"456", b"78"]
        with pytest.raises(ReadError, match="outside of the device"):
            device.read_scattered(5, buffers)


def test_scattered_over_more_buffers_than_one_call_fills(tmp_path: Path) -> None:
    path = tmp_path / "d.img"
    content = os.urandom(5000)
    path.write_bytes(content)
    whole = memoryview(bytearray(5000))
    FileDevice(str(path)).read_scattered(0, [whole[at : at + 2] for at in range(0, 5000, 2)])
    assert whole == content


def test_scattered_on_a_file_that_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "d.img"
    path.write_bytes(bytes(8192))
    device = FileDevice(str(path))
    os.truncate(path, 4096)
    with pytest.raises(ReadError, match="ended early"):
        device.read_scattered(4000, [memoryview(bytearray(100)), memoryview(bytearray(100))])


def test_rooms_are_given_out_again_when_free() -> None:
    rooms = Rooms(1 << 16)
    first = rooms.take(1 << 16)
    first[:4] = b"mine"
    part = first[2:4]
    second = rooms.take(60000)
    second[:4] = b"hers"
    assert (bytes(first[:4]), len(second)) == (b"mine", 60000)
    del first
    third = rooms.take(1 << 16)  # a part of the first one is still looked at
    third[:4] = b"next"
    assert part == b"ne"
    before = third.obj
    del third
    assert any(rooms.take(1 << 16).obj is before for _ in range(3))


def test_small_things_pin_no_rooms() -> None:
    rooms = Rooms(1 << 16)
    assert {len(rooms.take(size).obj) for size in (1, 100, 4096)} == {49, 148, 4144}  # type: ignore[arg-type]
    assert len(rooms.take(1 << 20)) == 1 << 20


def test_threads_never_share_a_room() -> None:
    rooms = Rooms(1 << 12)
    wrong = []

    def work(number: int) -> None:
        mark = bytes([number]) * (1 << 12)
        for _ in range(3000):
            room = rooms.take(1 << 12)
            room[:] = mark
            if room != mark:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
