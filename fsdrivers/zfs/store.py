"""Blocks of a pool: from a block pointer to verified, decompressed bytes.

Sources: module/zfs/zio.c:zio_read, zio_gang_tree_assemble, zio_checksum.c:zio_checksum_error_impl; OpenZFS 2.3.4.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Protocol

from fsdrivers import redundancy
from fsdrivers.errors import BadData, Corrupt, FsError, Locked, MissingDevices, Unsupported
from fsdrivers.kept import Kept
from fsdrivers.redundancy import Attempt, Health
from fsdrivers.zfs import blkptr, checksum, compress, layout
from fsdrivers.zfs.blkptr import Blkptr, Dva
from fsdrivers.zfs.label import eck_order, verify
from fsdrivers.zfs.vdevs import Mismatch, Vdev

CACHE_BYTES = 24 << 20  # of decompressed metadata blocks that are kept
LEAF_BYTES = 4 << 20  # of leaves of ZAPs that are kept decoded, which is up to eight times as much
HOLDERS = 32  # objects that keep the block of pointers that they used last, 128 KiB at most
MAX_GANG_DEPTH = 8  # a gang header points to gang headers when space is very tight
MAX_GANGS = 4096  # headers read for one block


class Holder(Protocol):
    """An object that keeps a block for as long as it is read from."""

    def forget(self) -> None:
        """Let go of it."""


class Store:
    """The vdevs of one pool as a place of blocks."""

    def __init__(self, name: str, health: Health) -> None:
        self.name, self.health = name, health
        self.vdevs: list[Vdev] = []  # the top-level ones, by id
        self.missing: tuple[str, ...] = ()  # of members, for messages
        self.present: tuple[str, ...] = ()
        self.salt = bytes(layout.SALT_SIZE)  # until the pool's own is known
        self._gangs = 0  # headers read for the block under way
        self.loaded = 0  # bytes of blocks that were asked for
        self.leaves: Kept[tuple[int, int], Any] = Kept(LEAF_BYTES)  # decoded, of all ZAPs
        self._holders: dict[Holder, None] = {}  # the one that got its block last at the end
        self._cache: OrderedDict[tuple[int, int, int], bytes] = OrderedDict()
        self._cached = 0

    def read(self, pointer: Blkptr, structure: str) -> bytes:
        """The whole block, ``pointer.lsize`` bytes; ``structure`` names it in errors.

        Raises Corrupt, ReadError, MissingDevices, Unsupported, Locked.
        """
        if pointer.lsize > layout.MAX_BLOCK or pointer.psize > layout.MAX_BLOCK:
            raise Corrupt(self.name, f"{structure}: size in block pointer", _where(pointer), got=pointer.lsize)
        self.loaded += pointer.lsize
        if pointer.embedded is not None:
            return self._embedded(pointer, structure)
        if not pointer.dvas:
            return bytes(pointer.lsize)
        if pointer.crypt and pointer.level == 0 and pointer.type != layout.OT_OBJSET:
            raise Locked(self.name, f"{structure} is encrypted")
        return self.unpack(pointer, self._physical(pointer, structure, 0), structure)

    def physical(self, pointer: Blkptr, structure: str) -> bytes:
        """The ``pointer.psize`` bytes of a block that is neither hole nor embedded, as they are on the disk, verified.

        Raises as read().
        """
        if pointer.psize > layout.MAX_BLOCK:
            raise Corrupt(self.name, f"{structure}: size in block pointer", _where(pointer), got=pointer.psize)
        return self._physical(pointer, structure, 0)

    def unpack(self, pointer: Blkptr, data: bytes, structure: str) -> bytes:
        """The ``pointer.lsize`` bytes that the physical block ``data`` stands for.  Raises Corrupt."""
        if pointer.compress == compress.OFF:
            if pointer.psize != pointer.lsize:
                raise Corrupt(self.name, f"{structure}: sizes", _where(pointer), pointer.lsize, pointer.psize)
            return data
        try:
            return compress.decompress(pointer.compress, data, pointer.lsize)
        except BadData as error:
            raise Corrupt(self.name, f"{structure}: {error}", _where(pointer)) from error

    def cached(self, pointer: Blkptr, structure: str) -> bytes:
        """As read(), for metadata that will be wanted again: blocks never change under the same pointer."""
        if not pointer.dvas:
            return self.read(pointer, structure)
        key = pointer.name
        data = self._cache.get(key)
        if data is not None and len(data) == pointer.lsize:
            self._cache.move_to_end(key)
            return data
        if data is not None:  # another pointer to the same place: only one of them can be right
            self._cached -= len(self._cache.pop(key))
        data = self.read(pointer, structure)
        self._cache[key] = data
        self._cached += len(data)
        while self._cached > CACHE_BYTES:
            self._cached -= len(self._cache.popitem(last=False)[1])
        return data

    def holds(self, holder: Holder) -> None:
        """``holder`` has a block now; of many the one whose block is the oldest lets go."""
        self._holders.pop(holder, None)
        self._holders[holder] = None
        if len(self._holders) > HOLDERS:
            oldest = next(iter(self._holders))
            del self._holders[oldest]
            oldest.forget()

    def _embedded(self, pointer: Blkptr, structure: str) -> bytes:
        if pointer.embedded == layout.EMBEDDED_REDACTED:
            raise Unsupported("redacted_datasets", f"{structure} was left out when the dataset was received")
        if pointer.embedded != layout.EMBEDDED_DATA or pointer.psize > layout.EMBEDDED_PAYLOAD:
            raise Corrupt(self.name, f"{structure}: embedded block pointer", 0, got=pointer.embedded)
        data = pointer.payload[: pointer.psize]
        if pointer.compress == compress.OFF:
            return data.ljust(pointer.lsize, b"\0")
        try:
            return compress.decompress(pointer.compress, data, pointer.lsize)
        except BadData as error:
            raise Corrupt(self.name, f"{structure} (embedded): {error}", 0) from error

    def verified(self, pointer: Blkptr, structure: str, check: Callable[[bytes, Attempt], FsError | None]) -> bytes:
        """The ``psize`` bytes of a block that carries its checksum inside: ``check`` is the judge."""
        if pointer.psize > layout.MAX_BLOCK:
            raise Corrupt(self.name, f"{structure}: size in block pointer", _where(pointer), got=pointer.psize)
        return redundancy.read(self._attempts(pointer, structure, 0), check, self.health, lambda: self._lost(structure))

    def _physical(self, pointer: Blkptr, structure: str, depth: int) -> bytes:
        """The ``psize`` bytes as they were checksummed."""
        wanted = pointer.digest
        number, order, salt = pointer.checksum, pointer.order, self.salt
        # A dataset's key authenticates the rest of these checksums (zio_checksum.c:zio_checksum_handle_crypt).
        halves = pointer.crypt and pointer.type != layout.OT_OBJSET

        def check(data: bytes, attempt: Attempt) -> FsError | None:
            if number in checksum.UNCHECKED:
                return None
            got = checksum.words(number, data, order, salt)
            if got == wanted:
                return None
            if halves:
                first, second = got[:2]
                if number in (checksum.FLETCHER2, checksum.FLETCHER4):
                    first, second = first ^ got[2], second ^ got[3]
                if (first, second) == wanted[:2]:
                    return None
            return Corrupt(
                attempt.device, f"{structure} ({checksum.name(number)} checksum)", attempt.offset, wanted[0], got[0]
            )

        return redundancy.read(
            self._attempts(pointer, structure, depth), check, self.health, lambda: self._lost(structure)
        )

    def _attempts(self, pointer: Blkptr, structure: str, depth: int) -> Iterator[Attempt]:
        for dva in pointer.dvas:
            if dva.gang:
                yield Attempt(
                    self.name, dva.offset, lambda dva=dva: self._gang(pointer, dva, structure, depth)  # type: ignore[misc]
                )  # fmt: skip
            else:
                yield from self._copies(dva, pointer.psize, pointer.physical_birth)

    def _copies(self, dva: Dva, size: int, birth: int) -> Iterator[Attempt]:
        """The ways to get ``size`` bytes at ``dva`` from its vdev."""
        if dva.vdev >= len(self.vdevs):
            raise Corrupt(self.name, "vdev number in block pointer", dva.offset, f"< {len(self.vdevs)}", dva.vdev)
        vdev = self.vdevs[dva.vdev]
        # Devices are read in whole sectors, and RAID-Z lays out whole sectors.
        whole = -(-size >> vdev.ashift) << vdev.ashift if size & (1 << vdev.ashift) - 1 else size
        if whole == size:
            yield from vdev.attempts(dva.offset, size, birth)
            return
        for attempt in vdev.attempts(dva.offset, whole, birth):
            yield attempt._replace(fetch=lambda attempt=attempt: attempt.fetch()[:size])  # type: ignore[misc]

    def _gang(self, pointer: Blkptr, dva: Dva, structure: str, depth: int) -> bytes:
        """The data of a block that was written in pieces because no free stretch was long enough."""
        # Every copy of every header leads to all copies of the next: a header that fails at the end may multiply.
        self._gangs = 1 if not depth else self._gangs + 1
        if self._gangs > MAX_GANGS:
            raise Corrupt(self.name, f"{structure}: more than {MAX_GANGS} gang headers", dva.offset)
        _, members = self._gang_header(pointer, dva, structure, depth)
        return b"".join(self._physical(member, structure, depth + 1) for member in members)

    def _gang_header(self, pointer: Blkptr, dva: Dva, structure: str, depth: int) -> tuple[bytes, list[Blkptr]]:
        """The header at ``dva`` as it is on the disk, and the pointers to the pieces."""
        if depth >= MAX_GANG_DEPTH:
            raise Corrupt(self.name, f"{structure}: gang blocks nested too deeply", dva.offset)

        def check(data: bytes, attempt: Attempt) -> FsError | None:
            order = eck_order(data)
            first = pointer.dvas[0]
            if order and verify(data, first.vdev, order, first.offset, pointer.physical_birth):
                return None
            return Corrupt(attempt.device, f"{structure} (gang header)", attempt.offset)

        header = redundancy.read(
            self._copies(dva, layout.GANG_HEADER, pointer.physical_birth), check, self.health,
            lambda: self._lost(structure),
        )  # fmt: skip
        order = eck_order(header) or pointer.order
        members, total = [], 0
        for number in range(layout.GANG_POINTERS):
            child = blkptr.parse(header, number * layout.BLKPTR_SIZE, order)
            if child.hole:
                continue
            total += child.psize
            if total > pointer.psize or child.embedded is not None:
                raise Corrupt(self.name, f"{structure}: gang members", dva.offset, pointer.psize, total)
            members.append(child)
        if total != pointer.psize:
            raise Corrupt(self.name, f"{structure}: gang members", dva.offset, pointer.psize, total)
        return header, members

    def compare(self, pointer: Blkptr, good: bytes, structure: str) -> Iterator[Mismatch]:
        """Where the present devices do not hold what belongs to the physical block ``good``: copies and parity.

        Raises Corrupt when a gang header of one of the copies is lost.
        """
        return self._compared(pointer, good, structure, 0, count(1))

    def _compared(
        self, pointer: Blkptr, good: bytes, structure: str, depth: int, gangs: Iterator[int]
    ) -> Iterator[Mismatch]:
        for dva in pointer.dvas:
            if not dva.gang:
                yield from self._compare(dva, good, pointer.physical_birth)
                continue
            if next(gangs) > MAX_GANGS:
                raise Corrupt(self.name, f"{structure}: more than {MAX_GANGS} gang headers", dva.offset)
            header, members = self._gang_header(pointer, dva, structure, depth)
            yield from self._compare(dva, header, pointer.physical_birth)
            done = 0
            for member in members:
                part = good[done : done + member.psize]
                yield from self._compared(member, part, structure, depth + 1, gangs)
                done += member.psize

    def places(self, pointer: Blkptr) -> Iterator[tuple[str, int]]:
        """The devices and byte offsets of the copies that lie on one present device each, in one piece."""
        for dva in pointer.dvas:
            if not dva.gang and dva.vdev < len(self.vdevs):
                for attempt in self._copies(dva, pointer.psize, pointer.physical_birth):
                    if attempt.suspects is None:
                        yield attempt.device, attempt.offset

    def _compare(self, dva: Dva, good: bytes, birth: int) -> Iterator[Mismatch]:
        if dva.vdev < len(self.vdevs):
            vdev = self.vdevs[dva.vdev]
            # What a sector has more than the block was written as zeros (zio.c:zio_vdev_io_start).
            whole = -(-len(good) >> vdev.ashift) << vdev.ashift
            yield from vdev.compare(dva.offset, good.ljust(whole, b"\0"), birth)

    def _lost(self, structure: str) -> FsError:
        return MissingDevices(self.name, self.present, self.missing or ("nothing known",), f"needed for {structure}")


def _where(pointer: Blkptr) -> int:
    return pointer.dvas[0].offset if pointer.dvas else 0
