"""Parity against Galois arithmetic done the slow way, bit by bit, and every loss that it has to survive."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_forms import FORMS, load

from fsdrivers import parity


def times(a, b):
    """Multiplication in GF(2^8) with polynomial x^8 + x^4 + x^3 + x^2 + 1, as on paper."""
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11D << (bit - 8)
    return product


def slow_linux(data):
    """P and Q as lib/raid6/int.uc makes them: from the last disk down, doubling Q each time."""
    size = max(map(len, data))
    p, q = [0] * size, [0] * size
    for column in reversed(data):
        for at in range(size):
            byte = column[at] if at < len(column) else 0
            p[at] ^= byte
            q[at] = times(q[at], 2) ^ byte
    return [bytes(p), bytes(q)]


def slow_raidz(data):
    """P, Q and R as OpenZFS's vdev_raidz_generate_parity_pqr makes them: from the first column up."""
    size = max(map(len, data))
    p, q, r = [0] * size, [0] * size, [0] * size
    for column in data:
        for at in range(size):
            byte = column[at] if at < len(column) else 0
            p[at] ^= byte
            q[at] = times(q[at], 2) ^ byte
            r[at] = times(r[at], 4) ^ byte
    return [bytes(p), bytes(q), bytes(r)]


@pytest.fixture(params=[*FORMS, "large integers"])
def engine(request, monkeypatch):
    """Three ways to combine columns: the native module in both forms, and the way without it."""
    if request.param == "large integers":
        monkeypatch.setattr(parity.gf256, "COMPILED", False)
    else:
        monkeypatch.setattr(parity.gf256, "COMPILED", True)
        monkeypatch.setattr(parity.gf256, "combine", load("gf256", request.param).combine)
    return request.param


def columns(count, size, seed=1):
    dice = random.Random(seed)
    return [dice.randbytes(size) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 17])
def test_parity_is_what_linux_and_zfs_make(count, engine):
    data = columns(count, 72)
    assert parity.generate(data, 2) == slow_linux(data)
    assert parity.generate(data, 3, raidz=True) == slow_raidz(data)


@pytest.mark.parametrize("raidz", [False, True])
def test_every_loss(raidz, engine):
    """All columns that can be missing, made from all parity that can be left, for stripes of one to six columns."""
    for count in range(1, 7):
        data = columns(count, 24, count)
        checks = slow_raidz(data) if raidz else slow_linux(data)
        for lost in range(len(checks) + 1):
            for missing in itertools.combinations(range(count), lost):
                for kept in itertools.combinations(range(len(checks)), lost):
                    got = parity.reconstruct(
                        [None if i in missing else column for i, column in enumerate(data)],
                        [check if i in kept else None for i, check in enumerate(checks)],
                        raidz=raidz,
                    )
                    assert got == data, (count, missing, kept)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_columns_of_unequal_length(data):
    """RAID-Z: the columns at the end of a block may be a sector shorter, here anything from nothing up."""
    raidz = data.draw(st.booleans())
    sizes = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=20))
    plain = [data.draw(st.binary(min_size=size, max_size=size)) for size in sizes]
    checks = parity.generate(plain, 3, raidz=raidz)
    assert checks[: 3 if raidz else 2] == (slow_raidz(plain) if raidz else slow_linux(plain))
    missing = data.draw(st.sets(st.integers(0, len(plain) - 1), max_size=3))
    kept = data.draw(st.permutations(range(3)))[: len(missing)]
    got = parity.reconstruct(
        [None if i in missing else column for i, column in enumerate(plain)],
        [check if i in kept else None for i, check in enumerate(checks)],
        sizes,
        raidz=raidz,
    )
    assert got == plain


def test_many_columns(engine):
    data = columns(255, 8)
    assert parity.generate(data, 3, raidz=True) == slow_raidz(data)
    checks = parity.generate(data, 3)
    assert checks[:2] == slow_linux(data)
    lost: list[bytes | None] = list(data)
    lost[0] = lost[100] = lost[254] = None
    assert parity.reconstruct(lost, checks) == data


def test_blocks_longer_than_a_cache(engine):
    data = columns(3, 8 * 1024 * 3 + 512)
    checks = parity.generate(data, 2)
    assert parity.reconstruct([None, data[1], None], checks) == data


def test_nothing_missing_needs_no_parity():
    data = columns(3, 16)
    assert parity.reconstruct(data, []) == data
    assert parity.reconstruct(data, [None, None]) == data


def test_a_second_parity_is_used_only_when_it_is_needed():
    """The caller tries combinations and judges by the checksum: what is not needed must not spoil the result."""
    data = columns(4, 32)
    p, _ = parity.generate(data, 2)
    assert parity.reconstruct([data[0], None, data[2], data[3]], [p, b"rubbish" * 5]) == data


def test_what_cannot_be_asked():
    data = columns(3, 16)
    p, q = parity.generate(data, 2)
    with pytest.raises(ValueError, match="2 columns missing, 1 parity"):
        parity.reconstruct([None, None, data[2]], [p, None])
    with pytest.raises(ValueError, match="longer than its parity"):
        parity.reconstruct([None, data[1], data[2]], [p, q], [17, 16, 16])
    with pytest.raises(ValueError, match="256 data"):
        parity.generate(columns(256, 1), 2)
    with pytest.raises(ValueError, match="0 data"):
        parity.reconstruct([], [p])
    with pytest.raises(ValueError, match="4 parity"):
        parity.generate(data, 4)


@pytest.mark.parametrize("form", FORMS)
def test_native_lengths_are_checked(form):
    combine = load("gf256", form).combine
    assert combine(bytes(16), 8, b"\1\2") == bytes(8)
    assert combine(b"", 0, b"\1\2") == b""
    assert combine(b"", 8, b"") == bytes(8)
    for joined, size, coefficients in ((bytes(15), 8, b"\1\2"), (bytes(14), 7, b"\1\2"), (bytes(16), -8, b"\1\2")):
        with pytest.raises(ValueError, match="are not"):
            combine(joined, size, coefficients)
