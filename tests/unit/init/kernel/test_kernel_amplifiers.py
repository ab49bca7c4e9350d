"""The worst kernels within their bytes: what a few of them may cost before one error says what is wrong."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import pytest
from bounded import bounded
from entrytrees import Tree
from hypothesis import given, settings
from hypothesis import strategies as st
from peimages import pe, table

from fsdrivers.errors import FsError
from fsdrivers.filesystem import File
from init.kernel import formats, framings, image
from init.kernel import pe as header
from init.kernel.formats import MemoryFile, decompressed, open_kernel

LZOP = framings.LZOP_MAGIC + struct.pack(">HHHBBIIII", 0x1030, 0x2080, 0x0940, 3, 9, 0x1, 0, 0, 0) + b"\0"
LZOP += struct.pack(">I", zlib.adler32(LZOP[len(framings.LZOP_MAGIC) :]))
LZ4_FRAME = b"\x04\x22\x4d\x18\x60\x40\x82"


def _open(data: bytes) -> Callable[[], object]:
    return lambda: open_kernel(Tree({"k": data}), "/k").size


@pytest.mark.parametrize(
    ("head", "block"),
    [
        (b"\x02\x21\x4c\x18", b"\1\0\0\0\0"),  # a block of one byte that stands for none
        (LZ4_FRAME, b"\0\0\0\x80"),  # a stored block of nothing
        (LZOP, struct.pack(">III", 1, 1, 0x00790079) + b"x"),
    ],
    ids=["lz4", "lz4 frame", "lzop"],
)
def test_millions_of_tiny_blocks(head: bytes, block: bytes) -> None:
    assert bounded(_open(head + block * ((4 << 20) // len(block)))).error.endswith(" blocks")


def test_empty_blocks_of_gzip_and_zstd() -> None:
    assert "breaks off" in bounded(_open(b"\x1f\x8b\x08" + bytes(7) + b"\0\0\0\xff\xff" * (1 << 20))).error
    assert "breaks off" in bounded(_open(b"\x28\xb5\x2f\xfd\0\x58" + bytes(3 << 20))).error


def test_little_that_unpacks_to_much(monkeypatch: pytest.MonkeyPatch) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
    monkeypatch.setattr(formats, "memory_available", lambda: 60 << 20)
    assert "TooLarge: /k, unwrapped is too large" in bounded(_open(bomb)).error


class Huge(MemoryFile):
    """A file that says that it is larger than what is in it, as one of holes is: nobody may ask for all of that."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__("/k", data)
        self.size = size

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        assert length is not None
        assert length <= 32 << 20
        return super().read(offset, length).ljust(min(length, self.size - offset), b"\0")


@pytest.mark.parametrize(
    "data",
    [
        b"\x02\x21\x4c\x18\xff\xff\xff\xff",
        LZ4_FRAME + b"\xff\xff\xff\x7f",
        LZOP + struct.pack(">II", 1 << 31, 1 << 31),
        LZOP[:16] + b"\0\0\0\x41" + LZOP[20:-4] + b"\0" * 4,
        b"MZ\0\0zimg" + struct.pack("<II", 0x40, 1 << 31) + bytes(8) + b"gzip",
        table([(b".linux", 1 << 31, 1 << 31, 0x400)]),
    ],
)  # fmt: skip
def test_sizes_that_nothing_holds(data: bytes) -> None:
    def one(file: File) -> Callable[[], object]:
        return lambda: formats.unwrap(file)

    for size in (len(data), 1 << 40):
        bounded(one(Huge(data, size)))
        bounded(lambda size=size: sum(map(len, decompressed(Huge(data, min(size, 1 << 20))))))  # type: ignore[misc]


BITS = st.lists(
    st.sampled_from(
        [b"MZ", b"zimg", b"ARM\x64", b"HdrS", b"\x55\xaa", bytes(8), b"\xff" * 4, b"gzip\0", b"\x1f\x8b\x08"]
    )
    | st.binary(max_size=60),
    max_size=14,
).map(b"".join)


@given(BITS, st.sampled_from([0, 0x36, 0x1FC, 0x202]))
def test_headers_that_end_anywhere(data: bytes, gap: int) -> None:
    raw = (data[: gap // 2] + bytes(gap))[:gap] + data
    for size in {*range(min(len(raw), 80)), len(raw)}:
        file = MemoryFile("/k", raw[:size])
        for machine in ("x86_64", "aarch64"):
            try:
                image.identify(file, machine)
            except FsError:
                continue
        try:
            formats.unwrap(file)
        except FsError:
            continue


ROWS = st.tuples(
    st.sampled_from([b".linux", b".initrd", b".profile", b".cmdline", b".osrel", b"x"]),
    st.sampled_from([0, 1, 7, 0x7FFFFFFF, 0xFFFFFFFF]),
    st.sampled_from([0, 1, 200, 0xFFFFFFFF]),
    st.sampled_from([0, 1, 0x180, 0x400, 0xFFFFFFFF]),
)


@settings(max_examples=60)
@given(st.lists(ROWS, max_size=100), st.integers(0, 5000))
def test_section_tables(rows: list[tuple[bytes, int, int, int]], length: int) -> None:
    raw = (table(rows) + bytes(0x300))[: length or None]
    header.identify(raw)
    try:
        formats.unwrap(MemoryFile("/k", raw))
    except FsError:
        return


def test_a_program_of_programs() -> None:
    data = b"x"
    for _ in range(200):
        data = pe([(b".linux", data)])
    assert "wrappings" in bounded(_open(data)).error
