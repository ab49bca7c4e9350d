# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""BLAKE3's compression function over many nodes of its tree at once; the tree is in fsdrivers.checksums.blake3."""

from __future__ import annotations

try:
    import cython
except ImportError:  # not compiled
    from fsdrivers.native import shim as cython

_INITIAL = bytes.fromhex("67e6096a85ae67bb72f36e3c3af54fa5")  # the first half of SHA-256's initial value
_MOVES = bytes((2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8))  # of the words of a block after each round


def _schedule() -> bytes:
    """Which words of the block the seven rounds take, 16 each."""
    order = bytes(range(16))
    rounds = bytearray()
    for _ in range(7):
        rounds += order
        order = bytes(order[move] for move in _MOVES)
    return bytes(rounds)


_SCHEDULE = _schedule()


def blake3_nodes(key: bytes, data: bytes, size: int, flags: int, first: int, last: int) -> bytes:
    """The 32-byte chaining values of BLAKE3 nodes of ``size`` bytes each, the last one maybe shorter.

    Nodes are chunks of 1024 bytes (``first`` and ``last`` are the flags of their outer blocks, and their number
    is counted) or pairs of chaining values, 64 bytes (``first`` and ``last`` are 0).
    Source: BLAKE3, one function, fast everywhere (2021-11), 2.1 to 2.4.
    """
    if len(key) != 32 or size not in (64, 1024):
        raise ValueError("the lengths do not fit the hash")
    source: cython.p_const_uchar = data
    words: cython.p_const_uchar = key
    schedule, initial = _SCHEDULE, _INITIAL
    picks: cython.p_const_uchar = schedule
    start: cython.p_const_uchar = initial
    length: cython.Py_ssize_t = len(data)
    node: cython.Py_ssize_t = size
    nodes: cython.Py_ssize_t = (len(data) + size - 1) // size or 1
    base: cython.uint = flags
    opening: cython.uint = first
    closing: cython.uint = last
    result = bytes(32 * nodes) if cython.compiled else bytearray(32 * nodes)
    target: cython.p_uchar = result
    number: cython.Py_ssize_t
    at: cython.Py_ssize_t
    end: cython.Py_ssize_t
    i: cython.Py_ssize_t
    mode: cython.uint
    h: cython.uint[8]
    iv: cython.uint[4]
    if not cython.compiled:
        h, iv = [0] * 8, [0] * 4
    with cython.nogil:
        for i in range(4):
            iv[i] = _load_short(start, i * 4)
        for number in range(nodes):
            for i in range(8):
                h[i] = _load_short(words, i * 4)
            at = number * node
            end = at + node if length - at > node else length
            mode = base | opening
            while True:
                if end - at <= 64:
                    _blake3(h, source, at, end - at, number if node == 1024 else 0, mode | closing, iv, picks)
                    break
                _blake3(h, source, at, 64, number if node == 1024 else 0, mode, iv, picks)
                mode = base
                at += 64
            for i in range(8):
                _store_short(target, number * 32 + i * 4, h[i])
    return bytes(result)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _blake3(
    h: cython.p_uint,
    source: cython.p_const_uchar,
    at: cython.Py_ssize_t,
    length: cython.Py_ssize_t,
    number: cython.Py_ssize_t,
    mode: cython.uint,
    iv: cython.p_uint,
    picks: cython.p_const_uchar,
) -> cython.void:
    """The compression function on one block of up to 64 bytes; ``h`` becomes the new chaining value."""
    i: cython.Py_ssize_t
    turn: cython.Py_ssize_t
    v: cython.uint[16]
    m: cython.uint[16]
    rest: cython.uchar[64]
    if not cython.compiled:
        v, m, rest = [0] * 16, [0] * 16, [0] * 64
    if length == 64:
        for i in range(16):
            m[i] = _load_short(source, at + i * 4)
    else:
        for i in range(64):
            rest[i] = source[at + i] if i < length else 0
        for i in range(16):
            m[i] = _load_short(rest, i * 4)
    for i in range(8):
        v[i] = h[i]
    for i in range(4):
        v[8 + i] = iv[i]
    v[13] = 0
    v[12] = number  # its upper half, v[13], stays 0: blocks of ZFS are not that large
    v[14] = length
    v[15] = mode
    for turn in range(0, 112, 16):
        _quarter(v, 0, 4, 8, 12, m[picks[turn]], m[picks[turn + 1]])
        _quarter(v, 1, 5, 9, 13, m[picks[turn + 2]], m[picks[turn + 3]])
        _quarter(v, 2, 6, 10, 14, m[picks[turn + 4]], m[picks[turn + 5]])
        _quarter(v, 3, 7, 11, 15, m[picks[turn + 6]], m[picks[turn + 7]])
        _quarter(v, 0, 5, 10, 15, m[picks[turn + 8]], m[picks[turn + 9]])
        _quarter(v, 1, 6, 11, 12, m[picks[turn + 10]], m[picks[turn + 11]])
        _quarter(v, 2, 7, 8, 13, m[picks[turn + 12]], m[picks[turn + 13]])
        _quarter(v, 3, 4, 9, 14, m[picks[turn + 14]], m[picks[turn + 15]])
    for i in range(8):
        h[i] = v[i] ^ v[8 + i]


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _quarter(
    v: cython.p_uint,
    a: cython.Py_ssize_t,
    b: cython.Py_ssize_t,
    c: cython.Py_ssize_t,
    d: cython.Py_ssize_t,
    x: cython.uint,
    y: cython.uint,
) -> cython.void:
    v[a] = _short(v[a] + v[b] + x)
    v[d] = _right_short(v[d] ^ v[a], 16)
    v[c] = _short(v[c] + v[d])
    v[b] = _right_short(v[b] ^ v[c], 12)
    v[a] = _short(v[a] + v[b] + y)
    v[d] = _right_short(v[d] ^ v[a], 8)
    v[c] = _short(v[c] + v[d])
    v[b] = _right_short(v[b] ^ v[c], 7)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _short(value: cython.uint) -> cython.uint:
    """What C does by itself: keep 32 bits."""
    if cython.compiled:
        return value
    return value & 0xFFFFFFFF


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _right_short(value: cython.uint, turn: cython.int) -> cython.uint:
    return (value >> turn) | _short(value << (32 - turn))


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _load_short(source: cython.p_const_uchar, at: cython.Py_ssize_t) -> cython.uint:
    """Four bytes, little-endian; compilers know the pattern as one instruction."""
    top: cython.uint = source[at + 3]
    return source[at] | (source[at + 1] << 8) | (source[at + 2] << 16) | (top << 24)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _store_short(target: cython.p_uchar, at: cython.Py_ssize_t, value: cython.uint) -> cython.void:
    i: cython.Py_ssize_t
    for i in range(4):
        target[at + i] = (value >> (8 * i)) & 0xFF
