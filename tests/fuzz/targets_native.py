"""The compiled modules against the same files as Python runs them: both say the same, whatever they are given.

The compiled ones are built with the sanitizers when this is fuzzed (artefacts/native.py:build_sanitized), so that a
byte beyond a buffer or a shift that C does not define ends the process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from types import FunctionType, ModuleType

import native_forms
from samples import sample
from target import Target

from fsdrivers.compression import lzo, zfs_lz4
from fsdrivers.errors import BadData, FsError

instrument: Callable[[FunctionType], object] | None = None
"""Set by the fuzzer: what makes a function tell of the branches that it takes."""

DOCUMENTED = (BadData, ValueError)


@cache
def _forms(name: str) -> tuple[ModuleType, ModuleType]:
    """The module compiled and as Python, whose branches guide the fuzzer."""
    compiled, plain = native_forms.load(name, "compiled"), native_forms.load(name, "python")
    for key, value in list(vars(plain).items()):
        if instrument is not None and isinstance(value, FunctionType) and value.__module__ == plain.__name__:
            setattr(plain, key, instrument(value))
    return compiled, plain


def _same(module: str, function: str, *arguments: object) -> object:
    """What both forms return; raises what both raise."""
    results: list[object] = []
    problem: Exception | None = None
    for form in _forms(module):
        try:
            results.append(getattr(form, function)(*arguments))
        except DOCUMENTED as error:
            results.append(str(error))
            problem = error
    assert results[0] == results[1], f"{module}.{function}: compiled {results[0]!r:.200}, as Python {results[1]!r:.200}"
    if problem is not None:
        raise FsError(str(problem))
    return results[0]


def _size(data: bytes) -> tuple[int, bytes]:
    """The first two bytes are a size."""
    return int.from_bytes(data[:2], "little"), data[2:]


def _decoder(name: str, data: bytes) -> int:
    size, packed = _size(data)
    found = _same("decoders", name, packed, size)
    assert isinstance(found, bytes)
    assert len(found) <= size
    return len(found)


def _zle(data: bytes) -> int:
    size, packed = _size(data)
    level = packed[0] if packed else 64
    found = _same("decoders", "zle", packed[1:], size, max(level, 1))
    assert isinstance(found, bytes)
    return len(found)


def _framed(data: bytes) -> int:
    """btrfs's segments of LZO and ZFS's LZ4, compiled."""
    size, packed = _size(data)
    lengths = []
    for decompress in (lzo.decompress, zfs_lz4.decompress):
        try:
            lengths.append(len(decompress(packed, size)))
        except FsError:
            continue
    assert all(length <= size for length in lengths)
    if not lengths:
        raise FsError("neither")
    return lengths[0]


def _fletcher(data: bytes) -> int:
    for function in ("fletcher2", "fletcher4"):
        for big in (False, True):
            _same("fletcher", function, data[: len(data) & -16], big)
            _same("fletcher", function, data, big)
    return len(data)


def _gf256(data: bytes) -> int:
    count, rest = (data[0] % 5, data[1:]) if data else (0, b"")
    coefficients, columns = rest[:count], rest[count:]
    size = len(columns) // max(count, 1)
    found = _same("gf256", "combine", columns[: size * count], size, coefficients)
    assert isinstance(found, bytes)
    return len(found)


def _hashes(data: bytes) -> int:
    state, rest = data[:128].ljust(128, b"\0"), data[128:]
    whole = rest[: len(rest) & -128]
    _same("hashes", "sha512_blocks", state[:64], whole, bytes(range(256)) * 2 + bytes(128))
    _same("hashes", "edonr512_blocks", state, whole)
    key = state[:32]
    for size in (64, 1024):
        _same("blake3", "blake3_nodes", key, rest, size, state[32] & 0xF, state[33], state[34])
    ubi = rest.ljust(-(-max(len(rest), 1) // 64) * 64, b"\0")
    _same("hashes", "skein512_ubi", state[:64], ubi, max(len(rest), len(ubi) - 64), state[35] % 64)
    return len(data)


def _odd_hashes(data: bytes) -> int:
    """Lengths that do not fit are refused, by both forms."""
    length = data[0] if data else 0
    state, rest = data[1 : 1 + length], data[1 + length :]
    fine = 0
    for function, more in (
        ("sha512_blocks", (rest, bytes(640))), ("edonr512_blocks", (rest,)), ("skein512_ubi", (rest, length, 48))
    ):  # fmt: skip
        try:
            _same("hashes", function, state, *more)
        except FsError:
            continue
        fine += 1
    if not fine:
        raise FsError("none fits")
    return fine


def _sized(size: int, packed: bytes) -> bytes:
    return size.to_bytes(2, "little") + packed


LITERALS = bytes(range(32, 64))

TARGETS = (
    Target("native-lz4", partial(_decoder, "lz4"), lambda: [_sized(45, b"\xf4\x11" + LITERALS + b"\x20\0\x50hello")],
           2048, native=True),
    Target("native-lzo", partial(_decoder, "lzo1x"), lambda: [_sized(99, bytes((17 + 32,)) + LITERALS + b"\x11\0\0")],
           2048, native=True),
    Target("native-lzjb", partial(_decoder, "lzjb"), lambda: [_sized(8, b"\0" + LITERALS)], 2048, native=True),
    Target("native-zle", _zle, lambda: [_sized(64, b"\x40" + bytes((31,)) + LITERALS + b"\x5f")], 2048, native=True),
    Target("native-framed", _framed, lambda: [_sized(99, b"\0\0\0\x22\xf0\x11" + LITERALS)], 2048, native=True),
    Target("native-fletcher", _fletcher, lambda: [sample("pattern:512"), b""], 2048, native=True),
    Target("native-gf256", _gf256, lambda: [b"\3\1\2\4" + sample("noise:48")], 2048, native=True),
    Target("native-hashes", _hashes, lambda: [sample("noise:2200"), b""], 4096, native=True),
    Target("native-odd", _odd_hashes, lambda: [b"\x40" + bytes(128), b"\x80" + bytes(256)], 512, native=True),
)  # fmt: skip
