"""File extents: from a range of a file to verified, decompressed bytes.

Source: include/uapi/linux/btrfs_tree.h:btrfs_file_extent_item; fs/btrfs/tree-checker.c:check_extent_data_item;
fs/btrfs/inode.c:btrfs_get_extent, v6.12.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from fsdrivers.btrfs import compression, layout
from fsdrivers.btrfs.datasums import DataSums
from fsdrivers.btrfs.geometry import Segment
from fsdrivers.btrfs.tree import Item, Tree
from fsdrivers.btrfs.volume import Volume
from fsdrivers.errors import BadData, Corrupt, Unsupported
from fsdrivers.filesystem import Piece
from fsdrivers.readahead import ahead

RUN = 1 << 20  # bytes on disk that are read and verified at a time
PLAIN = 1 << 20  # bytes that one run of compressed extents may become
AHEAD = 2 * RUN  # larger ranges are read ahead

_Pieces = Sequence[Piece]


class Extent(NamedTuple):
    """[start, start + length) of a file.  ``address`` 0: nothing stored (a hole or preallocated), or inline data.

    Otherwise the bytes are those from ``skip`` of the ``stored`` bytes at ``address``, or of the ``size`` bytes
    that they decompress to.
    """

    start: int
    length: int
    address: int
    stored: int
    skip: int
    size: int
    codec: int
    inline: memoryview | None


class Job(NamedTuple):
    """Something to read: ``stored`` bytes at ``address``; ``length`` bytes from ``skip`` of them, or of the ``size``
    bytes they decompress to, belong at ``position`` of the file."""

    address: int
    stored: int
    position: int
    skip: int
    length: int
    size: int
    codec: int


class Reader:
    """Reads file data; ``sums`` knows the checksums."""

    def __init__(self, volume: Volume, sums: DataSums) -> None:
        self._volume, self._sums = volume, sums
        self._sector = volume.sectorsize
        self._last: tuple[int, int, int, bytes] | None = None  # the last decompressed extent: reflinks ask again

    def pieces(self, tree: Tree, inode: int, start: int, end: int, checksummed: bool) -> Iterator[Piece]:
        """The bytes [start, end), which lie inside of the file, in order and without gaps."""
        work = self._work(tree, inode, start, end, checksummed)
        results = ahead(work) if end - start > AHEAD else (job() for job in work)
        for pieces in results:
            yield from pieces

    def _work(self, tree: Tree, inode: int, start: int, end: int, checksummed: bool) -> Iterator[Callable[[], _Pieces]]:
        """What has to be done for [start, end), in order; trees are read here, data when the jobs are called."""
        run: list[Job] = []
        for step in self._steps(tree, inode, start, end):
            if isinstance(step, Job):
                if run and not _joins(run, step):
                    yield self._job(run, checksummed)
                    run = []
                run.append(step)
                continue
            if run:
                yield self._job(run, checksummed)
                run = []
            yield partial(_same, (step,))
        if run:
            yield self._job(run, checksummed)

    def _steps(self, tree: Tree, inode: int, start: int, end: int) -> Iterator[Piece | Job]:
        """What there is to do for [start, end): pieces that need no reading, and jobs."""
        at = start
        for extent in self._extents(tree, inode, start):
            stop = extent.start + extent.length
            if extent.start >= end:
                break
            if stop <= at:
                continue
            if extent.start > at:
                yield Piece(at, extent.start - at, None)
                at = extent.start
            stop = min(stop, end)
            if extent.inline is not None:
                data = self._inline(extent, inode)
                yield Piece(at, stop - at, data[at - extent.start : stop - extent.start])
            elif not extent.address:
                yield Piece(at, stop - at, None)
            elif extent.codec:
                skip = extent.skip + at - extent.start
                yield Job(extent.address, extent.stored, at, skip, stop - at, extent.size, extent.codec)
            else:
                yield from self._plain(extent, at, stop)
            at = stop
        if at < end:
            yield Piece(at, end - at, None)

    def _plain(self, extent: Extent, at: int, stop: int) -> Iterator[Job]:
        """Jobs of whole sectors, RUN bytes at most, for [at, stop) of an uncompressed extent."""
        sector = self._sector
        first = extent.address + extent.skip
        while at < stop:
            inside = at - extent.start
            low = inside // sector * sector
            high = min(low + RUN, -(-(stop - extent.start) // sector) * sector)
            length = min(high, stop - extent.start) - inside
            yield Job(first + low, high - low, at, inside - low, length, 0, layout.COMPRESS_NONE)
            at += length

    def _extents(self, tree: Tree, inode: int, start: int) -> Iterator[Extent]:
        """The extents of ``inode`` from the one around ``start`` on; raises Corrupt when they overlap."""
        before = tree.at_or_before(inode, layout.EXTENT_DATA, start) if start else None
        low = (inode, layout.EXTENT_DATA, before.offset if before else 0)
        reached = 0
        for item in tree.items(low, (inode, layout.EXTENT_DATA, layout.MAX_KEY[2])):
            extent = self.parse(item)
            if extent.start < reached:
                raise Corrupt(self._volume.name, f"extents of inode {inode} (overlap)", extent.start)
            reached = extent.start + extent.length
            yield extent

    def parse(self, item: Item) -> Extent:
        """The extent in ``item``; raises Corrupt, Unsupported."""
        name, sector = self._volume.name, self._sector
        inode, start = item.objectid, item.offset

        def demand(good: bool, what: str, got: int) -> None:
            if not good:
                raise Corrupt(name, f"extent of inode {inode} at {start:#x} ({what})", item.start, None, got)

        head = layout.EXTENT_HEAD.size
        demand(item.size >= head, "item size", item.size)
        if item.raw[item.start + 0x14] == layout.EXTENT_INLINE:
            _, size, codec, encryption, other, kind = layout.EXTENT_HEAD.unpack_from(item.raw, item.start)
            address = stored = skip = 0
            length = size
        else:
            demand(item.size == layout.EXTENT.size, "item size", item.size)
            fields = layout.EXTENT.unpack_from(item.raw, item.start)
            _, size, codec, encryption, other, kind, address, stored, skip, length = fields
        demand(kind <= layout.EXTENT_PREALLOC, "type", kind)
        demand(codec <= layout.COMPRESS_ZSTD, "compression", codec)
        if encryption or other:
            raise Unsupported(f"btrfs encryption type {encryption}/{other}", f"inode {inode}")
        demand(start + length < 1 << 64, "length", length)
        if kind == layout.EXTENT_INLINE:
            demand(start == 0, "start of inline data", start)
            demand(size <= layout.MAX_COMPRESSED, "ram_bytes", size)
            demand(bool(codec) or size == item.size - head, "ram_bytes", size)
            data = memoryview(item.raw)[item.start + head : item.start + item.size]
            return Extent(0, size, 0, 0, 0, size, codec, data)
        demand(not (start | address | stored | skip | length) % sector and length > 0, "alignment", start)
        if not address or kind == layout.EXTENT_PREALLOC:
            return Extent(start, length, 0, 0, 0, 0, 0, None)
        if codec:
            demand(0 < stored <= layout.MAX_COMPRESSED, "disk_num_bytes", stored)
            demand(0 < size <= layout.MAX_COMPRESSED, "ram_bytes", size)
            demand(skip + length <= -(-size // sector) * sector, "num_bytes", length)
        else:
            demand(skip + length <= stored, "num_bytes", length)
        return Extent(start, length, address, stored, skip, size, codec, None)

    def _inline(self, extent: Extent, inode: int) -> memoryview | bytes:
        """Data that lives in the tree itself."""
        if extent.inline is None or not extent.codec:
            return extent.inline or b""
        try:
            return compression.decompress(extent.codec, extent.inline, extent.size, self._sector)
        except BadData as error:
            raise Corrupt(self._volume.name, f"inline data of inode {inode} ({error})", extent.start) from error

    def _job(self, run: list[Job], checksummed: bool) -> Callable[[], _Pieces]:
        """The work of reading ``run``.  Checksums and places are looked up now, by whom the trees belong to."""
        last = self._last
        if len(run) == 1 and last and last[:3] == (run[0].address, run[0].stored, run[0].codec):
            job = run[0]
            return partial(_same, (Piece(job.position, job.length, memoryview(last[3])[job.skip :][: job.length]),))
        stored = run[-1].address + run[-1].stored - run[0].address
        sums = self._sums.lookup(run[0].address, stored) if checksummed else None
        return partial(self._finish, run, self._volume.segments(run[0].address, stored), stored, sums)

    def _finish(
        self, run: list[Job], segments: list[Segment], stored: int, sums: bytes | memoryview | None
    ) -> list[Piece]:
        """Read the stretch of disk that ``run`` covers once, and cut the pieces out of it."""
        base = run[0].address
        data = self._volume.read_data(segments, base, stored, sums)
        pieces = []
        for job in run:
            place = job.address - base
            part = data[place : place + job.stored]
            if job.codec:
                part = memoryview(self._decompress(job, part))
            pieces.append(Piece(job.position, job.length, part[job.skip : job.skip + job.length]))
        return pieces

    def _decompress(self, job: Job, data: memoryview) -> bytes:
        """The whole extent of ``job``; raises Corrupt."""
        try:
            # Filled up to the sector: the last extent of a file may end anywhere in it.
            size = -(-job.size // self._sector) * self._sector
            plain = compression.decompress(job.codec, data, job.size, self._sector)
            if len(plain) < size:
                plain += bytes(size - len(plain))
        except BadData as error:
            raise Corrupt(self._volume.name, f"compressed extent ({error})", job.address) from error
        self._last = (job.address, job.stored, job.codec, plain)
        return plain


def _joins(run: list[Job], job: Job) -> bool:
    """Whether ``job`` goes on right where ``run`` ends on the disk, and the whole stays handy."""
    end = run[-1].address + run[-1].stored
    if job.address != end or end + job.stored - run[0].address > RUN:
        return False
    return not job.codec or sum(one.size for one in run) + job.size <= PLAIN


def _same(pieces: _Pieces) -> _Pieces:
    return pieces
