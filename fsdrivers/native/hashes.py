# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The block functions of the 64-bit hashes that ZFS knows and no library gives us: SHA-512, Skein and Edon-R.

States go in and out as bytes, the words one after another in the algorithm's own byte order.  Padding, keys and
modes of use are in fsdrivers.checksums, one file for each hash.
"""

from __future__ import annotations

try:
    import cython
except ImportError:  # not compiled
    from fsdrivers.native import shim as cython

# Constants this large are Python objects to Cython unless they are declared.
SKEIN_PARITY = cython.declare(cython.ulonglong, 0x1BD11BDAA9FC1A22)
EDONR_FIRST = cython.declare(cython.ulonglong, 0xAAAAAAAAAAAAAAAA)
EDONR_SECOND = cython.declare(cython.ulonglong, 0x5555555555555555)

# Turns of Threefish-512's mix functions: eight rounds of four.
_TURNS = bytes.fromhex("2e241325 211b0e2a 11312427 2c093638 271e2218 0d320a11 191d272b 08233816")


def sha512_blocks(state: bytes, data: bytes, constants: bytes) -> bytes:
    """SHA-512's state after the 128-byte blocks of ``data``; ``constants`` are its 80 words, all big-endian.

    Source: FIPS 180-4, 6.4.2.
    """
    _check(len(state) == 64 and len(data) % 128 == 0 and len(constants) == 640)
    before: cython.p_const_uchar = state
    source: cython.p_const_uchar = data
    table: cython.p_const_uchar = constants
    length: cython.Py_ssize_t = len(data)
    after = bytes(64) if cython.compiled else bytearray(64)
    target: cython.p_uchar = after
    h: cython.ulonglong[8]
    k: cython.ulonglong[80]
    if not cython.compiled:
        h, k = [0] * 8, [0] * 80
    at: cython.Py_ssize_t
    with cython.nogil:
        for at in range(80):
            k[at] = _load_big(table, at * 8)
        for at in range(8):
            h[at] = _load_big(before, at * 8)
        at = 0
        while at < length:
            _sha512(h, source, at, k)
            at += 128
        for at in range(8):
            _store_big(target, at * 8, h[at])
    return bytes(after)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sha512(
    h: cython.p_ulonglong, source: cython.p_const_uchar, at: cython.Py_ssize_t, k: cython.p_ulonglong
) -> cython.void:
    i: cython.Py_ssize_t
    x: cython.ulonglong
    y: cython.ulonglong
    w: cython.ulonglong[80]
    v: cython.ulonglong[8]
    if not cython.compiled:
        w, v = [0] * 80, [0] * 8
    for i in range(16):
        w[i] = _load_big(source, at + i * 8)
    for i in range(16, 80):
        x = _right(w[i - 15], 1) ^ _right(w[i - 15], 8) ^ (w[i - 15] >> 7)
        y = _right(w[i - 2], 19) ^ _right(w[i - 2], 61) ^ (w[i - 2] >> 6)
        w[i] = _word(w[i - 16] + x + w[i - 7] + y)
    for i in range(8):
        v[i] = h[i]
    for i in range(80):
        x = _right(v[4], 14) ^ _right(v[4], 18) ^ _right(v[4], 41)
        x = _word(v[7] + x + (v[6] ^ (v[4] & (v[5] ^ v[6]))) + k[i] + w[i])
        y = _right(v[0], 28) ^ _right(v[0], 34) ^ _right(v[0], 39)
        y = y + ((v[0] & v[1]) | (v[2] & (v[0] | v[1])))
        v[7] = v[6]
        v[6] = v[5]
        v[5] = v[4]
        v[4] = _word(v[3] + x)
        v[3] = v[2]
        v[2] = v[1]
        v[1] = v[0]
        v[0] = _word(x + y)
    for i in range(8):
        h[i] = _word(h[i] + v[i])


def skein512_ubi(state: bytes, data: bytes, length: int, kind: int) -> bytes:
    """Skein-512's chaining value after one unique block iteration over ``data``.

    ``data`` are whole 64-byte blocks, at least one, of which ``length`` bytes count and the rest is padding;
    ``kind`` is the type of the iteration.
    Source: The Skein Hash Function Family, version 1.3, 3.3 and 3.4.
    """
    _check(len(state) == 64 and len(data) >= 64 and len(data) % 64 == 0 and len(data) - 64 <= length <= len(data))
    before: cython.p_const_uchar = state
    source: cython.p_const_uchar = data
    table = _TURNS
    turns: cython.p_const_uchar = table
    size: cython.Py_ssize_t = len(data)
    counted: cython.Py_ssize_t = length
    tweak: cython.ulonglong = kind
    one: cython.ulonglong = 1
    after = bytes(64) if cython.compiled else bytearray(64)
    target: cython.p_uchar = after
    h: cython.ulonglong[8]
    if not cython.compiled:
        h = [0] * 8
    at: cython.Py_ssize_t
    with cython.nogil:
        for at in range(8):
            h[at] = _load(before, at * 8)
        tweak = (tweak << 56) | (one << 62)  # this is the first block
        at = 64
        while at < size:
            _threefish(h, source, at - 64, at, tweak, turns)
            tweak &= ~(one << 62)
            at += 64
        _threefish(h, source, size - 64, counted, tweak | (one << 63), turns)  # this is the last one
        for at in range(8):
            _store(target, at * 8, h[at])
    return bytes(after)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _threefish(
    h: cython.p_ulonglong,
    source: cython.p_const_uchar,
    at: cython.Py_ssize_t,
    low: cython.ulonglong,
    high: cython.ulonglong,
    turns: cython.p_const_uchar,
) -> cython.void:
    """Threefish-512 with the chaining value as its key, and the feed-forward of the block."""
    i: cython.Py_ssize_t
    s: cython.Py_ssize_t
    r: cython.Py_ssize_t
    k: cython.ulonglong[27]  # the nine words of the key and the three of the tweak, repeated for all 19 subkeys
    t: cython.ulonglong[21]
    x: cython.ulonglong[8]
    if not cython.compiled:
        k, t, x = [0] * 27, [0] * 21, [0] * 8
    k[8] = SKEIN_PARITY
    for i in range(8):
        k[i] = h[i]
        k[8] ^= h[i]
        x[i] = _load(source, at + i * 8)
    t[0] = low
    t[1] = high
    t[2] = low ^ high
    for i in range(9, 27):
        k[i] = k[i - 9]
    for i in range(3, 21):
        t[i] = t[i - 3]
    for s in range(19):
        for i in range(8):
            x[i] = _word(x[i] + k[s + i])
        x[5] = _word(x[5] + t[s])
        x[6] = _word(x[6] + t[s + 1])
        x[7] = _word(x[7] + s)
        if s == 18:
            break
        r = (s & 1) * 16
        _mix(x, 0, 1, turns[r])
        _mix(x, 2, 3, turns[r + 1])
        _mix(x, 4, 5, turns[r + 2])
        _mix(x, 6, 7, turns[r + 3])
        _mix(x, 2, 1, turns[r + 4])
        _mix(x, 4, 7, turns[r + 5])
        _mix(x, 6, 5, turns[r + 6])
        _mix(x, 0, 3, turns[r + 7])
        _mix(x, 4, 1, turns[r + 8])
        _mix(x, 6, 3, turns[r + 9])
        _mix(x, 0, 5, turns[r + 10])
        _mix(x, 2, 7, turns[r + 11])
        _mix(x, 6, 1, turns[r + 12])
        _mix(x, 0, 7, turns[r + 13])
        _mix(x, 2, 5, turns[r + 14])
        _mix(x, 4, 3, turns[r + 15])
    for i in range(8):
        h[i] = x[i] ^ _load(source, at + i * 8)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _mix(x: cython.p_ulonglong, a: cython.Py_ssize_t, b: cython.Py_ssize_t, turn: cython.int) -> cython.void:
    x[a] = _word(x[a] + x[b])
    x[b] = _right(x[b], 64 - turn) ^ x[a]


def edonr512_blocks(state: bytes, data: bytes) -> bytes:
    """Edon-R 512's double pipe after the 128-byte blocks of ``data``, little-endian.

    Source: Edon-R cryptographic hash function (submission to NIST, 2008) with the tweak of the second round,
    in which the old pipe and the block are added to the result; OpenZFS module/icp/algs/edonr/edonr.c, 2.3.
    """
    _check(len(state) == 128 and len(data) % 128 == 0)
    before: cython.p_const_uchar = state
    source: cython.p_const_uchar = data
    length: cython.Py_ssize_t = len(data)
    after = bytes(128) if cython.compiled else bytearray(128)
    target: cython.p_uchar = after
    h: cython.ulonglong[16]
    if not cython.compiled:
        h = [0] * 16
    at: cython.Py_ssize_t
    with cython.nogil:
        for at in range(16):
            h[at] = _load(before, at * 8)
        at = 0
        while at < length:
            _edonr(h, source, at)
            at += 128
        for at in range(16):
            _store(target, at * 8, h[at])
    return bytes(after)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _edonr(h: cython.p_ulonglong, source: cython.p_const_uchar, at: cython.Py_ssize_t) -> cython.void:
    """Four rows of two quasigroup operations over the block, the reversed block and the pipe."""
    i: cython.Py_ssize_t
    # Eight words each: the block's halves, both again backwards, the pipe's halves, and the two words of a row.
    low: cython.ulonglong[8]
    high: cython.ulonglong[8]
    low_back: cython.ulonglong[8]
    high_back: cython.ulonglong[8]
    pipe_low: cython.ulonglong[8]
    pipe_high: cython.ulonglong[8]
    p: cython.ulonglong[8]
    q: cython.ulonglong[8]
    if not cython.compiled:
        low, high, low_back, high_back, pipe_low, pipe_high, p, q = ([0] * 8 for _ in range(8))
    for i in range(8):
        low[i] = _load(source, at + i * 8)
        low_back[7 - i] = low[i]
        high[i] = _load(source, at + 64 + i * 8)
        high_back[7 - i] = high[i]
        pipe_low[i] = h[i]
        pipe_high[i] = h[8 + i]
    _star(high_back, low, p)
    _star(p, high, q)
    _star(pipe_high, p, p)
    _star(p, q, q)
    _star(p, pipe_low, p)
    _star(q, p, q)
    _star(low_back, p, p)
    _star(p, q, q)
    for i in range(8):
        h[i] ^= high[i] ^ p[i]
        h[8 + i] ^= low[i] ^ q[i]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _star(x: cython.p_ulonglong, y: cython.p_ulonglong, z: cython.p_ulonglong) -> cython.void:
    """The quasigroup operation z = x * y over vectors of eight words; ``z`` may be one of the others."""
    s: cython.ulonglong[8]
    t: cython.ulonglong[8]
    if not cython.compiled:
        s, t = [0] * 8, [0] * 8
    s[0] = _word(EDONR_FIRST + x[0] + x[1] + x[2] + x[4] + x[7])
    s[1] = _left(x[0] + x[1] + x[3] + x[4] + x[7], 5)
    s[2] = _left(x[0] + x[1] + x[4] + x[6] + x[7], 15)
    s[3] = _left(x[2] + x[3] + x[5] + x[6] + x[7], 22)
    s[4] = _left(x[1] + x[2] + x[3] + x[5] + x[6], 31)
    s[5] = _left(x[0] + x[2] + x[3] + x[4] + x[5], 40)
    s[6] = _left(x[0] + x[1] + x[5] + x[6] + x[7], 50)
    s[7] = _left(x[2] + x[3] + x[4] + x[5] + x[6], 59)
    t[0] = _word(EDONR_SECOND + y[0] + y[1] + y[2] + y[5] + y[7])
    t[1] = _left(y[0] + y[1] + y[3] + y[4] + y[6], 10)
    t[2] = _left(y[0] + y[1] + y[2] + y[3] + y[5], 19)
    t[3] = _left(y[2] + y[3] + y[4] + y[6] + y[7], 29)
    t[4] = _left(y[0] + y[1] + y[3] + y[4] + y[5], 36)
    t[5] = _left(y[2] + y[4] + y[5] + y[6] + y[7], 44)
    t[6] = _left(y[1] + y[2] + y[5] + y[6] + y[7], 48)
    t[7] = _left(y[0] + y[3] + y[4] + y[6] + y[7], 55)
    z[0] = _word((s[0] ^ s[1] ^ s[4]) + (t[0] ^ t[1] ^ t[5]))
    z[1] = _word((s[0] ^ s[4] ^ s[7]) + (t[2] ^ t[6] ^ t[7]))
    z[2] = _word((s[1] ^ s[6] ^ s[7]) + (t[0] ^ t[1] ^ t[3]))
    z[3] = _word((s[2] ^ s[3] ^ s[4]) + (t[0] ^ t[3] ^ t[4]))
    z[4] = _word((s[0] ^ s[1] ^ s[7]) + (t[1] ^ t[2] ^ t[5]))
    z[5] = _word((s[3] ^ s[5] ^ s[6]) + (t[3] ^ t[4] ^ t[6]))
    z[6] = _word((s[2] ^ s[5] ^ s[6]) + (t[2] ^ t[5] ^ t[7]))
    z[7] = _word((s[2] ^ s[3] ^ s[5]) + (t[4] ^ t[6] ^ t[7]))


def _check(fits: bool) -> None:
    if not fits:
        raise ValueError("the lengths do not fit the hash")


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _word(value: cython.ulonglong) -> cython.ulonglong:
    """What C does by itself: keep 64 bits."""
    if cython.compiled:
        return value
    return value & 0xFFFFFFFFFFFFFFFF


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _right(value: cython.ulonglong, turn: cython.int) -> cython.ulonglong:
    return (value >> turn) | _word(value << (64 - turn))


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _left(value: cython.ulonglong, turn: cython.int) -> cython.ulonglong:
    return _right(_word(value), 64 - turn)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _load(source: cython.p_const_uchar, at: cython.Py_ssize_t) -> cython.ulonglong:
    """Eight bytes, little-endian; compilers know the pattern as one instruction."""
    value: cython.ulonglong = 0
    i: cython.Py_ssize_t
    for i in range(7, -1, -1):
        value = (value << 8) | source[at + i]
    return value


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _load_big(source: cython.p_const_uchar, at: cython.Py_ssize_t) -> cython.ulonglong:
    """Eight bytes, big-endian."""
    value: cython.ulonglong = 0
    i: cython.Py_ssize_t
    for i in range(8):
        value = (value << 8) | source[at + i]
    return value


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _store(target: cython.p_uchar, at: cython.Py_ssize_t, value: cython.ulonglong) -> cython.void:
    i: cython.Py_ssize_t
    for i in range(8):
        target[at + i] = (value >> (8 * i)) & 0xFF


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _store_big(target: cython.p_uchar, at: cython.Py_ssize_t, value: cython.ulonglong) -> cython.void:
    i: cython.Py_ssize_t
    for i in range(8):
        target[at + i] = (value >> (56 - 8 * i)) & 0xFF
