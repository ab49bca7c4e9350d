"""Reads everything in a filesystem and checks it: `fsdrivers verify`.

What there is to read comes from the trees: every node of every tree, every range that has checksums, every extent of
files without.  The trees of a log are among them, and those of a balance that the kernel would go on to merge.  Root
items with refs 0 are not: deleted subvolumes, of which nodes may be gone, and what a balance had not finished copying.

Source of what is compared: fs/btrfs/scrub.c:scrub_verify_one_sector, v6.12; for parity see rows.py.  The kernel
goes by block groups and devices, which leaves out logs; by trees, damage has a file's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fsdrivers.btrfs import geometry, layout, log, superblock
from fsdrivers.btrfs import inode as inodes
from fsdrivers.btrfs.geometry import Segment
from fsdrivers.btrfs.rows import Rows
from fsdrivers.btrfs.store import Store
from fsdrivers.btrfs.tree import Item, Node, Pointer, Tree, is_file_tree
from fsdrivers.btrfs.users import Top, Users, items
from fsdrivers.damage import Damage, Place, Totals, cause, named
from fsdrivers.errors import Corrupt, FsError

RUN = 1 << 20  # bytes of a chunk that are checked at a time
MAX_LOST = 1024  # runs of one extent, one after the other, that cannot be read until the rest is not tried


class Scrub:
    """One pass over everything.  With ``all_copies`` also what a healthy read would never touch."""

    def __init__(self, store: Store, all_copies: bool, totals: Totals) -> None:
        self._store, self._all, self._totals = store, all_copies, totals
        self._volume = store.volume
        self._sector = store.volume.sectorsize
        self._seen: set[int] = set()
        self._bad: set[tuple[str, int]] = set()  # (device, offset) of bad sectors: parity over them proves nothing
        self._parity: list[tuple[int, int]] = []  # nodes in chunks with parity
        self._users = Users(store)

    def run(self) -> Iterator[Damage]:
        """Everything that is wrong, as it is found.  Raises FsError only when there is no way in at all."""
        # The key of a place is the address in the filesystem that belongs there, 0 for metadata.
        yield from named(self._places(), self._totals, lambda places: self._users.named(places, self._trees()))

    def _places(self) -> Iterator[Place]:
        yield from self._superblocks()
        for top in self._trees():
            yield from self._tree(top)
        yield from self._data()
        if self._all:
            yield from Rows(self._volume, self._totals, self._bad).check([*self._parity, *self._summed_ranges()])

    def _superblocks(self) -> Iterator[Place]:
        """All copies on all devices: the first good one has been found, or nobody would be here."""
        for leg in self._volume.legs.values():
            for offset in layout.SUPER_OFFSETS:
                if offset + layout.SUPER_SIZE > leg.device.size:
                    break
                why = "its magic is gone"
                try:
                    self._totals.add_read(leg.device.name, layout.SUPER_SIZE)
                    if superblock.parse(leg.device.read(offset, layout.SUPER_SIZE), leg.device.name, offset):
                        continue
                except FsError as error:
                    why = cause(error)
                yield Place(Damage(leg.device.name, offset, layout.SUPER_SIZE, "superblock", "", False, why), 0)

    # --- metadata ------------------------------------------------------------------------------

    def _trees(self) -> Iterator[Top]:
        """The roots of all trees, those that others hang from first."""
        block = self._store.superblock
        yield Top(Pointer(block.chunk_root, block.chunk_root_level, block.chunk_root_generation, layout.CHUNK_TREE))
        yield Top(self._store.roots.tree.root)
        try:
            for item in self._store.roots.tree.items((0, 0, 0), layout.MAX_KEY):
                if item.type == layout.ROOT_ITEM:
                    root = self._store.roots.parse(item)
                    if not root.dropped:
                        yield self._top(item, root.pointer)
        except FsError:
            pass  # the walk over the root tree itself has told of it
        if block.log_root:
            yield from self._logs(log.top(block))

    def _top(self, item: Item, pointer: Pointer) -> Top:
        if item.objectid == layout.TREE_RELOC:
            # The half-made copy of a subvolume by a balance; its nodes keep the subvolume's name.
            return Top(pointer._replace(owner=item.offset))
        return Top(pointer, pointer.owner if is_file_tree(pointer.owner) else 0)

    def _logs(self, top: Pointer) -> Iterator[Top]:
        """The tree of logs, and the log of each subvolume."""
        yield Top(top)
        replayed = self._store.replays
        try:
            for item in Tree(self._store.nodes, top).of(layout.TREE_LOG, layout.ROOT_ITEM):
                # What is new in a log has an inode only where the log was replayed.
                yield Top(log.pointer(item, self._volume.name), item.offset if replayed else 0)
        except FsError:
            return

    def _tree(self, top: Top) -> Iterator[Place]:
        """All nodes below ``top`` that no other tree has led to."""
        root = top.pointer
        stack = [root]
        while stack:
            pointer = stack.pop()
            if pointer.bytenr in self._seen:
                continue
            self._seen.add(pointer.bytenr)
            yield from self._node(pointer)
            try:
                node = self._store.nodes.load(pointer)
            except FsError:
                continue
            if node.level:
                stack += [
                    Pointer(bytenr, node.level - 1, generation, root.owner, (objectid, kind, offset))
                    for objectid, kind, offset, bytenr, generation in reversed(node.items)
                ]
                continue
            if top.subvolume:
                yield from self._extents(top.subvolume, node)
            if root.owner == layout.TREE_LOG:
                yield from self._logged(node)

    def _logged(self, leaf: Node) -> Iterator[Place]:
        """Data whose checksums are in a log still."""
        for item in items(leaf):
            if item.type == layout.EXTENT_CSUM:
                yield from self._summed(item)
                self._parity.append((item.offset, item.size // self._volume.checksum.size * self._sector))

    def _node(self, pointer: Pointer) -> Iterator[Place]:
        """The copies of one node: all, or up to the first good one."""
        size = self._store.superblock.nodesize
        what = f"tree node {pointer.bytenr:#x} of tree {pointer.owner}"
        found: list[tuple[str, int, str]] = []
        lost = True
        try:
            segments = self._volume.segments(pointer.bytenr, size)
            if len(segments) == 1:
                for leg, copy in self._volume.ranked(segments[0]):
                    error: FsError | None
                    try:
                        raw = leg.device.read(copy.offset, size)
                        self._totals.add_read(leg.device.name, size)
                        error = self._store.nodes.judge(raw, pointer, leg.device.name, copy.offset)
                    except FsError as failure:
                        error = failure
                    if error is None:
                        lost = False
                        if not self._all:
                            return
                    else:
                        found.append((leg.device.name, copy.offset, cause(error)))
                        if segments[0].chunk.profile.parity:
                            self._bad.update((leg.device.name, copy.offset + at) for at in range(0, size, self._sector))
                if segments[0].chunk.profile.parity:
                    self._parity.append((pointer.bytenr, size))
            if lost:
                self._store.nodes.load(pointer)
        except FsError as error:
            if not found:
                found.append((self._volume.name, pointer.bytenr, cause(error)))
            lost = True
        else:
            lost = False
        for device, offset, why in found:
            yield Place(Damage(device, offset, size, what, "", lost, why), 0)

    # --- data ----------------------------------------------------------------------------------

    def _data(self) -> Iterator[Place]:
        """Every range that has checksums."""
        try:
            for item in self._sums():
                yield from self._summed(item)
        except FsError:
            return  # the walk over the checksum tree has told of it

    def _summed(self, item: Item) -> Iterator[Place]:
        """The range whose checksums ``item`` has."""
        size = self._volume.checksum.size
        sums = memoryview(item.raw)[item.start : item.start + item.size]
        for first in range(0, item.size // size * self._sector, RUN):
            part = sums[first // self._sector * size : (first + RUN) // self._sector * size]
            yield from self._range(item.offset + first, len(part) // size * self._sector, part)

    def _sums(self) -> Iterator[Item]:
        tree = self._store.roots.tree_of(layout.CSUM_TREE)
        return tree.of(layout.EXTENT_CSUM_ID, layout.EXTENT_CSUM)

    def _summed_ranges(self) -> Iterator[tuple[int, int]]:
        """(address, length) of all data that has checksums, as far as these can be read."""
        try:
            for item in self._sums():
                yield item.offset, item.size // self._volume.checksum.size * self._sector
        except FsError:
            return  # the walk over the checksum tree has told of it

    def _range(self, start: int, length: int, sums: memoryview | None) -> Iterator[Place]:
        """All copies of a range, or with one good copy enough, as many as that takes."""
        try:
            segments = self._volume.segments(start, length)
        except FsError as error:
            yield self._lost(start, length, error)
            return
        size = self._volume.checksum.size
        for segment in segments:
            low = (segment.start - start) // self._sector * size
            part = None if sums is None else sums[low : low + segment.length // self._sector * size]
            yield from self._segment(segment, part)

    def _segment(self, segment: Segment, sums: memoryview | None) -> Iterator[Place]:
        open_ = set(range(0, segment.length, self._sector))  # sectors of which no good copy was seen
        bad: list[tuple[str, int, int, str]] = []  # device, its offset of the segment, sector in it, why
        for leg, copy in self._volume.ranked(segment):
            if not self._all and not open_:
                break
            name = leg.device.name
            for at, why in self._compare(leg.device.read, copy.offset, segment.length, sums):
                if why:
                    bad.append((name, copy.offset, at, why))
                    if segment.chunk.profile.parity:
                        self._bad.add((name, copy.offset + at))
                else:
                    open_.discard(at)
            self._totals.add_read(name, segment.length)
        for at in sorted(open_):
            try:
                self._repair(geometry.part(segment, segment.start + at, self._sector), sums, at)
            except FsError as error:
                if not any(sector == at for _, _, sector, _ in bad):
                    yield self._lost(segment.start + at, self._sector, error)
                continue
            open_.discard(at)
        yield from self._merged(segment, bad, open_)

    def _compare(
        self, read: Callable[[int, int], bytes], offset: int, length: int, sums: memoryview | None
    ) -> Iterator[tuple[int, str]]:
        """(sector, what is wrong with it or "") for one copy; a whole read that fails is tried by sector."""
        size, kind = self._volume.checksum.size, self._volume.checksum
        sector = self._sector
        try:
            data = memoryview(read(offset, length))
        except FsError as error:
            if length == sector:
                yield 0, cause(error)
                return
            for at in range(0, length, sector):
                part = None if sums is None else sums[at // sector * size : at // sector * size + size]
                for _, why in self._compare(read, offset + at, sector, part):
                    yield at, why
            return
        got = b"" if sums is None else kind.sums(data, sector)
        same = sums is None or got == sums
        for at in range(0, length, sector):
            index = at // sector * size
            if same or sums is None or got[index : index + size] == sums[index : index + size]:
                yield at, ""
            else:
                yield at, f"checksum: wanted {sums[index : index + size].hex()}, got {got[index : index + size].hex()}"

    def _repair(self, sector: Segment, sums: memoryview | None, at: int) -> None:
        """Raise FsError unless ``sector`` can be had somehow."""
        size = self._volume.checksum.size
        index = at // self._sector * size
        if sums is None:
            self._volume.read_data([sector], sector.start, self._sector, None)
        else:
            self._volume.heal(sector, bytes(sums[index : index + size]))

    def _merged(self, segment: Segment, bad: list[tuple[str, int, int, str]], lost: set[int]) -> Iterator[Place]:
        """Neighbouring bad sectors of one copy as one place."""
        index = 0
        while index < len(bad):
            name, base, at, why = bad[index]
            end = at + self._sector
            index += 1
            while index < len(bad) and bad[index][:3] == (name, base, end) and (end in lost) == (at in lost):
                end += self._sector
                index += 1
            damage = Damage(name, base + at, end - at, "data", "", at in lost, why)
            yield Place(damage, segment.start + at)

    def _lost(self, address: int, length: int, error: FsError) -> Place:
        return Place(Damage(self._volume.name, address, length, "data", "", True, cause(error)), address)

    # --- files ---------------------------------------------------------------------------------

    def _extents(self, tree: int, leaf: Node) -> Iterator[Place]:
        """The extents in a leaf of subvolume ``tree``: whether they make sense, and the data of those without sums."""
        for item in items(leaf):
            if item.type != layout.EXTENT_DATA:
                continue
            try:
                extent = self._store.reader.parse(item)
                if not extent.address:
                    continue
                if self._checksummed(tree, item.objectid):
                    continue
            except FsError as error:
                name = self._users.path(tree, item.objectid)
                yield Place(Damage(self._volume.name, item.offset, 0, "extent", name, True, cause(error)), 0)
                continue
            # Of what is not compressed, no more than the file has: the rest may never have been written.
            skip, length = (0, extent.stored) if extent.codec else (extent.skip, extent.length)
            lost = 0
            for first in range(skip, skip + length, RUN):
                places = list(self._range(extent.address + first, min(RUN, skip + length - first), None))
                yield from places
                lost = lost + 1 if places and all(place.damage.lost for place in places) else 0
                if lost > MAX_LOST:  # an extent without checksums may claim to be as long as it likes
                    rest = extent.address + first + RUN
                    yield self._lost(
                        rest,
                        max(0, extent.address + skip + length - rest),
                        Corrupt(
                            self._volume.name,
                            f"extent of inode {item.objectid} (none of its last {MAX_LOST} MiB)",
                            rest,
                        ),
                    )
                    break

    def _checksummed(self, tree: int, number: int) -> bool:
        item = self._store.roots.tree_of(tree).find(number, layout.INODE_ITEM, 0)
        if item is None and self._store.replays:
            return True  # the log removes the file: nobody reads it
        if item is None:
            raise Corrupt(self._volume.name, f"inode {number} of subvolume {tree} (it is not there)", number)
        return inodes.parse(item, self._volume.name).checksummed
