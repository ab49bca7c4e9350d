"""Which superblock of a device is believed, and what is refused.

data/btrfs/superblock.bin is the first superblock that mkfs.btrfs 6.2 and Linux wrote on a three-disk raid1.
"""

from __future__ import annotations

import struct

import pytest
from places import DATA

from fsdrivers.block import BlockDevice
from fsdrivers.btrfs import features, superblock
from fsdrivers.btrfs.chunks import system_chunks
from fsdrivers.btrfs.layout import SUPER_OFFSETS
from fsdrivers.checksums.crc32c import crc32c
from fsdrivers.errors import Corrupt, Unsupported

RAW = (DATA / "btrfs/superblock.bin").read_bytes()
MIB = 1 << 20


class Device(BlockDevice):
    """Zeros with ``patches`` (bytes by offset) in them."""

    def __init__(self, patches: dict[int, bytes], size: int = 256 * MIB) -> None:
        self.name, self.size, self.patches = "disk", size, patches

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check(offset, len(buffer))
        buffer[:] = bytes(len(buffer))
        for start, data in self.patches.items():
            low, high = max(start, offset), min(start + len(data), offset + len(buffer))
            if low < high:
                buffer[low - offset : high - offset] = data[low - start : high - start]


def block(copy: int = 0, **changes: tuple[int, str, int]) -> bytes:
    """The superblock as its copy number ``copy``; ``changes`` are (offset, struct format, value)."""
    raw = bytearray(RAW)
    struct.pack_into("<Q", raw, 0x30, SUPER_OFFSETS[copy])
    for offset, form, value in changes.values():
        struct.pack_into(form, raw, offset, value)
    struct.pack_into("<I", raw, 0, crc32c(raw[32:]))
    return bytes(raw)


def generation(number: int) -> tuple[int, str, int]:
    return (0x48, "<Q", number)


def test_fields() -> None:
    found = superblock.find(Device({SUPER_OFFSETS[0]: RAW}))
    assert found is not None
    assert (found.label, found.uuid) == ("raid1", "28b05cfc-9e35-4465-928d-74d53b6be68c")
    assert (found.nodesize, found.sectorsize, found.num_devices, found.devid) == (16384, 4096, 3, 1)
    (chunk,) = system_chunks(found, "fs")
    assert (chunk.profile.name, len(chunk.stripes)) == ("raid1", 2)


def test_nothing_there() -> None:
    assert superblock.find(Device({})) is None
    assert superblock.find(Device({}, size=0)) is None


@pytest.mark.parametrize(("first", "second", "wanted"), [(7, 5, 7), (5, 7, 7), (7, 7, 7)])
def test_newest_copy_wins(first: int, second: int, wanted: int) -> None:
    copies = {SUPER_OFFSETS[0]: block(0, g=generation(first)), SUPER_OFFSETS[1]: block(1, g=generation(second))}
    found = superblock.find(Device(copies))
    assert found is not None
    assert found.generation == wanted


def test_zeroed_start() -> None:
    found = superblock.find(Device({SUPER_OFFSETS[1]: block(1)}))
    assert found is not None
    assert found.offset == SUPER_OFFSETS[1]


def test_damaged_first_copy() -> None:
    damaged = bytearray(block(0, g=generation(99)))
    damaged[0x12B] ^= 1
    found = superblock.find(Device({SUPER_OFFSETS[0]: bytes(damaged), SUPER_OFFSETS[1]: block(1)}))
    assert found is not None
    assert found.offset == SUPER_OFFSETS[1]


def test_all_copies_damaged() -> None:
    damaged = block()[:-1] + b"x"
    with pytest.raises(Corrupt, match=r"disk: corrupt superblock checksum at offset 0x10000"):
        superblock.find(Device({SUPER_OFFSETS[0]: damaged}))


@pytest.mark.parametrize("start", [{0x438: b"\x53\xef"}, {0x20400: b"\x0c\xb1\xba\0\0\0\0\0"}, {0x200: b"EFI PART"}])
def test_an_old_copy_does_not_claim_a_disk_with_something_else_on_it(start: dict[int, bytes]) -> None:
    assert superblock.find(Device({**start, SUPER_OFFSETS[1]: block(1)})) is None


def test_copy_in_the_wrong_place() -> None:
    with pytest.raises(Corrupt, match="bytenr"):
        superblock.find(Device({SUPER_OFFSETS[0]: block(1)}))


@pytest.mark.parametrize(
    "change",
    [
        (0x90, "<I", 12345), (0x90, "<I", 0), (0x94, "<I", 0x800), (0x94, "<I", 0x20000), (0x94, "<I", 0),
        (0xA0, "<I", 2049), (0xA0, "<I", 0), (0xC6, "<B", 8), (0xC7, "<B", 255), (0x50, "<Q", 4097), (0x88, "<Q", 0),
    ],
)  # fmt: skip
def test_impossible_fields(change: tuple[int, str, int]) -> None:
    with pytest.raises(Corrupt, match="superblock field"):
        superblock.find(Device({SUPER_OFFSETS[0]: block(change=change)}))


@pytest.mark.parametrize("bit", [bit for bit, feature in features.INCOMPAT.items() if feature.refused])
def test_refused_features_are_named(bit: int) -> None:
    with pytest.raises(Unsupported, match=features.INCOMPAT[bit].name):
        superblock.find(Device({SUPER_OFFSETS[0]: block(change=(0xBC, "<Q", 0x371 | 1 << bit))}))


def test_unknown_incompat_bit() -> None:
    with pytest.raises(Unsupported, match="incompat bit 40"):
        superblock.find(Device({SUPER_OFFSETS[0]: block(change=(0xBC, "<Q", 1 << 40))}))


def test_unknown_compat_ro_bit_is_read_with_a_note() -> None:
    found = superblock.find(Device({SUPER_OFFSETS[0]: block(change=(0xB4, "<Q", 1 << 33))}))
    assert found is not None
    assert superblock.notes(found) == [
        "unknown btrfs compat_ro bit 33: reading is safe, but the filesystem is newer than this program"
    ]


def test_unknown_checksum_type() -> None:
    with pytest.raises(Unsupported, match="checksum type 9"):
        superblock.find(Device({SUPER_OFFSETS[0]: block(change=(0xC4, "<H", 9))}))


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [
        (0x32B + 8, "<B", 1),  # key type
        (0x33C, "<Q", 0),  # length
        (0x33C, "<Q", (1 << 64) - 4096),
        (0x33C + 0x10, "<Q", 4096),  # stripe_len
        (0x33C + 0x18, "<Q", 0x7FA),  # several profiles
        (0x33C + 0x18, "<Q", 0x11),  # data, not system
        (0x33C + 0x2C, "<H", 0),  # num_stripes
        (0x33C + 0x2C, "<H", 0xFFFF),
        (0xA0, "<I", 0x80),  # the array ends inside of a chunk
    ],
)
def test_damaged_system_chunks(offset: int, form: str, value: int) -> None:
    found = superblock.find(Device({SUPER_OFFSETS[0]: block(change=(offset, form, value))}))
    assert found is not None
    with pytest.raises(Corrupt):
        list(system_chunks(found, "fs"))
