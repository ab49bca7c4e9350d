"""The worst FAT volumes that a small stick can hold: chains, directories, names and geometries that cost more than they
are.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import built
import pytest
from bounded import bounded
from hypothesis import given, settings
from hypothesis import strategies as st

from fsdrivers import fat
from fsdrivers.block import BlockDevice
from fsdrivers.errors import Corrupt, TooLarge
from fsdrivers.fat import layout
from fsdrivers.filesystem import Filesystem
from fsdrivers.traverse import walk

SECTOR = 512
END = 0x0FFFFFFF


class Disk(BlockDevice):
    """A device of any size that is zeros, but for the ``parts`` that start at their offsets."""

    def __init__(self, size: int) -> None:
        self.name, self.size = "stick", size
        self.parts: dict[int, Callable[[int, int], bytes] | bytes] = {}

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check(offset, len(buffer))
        for start, part in self.parts.items():
            if callable(part):
                if start <= offset:
                    buffer[:] = part(offset - start, len(buffer))
                    return
                continue
            low, high = max(offset, start), min(offset + len(buffer), start + len(part))
            if low < high:
                buffer[low - offset : high - offset] = part[low - start : high - start]


def boot_sector(sectors: int, table: int, per_cluster: int = 1, reserved: int = 32, fats: int = 1) -> bytes:
    """Of a FAT32 whose root is cluster 2."""
    head = built.fat.BOOT_SECTOR(
        jump=b"\xeb\x58\x90", system_id=b"MSDOS5.0", sector_size=SECTOR, sec_per_clus=per_cluster, reserved=reserved,
        fats=fats, media=0xF8, secs_track=63, heads=255, total_sect=sectors,
    )  # fmt: skip
    head += built.fat.EXTENDED_32(length=table, root_cluster=2, info_sector=1, backup_boot=6)
    return head.ljust(layout.BOOT_SIGNATURE_AT, b"\0") + layout.BOOT_SIGNATURE


def entry(name: bytes, first: int, size: int = 0, attributes: int = 0x20) -> bytes:
    return layout.ENTRY.pack(name, attributes, 0, 0, 0, 0, 0, first >> 16, 0, 0, first & 0xFFFF, size)


def volume(chains: dict[int, int], clusters: dict[int, bytes], count: int, per_cluster: int = 1) -> Disk:
    """A FAT32 of ``count`` clusters; ``chains`` is its table, ``clusters`` what is in some of them."""
    table = -(-(count + 2) * 4 // SECTOR)
    start, size = (32 + table) * SECTOR, per_cluster * SECTOR
    disk = Disk(start + count * size)
    disk.parts[0] = boot_sector(disk.size // SECTOR, table, per_cluster)
    raw = bytearray((max(chains) + 1) * 4)
    for cluster, following in chains.items():
        struct.pack_into("<I", raw, cluster * 4, following)
    disk.parts[32 * SECTOR] = bytes(raw)
    for cluster, data in clusters.items():
        disk.parts[start + (cluster - 2) * size] = data
    return disk


def tree_of(disk: Disk) -> Filesystem:
    return fat.open(disk)


KERNEL = b"VMLINUZ    "


def test_a_file_that_goes_round() -> None:
    disk = volume({2: END, 3: 5, 5: 3}, {2: entry(KERNEL, 3, 0xFFFFFFFF)}, 80_000)
    assert "it is" not in bounded(lambda: len(tree_of(disk).open("/vmlinuz").read(0, 0x400))).error
    disk.size = 1 << 33
    disk.parts[0] = boot_sector(1 << 24, 1 << 17)
    disk.parts = {at if at < 1 << 16 else (32 + (1 << 17)) * SECTOR: part for at, part in disk.parts.items()}
    assert "(it goes round)" in bounded(lambda: tree_of(disk).open("/vmlinuz").read(0, 1 << 20)).error


def test_a_file_of_millions_of_pieces() -> None:
    """Two clusters ahead each time, and back over those between: no cluster twice, none beside its neighbour."""
    count = 8 << 20

    def table(at: int, length: int) -> bytes:
        first = at // 4
        return b"".join(struct.pack("<I", c + 2 if c > 3 else END) for c in range(first, first + length // 4))

    disk = volume({2: END}, {2: entry(KERNEL, 4, 0xFFFFFFFF >> 1)}, count)
    (start,) = (at for at in disk.parts if at > 1 << 16)
    raw = disk.parts[start]
    disk.parts = {0: disk.parts[0], start: lambda at, length: raw[at : at + length].ljust(length, b"\0"),  # type: ignore[index, dict-item]
                  32 * SECTOR: table}  # fmt: skip
    file = tree_of(disk).open("/vmlinuz")
    assert bounded(lambda: len(file.read(0, 1024))).value == 1024
    assert bounded(lambda: len(file.read(100 << 20, 1024)), seconds=2).value == 1024  # 200,000 clusters ahead


def test_a_file_larger_than_the_stick() -> None:
    disk = volume({2: END, 3: END}, {2: entry(KERNEL, 3, 0xFFFFFFFF)}, 2000)
    assert "size of VMLINUZ" in bounded(lambda: tree_of(disk).open("/vmlinuz").read(0, 1)).error
    assert bounded(lambda: tree_of(disk).open("/vmlinuz").read(600, 1)).error.startswith("Corrupt: stick: corrupt size")


def large_directory(slot: Callable[[int], bytes]) -> bytes:
    return b"".join(slot(number) for number in range(layout.MAX_DIRECTORY // 32))


def in_root(raw: bytes, count: int = 70_000, per_cluster: int = 64) -> Disk:
    """``raw`` as the root directory, in one stretch."""
    used = -(-len(raw) // (per_cluster * SECTOR))
    chain = {2 + number: 3 + number for number in range(used)} | {1 + used: END}
    return volume(chain, {2: raw}, count, per_cluster)


LONG = built.fat.SLOT(
    id=layout.LAST_SLOT | 1, name0_4=b"a\0" * 5, attr=layout.ATTR_EXT, name5_10=b"b\0" * 6, name11_12=b"c\0" * 2
)


@pytest.mark.parametrize(
    "slot",
    [
        lambda number: entry(b"%-11d" % number, 0),
        lambda number: LONG,
        lambda number: b"\xe5" + bytes(31),
        lambda number: LONG if number % 2 else entry(b"%-11d" % number, 0),
        lambda number: entry(b"A/%-9d" % number, 0),
        lambda number: entry(b"LABEL      ", 0, 0, layout.ATTR_VOLUME),
    ],
    ids=["names", "slots", "deleted", "alternating", "unusable", "labels"],
)
def test_the_largest_directory(slot: Callable[[int], bytes]) -> None:
    disk = in_root(large_directory(slot))

    def both() -> list[str]:
        filesystem = tree_of(disk)
        filesystem.listdir("/")
        return filesystem.health.report()

    assert sum(map(len, bounded(both).value)) < 200  # type: ignore[call-overload]


def test_ten_thousand_looks_into_the_largest_directory() -> None:
    disk = in_root(large_directory(lambda number: entry(b"%-11d" % number, 0)))
    filesystem = tree_of(disk)
    assert bounded(lambda: sum(filesystem.exists(f"/{number}") for number in range(40_000, 50_000))).value == 10_000
    assert bounded(lambda: [filesystem.exists("/gone") for _ in range(10_000)])


def test_hundreds_of_directories_in_the_same_clusters() -> None:
    """Each has a cluster of its own and then goes on as all others do."""
    size = layout.MAX_DIRECTORY // 64
    files = b"".join(entry(b"%-11d" % number, 0) for number in range(size // 32))
    names = b"".join(entry(b"D%-10d" % number, 100 + number, 0, layout.ATTR_DIR) for number in range(500))
    chain = {2: END, 50: 51, 51: 52, 52: END} | {100 + number: 50 for number in range(500)}
    disk = volume(
        chain, {2: names, 50: files[: 64 * SECTOR]} | {100 + n: files[: 64 * SECTOR] for n in range(500)}, 70_000, 64
    )

    def all_of_them() -> int:
        filesystem, read = tree_of(disk), 0
        for number in range(500):
            try:
                read += len(filesystem.listdir(f"/d{number}"))
            except TooLarge:
                continue
        return read

    assert bounded(all_of_them).value in range(50_000, 200_000)


def test_directories_in_each_other() -> None:
    disk = volume(
        {2: END, 3: END}, {2: entry(b"A          ", 3, 0, 0x10), 3: entry(b"A          ", 3, 0, 0x10)}, 70_000
    )
    found = bounded(lambda: [str(one.error) for one in walk(tree_of(disk))]).value
    assert isinstance(found, list)
    assert found[:-1] == ["None"] * 3
    assert "a loop, or" in found[-1]


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([1, 2, 32, 0xFFFF]),
    st.sampled_from([1, 2, 255]),
    st.sampled_from([1, 64, 128]),
    st.sampled_from([1, 9, 1 << 20, 0xFFFFFFFF]),
    st.sampled_from([0, 34, 2000, 1 << 21, 0xFFFFFFFF]),
    st.sampled_from([512, 1 << 16, 1 << 22, 1 << 41]),
)
def test_geometries(reserved: int, fats: int, per_cluster: int, table: int, sectors: int, size: int) -> None:
    disk = Disk(size)
    disk.parts[0] = boot_sector(sectors, table, per_cluster, reserved, fats)

    def use() -> None:
        filesystem = tree_of(disk)
        list(walk(filesystem))

    bounded(use)


CLUSTERS = st.integers(2, 40)
FILES = st.tuples(CLUSTERS, st.sampled_from([0, 512, 5000, 20_000, 0xFFFFFFFF]), st.sampled_from([0x10, 0x20]))


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(CLUSTERS, CLUSTERS | st.sampled_from([0, 1, 0x0FFFFFF7, END, 90_000, 0xFFFFFFFF]), max_size=40),
    st.lists(
        FILES,
        max_size=9,
    ),
)
def test_chains_of_any_shape(chains: dict[int, int], files: list[tuple[int, int, int]]) -> None:
    """What is read is as long as the file says, comes from clusters in the order of the table, none of them twice."""
    root = b"".join(entry(b"F%-10d" % number, *one[:2], one[2]) for number, one in enumerate(files))
    contents = {cluster: bytes((cluster,)) * SECTOR for cluster in range(3, 41)} | {2: root}
    disk = volume({50: 0} | chains | {2: END}, contents, 80_000)
    filesystem = tree_of(disk)
    for number, (first, size, attributes) in enumerate(files):
        if attributes == 0x10 or first == 2:
            continue
        wanted, cluster = [], first
        while 2 < cluster <= 40 and cluster not in wanted:
            wanted.append(cluster)
            cluster = chains.get(cluster, 0) & layout.MASK_32
        file = filesystem.open(f"/F{number}")
        try:
            data = file.read(0, 1 << 16)
        except Corrupt:
            assert -(-size // SECTOR) > len(wanted) or size > len(wanted) * SECTOR
            continue
        assert data == b"".join(contents[one] for one in wanted)[:size]
        assert file.read(700, 900) == data[700:1600]


def test_hundreds_of_partitions_that_all_hold_the_largest_directory() -> None:
    """To know how a volume is called takes no more than its boot sector and a look for the label."""
    disk = in_root(large_directory(lambda number: entry(b"%-11d" % number, 0)))
    assert bounded(lambda: [tree_of(disk).label for _ in range(64)]).value == [""] * 64


def test_the_label_is_the_first_that_is_not_deleted() -> None:
    label = entry(b"LABEL   ONE", 0, 0, layout.ATTR_VOLUME)
    slots = [LONG, entry(KERNEL, 0), b"\xe5" + label[1:], label, entry(b"OTHER      ", 0, 0, layout.ATTR_VOLUME)]
    assert tree_of(in_root(b"".join(slots))).label == "LABELONE"
    assert tree_of(in_root(b"".join(slots[:3]) + bytes(32) + label)).label == ""
