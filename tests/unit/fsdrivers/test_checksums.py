"""Checksums against digests that other implementations made, in both forms where there are two."""

import hashlib
import importlib
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from native_forms import FORMS, load
from places import DATA
from samples import sample

from fsdrivers.checksums import blake3, edonr, fletcher, sha256, sha512_256, skein
from fsdrivers.checksums.crc32c import crc32c
from fsdrivers.checksums.xxhash64 import xxhash64

VECTORS = json.loads((DATA / "hashes.json").read_text())
SALT = bytes.fromhex(VECTORS["salt"])
LONG = (  # FIPS 180's second message
    b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmn"
    b"oijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"
)  # fmt: skip


@pytest.fixture(params=FORMS)
def form(request, monkeypatch):
    """The hashes on top of either form of their native modules."""
    hashes, nodes = load("hashes", request.param), load("blake3", request.param)
    monkeypatch.setattr(sha512_256, "sha512_blocks", hashes.sha512_blocks)
    monkeypatch.setattr(skein, "skein512_ubi", hashes.skein512_ubi)
    monkeypatch.setattr(edonr, "edonr512_blocks", hashes.edonr512_blocks)
    monkeypatch.setattr(blake3, "blake3_nodes", nodes.blake3_nodes)
    # What was made ahead by the other form must not answer for this one.
    for cached in (sha512_256._initial, sha512_256._constants, skein._keyed, edonr._salted):
        cached.cache_clear()
    return request.param


@pytest.mark.parametrize("case", VECTORS["digests"], ids=lambda v: v["plain"])
def test_hashes_of_zfs(case, form):
    plain = sample(case["plain"])
    assert sha512_256.digest(plain).hex() == case["sha512_256"]
    for module in (skein, edonr, blake3):
        wanted = case[module.__name__.rpartition(".")[2]]
        assert module.digest(plain, SALT).hex() == wanted
        assert module.digest(memoryview(bytearray(plain)), SALT).hex() == wanted
        assert module.digest(plain, bytes(32)).hex() != wanted


def test_published_digests(form):
    # FIPS 180-4's examples; OpenZFS tests/zfs-tests/cmd/checksum/edonr_test.c.
    assert sha512_256.digest(b"abc").hex() == "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"
    assert sha512_256.digest(LONG).hex() == "3928e184fb8690f840da3988121d31be65cb9d3ef83ee6146feac861e19b563a"
    assert edonr.edonr512(b"abc").hex().startswith("1b14db155f1d406594b8cef70a4362ec6b5de6a5daf50ec999e987c19d3049e2")
    assert edonr.edonr512(LONG).hex().startswith("5351070dc51c3b2baca5a60d0252ccb4e4921a96fe5a69e76dad48fd21a0845a")


def test_digests_published_with_blake3(form):
    # test_vectors/test_vectors.json of BLAKE3 1.5: keyed hash, input bytes count from 0 to 250 again and again.
    key = b"whats the Elvish word for friend"
    assert blake3.digest(b"", key).hex() == "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26"


@given(st.binary(max_size=2000))
def test_sha512_256_is_what_openssl_makes(data):
    if "sha512_256" in hashlib.algorithms_available:
        assert sha512_256.digest(data) == hashlib.new("sha512_256", data).digest()
    assert len(sha512_256.digest(data)) == 32


def test_sha256():
    assert sha256.digest(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_crc32c():
    # RFC 3720, B.4.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(memoryview(b"456789"), crc32c(b"123")) == crc32c(b"123456789") == 0xE3069283


def test_xxhash64():
    # xxHash's specification: the canonical form is big-endian, btrfs stores it the other way.
    assert xxhash64(b"") == bytes.fromhex("ef46db3751d8e999")[::-1]
    assert xxhash64(memoryview(b"abc")) == bytes.fromhex("44bc2cf5ad770999")[::-1]


def slow_fletcher(width, data, big):
    """Step by step as OpenZFS's scalar loops do it: width 4 is Fletcher-4, 8 Fletcher-2."""
    mask = 2**64 - 1
    a = b = c = d = 0
    order = ">" if big else "<"
    if width == 4:
        for (word,) in struct.iter_unpack(f"{order}I", data):
            a = (a + word) & mask
            b = (b + a) & mask
            c = (c + b) & mask
            d = (d + c) & mask
    else:
        for even, odd in struct.iter_unpack(f"{order}QQ", data):
            a = (a + even) & mask
            b = (b + odd) & mask
            c = (c + a) & mask
            d = (d + b) & mask
    return a, b, c, d


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("big", [False, True])
@given(st.binary(max_size=600), st.integers(0, 255), st.integers(0, 500))
def test_fletcher(kind, big, data, byte, repeats):
    module = load("fletcher", kind)
    data += bytes([byte]) * repeats
    data = data[: len(data) // 16 * 16]
    assert module.fletcher4(data, big) == slow_fletcher(4, data, big)
    assert module.fletcher2(data, big) == slow_fletcher(8, data, big)


@pytest.mark.parametrize("kind", FORMS)
def test_fletcher_overflows_like_c(kind):
    module = load("fletcher", kind)
    data = b"\xff" * (1 << 17)
    for big in (False, True):
        assert module.fletcher4(data, big) == slow_fletcher(4, data, big)
        assert module.fletcher2(data, big) == slow_fletcher(8, data, big)


def test_fletcher_takes_any_buffer():
    data = sample("noise:4096")
    for buffer in (bytearray(data), memoryview(data), memoryview(b"x" + data)[1:]):
        assert fletcher.fletcher4(buffer) == slow_fletcher(4, data, False)
        assert fletcher.fletcher2(buffer, True) == slow_fletcher(8, data, True)


def test_every_checksum_has_its_file():
    for name in ("crc32c", "xxhash64", "fletcher", "sha256", "sha512_256", "skein", "edonr", "blake3"):
        assert importlib.import_module(f"fsdrivers.checksums.{name}").__doc__
