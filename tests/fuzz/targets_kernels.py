"""Kernels, their wrappings, PE files and the archives of an initrd."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib

import zstandard
from init_doubles import bzimage
from memoryfs import MemoryFilesystem
from peimages import pe
from target import Target

from fsdrivers.errors import FsError
from fsdrivers.filesystem import File
from init.entries import dialect, uki
from init.kernel import formats, image
from init.kernel import pe as programs
from init.kernel.files import MemoryFile

MACHINES = ("x86_64", "aarch64")


def _file(data: bytes) -> File:
    return MemoryFile("/vmlinuz", data)


def _kernel(data: bytes) -> int:
    """A file that may be a kernel in any of its wrappings."""
    filesystem = MemoryFilesystem({"vmlinuz": data})
    inner = formats.open_kernel(filesystem, "/vmlinuz")
    assert sum(len(piece) for piece in inner.chunks()) == inner.size
    found = None
    for machine in MACHINES:
        try:
            found = image.identify(inner, machine)
        except FsError:
            continue
    if found is None:
        raise FsError("no kernel")
    assert 0 < found.cmdline_size <= 1 << 16
    return found.memory


def _unpacked(data: bytes) -> int:
    return sum(map(len, formats.decompressed(_file(data))))


def _program(data: bytes) -> int:
    """Headers of EFI programs: sections are inside of the file, profiles are made of them."""
    programs.identify(data[:4096])
    _, sections = programs.sections(_file(data))
    for section in sections:
        assert 0 <= section.offset <= section.offset + section.size <= len(data), "a section beyond the file"
    for profile in programs.profiles(sections):
        assert set(profile.sections.values()) <= set(sections)
    return len(sections)


def _unified(data: bytes) -> int:
    """A unified image beside an addon that is the same file."""
    tree: dict[str, object] = {"EFI": {"Linux": {"a+3-1.efi": data, "a+3-1.efi.extra.d": {"b.addon.efi": data + b""}}}}
    found = uki.entries(MemoryFilesystem(tree))
    for item in found.items:
        assert "\n" not in item.options
    if not found.items:
        raise FsError(" ".join(found.notes[:3]))
    return len(found.items)


def _initrd(data: bytes) -> int:
    """The archives in front of an initrd, and who made it."""
    file = MemoryFile("/initrd", data)
    start = dialect._compressed_at(file)
    assert 0 <= start <= file.size
    return len(dialect._inside(file))


def _lzop(plain: bytes) -> bytes:
    """One block that is stored as it is."""
    head = struct.pack(">HHHBBIIIIB", 0x1030, 0x20A0, 0x0940, 1, 5, 1, 0o100644, 0, 0, 0)
    head += struct.pack(">I", zlib.adler32(head))
    block = struct.pack(">III", len(plain), len(plain), zlib.adler32(plain)) + plain
    return b"\x89LZO\0\r\n\x1a\n" + head + block + bytes(4)


def _lz4(plain: bytes) -> bytes:
    """The legacy framing, one block of literals."""
    rest, lengths = len(plain) - 15, b""
    while rest >= 255:
        rest, lengths = rest - 255, lengths + b"\xff"
    block = b"\xf0" + lengths + bytes((rest,)) + plain
    return b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block


def _lz4_frame(plain: bytes) -> bytes:
    """A frame with one block that is stored as it is."""
    return b"\x04\x22\x4d\x18\x60\x40\x82" + struct.pack("<I", len(plain) | 1 << 31) + plain + bytes(4)


def _packed() -> list[bytes]:
    plain = bzimage("6.1.0", size=0x1400)
    return [
        gzip.compress(plain, mtime=0), bz2.compress(plain), lzma.compress(plain, check=lzma.CHECK_CRC32),
        lzma.compress(plain, format=lzma.FORMAT_ALONE), zstandard.ZstdCompressor().compress(plain), _lzop(plain),
        _lz4(plain), _lz4_frame(plain),
    ]  # fmt: skip


def _zboot() -> bytes:
    payload = gzip.compress(bzimage("6.1.0", size=0x1400), mtime=0)
    return struct.pack("<4s4sIIII32s", b"MZ\0\0", b"zimg", 64, len(payload), 0, 0, b"gzip").ljust(64, b"\0") + payload


def _image() -> bytes:
    release = b'ID=test\nPRETTY_NAME="Test Linux"\nVERSION_ID=1\n'
    sections = [
        (b".osrel", release), (b".uname", b"6.1.0"), (b".cmdline", b"root=LABEL=x ro"), (b".initrd", b"initrd"),
        (b".linux", bzimage("6.1.0", size=0x1400)), (b".profile", b"ID=one\nTITLE=One\n"), (b".cmdline", b"single"),
    ]  # fmt: skip
    return pe(sections)


def _archives() -> bytes:
    def entry(name: bytes, data: bytes) -> bytes:
        fields = (1, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name + b"\0"
        return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)

    early = entry(b"kernel/x86/microcode/AuthenticAMD.bin", b"code") + entry(b"TRAILER!!!", b"")
    rest = entry(b"scripts/zfs", b"#!/bin/sh") + entry(b"TRAILER!!!", b"")
    return early.ljust(512, b"\0") + gzip.compress(rest, mtime=0)


TARGETS = (
    Target("kernel", _kernel, lambda: [bzimage("6.1.0", size=0x1400), *_packed(), _zboot(), _image()], 16 << 10),
    Target("framings", _unpacked, _packed, 8192),
    Target("pe", _program, lambda: [_image()], 8192),
    Target("uki", _unified, lambda: [_image()], 8192),
    Target("initrd", _initrd, lambda: [_archives()], 4096),
)
