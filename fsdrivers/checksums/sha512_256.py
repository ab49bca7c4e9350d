"""SHA-512/256 (FIPS 180-4): SHA-512 with an initial value of its own, cut to 256 bits; ZFS calls it "sha512".

Source of the use: OpenZFS module/zfs/sha2_zfs.c:abd_checksum_sha512_native, 2.3.
"""

from __future__ import annotations

from functools import cache
from math import isqrt
from struct import pack

from fsdrivers.native.hashes import sha512_blocks


def digest(data: bytes | bytearray | memoryview) -> bytes:
    """The 32 bytes of the digest."""
    return _digest(_initial(), data)[:32]


def _digest(state: bytes, data: bytes | bytearray | memoryview) -> bytes:
    """SHA-512 of ``data`` from an initial value."""
    whole = len(data) // 128 * 128
    tail = bytes(data[whole:]) + b"\x80"
    # The length in bits fills the last 16 bytes of a block.
    tail += bytes(-(len(tail) + 16) % 128) + (8 * len(data)).to_bytes(16, "big")
    return sha512_blocks(sha512_blocks(state, bytes(data[:whole]), _constants()), tail, _constants())


@cache
def _initial() -> bytes:
    """The initial value of SHA-512/256, made as FIPS 180-4, 5.3.6 says."""
    roots = [_fraction(isqrt(prime << 128)) for prime in _primes(8)]
    return _digest(pack(">8Q", *(root ^ 0xA5A5A5A5A5A5A5A5 for root in roots)), b"SHA-512/256")


@cache
def _constants() -> bytes:
    """The 80 round constants: 64 bits of the fractions of the cube roots of the first primes (4.2.3)."""
    return pack(">80Q", *(_fraction(_cube_root(prime << 192)) for prime in _primes(80)))


def _fraction(number: int) -> int:
    return number & 0xFFFFFFFFFFFFFFFF


def _cube_root(number: int) -> int:
    """The largest integer whose cube is not above ``number``, by Newton's method from above."""
    root = 1 << -(-number.bit_length() // 3)
    while True:
        better = (2 * root + number // (root * root)) // 3
        if better >= root:
            return root
        root = better


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found):
            found.append(candidate)
        candidate += 1
    return found
