"""The intent log: what programs were promised to be on disk after the last txg.

Sources: include/sys/zil.h, module/zfs/zil.c:zil_parse, zil_read_log_block, zil_claim, zil_replay_log_record,
zio_checksum.c:zio_checksum_error_impl; OpenZFS 2.3.4.

A header in the object set points to a chain of blocks.  Each block carries the pointer to the next one and a checksum
that was computed with the pointer's four words in its place; the words are a random pair, the object set and a
sequence number.  The block after the last one was allocated, but never written: a checksum that does not
hold is the ordinary end of a log.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fsdrivers.errors import Corrupt, FsError, ReadError, TooMany
from fsdrivers.redundancy import Attempt
from fsdrivers.zfs import blkptr, checksum, layout
from fsdrivers.zfs.blkptr import Blkptr
from fsdrivers.zfs.dmu import Objset
from fsdrivers.zfs.label import eck_order

MAX_BLOCKS = 1 << 16
MAX_BYTES = 32 << 20  # of blocks whose records are kept: what was synced within some seconds
MAX_RECORDS = 1 << 17

# zil.h:TX_*
(CREATE, MKDIR, MKXATTR, SYMLINK, REMOVE, RMDIR, LINK, RENAME, WRITE, TRUNCATE, SETATTR, ACL_V0, ACL, CREATE_ACL,
 CREATE_ATTR, CREATE_ACL_ATTR, MKDIR_ACL, MKDIR_ATTR, MKDIR_ACL_ATTR, WRITE2, SETSAXATTR, RENAME_EXCHANGE,
 RENAME_WHITEOUT, CLONE_RANGE) = range(1, 25)  # fmt: skip
IGNORE_CASE = 1 << 63  # TX_CI
_HEADER = layout.both("4Q")  # lr_t: lrc_txtype, lrc_reclen, lrc_txg, lrc_seq


class Record(NamedTuple):
    """One operation.  ``body`` is what follows the common header, in byte order ``order``."""

    kind: int
    ignore_case: bool
    sequence: int
    body: bytes
    order: str


class Block(NamedTuple):
    """One block of a log: where it is, all of its bytes, and the operations in it with the txgs they belong to."""

    pointer: Blkptr
    raw: bytes
    records: list[tuple[Record, int]]


def records(objset: Objset, txg: int) -> Iterator[Record]:
    """The operations that a mount after ``txg`` would replay, in order.

    Raises Corrupt when a block that a former import found whole is not whole any more, ReadError and MissingDevices
    when a log device does not answer, TooMany for logs that are larger than what is kept in memory.
    """
    claim_txg, replayed, _, _, flags, claim_record = _header(objset)
    last_record = claim_record if claim_txg and flags & layout.ZIL_CLAIM_SEQ_VALID else None
    # An import claims what is newer than the last txg (zil.c:zil_claim): what was not claimed yet will be.
    first_txg = claim_txg or txg + 1
    kept = count = 0
    for block in chain(objset):
        kept += len(block.raw)
        count += len(block.records)
        if kept > MAX_BYTES:
            raise TooMany("bytes to keep of it", MAX_BYTES)
        if count > MAX_RECORDS:
            raise TooMany("operations in it", MAX_RECORDS)
        for record, born in block.records:
            if last_record is not None and record.sequence > last_record:
                return
            if record.sequence > replayed and born >= first_txg:
                yield record


def chain(objset: Objset) -> Iterator[Block]:
    """The blocks of the log, in order.  Raises as records()."""
    claim_txg, _, pointer, claim_block, flags, claim_record = _header(objset)
    exact = claim_txg and flags & layout.ZIL_CLAIM_SEQ_VALID
    last = 0  # number of the newest record
    for _ in range(MAX_BLOCKS):
        number = pointer.digest[3]
        if pointer.hole or (claim_txg and number > claim_block):
            return
        if exact and number == claim_block and last == claim_record:
            return  # claimed with the rest, never written
        try:
            raw = _read(objset, pointer)
        except (Corrupt, ReadError):
            if claim_txg:
                raise
            return
        content, order, following = _unchain(pointer, raw)
        if following is None:
            return
        records = list(_split(content, order))
        last = records[-1][0].sequence if records else last
        yield Block(pointer, raw, records)
        pointer = following
    raise TooMany("blocks in it", MAX_BLOCKS)


def _header(objset: Objset) -> tuple[int, int, Blkptr, int, int, int]:
    """Claim txg (0: not claimed), last replayed record, first block, last claimed block, flags, last claimed record."""
    order = objset.pointer.order
    shape = layout.ZIL_HEADER[order]
    claim_txg, replayed, raw, block, flags, record, *_ = shape.unpack(objset.zil_header[: shape.size])
    return claim_txg, replayed, blkptr.parse(raw, 0, order), block, flags, record


def _read(objset: Objset, pointer: Blkptr) -> bytes:
    structure = f"{objset.label}: intent log"

    def check(data: bytes, attempt: Attempt) -> FsError | None:
        if _holds(pointer, data):
            return None
        return Corrupt(attempt.device, f"{structure} ({checksum.name(pointer.checksum)} checksum)", attempt.offset)

    return objset.store.verified(pointer, structure, check)


def _holds(pointer: Blkptr, data: bytes) -> bool:
    if pointer.checksum == checksum.ZILOG2:
        order = eck_order(data[: layout.ZIL_CHAIN["<"].size])
        at = layout.ZIL_CHAIN["<"].size - layout.ECK["<"].size + 8
        if order is None:
            return False
        used = layout.ZIL_CHAIN[order].unpack_from(data)[1]
        length = -(-used // layout.ZIL_BLOCK) * layout.ZIL_BLOCK
        if length > len(data):
            return False
    else:
        order, at, length = eck_order(data), len(data) - 32, len(data)
        if order is None or pointer.checksum != checksum.ZILOG:
            return False
    words = layout.both("4Q")[order]
    verifier = words.pack(*pointer.digest)
    wanted = words.unpack_from(data, at)
    return checksum.words(pointer.checksum, data[:at] + verifier + data[at + 32 : length], order, b"") == wanted


def _unchain(pointer: Blkptr, data: bytes) -> tuple[bytes, str, Blkptr | None]:
    """The records in a block, their byte order, and the next block; None when the chain is broken here."""
    size = layout.ZIL_CHAIN["<"].size
    start = 0 if pointer.checksum == checksum.ZILOG2 else len(data) - size
    order = eck_order(data[start : start + size]) or pointer.order
    raw, used, *_ = layout.ZIL_CHAIN[order].unpack_from(data, start)
    following = blkptr.parse(raw, 0, order)
    first, second, third, fourth = pointer.digest
    if following.digest != (first, second, third, fourth + 1):
        return b"", order, None
    if start:
        return data[:used] if used <= start else b"", order, following if used <= start else None
    return (data[size:used], order, following) if size <= used <= len(data) else (b"", order, None)


def _split(content: bytes, order: str) -> Iterator[tuple[Record, int]]:
    """The records of one block with their txgs."""
    head = _HEADER[order]
    at = 0
    while at + head.size <= len(content):
        kind, length, txg, sequence = head.unpack_from(content, at)
        if length < head.size or at + length > len(content):
            return
        body = content[at + head.size : at + length]
        yield Record(kind & ~IGNORE_CASE, bool(kind & IGNORE_CASE), sequence, body, order), txg
        at += length
