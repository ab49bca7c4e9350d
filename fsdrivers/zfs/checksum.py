"""The checksums of blocks: from the number in a pointer to four words to compare.

Sources: include/sys/zio.h:enum zio_checksum, module/zfs/zio_checksum.c:zio_checksum_table, sha2_zfs.c, edonr_zfs.c,
skein_zfs.c, blake3_zfs.c; OpenZFS 2.3.4.

A checksum is four 64-bit words.  Fletcher sums the block's words, so it depends on the byte order of the machine
that wrote; SHA-256 is always taken as big-endian words; of the other hashes the words are the digest's bytes as
the writer's memory had them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from fsdrivers.checksums.fletcher import fletcher2, fletcher4
from fsdrivers.checksums.sha256 import digest as sha256_digest
from fsdrivers.errors import Unsupported
from fsdrivers.zfs.layout import BIG, LITTLE

Words = tuple[int, int, int, int]

OFF, LABEL, GANG_HEADER, ZILOG, FLETCHER2, FLETCHER4, SHA256, ZILOG2, NOPARITY = range(2, 11)
SHA512, SKEIN, EDONR, BLAKE3 = range(11, 15)
NAMES = (
    "inherit", "on", "off", "label", "gang_header", "zilog", "fletcher2", "fletcher4", "sha256", "zilog2", "noparity",
    "sha512", "skein", "edonr", "blake3",
)  # fmt: skip
UNCHECKED = (OFF, NOPARITY)

_WORDS = {LITTLE: struct.Struct("<4Q"), BIG: struct.Struct(">4Q")}

Digest = Callable[[bytes, bytes], bytes]


def name(number: int) -> str:
    """What the checksum property calls it."""
    return NAMES[number] if number < len(NAMES) else f"checksum {number}"


def sha256(data: bytes) -> Words:
    """SHA-256 as four words."""
    return _four(sha256_digest(data), BIG)


def words(number: int, data: bytes, order: str, salt: bytes) -> Words:
    """The checksum of ``data``, a block in byte order ``order``, of a pool with the 32-byte ``salt``.

    Raises Unsupported for a number that no release of OpenZFS uses for blocks.
    """
    if number in (FLETCHER4, ZILOG2):
        return fletcher4(data, order == BIG)
    if number in (FLETCHER2, ZILOG):
        return fletcher2(data, order == BIG)
    if number in (SHA256, LABEL, GANG_HEADER):
        return sha256(data)
    return _four(_hash(number)(data, salt)[:32], order)


def _four(digest: bytes, order: str) -> Words:
    first, second, third, fourth = _WORDS[order].unpack(digest)
    return first, second, third, fourth


def _hash(number: int) -> Digest:
    # Imported when met: most pools have none of these, and each costs time at start-up.
    if number == SHA512:
        from fsdrivers.checksums import sha512_256

        return lambda data, salt: sha512_256.digest(data)
    if number == SKEIN:
        from fsdrivers.checksums import skein

        return skein.digest
    if number == EDONR:
        from fsdrivers.checksums import edonr

        return edonr.digest
    if number == BLAKE3:
        from fsdrivers.checksums import blake3

        return blake3.digest
    raise Unsupported(name(number), "as the checksum of a block")
