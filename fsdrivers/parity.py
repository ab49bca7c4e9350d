"""Parity over GF(2^8): P, Q and R, as Linux' RAID 5/6 (btrfs) and as RAID-Z1/2/3 (ZFS) lay them down.

Both use the field with polynomial 0x11D and the generators 1, 2 and 4:

    P = sum of D[i]        Q = sum of 2**e(i) * D[i]        R = sum of 4**e(i) * D[i]

They differ in the exponents.  Linux numbers from the first data column up, e(i) = i; RAID-Z from the last one,
e(i) = n - 1 - i.  Columns shorter than the longest one count as filled up with zeros.

Sources: lib/raid6/int.uc:raid6_gen_syndrome, v6.12; OpenZFS module/zfs/vdev_raidz.c (comment at the top,
vdev_raidz_generate_parity_pqr), 2.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

from fsdrivers.native import gf256

MAX_DATA = 255  # columns; one more and two of them have the same coefficient


def generate(data: Sequence[bytes], count: int, *, raidz: bool = False) -> list[bytes]:
    """The first ``count`` parity columns (P, Q, R) of ``data``, each as long as the longest data column."""
    _check(len(data), count)
    size = max(map(len, data))
    return [
        _combine(data, bytes(_coefficient(row, column, len(data), raidz) for column in range(len(data))), size)
        for row in range(count)
    ]


def reconstruct(
    data: Sequence[bytes | None],
    parity: Sequence[bytes | None],
    sizes: Sequence[int] | None = None,
    *,
    raidz: bool = False,
) -> list[bytes]:
    """All data columns, with those that are None in ``data`` computed from ``parity`` (P, Q, R; None: not to be had).

    ``sizes`` are the lengths of the data columns in bytes; without it, missing columns come out as long as the
    parity.  Nothing is verified here: parity that does not belong to the data gives wrong data.  Raises
    ValueError when fewer parity columns than missing ones are given.
    """
    _check(len(data), len(parity))
    missing = tuple(i for i, column in enumerate(data) if column is None)
    rows = tuple(i for i, column in enumerate(parity) if column is not None)[: len(missing)]
    if len(rows) < len(missing):
        raise ValueError(f"{len(missing)} columns missing, {len(rows)} parity columns to make them from")
    if not missing:
        return [column for column in data if column is not None]
    known = [column for column in data if column is not None] + [
        column for i, column in enumerate(parity) if i in rows and column is not None
    ]
    size = max(map(len, known[-len(rows) :]))
    result = list(data)
    for column, coefficients in zip(missing, _solution(len(data), missing, rows, raidz), strict=True):
        wanted = size if sizes is None else sizes[column]
        if wanted > size:
            raise ValueError(f"data column {column} is longer than its parity")
        # Bytes do not depend on their neighbours: a short column needs the fronts of the others alone.
        result[column] = _combine(known, coefficients, wanted)
    return [column for column in result if column is not None]


def _check(columns: int, parity: int) -> None:
    if not 0 < columns <= MAX_DATA or not 0 <= parity <= 3:
        raise ValueError(f"{columns} data and {parity} parity columns")


@lru_cache(maxsize=1024)
def _solution(count: int, missing: tuple[int, ...], rows: tuple[int, ...], raidz: bool) -> list[bytes]:
    """For each missing column, the coefficients of the present ones followed by those of the parity ``rows``.

    Each parity row is an equation: parity + sum over present = sum over missing.  Inverting the small matrix of
    the missing columns' coefficients gives them as combinations of the left sides.
    """
    present = [column for column in range(count) if column not in missing]
    inverse = _invert([[_coefficient(row, column, count, raidz) for column in missing] for row in rows])
    result = []
    for factors in inverse:
        line = bytearray()
        for column in present:
            total = 0
            for factor, row in zip(factors, rows, strict=True):
                total ^= _multiply(factor, _coefficient(row, column, count, raidz))
            line.append(total)
        result.append(bytes(line) + bytes(factors))
    return result


def _coefficient(row: int, column: int, count: int, raidz: bool) -> int:
    """What data column ``column`` of ``count`` is multiplied with in parity ``row`` (0 is P)."""
    return _POWERS[row * (count - 1 - column if raidz else column) % 255]


def _invert(matrix: list[list[int]]) -> list[list[int]]:
    """The inverse of a small square matrix over the field, by elimination.

    The matrices met here have one: any rows of 1, x, x**2 at distinct powers x of the generator.
    """
    size = len(matrix)
    work = [list(row) + [int(i == j) for j in range(size)] for i, row in enumerate(matrix)]
    for pivot in range(size):
        swap = next(row for row in range(pivot, size) if work[row][pivot])
        work[pivot], work[swap] = work[swap], work[pivot]
        factor = _POWERS[255 - _LOGS[work[pivot][pivot]]]
        work[pivot] = [_multiply(factor, value) for value in work[pivot]]
        for row in range(size):
            factor = work[row][pivot]
            if row != pivot and factor:
                work[row] = [a ^ _multiply(factor, b) for a, b in zip(work[row], work[pivot], strict=True)]
    return [row[size:] for row in work]


def _combine(columns: Sequence[bytes], coefficients: bytes, size: int) -> bytes:
    """The first ``size`` bytes of the sum of ``coefficients[i]`` times ``columns[i]``, which may be shorter."""
    if not gf256.COMPILED:
        return _combine_slowly(columns, coefficients, size)
    whole = -(-size // 8) * 8
    joined = b"".join(
        [column.ljust(whole, b"\0") if len(column) < whole else column[:whole] for column in columns],
    )
    result = gf256.combine(joined, whole, coefficients)
    return result if whole == size else result[:size]


def _combine_slowly(columns: Sequence[bytes], coefficients: bytes, size: int) -> bytes:
    """As _combine(), with what the interpreter does fast: translation tables, and sums of very large integers."""
    total = 0
    for column, coefficient in zip(columns, coefficients, strict=True):
        if coefficient:
            part = column[:size]
            total ^= int.from_bytes(part if coefficient == 1 else part.translate(_table(coefficient)), "little")
    return total.to_bytes(size, "little")


def _multiply(a: int, b: int) -> int:
    return _POWERS[_LOGS[a] + _LOGS[b]] if a and b else 0


@cache
def _table(coefficient: int) -> bytes:
    """The products of all bytes with ``coefficient``, for bytes.translate()."""
    return bytes(_multiply(coefficient, value) for value in range(256))


def _powers() -> bytes:
    """The powers of 2 in the field, twice over so that sums of two logarithms need no modulo."""
    powers, value = bytearray(), 1
    for _ in range(255):
        powers.append(value)
        value = value << 1 ^ (0x11D if value & 0x80 else 0)
    return bytes(powers * 2)


_POWERS = _powers()
_LOGS = [0] + [_POWERS.index(value) for value in range(1, 256)]
