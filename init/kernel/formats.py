"""Getting at the kernel inside of what holds it: unified images, EFI zboot programs and compressed files.

Kernels for x86 unpack themselves (a bzImage is taken as it is); for arm64 the kernel's build leaves the wrapping to
whoever loads it.  Everything is recognised by its magic, never by its name, and unwrapped in memory, within a bound.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from fsdrivers.errors import BadData, Corrupt, TooLarge, Unsupported
from fsdrivers.filesystem import File, Filesystem
from fsdrivers.native import core
from init.kernel import pe
from init.kernel.files import MemoryFile, Part
from init.machine.meminfo import memory_available

MAX_KERNEL = 256 << 20  # bytes of a kernel, wrapped or not
MAX_WRAPPINGS = 4  # of each other: a zboot program in a unified image, with a compressed kernel in it
MAX_ZSTD_WINDOW = 1 << 27  # bytes; scripts/Makefile.lib:cmd_zstd22, v6.12, asks for this
MAX_XZ_MEMORY = 1 << 27  # bytes of its decoder; xz -9 asks for 65 MiB
CHUNK = 1 << 20
ZSTD_INPUT = 1 << 10  # bytes given to zstd at once: 4 of them can stand for 128 KiB
HEAD = 0x400  # bytes that tell a format

# drivers/firmware/efi/libstub/zboot-header.S, v6.12: 0x00 "MZ", 0x04 "zimg", 0x08 u32 offset of the payload,
# 0x0C u32 its size, 0x18 what compressed it, as text
ZBOOT_MAGIC, _ZBOOT, _ZBOOT_KIND = b"zimg", struct.Struct("<II"), slice(0x18, 0x38)
ZBOOT_SIZE = 0x40  # bytes of the header, with the offset of the PE header at its end
# Documentation/arch/x86/boot.rst and arm64/booting.rst, v6.12
HDRS_AT, HDRS = 0x202, b"HdrS"
ARM64_AT, ARM64_MAGIC = 0x38, b"ARM\x64"
# lib/decompress.c:compressed_formats, v6.12.  The kernel's build uses lz4's legacy framing.
_MAGICS = (
    (b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x04\x22\x4d\x18", "lz4 frame"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"), (b"\x5d\0\0", "lzma"),
    (b"\x89LZO", "lzo"),
)  # fmt: skip

Decoder = Callable[[File, int], Iterator[bytes]]


def open_kernel(filesystem: Filesystem, path: str, whole: bool = False) -> File:
    """The kernel that ``path`` holds, ready for the kernel's loader; ``path`` may name a section of a PE file.

    With ``whole`` none is taken out of a unified image: its signature is about all of it.

    Raises Unsupported for a wrapping that cannot be undone here, Corrupt for a damaged one, TooLarge, and the
    driver's errors.  A file of an unknown format comes back as it is: what takes it will say so.
    """
    file = pe.open_file(filesystem, path)
    parted = isinstance(file, Part)
    for _ in range(MAX_WRAPPINGS):
        if whole and (parted or (wrapping(file.read(0, HEAD)) == "PE" and _linux_section(file))):
            raise Unsupported("parts of a unified image", f"{path} is started whole by the firmware, or not at all")
        inner = unwrap(file)
        if inner is None:
            return file
        file = inner
    if _is_wrapped(file):
        raise Unsupported("kernel format", f"{path} has more than {MAX_WRAPPINGS} wrappings")
    return file


def _is_wrapped(file: File) -> bool:
    """Whether unwrap() would find something in ``file``; nothing is unpacked for that."""
    kind = wrapping(file.read(0, HEAD))
    return _linux_section(file) is not None if kind == "PE" else bool(kind)


def wrapping(head: bytes) -> str:
    """What a file that begins with ``head`` is wrapped in: a compression, "zboot", "PE", or "" for nothing known."""
    if head[HDRS_AT : HDRS_AT + 4] == HDRS:
        return ""
    if head.startswith(b"MZ"):
        if head[4:8] == ZBOOT_MAGIC:
            return "zboot"
        return "" if head[ARM64_AT : ARM64_AT + 4] == ARM64_MAGIC else "PE"
    return next((name for magic, name in _MAGICS if head.startswith(magic)), "")


def unwrap(file: File) -> File | None:
    """What is inside of ``file``, one wrapping less; None when there is none.  Raises as open_kernel()."""
    head = file.read(0, HEAD)
    kind = wrapping(head)
    if kind == "PE":
        return _linux_section(file)
    if kind == "zboot":
        return _zboot(file, head)
    return MemoryFile(file.path, _decompress(file, kind)) if kind else None


def decompressed(file: File) -> Iterator[bytes]:
    """The content of a compressed file in pieces; the file itself when it is not compressed.

    Raises Corrupt, Unsupported, the driver's errors.
    """
    kind = wrapping(file.read(0, HEAD))
    try:
        yield from _DECODERS[kind](file, MAX_KERNEL) if kind in _DECODERS else map(bytes, file.chunks())
    except BadData as error:
        raise Corrupt(file.path, f"{kind} data", 0, None, str(error)) from error


def _linux_section(file: File) -> File | None:
    """The kernel of a unified image; None for another EFI program."""
    _, sections = pe.sections(file)
    linux = pe.profiles(sections)[0].sections.get(".linux")
    return Part(file, f"{file.path}{pe.MARK}.linux", linux.offset, linux.size) if linux else None


def _zboot(file: File, head: bytes) -> File:
    if len(head) < ZBOOT_SIZE:
        raise Corrupt(file.path, "zboot header: the file ends in it", len(head))
    offset, size = _ZBOOT.unpack_from(head, 8)
    if offset + size > file.size or not size:
        raise Corrupt(file.path, "zboot payload", 8, f"within {file.size} bytes", f"{size} bytes at {offset:#x}")
    kind = head[_ZBOOT_KIND].partition(b"\0")[0].decode("ascii", "replace")
    if kind not in _DECODERS:
        raise Unsupported(f"kernel format zboot with {kind}", file.path)
    part = Part(file, file.path, offset, size)
    return MemoryFile(file.path, _decompress(part, kind))


def _decompress(file: File, kind: str) -> bytearray:
    """The content of a compressed file; what follows its end (the size, padding) does not matter."""
    # Half of the memory: what it was unpacked from may be in the other half, and it is not all that a boot needs.
    limit = min(MAX_KERNEL, (memory_available() or 2 * MAX_KERNEL) // 2)
    if file.size > limit:
        raise TooLarge(file.path, file.size, limit)
    plain = bytearray()
    try:
        for chunk in _DECODERS[kind](file, limit):
            plain += chunk
            if len(plain) > limit:
                raise TooLarge(f"{file.path}, unwrapped", len(plain), limit)
    except BadData as error:
        raise Corrupt(file.path, f"{kind} data", 0, None, str(error)) from error
    return plain


def _gzip(file: File, limit: int) -> Iterator[bytes]:
    stream = zlib.decompressobj(wbits=31)
    for chunk in file.chunks():
        rest: bytes | memoryview = chunk
        while rest and not stream.eof:
            try:
                yield stream.decompress(rest, CHUNK)
            except zlib.error as error:
                raise BadData("gzip", str(error)) from None
            rest = stream.unconsumed_tail
        if stream.eof:
            return
    raise BadData("gzip", "the stream breaks off")


def _zstd(file: File, limit: int) -> Iterator[bytes]:
    library: Any = core("_zstd_core", "zstandard.backend_c")
    stream = library.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW).decompressobj()
    try:
        for chunk in file.chunks():
            for start in range(0, len(chunk), ZSTD_INPUT):
                yield stream.decompress(chunk[start : start + ZSTD_INPUT])
                if stream.eof:
                    return
    except library.ZstdError as error:
        raise BadData("zstd", str(error)) from None
    raise BadData("zstd", "the frame breaks off")


def _streamed(kind: str) -> Decoder:
    """A decoder of xz (lzma, too) or bzip2."""

    def decode(file: File, limit: int) -> Iterator[bytes]:
        stream, damage = _stream(kind)
        try:
            for chunk in file.chunks():
                data = bytes(chunk)
                while not stream.eof:
                    yield stream.decompress(data, CHUNK)
                    data = b""
                    if stream.needs_input:
                        break
                if stream.eof:
                    return
        except damage as error:
            raise BadData(kind, str(error)) from None
        raise BadData(kind, "the stream breaks off")

    return decode


_LIBRARIES = {
    "xz": ("lzma", "LZMADecompressor", {"memlimit": MAX_XZ_MEMORY}),
    "bzip2": ("bz2", "BZ2Decompressor", {}),
}


def _stream(kind: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """A decompressor as the standard library's are, and what it raises: in the static program our own over the same
    libraries, as Python's static archive has no modules for them."""
    try:
        import _unpack
    except ImportError:
        name, opener, options = _LIBRARIES[kind]
        module: Any = __import__(name)  # as a variable: the build would take it along for nothing
        damage = (OSError, ValueError, EOFError, getattr(module, "LZMAError", OSError))
        return getattr(module, opener)(**options), damage
    return _unpack.Decoder(kind, MAX_XZ_MEMORY), (ValueError,)


def _framed(name: str) -> Decoder:
    """The decoder of that name in init/kernel/framings.py, imported when a file asks for it."""

    def decode(file: File, limit: int) -> Iterator[bytes]:
        from init.kernel import framings

        decoder: Decoder = getattr(framings, name)
        return decoder(file, limit)

    return decode


_xz = _streamed("xz")
# By the names in _MAGICS and those that zboot programs use.
_DECODERS: dict[str, Decoder] = {
    "gzip": _gzip, "zstd": _zstd, "zstd22": _zstd, "lz4": _framed("lz4_legacy"), "xz": _xz, "xzkern": _xz, "lzma": _xz,
    "bzip2": _streamed("bzip2"), "lz4 frame": _framed("lz4_frame"), "lzo": _framed("lzop"),
}  # fmt: skip
