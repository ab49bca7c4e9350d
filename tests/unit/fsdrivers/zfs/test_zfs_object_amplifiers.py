"""The worst objects: holes and levels without end, trees of datasets that lead back, attributes without number."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from functools import cache
from typing import Any, cast

import pytest
from bounded import bounded
from built import zfs
from zaps import Blocks, micro

from fsdrivers.errors import Corrupt, FsError, TooMany
from fsdrivers.kept import Kept
from fsdrivers.redundancy import Health
from fsdrivers.zfs import blkptr, dsl, environments, filesystem, layout, sa, store
from fsdrivers.zfs.blkptr import Blkptr
from fsdrivers.zfs.dmu import Dnode, Objset
from fsdrivers.zfs.dsl import Directory
from fsdrivers.zfs.filesystem import ZfsFilesystem
from fsdrivers.zfs.store import Store

# --- blocks ------------------------------------------------------------------------------------------


@cache
def pointer(level: int, size: int, birth: int = 5) -> bytes:
    """A block pointer to ``size`` bytes at some place."""
    sectors = (size >> 9) - 1
    prop = sectors | sectors << 16 | 2 << 32 | 7 << 40 | layout.OT_PLAIN_FILE << 48 | level << 56 | 1 << 63
    dva = [size >> 9, 8 + level, 0, 0, 0, 0]
    return zfs.BLKPTR(blk_dva=dva, blk_prop=prop, blk_phys_birth=birth, blk_birth=birth, blk_fill=1)


class Levels(Store):
    """Every block of pointers has the same pointer a thousand times; those above the data have ``lowest``."""

    def __init__(self, lowest: bytes) -> None:
        super().__init__("pool", Health())
        self.lowest = lowest

    def read(self, pointer_: Blkptr, structure: str) -> bytes:
        if not pointer_.level:
            return bytes(pointer_.lsize)
        return (self.lowest if pointer_.level == 1 else pointer(pointer_.level - 1, 128 << 10)) * 1024

    def cached(self, pointer_: Blkptr, structure: str) -> bytes:
        return self.read(pointer_, structure)


def dnode(of: Store, levels: int = 6, sectors: int = 1, max_block: int = (1 << 50) - 1) -> Dnode:
    head = zfs.DNODE(
        dn_type=layout.OT_PLAIN_FILE, dn_indblkshift=17, dn_nlevels=levels, dn_nblkptr=1, dn_datablkszsec=sectors,
        dn_maxblkid=max_block,
    )  # fmt: skip
    raw = head + pointer(levels - 1, 128 << 10)
    return Dnode(of, raw.ljust(layout.DNODE_SIZE, b"\0"), "<", "object 7")


def test_holes_that_are_found_one_by_one_come_in_portions() -> None:
    file = dnode(Levels(bytes(128)))
    assert bounded(lambda: len(list(itertools.islice(file.pieces(0, 1 << 59), 20)))).value == 20
    whole = list(file.pieces(512, 10_000 * 512))
    assert all(piece.data is None for piece in whole)
    assert (whole[0].offset, sum(piece.length for piece in whole)) == (512, 10_000 * 512)


def test_objects_without_levels_have_no_use_for_the_size_of_their_blocks_of_pointers() -> None:
    raw = bytearray(dnode(Levels(bytes(128)), levels=1).raw)
    raw[1] = 0  # dn_indblkshift
    raw[64:192] = bytes(128)
    file = Dnode(Levels(bytes(128)), bytes(raw), "<", "object 7")
    assert [(piece.length, piece.data) for piece in file.pieces(0, 512)] == [(512, None)]


def test_a_file_of_one_block_again_and_again() -> None:
    file = dnode(Levels(pointer(0, 512)))
    assert bounded(lambda: sum(piece.length for piece in itertools.islice(file.pieces(0, 1 << 59), 20_000))).value


def test_objects_that_are_read_as_a_whole_have_an_end() -> None:
    file = dnode(Levels(pointer(0, 16 << 20)), sectors=32768)
    assert "length above" in bounded(lambda: file.whole(1 << 40)).error


def test_few_objects_keep_their_pointers() -> None:
    of = Levels(pointer(0, 512))
    files = [dnode(of) for _ in range(200)]

    def run() -> None:
        for file in files:
            next(file.pieces(0, 512))

    bounded(run)
    run()
    assert sum(file._lowest[0] >= 0 for file in files) == store.HOLDERS


def test_two_sizes_of_one_block() -> None:
    """Pointers to one place that disagree: the cache once counted each of them, until it found itself empty."""
    of = Levels(bytes(128))
    small, large = (blkptr.parse(pointer(0, size), 0, "<") for size in (512, 16 << 20))
    for _ in range(10):
        for one in (small, large):
            assert len(Store.cached(of, one, "block")) == one.lsize
    assert of._cached == sum(map(len, of._cache.values()))


def test_keyed_checksums_before_the_key_is_known() -> None:
    """The very first block of a pool may claim any checksum."""
    from fsdrivers.zfs import checksum

    of = Store("pool", Health())
    for number in range(len(checksum.NAMES)):
        with contextlib.suppress(FsError):
            checksum.words(number, bytes(512), "<", of.salt)


# --- datasets ----------------------------------------------------------------------------------------


class Mos:
    """Stands for the Objset of a pool: ``tables`` by number, and every other object is a directory and a dataset.

    Directories have the object ``children`` for what is below them, and ``properties``.
    """

    def __init__(self, tables: dict[int, bytes], children: int = 0, properties: int = 0, snapshots: int = 0) -> None:
        self.tables, self.store = tables, Store("tank", Health())
        self.zaps: Kept[int, Any] = Kept(4 << 20)
        self.directory = zfs.DSL_DIR(
            dd_head_dataset_obj=1, dd_child_dir_zapobj=children, dd_props_zapobj=properties
        )  # fmt: skip
        self.dataset = zfs.DSL_DATASET(ds_snapnames_zapobj=snapshots)

    def dnode(self, number: int, *types: int) -> Any:
        found: Any = Blocks(lambda _: self.tables.get(number, bytes(512)), max_block=0)
        found.bonus, found.order, found.type = self.directory + self.dataset[len(self.directory) :], "<", 0
        if number > 1 << 40:
            found.bonus = self.dataset
        return found

    def root(self) -> Directory:
        return Directory(cast(Objset, self), 1, "tank", None)


def test_directories_that_are_below_themselves() -> None:
    names = [(b"child%d" % number, number + 10) for number in range(5000)]
    mos = Mos({2: micro(names)}, children=2)
    assert "does not end" in bounded(lambda: len(list(mos.root().walk()))).error
    mos = Mos({2: micro([(b"c", 1)])}, children=2)
    assert "does not end" in bounded(lambda: len(list(mos.root().walk()))).error


def test_more_datasets_than_anyone_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dsl, "MAX_DATASETS", 4000)
    mos = Mos({2: micro([(b"c%d" % number, number + 10) for number in range(4001)])}, children=2)
    with pytest.raises(TooMany, match="datasets in tank"):
        list(mos.root().walk())


def test_names_are_no_longer_than_names_are() -> None:
    mos = Mos({2: micro([(b"x" * 49, 10)])}, children=2)
    here = mos.root()
    for _ in range(5):
        (here,) = here.children()
    with pytest.raises(Corrupt, match="length of a name"):
        here.children()


def test_snapshots_that_are_one() -> None:
    mos = Mos({3: micro([(b"s%d" % number, (1 << 40) + 5) for number in range(5000)])}, snapshots=3)
    head = dsl.Dataset(mos.root(), (1 << 40) + 1)
    assert "one snapshot has two names" in bounded(lambda: len(list(head.snapshots()))).error


def test_command_lines_of_command_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each level names the one above a thousand times: 8 KiB become 7 MiB, for each of all datasets."""
    line = tuple(environments.PARENT.encode() * 900)
    monkeypatch.setattr(Directory, "inherited", lambda self, name: (line, self))
    here: Directory = Mos({}).root()
    for number in range(49):
        here = Directory(here.mos, 10 + number, "t", here)
    assert bounded(lambda: [len(environments.command_line(here)) for _ in range(100)]).value == [0] * 100


def test_where_many_datasets_are_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Directory, "mountpoint", lambda self: "/" + "x" * 8000)
    monkeypatch.setattr(Directory, "walk", lambda self: (self for _ in range(100_000)))
    root = Mos({}).root()
    assert "mount points" in bounded(lambda: list(environments.mounted(root, ("on",)))).error


# --- attributes --------------------------------------------------------------------------------------


class Table:
    """Stands for a ZAP of attributes or layouts."""

    def __init__(self, entries: Iterator[tuple[bytes, tuple[int, ...]]]) -> None:
        self.entries, self.dnode = entries, type("D", (), {"label": "object 7"})()

    def items(self) -> Iterator[tuple[bytes, tuple[int, ...]]]:
        return self.entries

    def number(self, name: str) -> int:
        return 1


def registry(monkeypatch: pytest.MonkeyPatch, names: Any, layouts: Any) -> sa.Registry:
    tables = iter((iter(()), names, layouts))
    monkeypatch.setattr(sa, "Zap", lambda _: Table(next(tables)))
    return sa.Registry(cast(Objset, type("O", (), {"dnode": lambda self, number: None})()), 1)


def test_attributes_and_layouts_without_number(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = ((b"%d" % number, (number,)) for number in itertools.count())
    assert "too many system attribute" in bounded(lambda: registry(monkeypatch, endless, iter(()))).error
    strange = [(b"9" * 5000, (1,)), (b"1", tuple(range(4096))), (b"2", (0, 1))]
    found = registry(monkeypatch, iter([(b"ZPL_MODE", (8 << 24,)), (b"ZPL_SIZE", (8 << 24 | 1,))]), iter(strange))
    assert found.layouts == {2: (0, 1)}


def test_times_have_seconds_and_a_part_of_one() -> None:
    assert sa.nanoseconds(5, 7) == 5_000_000_007
    assert sa.nanoseconds((1 << 64) - 1, 999_999_999) == -1
    assert sa.nanoseconds(5, (1 << 64) - 1) == 5_000_000_000


# --- names without regard to case --------------------------------------------------------------------


def insensitive(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> tuple[ZfsFilesystem, list[int]]:
    """A file system that ignores case with ``names`` in its directory, and how often that was gone through."""
    walks: list[int] = []

    class Names:
        def items(self) -> Iterator[tuple[bytes, tuple[int, ...]]]:
            walks.append(1)
            return ((name.encode(), (number,)) for number, name in enumerate(names, 10))

        def get(self, name: bytes) -> None:
            return None

    found = ZfsFilesystem.__new__(ZfsFilesystem)
    found.insensitive, found.normalization, found._indexes = True, 0, Kept(filesystem._INDEXED)
    monkeypatch.setattr(found, "_directory", lambda number: Names())
    return found, walks


def test_names_in_any_case_are_looked_up_in_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    found, walks = insensitive(monkeypatch, ["Etc", "USR", "usr", *map(str, range(20_000))])
    assert [found.lookup(1, name) for name in ("etc", "usr", "USR", "Usr", "none", "77")] == [10, 12, 11, 11, None, 90]
    bounded(lambda: [found.lookup(1, f"file{number}") for number in range(5000)])
    assert len(walks) == 1


def test_names_in_any_case_of_a_directory_that_is_too_large_to_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "_INDEXED", 100)
    found, _ = insensitive(monkeypatch, ["Etc", *map(str, range(1000))])
    assert [found.lookup(1, name) for name in ("etc", "999", "none")] == [10, 1010, None]
    assert not found._indexes


def test_a_free_object_holds_nothing_whatever_its_fields_say() -> None:
    """Nobody hands one out, but what is built on them should not depend on that."""
    raw = bytearray(dnode(Levels(bytes(128)), levels=6).raw)
    raw[0] = 0  # dn_type
    raw[1] = 0  # dn_indblkshift
    raw[7] = layout.DNODE_SPILL
    file = Dnode(Levels(bytes(128)), bytes(raw), "<", "object 7")
    assert (file.size, file.bonus, file.spill, file.pointer(0)) == (0, b"", None, None)
    assert list(file.pieces(0, 0)) == []
