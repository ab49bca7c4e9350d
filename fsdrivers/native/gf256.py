# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Linear combinations of columns over GF(2^8), the work behind P, Q and R parity."""

from __future__ import annotations

try:
    import cython
except ImportError:  # not compiled
    from fsdrivers.native import shim as cython

COMPILED: bool = cython.compiled

BLOCK = cython.declare(cython.Py_ssize_t, 1024)  # words worked on at a time: they stay in the first-level cache
# Eight bytes at once: the top bits, all bits but the lowest, and the polynomial that reduces an overflow.
# (Constants this large are Python objects to Cython unless they are declared.)
TOPS = cython.declare(cython.ulonglong, 0x8080808080808080)
UPPER = cython.declare(cython.ulonglong, 0xFEFEFEFEFEFEFEFE)
REDUCER = cython.declare(cython.ulonglong, 0x1D1D1D1D1D1D1D1D)


def combine(columns: bytes, size: int, coefficients: bytes) -> bytes:
    """The sum of ``coefficients[i]`` times column ``i``, over GF(2^8) with polynomial 0x11D.

    ``columns`` are the columns one after another, ``size`` bytes each; ``size`` must be a multiple of 8.
    Raises ValueError when the lengths do not fit together.
    """
    words: cython.Py_ssize_t = size // 8
    count: cython.Py_ssize_t = len(coefficients)
    if size % 8 or size < 0 or len(columns) != size * len(coefficients):
        raise ValueError(f"{len(columns)} bytes are not {len(coefficients)} columns of {size} bytes")
    factors: cython.p_const_uchar = coefficients
    if not cython.compiled:
        sums = memoryview(bytearray(size)).cast("Q")
        _combine(memoryview(columns).cast("Q"), words, factors, count, sums)
        return bytes(sums)
    # A new bytes object nobody else has seen may be written to: it saves a copy.
    result = bytes(size)
    source: cython.p_const_uchar = columns
    target: cython.p_const_uchar = result
    with cython.nogil:
        _combine(
            cython.cast(cython.p_ulonglong, source), words, factors, count, cython.cast(cython.p_ulonglong, target)
        )
    return result


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _combine(
    columns: cython.p_ulonglong,
    words: cython.Py_ssize_t,
    factors: cython.p_const_uchar,
    count: cython.Py_ssize_t,
    sums: cython.p_ulonglong,
) -> cython.void:
    """Horner's rule over the bits of the coefficients, from the top.

    It doubles the result at most seven times however many columns there are, and takes only operations on whole
    words, which compilers turn into vector instructions.
    """
    start: cython.Py_ssize_t = 0
    end: cython.Py_ssize_t
    column: cython.Py_ssize_t
    bit: cython.Py_ssize_t
    begun: cython.Py_ssize_t
    while start < words:
        end = start + BLOCK if words - start > BLOCK else words
        begun = 0
        for bit in range(7, -1, -1):
            if begun:
                _double(sums, start, end)
            for column in range(count):
                if (factors[column] >> bit) & 1:
                    _add(sums, columns, column * words, start, end)
                    begun = 1
        start = end


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _double(sums: cython.p_ulonglong, start: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.void:
    """Multiply each byte of eight by two."""
    at: cython.Py_ssize_t
    word: cython.ulonglong
    high: cython.ulonglong
    # As local variables they cannot change behind the compiler's back, which lets it use vectors.
    tops: cython.ulonglong = TOPS
    upper: cython.ulonglong = UPPER
    reducer: cython.ulonglong = REDUCER
    for at in range(start, end):
        word = sums[at]
        high = word & tops
        # Every top bit that overflows becomes a byte of ones, which picks the polynomial.
        sums[at] = ((word << 1) & upper) ^ (((high << 1) - (high >> 7)) & reducer)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _add(
    sums: cython.p_ulonglong,
    columns: cython.p_ulonglong,
    column: cython.Py_ssize_t,
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
) -> cython.void:
    at: cython.Py_ssize_t
    for at in range(start, end):
        sums[at] ^= columns[column + at]
