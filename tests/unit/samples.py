"""Reproducible plain data for the tests of checksums and compressions; files of vectors name them as "KIND:LENGTH"."""

from __future__ import annotations

from hashlib import sha256
from itertools import count

_WORDS = b"boot disk mirror stripe parity block pointer extent leaf root tree label pool member copy the a of".split()


def sample(name: str) -> bytes:
    """The bytes that ``name`` stands for."""
    kind, _, length = name.partition(":")
    size = int(length)
    return _KINDS[kind](size)[:size]


def _noise(size: int) -> bytes:
    """Bytes that nothing compresses."""
    return b"".join(sha256(number.to_bytes(8, "big")).digest() for number in range(size // 32 + 1))


def _text(size: int) -> bytes:
    """Words in an order without pattern, with line ends now and then."""
    picks = _noise(size)
    return b"".join(_WORDS[pick % len(_WORDS)] + (b"\n" if pick > 240 else b" ") for pick in picks)


def _zeros(size: int) -> bytes:
    return bytes(size)


def _pattern(size: int) -> bytes:
    """A short pattern repeated: matches that overlap themselves."""
    return b"abcdefghijklm" * (size // 13 + 1)


def _mixed(size: int) -> bytes:
    """Stretches of all the others, of lengths that differ."""
    parts: list[bytes] = []
    done = 0
    noise = _noise(size)
    for number in count():
        if done >= size:
            break
        length = 1 + noise[number % len(noise)] * (1 + number % 7)
        start = done % max(1, size - length)
        kind = (_noise, _text, _zeros, _pattern)[number % 4]
        parts.append(kind(size)[start : start + length])
        done += len(parts[-1])
    return b"".join(parts)


_KINDS = {"noise": _noise, "text": _text, "zeros": _zeros, "pattern": _pattern, "mixed": _mixed}
