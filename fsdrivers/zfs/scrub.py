"""Reads everything in a pool and checks it: `fsdrivers verify`.

Every block that is reached from the meta object set is read: the pool's own objects, and all objects of every file
system, volume and snapshot, encrypted ones too.  A block that a snapshot shares with its successor is read once, as
its birth txg tells.  Source: module/zfs/dsl_scan.c:dsl_scan_visit, dsl_scan_recurse; OpenZFS 2.3.4.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple

from fsdrivers.block import BlockDevice
from fsdrivers.damage import Damage, Place, Totals, cause, named
from fsdrivers.errors import Corrupt, FsError
from fsdrivers.traverse import walk
from fsdrivers.zfs import blkptr, label, layout, zil
from fsdrivers.zfs.blkptr import Blkptr
from fsdrivers.zfs.dmu import Dnode, Objset
from fsdrivers.zfs.filesystem import ZfsFilesystem
from fsdrivers.zfs.spa import Spa, Used

_ACCOUNTING = (1024, 1536, 2048)  # dmu_objset.h:os_userused_dnode, os_groupused_dnode, os_projectused_dnode


class Counted(BlockDevice):
    """A device whose bytes are counted as they are read."""

    def __init__(self, parent: BlockDevice, totals: Totals) -> None:
        self.parent, self.name, self.size, self._totals = parent, parent.name, parent.size, totals

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.parent.read_into(offset, buffer)
        self._totals.add_read(self.name, len(buffer))

    def read(self, offset: int, length: int) -> bytes:
        data = self.parent.read(offset, length)
        self._totals.add_read(self.name, length)
        return data


class _Set(NamedTuple):
    """An object set: the dataset that it is, where it is, and since which txg it differs from its predecessor."""

    name: str
    pointer: Blkptr
    since: int


class Scrub:
    """One pass over everything.  With ``all_copies`` also what a healthy read would never touch."""

    def __init__(self, spa: Spa, used: Used, all_copies: bool, totals: Totals) -> None:
        """``spa`` was opened from ``used``, whose devices are Counted."""
        self._spa, self._store, self._used = spa, spa.store, used
        self._all, self._totals = all_copies, totals
        self._datasets: list[tuple[bool, int, int, Blkptr, int]] = []  # head?, created, object, pointer, since
        self._upper: set[tuple[int, int, int]] = set()  # blocks of pointers to blocks of pointers that were read
        self._blind = False  # whether pointers were lost: then a birth txg is no proof of having been seen

    def run(self) -> Iterator[Damage]:
        """Everything that is wrong, as it is found."""
        for device, _ in self._used:
            for number, offset, why in label.damaged(device):
                where = offset + layout.LABEL_NVLIST
                damage = Damage(device.name, where, layout.LABEL_NVLIST_SIZE, f"label {number}", "", False, why)
                self._totals.add(damage)
                yield damage
        yield from self._named(_Set("MOS", self._spa.mos.pointer, -1))
        names = self._names()
        # Predecessors come before what is compared with them: snapshots by age, then what is live.
        for _, _, number, pointer, since in sorted(self._datasets, key=lambda one: one[:3]):
            yield from self._named(_Set(names.get(number, f"dataset object {number}"), pointer, since))

    def _names(self) -> dict[int, str]:
        """The names of datasets and snapshots, by object number, as far as they can be had."""
        found: dict[int, str] = {}
        try:
            for directory in self._spa.root.walk():
                dataset = directory.dataset()
                if dataset is not None:
                    found[dataset.number] = dataset.name
                    found.update((one.number, one.name) for one in dataset.snapshots())
        except FsError:
            pass  # what could not be read has been told
        return found

    # --- the walk ------------------------------------------------------------------------------

    def _objset(self, here: _Set) -> Iterator[Place]:
        """All blocks of an object set that its predecessor does not have."""
        pointer, name = here.pointer, here.name
        if pointer.hole or self._seen(here, pointer):
            return
        what = f"{name}: object set"
        data = yield from self._block(pointer, what, 0, True)
        if data is None:
            self._blind = True
            return
        try:
            objset = Objset(self._store, pointer, name)
            roots = [objset.meta] + [
                Dnode(self._store, data[at : at + layout.DNODE_SIZE], pointer.order, f"{name}: accounting")
                for at in _ACCOUNTING
                if len(data) >= at + layout.DNODE_SIZE and data[at]
            ]
        except FsError as error:
            yield self._lost(pointer, what, 0, error)
            return
        for root in roots:
            yield from self._dnode(here, root, 0)
        yield from self._log(here, objset)

    def _seen(self, here: _Set, pointer: Blkptr) -> bool:
        return pointer.birth <= here.since and not self._blind

    def _dnode(self, here: _Set, dnode: Dnode, number: int) -> Iterator[Place]:
        """All blocks of object ``number``."""
        for at in range(dnode.pointers):
            pointer = blkptr.parse(dnode.raw, layout.DNODE_CORE + at * layout.BLKPTR_SIZE, dnode.order)
            yield from self._tree(here, dnode, number, pointer, dnode.levels - 1, at)
        if dnode.spill is not None:
            yield from self._tree(here, dnode, number, dnode.spill, 0, 0)
        if dnode.bonus_type == layout.OT_DSL_DATASET and here.name == "MOS":
            self._dataset(dnode, number)

    def _dataset(self, dnode: Dnode, number: int) -> None:
        """Remember a dataset object for later."""
        shape = layout.DSL_DATASET[dnode.order]
        if len(dnode.bonus) >= shape.size:
            fields = shape.unpack_from(dnode.bonus)
            head = not fields[5]  # ds_num_children: a snapshot has what came after it, a head has nothing
            self._datasets.append((head, fields[7], number, blkptr.parse(dnode.bonus, 128, dnode.order), fields[2]))

    def _tree(
        self, here: _Set, dnode: Dnode, number: int, pointer: Blkptr, level: int, index: int
    ) -> Iterator[Place]:  # fmt: skip
        """The block that ``pointer`` points to, the ``index``-th of its level, and those below it."""
        if pointer.hole or pointer.embedded is not None or self._seen(here, pointer):
            return
        dnodes = dnode.type == layout.OT_DNODE
        what = f"{here.name}: " + ("dnodes" if dnodes else f"object {number}" if number else "accounting")
        if level:
            what += f", indirect block of level {level}"
        if pointer.level != level:
            yield self._lost(pointer, what, number, Corrupt(self._spa.name, f"level {pointer.level} in pointer", 0))
            return
        if level > 1:
            # Each leads to thousands of blocks, and a disk may say so of one and the same again and again.
            if pointer.name in self._upper:
                return
            self._upper.add(pointer.name)
        data = yield from self._block(pointer, what, number, level > 0 or dnodes)
        if data is None:
            self._blind = self._blind or level > 0 or dnodes
        elif level:
            count = len(data) // layout.BLKPTR_SIZE
            for at in range(count):
                below = blkptr.parse(data, at * layout.BLKPTR_SIZE, pointer.order)
                yield from self._tree(here, dnode, number, below, level - 1, index * count + at)
        elif dnodes:
            yield from self._dnodes(here, pointer, data, index * len(data) // layout.DNODE_SIZE)

    def _dnodes(self, here: _Set, pointer: Blkptr, data: bytes, first: int) -> Iterator[Place]:
        """The objects whose dnodes are in one block; ``first`` is the number of the first."""
        at = 0
        while at + layout.DNODE_SIZE <= len(data):
            number = first + at // layout.DNODE_SIZE
            slots = 1
            if data[at]:
                slots += data[at + 12]
                label = f"{here.name}: object {number}"
                try:
                    if at + slots * layout.DNODE_SIZE > len(data):
                        raise Corrupt(self._spa.name, f"{slots} slots", at)
                    dnode = Dnode(self._store, data[at : at + slots * layout.DNODE_SIZE], pointer.order, label)
                except FsError as error:
                    yield self._lost(pointer, label, number, error)
                else:
                    yield from self._dnode(here, dnode, number)
            at += slots * layout.DNODE_SIZE

    def _log(self, here: _Set, objset: Objset) -> Iterator[Place]:
        """The intent log, as far as it goes: it ends where a block does not hold."""
        what = f"{here.name}: intent log"
        try:
            for block in zil.chain(objset):
                if self._all:
                    yield from self._mismatches(block.pointer, block.raw, what, 0)
        except FsError as error:
            yield self._lost(objset.pointer, what, 0, error)

    # --- one block -----------------------------------------------------------------------------

    def _block(
        self, pointer: Blkptr, what: str, number: int, inside: bool
    ) -> Generator[Place, None, bytes | None]:  # fmt: skip
        """Check one block; its content (with ``inside``, else b"") for who needs it, None when it is lost."""
        healed = sum(self._spa.health.damage.values())
        try:
            data = self._store.physical(pointer, what)
            content = self._store.unpack(pointer, data, what) if inside else b""
        except FsError as error:
            yield from self._copies(pointer, what, number, error)
            return None
        if self._all or sum(self._spa.health.damage.values()) != healed:
            yield from self._mismatches(pointer, data, what, number)
        return content

    def _mismatches(self, pointer: Blkptr, good: bytes, what: str, number: int) -> Iterator[Place]:
        """The copies that differ from ``good``, and parity that does not belong to it."""
        try:
            for found in self._store.compare(pointer, good, what):
                name = f"parity {found.parity} of {what}" if found.parity else what
                yield Place(Damage(found.device, found.offset, found.length, name, "", False, found.error), number)
        except FsError as error:
            # A gang header: the block itself was read from another copy.
            place = self._lost(pointer, f"gang header of {what}", number, error)
            yield place._replace(damage=place.damage._replace(lost=False))

    def _copies(self, pointer: Blkptr, what: str, number: int, error: FsError) -> Iterator[Place]:
        """A lost block: where its copies are on single devices, each of them; else its address in the pool."""
        places = set(self._store.places(pointer))
        for device, offset in sorted(places):
            damage = Damage(device, offset, pointer.psize, what, "", True, cause(error))
            yield Place(damage, number)
        if not places:
            yield self._lost(pointer, what, number, error)

    def _lost(self, pointer: Blkptr, what: str, number: int, error: FsError) -> Place:
        offset = pointer.dvas[0].offset if pointer.dvas else 0
        return Place(Damage(self._spa.name, offset, pointer.psize, what, "", True, cause(error)), number)

    # --- names ---------------------------------------------------------------------------------

    def _named(self, here: _Set) -> Iterator[Damage]:
        """What is wrong in one object set, with the paths of files."""
        # The key of a place is the object of the object set that it belongs to, 0 for none with a path.
        yield from named(self._objset(here), self._totals, lambda places: self._paths(here, places))

    def _paths(self, here: _Set, places: list[Place]) -> Iterator[Damage]:
        wanted = {place.key for place in places}
        found: dict[int, str] = {}
        if wanted and here.name != "MOS":
            try:
                objset = Objset(self._store, here.pointer, here.name)
                tree = ZfsFilesystem(objset, self._spa.name, "", here.name, self._spa.health)
                for item in walk(tree):
                    if item.node in wanted:
                        found.setdefault(item.node, f"{here.name}:{item.path}")
            except FsError:
                pass  # a volume, an encrypted dataset, or one whose directories are what is damaged
        for damage, number in places:
            yield damage._replace(file=found.get(number, ""))
