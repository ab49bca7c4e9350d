# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""ZFS's Fletcher sums."""

from __future__ import annotations

import sys

try:
    import cython
    from cython.cimports.libc.string import memcpy
except (ImportError, AttributeError):  # not compiled: no Cython at all, or one that has no C functions to offer
    from fsdrivers.native import shim as cython

Words = tuple[int, int, int, int]

_HOST_IS_BIG: bool = sys.byteorder == "big"


def fletcher4(data: bytes, big: bool) -> Words:
    """Four nested sums, modulo 2**64, over the 32-bit words of ``data`` in big- or little-endian order.

    Bytes after the last whole word do not count.
    Source: OpenZFS module/zcommon/zfs_fletcher.c:fletcher_4_scalar_native, 2.3.
    """
    if not cython.compiled:
        return _fletcher4_slowly(data, big)
    swap: cython.bint = big != _HOST_IS_BIG
    source: cython.p_const_uchar = data
    words: cython.Py_ssize_t = len(data) // 4
    at: cython.Py_ssize_t
    word: cython.uint = 0
    a: cython.ulonglong = 0
    b: cython.ulonglong = 0
    c: cython.ulonglong = 0
    d: cython.ulonglong = 0
    with cython.nogil:
        if swap:
            for at in range(words):
                memcpy(cython.address(word), source + 4 * at, 4)
                a += _swapped(word)
                b += a
                c += b
                d += c
        else:
            for at in range(words):
                memcpy(cython.address(word), source + 4 * at, 4)
                a += word
                b += a
                c += b
                d += c
    return a, b, c, d


def fletcher2(data: bytes, big: bool) -> Words:
    """Two pairs of nested sums, modulo 2**64, over the even and the odd 64-bit words of ``data``.

    Bytes after the last whole pair do not count.
    Source: OpenZFS module/zcommon/zfs_fletcher.c:fletcher_2_incremental_native, 2.3.
    """
    if not cython.compiled:
        return _fletcher2_slowly(data, big)
    swap: cython.bint = big != _HOST_IS_BIG
    source: cython.p_const_uchar = data
    pairs: cython.Py_ssize_t = len(data) // 16
    at: cython.Py_ssize_t
    even: cython.ulonglong = 0
    odd: cython.ulonglong = 0
    a: cython.ulonglong = 0
    b: cython.ulonglong = 0
    c: cython.ulonglong = 0
    d: cython.ulonglong = 0
    with cython.nogil:
        for at in range(pairs):
            memcpy(cython.address(even), source + 16 * at, 8)
            memcpy(cython.address(odd), source + 16 * at + 8, 8)
            if swap:
                even = _swapped_long(even)
                odd = _swapped_long(odd)
            a += even
            b += odd
            c += a
            d += b
    return a, b, c, d


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _swapped(word: cython.uint) -> cython.uint:
    """The word with its bytes in reverse; compilers know this pattern as one instruction."""
    return (word >> 24) | ((word >> 8) & 0xFF00) | ((word & 0xFF00) << 8) | (word << 24)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _swapped_long(word: cython.ulonglong) -> cython.ulonglong:
    low: cython.ulonglong = _swapped(cython.cast(cython.uint, word))
    return (low << 32) | _swapped(cython.cast(cython.uint, word >> 32))


def _fletcher4_slowly(data: bytes, big: bool) -> Words:
    from struct import unpack_from

    # Large integers hold the sums of any block; cutting them once at the end is faster than at each step.
    mask = (1 << 64) - 1
    a = b = c = d = 0
    for word in unpack_from(f"{'>' if big else '<'}{len(data) // 4}I", data):
        a += word
        b += a
        c += b
        d += c
    return a & mask, b & mask, c & mask, d & mask


def _fletcher2_slowly(data: bytes, big: bool) -> Words:
    from struct import unpack_from

    mask = (1 << 64) - 1
    words = unpack_from(f"{'>' if big else '<'}{len(data) // 16 * 2}Q", data)
    a = b = c = d = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        a += even
        b += odd
        c += a
        d += b
    return a & mask, b & mask, c & mask, d & mask
