"""ZFS's declarations, packed lists and block pointers."""

from __future__ import annotations

import contextlib
import json
import struct

import places
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsdrivers.errors import FsError
from fsdrivers.zfs import blkptr, label, layout, nvlist, zap

DATA = places.DATA / "zfs"

# Packed by libnvpair of OpenZFS 2.1.11 on amd64.
SAMPLE = {
    "uint64": 0x1122334455667788,
    "string": "value of a string",
    "flag": True,
    "true": True,
    "int32": -5,
    "uint16": 65535,
    "int8": -7,
    "bytes": b"\x01\x02\x03\x04\xff",
    "uint64s": [1, 2, 1 << 63],
    "uint8s": [9, 8, 7],
    "strings": ["one", "second"],
    "list": {"deep": {"name": "inner"}},
    "lists": [{"name": "inner"}, {"deep": {"name": "inner"}}],
    "last": 1,
}


def packed(encoding: str) -> bytes:
    return bytes.fromhex(json.loads((DATA / "nvlists.json").read_text())[encoding])


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (layout.ECK, 40),
        (layout.UBERBLOCK, 216),
        (layout.BLKPTR, 128),
        (layout.DNODE, 64),
        (layout.MZAP_HEADER, 64),
        (layout.MZAP_ENTRY, 64),
        (layout.ZAP_HEADER, 104),
        (layout.ZAP_LEAF_HEADER, 48),
        (layout.ZAP_LEAF_ENTRY, 24),
        (layout.ZAP_LEAF_ARRAY, 24),
        (layout.DSL_DIR, 256),
        (layout.DSL_DATASET, 320),
        (layout.ZNODE, 176),
        (layout.ZIL_HEADER, 192),
        (layout.MAPPING_ENTRY, 24),
    ],
)
def test_sizes(shape: dict[str, struct.Struct], size: int) -> None:
    assert {one.size for one in shape.values()} == {size}


def test_where_things_are() -> None:
    assert layout.ZAP_MAGIC == 0x2F52AB2AB
    assert layout.SA_MAGIC == 0x2F505A
    assert layout.DATA_START == 2 * layout.LABEL_SIZE + layout.BOOT_SIZE
    assert layout.DNODE_SIZE + layout.ZIL_HEADER["<"].size == layout.OBJSET_TYPE_OFFSET
    uberblock = struct.pack("<27Q", *range(27))
    assert layout.UBERBLOCK["<"].unpack(uberblock)[5][:8] == (5).to_bytes(8, "little")  # ub_rootbp at 40
    header = struct.pack("<13Q", *range(13))
    assert layout.ZAP_HEADER["<"].unpack(header)[4] == 4  # zt_shift is the third word of the table
    assert label.offsets(100 << 20) == (0, 256 << 10, (100 << 20) - (512 << 10), (100 << 20) - (256 << 10))
    assert label.offsets((100 << 20) + 4095) == label.offsets(100 << 20)
    assert [label.slot_size(ashift) for ashift in (9, 10, 12, 13, 16)] == [1024, 1024, 4096, 8192, 8192]


@pytest.mark.parametrize("encoding", ["xdr", "native"])
def test_packed_lists(encoding: str) -> None:
    assert nvlist.parse(packed(encoding)) == SAMPLE
    assert nvlist.parse(packed(encoding) + b"more") == SAMPLE


@pytest.mark.parametrize("encoding", ["xdr", "native"])
def test_packed_lists_that_end_early(encoding: str) -> None:
    whole = packed(encoding)
    for length in range(len(whole) - 1):
        with pytest.raises(nvlist.NvError):
            nvlist.parse(whole[:length])


@given(st.sampled_from(["xdr", "native"]), st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), max_size=6))
def test_damaged_packed_lists(encoding: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(packed(encoding))
    for place, value in changes:
        data[place % len(data)] = value
    with contextlib.suppress(FsError):
        assert isinstance(nvlist.parse(bytes(data)), dict)


@given(st.binary(max_size=400))
def test_random_bytes_are_no_list(data: bytes) -> None:
    with contextlib.suppress(FsError):
        nvlist.parse(b"\x01\x01\0\0" + data)


def words(**changes: int) -> list[int]:
    """A pointer to 128 KiB compressed to 64 KiB, with one copy on vdev 3."""
    found = [0] * 16
    found[0] = 3 << 32 | 0x81
    found[1] = 0x1234
    found[6] = 1 << 63 | 19 << 48 | 7 << 40 | 15 << 32 | 127 << 16 | 255
    found[10], found[11] = 77, 1
    found[12:] = [1, 2, 3, 4]
    for name, value in changes.items():
        found[int(name[1:])] = value
    return found


@pytest.mark.parametrize("order", ["<", ">"])
def test_block_pointer(order: str) -> None:
    pointer = blkptr.parse(b"pad" + struct.pack(f"{order}16Q", *words()), 3, order)
    assert pointer.dvas == (blkptr.Dva(3, 0x1234 << 9, 0x81 << 9, False),)
    assert (pointer.lsize, pointer.psize, pointer.compress, pointer.checksum) == (128 << 10, 64 << 10, 15, 7)
    assert (pointer.type, pointer.level, pointer.order, pointer.crypt) == (19, 0, "<", False)
    assert (pointer.birth, pointer.physical_birth, pointer.digest) == (77, 77, (1, 2, 3, 4))
    assert not pointer.hole
    assert pointer.embedded is None


def test_hole_and_gang_and_moved() -> None:
    hole = blkptr.parse(struct.pack("<16Q", *words(w0=0, w1=0)), 0, "<")
    assert hole.hole
    gang = blkptr.parse(struct.pack("<16Q", *words(w1=1 << 63 | 5, w9=99)), 0, "<")
    assert gang.dvas[0].gang
    assert gang.dvas[0].offset == 5 << 9
    assert (gang.birth, gang.physical_birth) == (77, 99)
    big = blkptr.parse(struct.pack("<16Q", *words(w6=words()[6] & ~(1 << 63))), 0, "<")
    assert big.order == ">"


def test_encrypted_pointers_have_two_copies_at_most() -> None:
    pointer = blkptr.parse(struct.pack("<16Q", *words(w6=words()[6] | 1 << 61, w4=1, w5=2)), 0, "<")
    assert pointer.crypt
    assert len(pointer.dvas) == 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_embedded_payload(order: str) -> None:
    payload = bytes(range(112))
    raw = iter(struct.unpack("<14Q", payload))
    found = [0 if number in (6, 10) else next(raw) for number in range(16)]
    found[6] = 1 << 63 | 19 << 48 | 2 << 32 | 1 << 39 | (112 - 1) << 25 | (112 - 1)
    found[10] = 5
    pointer = blkptr.parse(struct.pack(f"{order}16Q", *found), 0, order)
    assert pointer.embedded == layout.EMBEDDED_DATA
    assert (pointer.lsize, pointer.psize, pointer.payload, pointer.birth) == (112, 112, payload, 5)


def test_the_crc_of_names() -> None:
    # module/zfs/spa_misc.c checks the same entry of its table at run time.
    assert zap.crc64_table()[128] == layout.CRC64_POLY
