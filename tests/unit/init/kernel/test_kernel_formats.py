"""Kernels in their wrappings, made by the real compressors, whole, damaged and hostile."""

from __future__ import annotations

import contextlib
import functools
import importlib
import random
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from entrytrees import Tree, tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peimages import pe

from artefacts import native
from fsdrivers.errors import Corrupt, FsError, TooLarge, Unsupported
from init.kernel import formats
from init.kernel.files import MemoryFile
from init.kernel.formats import open_kernel

IMAGE = (
    b"MZ" + bytes(0x36) + b"ARM\x64" + bytes(64) + random.Random(1).randbytes(70_000) + bytes(2_500_000) + b"the end"
)  # fmt: skip
BZIMAGE = bytes(0x1FE) + b"\x55\xaa\xeb\x66HdrS" + bytes(3000)
TOOLS = {
    "gzip": ["gzip", "-n", "-9"],
    "zstd": ["zstd", "-19"],
    "zstd22": ["zstd", "-22", "--ultra"],
    "lz4": ["lz4", "-l", "-9"],
    "xz": ["xz", "--check=crc32"],
    "lzma": ["xz", "--format=lzma"],
    "bzip2": ["bzip2", "-9"],
    "lzo": ["lzop", "-9"],
    "lzo, quick, from a file with a name": ["lzop", "-1", "--crc32"],
    "lz4 frame": ["lz4", "-9"],
    "lz4 frame with sizes and sums": ["lz4", "-1", "-B4", "-BX", "--content-size"],
}


@functools.cache
def packed(kind: str, data: bytes = IMAGE) -> bytes:
    return subprocess.run([*TOOLS[kind], "-c"], input=data, capture_output=True, check=True).stdout


def zboot(kind: str, payload: bytes) -> bytes:
    """drivers/firmware/efi/libstub/zboot-header.S: what stands in front of the payload."""
    head = b"MZ\0\0zimg" + struct.pack("<II", 0x1000, len(payload)) + bytes(8) + kind.encode().ljust(32, b"\0")
    return head.ljust(0x1000, b"\0") + payload + b"behind"


def unwrapped(data: bytes) -> bytes:
    return open_kernel(Tree({"k": data}), "/k").read()


@pytest.mark.parametrize("kind", TOOLS)
def test_compressed(kind: str) -> None:
    assert unwrapped(packed(kind)) == IMAGE


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("zstd22", "zstd22"),
        ("xzkern", "xz"),
        ("lzma", "lzma"),
        ("lz4", "lz4"),
        ("lzo", "lzo"),
    ],
)
def test_zboot(name: str, kind: str) -> None:
    assert unwrapped(zboot(name, packed(kind))) == IMAGE


@pytest.mark.parametrize("data", [IMAGE, BZIMAGE, b"\x7fELF" + bytes(100), b"", b"M", b"text" * 500])
def test_what_is_taken_as_it_is(data: bytes) -> None:
    assert unwrapped(data) == data


def test_unified_images() -> None:
    filesystem = tree("systemd-257-type2")
    image = "/EFI/Linux/debian-6.12.41+deb13-amd64+3-1.efi"
    for path in (image, f"{image}#.linux"):
        assert open_kernel(filesystem, path).read() == b"the kernel of the image\n"
    # Another EFI program is left as it is, for who takes it to refuse.
    addon = "/EFI/Linux/debian-6.9.12-amd64.efi.extra.d/debug.addon.efi"
    assert open_kernel(filesystem, addon).read() == filesystem.open(addon).read()


def test_wrappings_of_wrappings() -> None:
    assert unwrapped(packed("gzip", zboot("zstd", packed("zstd")))) == IMAGE
    data = IMAGE
    for _ in range(4):
        data = packed("gzip", data)
    assert unwrapped(data) == IMAGE
    with pytest.raises(Unsupported, match="wrappings"):
        unwrapped(packed("gzip", data))


def test_another_efi_program_in_four_wrappings_is_no_fifth_one() -> None:
    data = program = pe([(b".text", b"x" * 100)])
    for _ in range(4):
        data = packed("gzip", data)
    assert unwrapped(data) == program
    data = packed("gzip", packed("gzip", packed("gzip", packed("gzip", pe([(b".linux", IMAGE)])))))
    with pytest.raises(Unsupported, match="wrappings"):
        unwrapped(data)


@pytest.mark.parametrize("size", range(8, 0x40))
def test_a_zboot_program_that_ends_in_its_header(size: int) -> None:
    with pytest.raises(Corrupt, match="/k: corrupt zboot header: the file ends in it"):
        unwrapped(zboot("gzip", packed("gzip"))[:size])


@pytest.mark.parametrize("kind", TOOLS)
def test_broken_off(kind: str) -> None:
    for share in (0.3, 0.9):
        with pytest.raises(Corrupt, match="/k"):
            unwrapped(packed(kind)[: int(len(packed(kind)) * share)])


@pytest.mark.parametrize("kind", TOOLS)
def test_too_large(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "MAX_KERNEL", 1 << 20)
    with pytest.raises(TooLarge):
        unwrapped(packed(kind))


def test_no_more_is_unpacked_than_half_of_the_memory_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "memory_available", lambda: 6 << 20)
    assert unwrapped(packed("gzip")) == IMAGE
    monkeypatch.setattr(formats, "memory_available", lambda: 4 << 20)
    with pytest.raises(TooLarge, match=f"limit is {2 << 20}"):
        unwrapped(packed("gzip"))
    monkeypatch.setattr(formats, "memory_available", lambda: 0)  # nobody knows
    assert unwrapped(packed("gzip")) == IMAGE


def test_hostile_zboot() -> None:
    for size in (0, 1 << 31, 100_000):
        head = bytearray(zboot("gzip", packed("gzip"))[:0x2000])
        struct.pack_into("<I", head, 0x0C, size)
        with pytest.raises(Corrupt):
            unwrapped(bytes(head))
    with pytest.raises(Unsupported, match="zboot with brotli"):
        unwrapped(zboot("brotli", b"x" * 100))


@pytest.fixture(scope="module")
def own_decoders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The static program's module for xz and bzip2 in the place of the standard library's, built as a library."""
    folder = tmp_path_factory.mktemp("unpack")
    native.link(native.unpack(), folder / "log", folder)
    (folder / "module.so").rename(folder / "_unpack.so")
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield
    sys.path.remove(str(folder))
    sys.modules.pop("_unpack", None)


@pytest.mark.usefixtures("own_decoders")
class TestOwnDecoders:
    """What the static program unwraps with."""

    @pytest.mark.parametrize("kind", ["xz", "bzip2", "lzma"])
    def test_the_same_comes_out(self, kind: str) -> None:
        assert unwrapped(packed(kind)) == IMAGE
        assert unwrapped(packed(kind) + b"what follows") == IMAGE
        assert unwrapped(zboot("lzma", packed("lzma"))) == IMAGE
        for share in (0.3, 0.9):
            with pytest.raises(Corrupt, match="/k"):
                unwrapped(packed(kind)[: int(len(packed(kind)) * share)])
        damaged = bytearray(packed(kind))
        damaged[len(damaged) // 2] ^= 0x55
        if kind != "lzma":  # which has no checksum
            with pytest.raises(Corrupt, match="/k"):
                unwrapped(bytes(damaged))

    def test_input_in_any_pieces_and_output_within_the_limit(self) -> None:
        import _unpack

        for kind, data in (("xz", packed("xz")), ("bzip2", packed("bzip2"))):
            stream, plain, place = _unpack.Decoder(kind, 1 << 27), b"", 0
            while not stream.eof:
                piece = b""
                if stream.needs_input:
                    piece = data[place : place + 1777]
                    place += 1777
                out = stream.decompress(piece, 5000)
                assert len(out) <= 5000
                plain += out
            assert plain == IMAGE
            with pytest.raises(ValueError, match="at the end"):
                stream.decompress(b"x", 10)

    def test_limits(self) -> None:
        import _unpack

        for arguments in (("gzip", 1), ("xz", -1, 2), (), ("xz",)):
            with pytest.raises((ValueError, TypeError)):
                _unpack.Decoder(*arguments)
        with pytest.raises(ValueError, match="memory"):
            _unpack.Decoder("xz", 1 << 16).decompress(packed("xz"), 1 << 20)
        for limit in (0, -1, 1 << 40):
            with pytest.raises(ValueError, match="1 GiB"):
                _unpack.Decoder("xz", 1 << 27).decompress(b"", limit)

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(["xz", "bzip2", "lzma"]), st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4))))
    def test_damage_ends(self, kind: str, edits: list[tuple[float, bytes]]) -> None:
        data = bytearray(packed(kind))
        for place, value in edits:
            at = int(place * (len(data) - len(value)))
            data[at : at + len(value)] = value
        with contextlib.suppress(FsError):
            unwrapped(bytes(data))


def test_frames_whose_blocks_need_each_other_are_refused() -> None:
    linked = subprocess.run(["lz4", "-9", "-BD", "-B4", "-c"], input=IMAGE, capture_output=True, check=True).stdout
    with pytest.raises(Unsupported, match="lz4 frame"):
        unwrapped(linked)


@pytest.mark.parametrize("head", [b"\x04\x22\x4d\x18", b"\x89LZO\0\r\n\x1a\n"])
def test_a_magic_and_nothing_behind_it(head: bytes) -> None:
    for rest in (b"", bytes(100), b"\xff" * 100):
        with pytest.raises((Corrupt, Unsupported), match=r"lz4 frame|lzo"):
            unwrapped(head + rest)


@pytest.mark.parametrize("kind", ["lzo", "lzo, quick, from a file with a name"])
def test_damage_in_lzo_is_seen(kind: str) -> None:
    data = bytearray(packed(kind))
    data[len(data) // 2] ^= 0x55
    with pytest.raises(Corrupt, match="lzo"):
        unwrapped(bytes(data))


def test_memory_file() -> None:
    file = MemoryFile("/x", bytes(range(256)) * 10_000)
    assert file.read(1_000_000, 100_000) == (bytes(range(256)) * 10_000)[1_000_000:1_100_000]
    assert file.read(file.size) == b""


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(sorted(TOOLS)),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6),
    boot=st.booleans(),
)
def test_damage_ends(kind: str, edits: list[tuple[float, bytes]], boot: bool) -> None:
    data = bytearray(zboot(kind, packed(kind)) if boot else packed(kind))
    for place, value in edits:
        at = int(place * (len(data) - len(value)))
        data[at : at + len(value)] = value
    started = time.monotonic()
    with contextlib.suppress(FsError):
        unwrapped(bytes(data))
    assert time.monotonic() - started < 20
