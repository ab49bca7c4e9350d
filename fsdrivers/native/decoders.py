# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Decoders of byte-oriented compressions: LZO1X, LZ4 blocks, LZJB and ZLE.

Each ``NAME(data, size)`` returns what ``data`` decode to, at most ``size`` bytes, and raises BadData when that
is not to be had.  Every read and every write is checked against its buffer: the data come from hostile disks.
The loops take no branch on Python objects and run without the GIL when compiled.
"""

from __future__ import annotations

from fsdrivers.errors import BadData

try:
    import cython
    from cython.cimports.libc.string import memcpy, memset
except (ImportError, AttributeError):  # not compiled: no Cython at all, or one that has no C functions to offer
    from fsdrivers.native import shim as cython

# What the loops answer instead of a length, when compiled code must not raise.
SHORT_INPUT = cython.declare(cython.Py_ssize_t, -1)
LONG_OUTPUT = cython.declare(cython.Py_ssize_t, -2)
BAD_DISTANCE = cython.declare(cython.Py_ssize_t, -3)
BAD_INSTRUCTION = cython.declare(cython.Py_ssize_t, -4)

_WHY = {
    SHORT_INPUT: "the data end in the middle of the stream",
    LONG_OUTPUT: "the stream holds more than fits",
    BAD_DISTANCE: "a match points before the start of the output",
    BAD_INSTRUCTION: "an instruction that does not exist",
}


def lzo1x(data: bytes, size: int) -> bytes:
    """Decode one LZO1X stream; what follows its end mark is ignored.

    Source of the format: Documentation/staging/lzo.rst, v6.12 (bitstream version 0; btrfs writes no other).
    """
    room: cython.Py_ssize_t = size
    length: cython.Py_ssize_t = len(data)
    # A new bytes object nobody else has seen may be written to by compiled code: it saves a copy.
    plain = bytes(room) if cython.compiled else bytearray(room)
    source: cython.p_const_uchar = data
    target: cython.p_uchar = plain
    done: cython.Py_ssize_t
    with cython.nogil:
        done = _lzo1x(source, length, target, room)
    return _result("LZO1X", plain, done, size)


def lz4(data: bytes, size: int) -> bytes:
    """Decode one LZ4 block that fills all of ``data``.

    Source of the format: lz4's doc/lz4_Block_format.md, 1.9.4.
    """
    room: cython.Py_ssize_t = size
    length: cython.Py_ssize_t = len(data)
    plain = bytes(room) if cython.compiled else bytearray(room)
    source: cython.p_const_uchar = data
    target: cython.p_uchar = plain
    done: cython.Py_ssize_t
    with cython.nogil:
        done = _lz4(source, length, target, room)
    return _result("LZ4", plain, done, size)


def lzjb(data: bytes, size: int) -> bytes:
    """Decode LZJB, which has no end mark: exactly ``size`` bytes.

    Source of the format: OpenZFS module/zfs/lzjb.c:zfs_lzjb_decompress_buf, 2.3.
    """
    room: cython.Py_ssize_t = size
    length: cython.Py_ssize_t = len(data)
    plain = bytes(room) if cython.compiled else bytearray(room)
    source: cython.p_const_uchar = data
    target: cython.p_uchar = plain
    done: cython.Py_ssize_t
    with cython.nogil:
        done = _lzjb(source, length, target, room)
    return _result("LZJB", plain, done, size)


def zle(data: bytes, size: int, level: int = 64) -> bytes:
    """Decode ZLE, runs of literals and of zeros without an end mark, up to ``size`` bytes or the end of ``data``.

    A byte below ``level`` is followed by that many literals and one, any other stands for zeros.
    Source of the format: OpenZFS module/zfs/zle.c:zfs_zle_decompress_buf, 2.3; the level is in zio_compress.c.
    """
    room: cython.Py_ssize_t = size
    length: cython.Py_ssize_t = len(data)
    split: cython.Py_ssize_t = level
    plain = bytes(room) if cython.compiled else bytearray(room)
    source: cython.p_const_uchar = data
    target: cython.p_uchar = plain
    done: cython.Py_ssize_t
    with cython.nogil:
        done = _zle(source, length, target, room, split)
    return _result("ZLE", plain, done, size)


def _result(name: str, plain: bytes | bytearray, done: int, size: int) -> bytes:
    """What a decoder returns, given what its loop said."""
    if done < 0:
        raise BadData(name, _WHY[done])
    return bytes(plain) if done == size else bytes(plain[:done])


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _literals(
    target: cython.p_uchar,
    to: cython.Py_ssize_t,
    room: cython.Py_ssize_t,
    source: cython.p_const_uchar,
    at: cython.Py_ssize_t,
    length: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
) -> cython.void:
    """Copy ``count`` bytes, known to be there, from ``source[at]`` to ``target[to]``, which is known to have room."""
    if not cython.compiled:
        target[to : to + count] = source[at : at + count]
    elif count <= 16 and room - to >= 16 and length - at >= 16:
        # A copy of constant size is two instructions; what it writes too much is overwritten by what comes next.
        memcpy(target + to, source + at, 16)
    else:
        memcpy(target + to, source + at, count)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _match(
    target: cython.p_uchar,
    to: cython.Py_ssize_t,
    room: cython.Py_ssize_t,
    distance: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
) -> cython.void:
    """Repeat ``count`` bytes from ``distance`` back; the ranges may overlap, which repeats the pattern."""
    k: cython.Py_ssize_t
    if not cython.compiled:
        pattern = target[to - distance : min(to, to - distance + count)]
        target[to : to + count] = (pattern * (count // distance + 1))[:count]
    elif distance >= 8 and room - to >= count + 8:
        k = 0
        while k < count:
            memcpy(target + to + k, target + to + k - distance, 8)
            k += 8
    elif distance >= count:
        memcpy(target + to, target + to - distance, count)
    elif distance == 1:
        memset(target + to, target[to - 1], count)
    else:
        for k in range(to, to + count):
            target[k] = target[k - distance]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _lzo1x(
    source: cython.p_const_uchar, length: cython.Py_ssize_t, target: cython.p_uchar, room: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    at: cython.Py_ssize_t = 0
    to: cython.Py_ssize_t = 0
    state: cython.Py_ssize_t = 0  # literals that the last instruction copied; 4 stands for "4 or more"
    count: cython.Py_ssize_t
    distance: cython.Py_ssize_t
    code: cython.Py_ssize_t
    word: cython.Py_ssize_t

    if length < 3:
        return SHORT_INPUT
    if length >= 5 and source[0] == 17:
        if source[1] != 0:
            return BAD_INSTRUCTION  # a later version of the bitstream
        at = 2
    if source[at] > 17:
        count = source[at] - 17
        at += 1
        if length - at < count:
            return SHORT_INPUT
        if room - to < count:
            return LONG_OUTPUT
        _literals(target, to, room, source, at, length, count)
        at += count
        to += count
        state = count if count < 4 else 4

    while True:
        if at >= length:
            return SHORT_INPUT
        code = source[at]
        at += 1
        if code < 16 and state == 0:
            # A long run of literals and no match.
            count = code
            if count == 0:
                while at < length and source[at] == 0:
                    at += 1
                    count += 255
                if at >= length:
                    return SHORT_INPUT
                count += 15 + source[at]
                at += 1
            count += 3
            if length - at < count:
                return SHORT_INPUT
            if room - to < count:
                return LONG_OUTPUT
            _literals(target, to, room, source, at, length, count)
            at += count
            to += count
            state = 4
            continue

        if code < 16 or code >= 64:
            # One more byte, with the upper bits of the distance.
            if at >= length:
                return SHORT_INPUT
            word = source[at]
            at += 1
            if code >= 64:
                count = (code >> 5) + 1
                distance = (word << 3) + ((code >> 2) & 7) + 1
            elif state == 4:
                count = 3
                distance = (word << 2) + (code >> 2) + 2049
            else:
                count = 2
                distance = (word << 2) + (code >> 2) + 1
            state = code & 3
        else:
            # Two more bytes, after those of a long length.
            word = 31 if code >= 32 else 7
            count = code & word
            if count == 0:
                while at < length and source[at] == 0:
                    at += 1
                    count += 255
                if at >= length:
                    return SHORT_INPUT
                count += word + source[at]
                at += 1
            count += 2
            if length - at < 2:
                return SHORT_INPUT
            word = source[at] | (source[at + 1] << 8)
            at += 2
            state = word & 3
            distance = (word >> 2) + 1
            if code < 32:
                distance += 16383 + ((code & 8) << 11)
                if distance == 16384:
                    return to if count == 3 else BAD_INSTRUCTION

        if distance > to:
            return BAD_DISTANCE
        if room - to < count + state:
            return LONG_OUTPUT
        if length - at < state:
            return SHORT_INPUT
        _match(target, to, room, distance, count)
        to += count
        if state:
            _literals(target, to, room, source, at, length, state)
            at += state
            to += state


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _lz4(
    source: cython.p_const_uchar, length: cython.Py_ssize_t, target: cython.p_uchar, room: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    at: cython.Py_ssize_t = 0
    to: cython.Py_ssize_t = 0
    count: cython.Py_ssize_t
    distance: cython.Py_ssize_t
    token: cython.Py_ssize_t
    more: cython.Py_ssize_t

    while True:
        if at >= length:
            return SHORT_INPUT
        token = source[at]
        at += 1
        count = token >> 4
        if count == 15:
            more = 255
            while more == 255:
                if at >= length:
                    return SHORT_INPUT
                more = source[at]
                at += 1
                count += more
        if length - at < count:
            return SHORT_INPUT
        if room - to < count:
            return LONG_OUTPUT
        _literals(target, to, room, source, at, length, count)
        at += count
        to += count
        if at == length:
            return to  # the last sequence is literals alone
        if length - at < 2:
            return SHORT_INPUT
        distance = source[at] | (source[at + 1] << 8)
        at += 2
        count = token & 15
        if count == 15:
            more = 255
            while more == 255:
                if at >= length:
                    return SHORT_INPUT
                more = source[at]
                at += 1
                count += more
        count += 4
        if distance == 0 or distance > to:
            return BAD_DISTANCE
        if room - to < count:
            return LONG_OUTPUT
        _match(target, to, room, distance, count)
        to += count


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _lzjb(
    source: cython.p_const_uchar, length: cython.Py_ssize_t, target: cython.p_uchar, room: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    at: cython.Py_ssize_t = 0
    to: cython.Py_ssize_t = 0
    count: cython.Py_ssize_t
    distance: cython.Py_ssize_t
    word: cython.Py_ssize_t
    flags: cython.Py_ssize_t = 0
    left: cython.Py_ssize_t = 0  # flags not used yet

    while to < room:
        if left == 0:
            if at >= length:
                return SHORT_INPUT
            flags = source[at]
            at += 1
            left = 8
        if flags & 1:
            if length - at < 2:
                return SHORT_INPUT
            word = (source[at] << 8) | source[at + 1]
            at += 2
            count = (word >> 10) + 3
            distance = word & 1023
            if distance == 0 or distance > to:
                return BAD_DISTANCE
            if count > room - to:
                count = room - to  # the format's own rule for the last match
            _match(target, to, room, distance, count)
            to += count
        else:
            if at >= length:
                return SHORT_INPUT
            target[to] = source[at]
            at += 1
            to += 1
        flags >>= 1
        left -= 1
    return to


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _zle(
    source: cython.p_const_uchar,
    length: cython.Py_ssize_t,
    target: cython.p_uchar,
    room: cython.Py_ssize_t,
    split: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    at: cython.Py_ssize_t = 0
    to: cython.Py_ssize_t = 0
    count: cython.Py_ssize_t

    while at < length and to < room:
        count = source[at] + 1
        at += 1
        if count <= split:
            if length - at < count:
                return SHORT_INPUT
            if room - to < count:
                return LONG_OUTPUT
            _literals(target, to, room, source, at, length, count)
            at += count
        else:
            count -= split
            if room - to < count:
                return LONG_OUTPUT
            # The buffer starts as zeros, but a hasty copy may have left something here.
            if cython.compiled:
                memset(target + to, 0, count)
        to += count
    return to
