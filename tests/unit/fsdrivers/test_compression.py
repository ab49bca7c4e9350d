"""Decompression: streams made by the reference implementations, limits, padding, and damage of all kinds."""

import json
import random
import zlib
from base64 import b64decode
from struct import pack

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from native_forms import FORMS, load
from places import DATA
from samples import sample

from fsdrivers.compression import lzjb, lzo, zfs_lz4, zfs_zstd, zle, zlib_, zstd
from fsdrivers.errors import BadData

VECTORS = json.loads((DATA / "codecs.json").read_text())
CODECS = ("lzo1x", "lz4", "lzjb", "zle")
ENDLESS = ("lzjb", "zle")  # no end mark: they decode until the output is full


def vector(codec, plain):
    return next(b64decode(v["data"]) for v in VECTORS if v["codec"] == codec and v["plain"] == plain)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", VECTORS, ids=lambda v: f"{v['codec']}-{v['by'].split()[-1]}-{v['plain']}")
def test_what_the_reference_implementations_wrote(case, form):
    plain = sample(case["plain"])
    decode = getattr(load("decoders", form), case["codec"])
    assert decode(b64decode(case["data"]), len(plain)) == plain


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("codec", CODECS)
def test_every_truncation_is_an_error_or_a_part(codec, form):
    decode = getattr(load("decoders", form), codec)
    plain, data = sample("text:4096"), vector(codec, "text:4096")
    for end in range(0, len(data), 1 if form == "compiled" else 37):
        try:
            got = decode(data[:end], 4096)
        except BadData:
            continue
        # ZLE may end anywhere, LZ4 after any literals; what there is must be right.
        assert got == plain[: len(got)]
        assert len(got) < 4096


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("codec", ["lzo1x", "lz4"])
def test_the_output_has_a_limit(codec, form):
    decode = getattr(load("decoders", form), codec)
    for plain in ("text:4096", "zeros:131072", "mixed:20000"):
        size = int(plain.partition(":")[2])
        data = vector(codec, plain)
        assert decode(data, size + 1000) == sample(plain)
        for limit in (0, 1, 7, size // 2, size - 1):
            with pytest.raises(BadData, match="more than fits"):
                decode(data, limit)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CODECS), st.binary(max_size=400), st.integers(0, 3000))
def test_both_forms_agree_on_anything(codec, data, size):
    assert outcome("compiled", codec, data, size) == outcome("python", codec, data, size)


def test_both_forms_agree_on_damaged_streams():
    dice = random.Random(4711)
    good = 0
    for number in range(1500):
        codec = CODECS[number % 4]
        plain = dice.choice(["text:4096", "pattern:4096", "mixed:4096"])
        data = bytearray(vector(codec, plain))
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        results = [outcome(form, codec, bytes(data), 4096) for form in FORMS]
        assert results[0] == results[1]
        good += isinstance(results[0], bytes)
    assert 0 < good < 1500


def outcome(form, codec, data, size):
    """What decoding gives: bytes, or the text of the error."""
    try:
        plain = getattr(load("decoders", form), codec)(data, size)
    except BadData as error:
        return str(error)
    assert isinstance(plain, bytes)
    assert len(plain) <= size
    return plain


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("codec", "data", "why"),
    [
        ("lzo1x", b"", "end in the middle"),
        ("lzo1x", b"\x11\x01\x15abcd\x11\0\0", "does not exist"),  # bitstream version 1
        ("lzo1x", b"\x13ab\x40\x01\x11\0\0", "before the start"),
        ("lzo1x", b"\x00" * 500, "end in the middle"),
        ("lz4", b"", "end in the middle"),
        ("lz4", b"\x14a\0\0\0", "before the start"),  # distance 0
        ("lz4", b"\x14a\2\0\0", "before the start"),
        ("lz4", b"\xf0" + b"\xff" * 300, "end in the middle"),
        ("lzjb", b"\x01\x04\x00", "before the start"),
        ("lzjb", b"\x02a\x04\x02", "before the start"),
        ("zle", b"\x05ab", "end in the middle"),
        ("zle", b"\xff" * 20, "more than fits"),
    ],
)
def test_rubbish_is_named(codec, data, why, form):
    with pytest.raises(BadData, match=why):
        getattr(load("decoders", form), codec)(data, 600)


# btrfs's frames around LZO


def btrfs_frame(segments, sectorsize=4096):
    """Segments with their lengths, laid out as fs/btrfs/lzo.c describes."""
    out = bytearray(4)
    for segment in segments:
        if sectorsize - len(out) % sectorsize < 4:
            out += bytes(sectorsize - len(out) % sectorsize)
        out += pack("<I", len(segment)) + segment
    out[:4] = pack("<I", len(out))
    return bytes(out)


def test_lzo_segments_and_the_padding_before_a_length():
    text, noise = vector("lzo1x", "text:4096"), vector("lzo1x", "noise:300")
    zeros = vector("lzo1x", "zeros:4096")
    # Segments whose ends meet a sector's end at every distance from 0 to 8 bytes.
    for gap in range(9):
        fill = 4096 - gap - 4 - (4 + len(text)) - 4
        segments = [text, stretched(zeros, fill), text, zeros, noise]
        frame = btrfs_frame(segments)
        plain = sample("text:4096") + bytes(4096) + sample("text:4096") + bytes(4096) + sample("noise:300")
        assert lzo.decompress(frame + bytes(-len(frame) % 4096), 1 << 17) == plain
        assert lzo.decompress(frame, 5000) == plain[:5000]
        assert lzo.decompress(memoryview(frame), 4096) == plain[:4096]


def stretched(stream, length):
    """A stream of the same meaning padded behind its end mark, which decoders have to ignore."""
    return stream + bytes(length - len(stream))


def test_lzo_with_other_sectors():
    # The segment of 20,000 bytes fits a sector of 64 KiB alone.
    frame = btrfs_frame([vector("lzo1x", "mixed:20000")], 65536)
    assert lzo.decompress(frame, 20000, 65536) == sample("mixed:20000")
    with pytest.raises(BadData, match="more than fits"):
        lzo.decompress(frame, 20000, 4096)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x10\0\0\0",
        pack("<II", 4096, 10) + bytes(50),
        pack("<II", 20, 4000) + bytes(50),
        pack("<II", 30, 0) + bytes(40),
    ],
    ids=["empty", "short", "total too long", "segment too long", "segment empty"],
)
def test_lzo_frames_that_lie(data):
    with pytest.raises(BadData):
        lzo.decompress(data, 4096)


# zlib and zstd


def test_zlib_is_bounded_and_ignores_padding():
    plain = sample("mixed:20000")
    data = zlib.compress(plain)
    for size in (1, 4096, 20000):
        assert zlib_.decompress(data + bytes(500), size) == plain[:size]
    assert zlib_.decompress(data, 30000) == plain
    assert zlib_.decompress(data, 0) == b""
    for bad in (data[:-100], b"", b"no zlib", data[:20]):
        with pytest.raises(BadData):
            zlib_.decompress(bad, 30000)


@pytest.mark.parametrize("told", [True, False], ids=["size in the header", "no size in the header"])
def test_zstd_is_bounded_and_ignores_padding(told):
    plain = sample("mixed:20000")
    data = zstandard.ZstdCompressor(write_content_size=told).compress(plain)
    for size in (1, 4096, 19999, 20000, 30000):
        assert zstd.decompress(data + bytes(500), size) == plain[:size]
        assert zstd.decompress(memoryview(data), size) == plain[:size]
    assert zstd.decompress(data, 0) == b""
    for bad in (data[:-100], data[:10], b"", b"no zstd frame", bytes(100)):
        for size in (20000, 30000):
            with pytest.raises(BadData):
                zstd.decompress(bad, size)


def test_zstd_believes_no_header():
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(1 << 28))
    assert len(bomb) < 1 << 16
    assert zstd.decompress(bomb, 1000) == bytes(1000)
    # A header that claims 2 GiB of window and an exabyte of content.
    claims = b"\x28\xb5\x2f\xfd" + bytes([0b11000000, 21 << 3]) + (1 << 60).to_bytes(8, "little") + b"\x01\0\0"
    with pytest.raises(BadData):
        zstd.decompress(claims, 4096)


def test_zstd_frames_of_threads():
    from concurrent.futures import ThreadPoolExecutor

    plains = [sample(f"mixed:{size}") for size in range(1000, 20000, 700)]
    frames = [zstandard.ZstdCompressor().compress(plain) for plain in plains]
    with ThreadPoolExecutor(8) as pool:
        jobs = [(frame, len(plain)) for frame, plain in zip(frames, plains, strict=True)] * 5
        got = list(pool.map(lambda job: zstd.decompress(*job), jobs))
    assert got == plains * 5


# ZFS's frames


def magicless(plain, level=3):
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=False, write_checksum=False
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(plain)


@pytest.mark.parametrize("level", [1, 3, 19])
def test_zstd_of_zfs(level):
    plain = sample("mixed:20000") * 7
    frame = magicless(plain, level)
    data = len(frame).to_bytes(4, "big") + bytes([level, 0, 0x28, 0xA5]) + frame + bytes(-len(frame) % 4096)
    assert zfs_zstd.decompress(data, len(plain)) == plain
    for bad in (b"", data[:7], data[:2000], b"\xff" + data[1:]):
        with pytest.raises(BadData):
            zfs_zstd.decompress(bad, len(plain))


def test_lz4_of_zfs():
    block = vector("lz4", "mixed:20000")
    data = len(block).to_bytes(4, "big") + block + bytes(777)
    assert zfs_lz4.decompress(data, 20000) == sample("mixed:20000")
    assert zfs_lz4.decompress(memoryview(data), 20000) == sample("mixed:20000")
    for bad in (b"", data[:3], data[:2000], b"\xff" + data[1:]):
        with pytest.raises(BadData):
            zfs_lz4.decompress(bad, 20000)


def test_lzjb_and_zle_of_zfs():
    """Both are stored without a frame and followed by padding."""
    for module, codec in ((lzjb, "lzjb"), (zle, "zle")):
        data = vector(codec, "mixed:4096") + bytes(100)
        assert module.decompress(memoryview(data), 4096) == sample("mixed:4096")
