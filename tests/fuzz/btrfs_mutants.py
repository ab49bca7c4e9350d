"""Mutants of filesystems that the kernel wrote: where damage goes, how its checksums are repaired, how it is read.

A mutant is a list of patches over the images, which stay as they are.  What is needed to make one (where nodes are,
which file uses what) is learnt once from the whole image, by the driver itself.
"""

from __future__ import annotations

import hashlib
import mmap
import random
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fsdrivers import pools
from fsdrivers.block import BlockDevice
from fsdrivers.btrfs import checksum, layout
from fsdrivers.btrfs.pool import BtrfsPool
from fsdrivers.btrfs.store import Store
from fsdrivers.btrfs.tree import HEADER_SIZE, Node, Pointer, is_file_tree
from fsdrivers.damage import Totals
from fsdrivers.errors import FsError
from fsdrivers.filesystem import DIRECTORY, FILE, SYMLINK, Filesystem
from fsdrivers.traverse import walk
from qemu.manifest import Record

SECONDS = 2  # of processor time that one mutant may take
SAMPLE = 8  # paths that every mutant is asked for, beside those that use what was damaged
READ = 4 << 20  # bytes of one file: sizes are the disk's word
ENTRIES = 20000
UNCHECKED = ("/nodatacow", "/plain")  # files without checksums: nothing can tell that they are damaged
EDGES = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0xFFF, 0x1000, 0x3FFF, 0x4000, 0xFFFF, 0x10000, 1 << 20, 1 << 31)
EDGES += (0xFFFFFFFF, 1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 4096, (1 << 64) - 1)


class Image(BlockDevice):
    """A disk image in memory, with patches over it and perhaps an early end."""

    def __init__(self, name: str, data: mmap.mmap, patches: dict[int, bytes] | None = None, size: int = -1) -> None:
        self.name, self.data, self.patches = name, data, patches or {}
        self.size = len(data) if size < 0 else size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check(offset, len(buffer))
        end = offset + len(buffer)
        buffer[:] = self.data[offset:end]
        for start, data in self.patches.items():
            low, high = max(start, offset), min(start + len(data), end)
            if low < high:
                buffer[low - offset : high - offset] = data[low - start : high - start]


class Place(NamedTuple):
    """A node of the whole filesystem and what led to it."""

    pointer: Pointer
    node: Node
    above: tuple[int, ...]


class Mutant(NamedTuple):
    """``repaired``: its checksums hold, so that any answer but a crash counts.  ``inodes`` are worth reading."""

    what: str
    members: list[BlockDevice]
    repaired: bool
    inodes: set[int]


class Subject:
    """One filesystem: its images, its nodes, and the files it should show."""

    def __init__(self, disks: list[Path], records: dict[str, Record]) -> None:
        self.images = []
        for number, path in enumerate(disks):
            with path.open("rb") as file:
                self.images.append(Image(f"disk{number}", mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)))
        self.records = records
        pool = _assemble(list(self.images))
        self.store: Store = pool._opened()
        self.kind = checksum.TYPES[self.store.superblock.csum_type]
        self.nodes = self._nodes()
        top = pool.open("/")
        self.paths = {}
        self.by_inode: dict[int, str] = {}
        for found in walk(top):
            self.paths[found.path] = found.node
            self.by_inode.setdefault(found.node.inode, found.path)  # type: ignore[attr-defined]
        self.data = self._data()

    def _nodes(self) -> list[Place]:
        block = self.store.superblock
        chunk = Pointer(block.chunk_root, block.chunk_root_level, block.chunk_root_generation, layout.CHUNK_TREE)
        roots = [chunk, self.store.roots.tree.root]
        for item in self.store.roots.tree.items((0, 0, 0), layout.MAX_KEY):
            if item.type == layout.ROOT_ITEM:
                roots.append(self.store.roots.parse(item).pointer)
        found: dict[int, Place] = {}
        stack: list[tuple[Pointer, tuple[int, ...]]] = [(root, ()) for root in roots]
        while stack:
            pointer, above = stack.pop()
            if pointer.bytenr in found:
                continue
            node = self.store.nodes.load(pointer)
            found[pointer.bytenr] = Place(pointer, node, above)
            if node.level:
                below = (*above, pointer.bytenr)
                stack += [
                    (Pointer(b, node.level - 1, g, pointer.owner, (o, k, f)), below) for o, k, f, b, g in node.items
                ]
        # What reading goes through: the others (extents, free space, devices) are nobody's business.
        wanted = (layout.ROOT_TREE, layout.CHUNK_TREE, layout.CSUM_TREE, layout.RAID_STRIPE_TREE)
        return [p for p in found.values() if p.node.owner in wanted or is_file_tree(p.node.owner)]

    def _data(self) -> list[tuple[int, int, int]]:
        """(address, length, inode) of file extents."""
        found = []
        for place in self.nodes:
            if place.node.level or not is_file_tree(place.node.owner):
                continue
            for objectid, kind, _, at, size in place.node.items:
                if kind == layout.EXTENT_DATA and size == layout.EXTENT.size:
                    fields = layout.EXTENT.unpack_from(place.node.raw, HEADER_SIZE + at)
                    if fields[5] == layout.EXTENT_REGULAR and fields[6]:
                        # Of what is not compressed, the part that was written: the rest may have no place.
                        start, length = (fields[6], fields[7]) if fields[2] else (fields[6] + fields[8], fields[9])
                        found.append((start, length, objectid))
        return found

    # --- making -----------------------------------------------------------------------------------

    def mutant(self, seed: int) -> Mutant:
        """The mutant number ``seed``: always the same one."""
        chance = random.Random(seed)
        makers = (self._superblock, self._array, self._node, self._node, self._items, self._items, self._items)
        makers += (self._loop, self._extent, self._flip, self._rot, self._rot, self._end)
        return chance.choice(makers)(chance)

    def _with(self, what: str, patches: list[tuple[int, bytes]], repaired: bool, inodes: set[int]) -> Mutant:
        """A mutant with ``patches`` by address, in every copy."""
        by_disk: dict[str, dict[int, bytes]] = {}
        for address, data in patches:
            at = address
            for segment in self.store.volume.segments(address, len(data)):
                part = data[at - address : at - address + segment.length]
                for leg, copy in self.store.volume.ranked(segment):
                    by_disk.setdefault(leg.device.name, {})[copy.offset] = part
                at += segment.length
        members: list[BlockDevice] = [Image(i.name, i.data, by_disk.get(i.name)) for i in self.images]
        return Mutant(what, members, repaired, inodes)

    def _sealed(self, raw: bytearray) -> bytes:
        """``raw`` (a node or superblock) with the checksum that it should have."""
        raw[: self.kind.size] = self.kind.sum(memoryview(raw)[layout.CSUM_FIELD :])
        return bytes(raw)

    def _superblocks(self, what: str, change: Callable[[bytearray], None], repaired: bool) -> Mutant:
        members: list[BlockDevice] = []
        for image in self.images:
            patches = {}
            for offset in layout.SUPER_OFFSETS:
                if offset + layout.SUPER_SIZE <= image.size:
                    raw = bytearray(image.data[offset : offset + layout.SUPER_SIZE])
                    change(raw)
                    patches[offset] = self._sealed(raw) if repaired else bytes(raw)
            members.append(Image(image.name, image.data, patches))
        return Mutant(what, members, repaired, set())

    def _superblock(self, chance: random.Random) -> Mutant:
        at, value, size = chance.randrange(0x20, 0x32B), chance.choice(EDGES), chance.choice((1, 2, 4, 8))
        repaired = chance.random() < 0.9

        def change(raw: bytearray) -> None:
            _put(raw, at, value, size)

        return self._superblocks(f"superblock at {at:#x} {size} bytes = {value:#x}", change, repaired)

    def _array(self, chance: random.Random) -> Mutant:
        size = len(self.store.superblock.sys_chunk_array)
        at, value, width = 0x32B + chance.randrange(size), chance.choice(EDGES), chance.choice((1, 2, 4, 8))
        return self._superblocks(
            f"chunk array at {at:#x} {width} bytes = {value:#x}", lambda raw: _put(raw, at, value, width), True
        )

    def _node(self, chance: random.Random) -> Mutant:
        """The header of a node, or where its items say that they are."""
        place = self._some_node(chance)
        raw = bytearray(place.node.raw)
        if chance.random() < 0.4 or not place.node.items:
            at, size = chance.choice(((0x20, 8), (0x30, 8), (0x38, 8), (0x50, 8), (0x58, 8), (0x60, 4), (0x64, 1)))
        else:
            width = layout.KEY_PTR.size if place.node.level else layout.ITEM.size
            fields = ((0, 8), (8, 1), (9, 8), (17, 8), (25, 8)) if place.node.level else (
                (0, 8), (8, 1), (9, 8), (17, 4), (21, 4)
            )  # fmt: skip
            field, size = chance.choice(fields)
            at = HEADER_SIZE + chance.randrange(len(place.node.items)) * width + field
        value = chance.choice((*EDGES, chance.getrandbits(8 * size)))
        _put(raw, at, value, size)
        what = f"node {place.pointer.bytenr:#x} of {place.node.owner} at {at:#x} {size} bytes = {value:#x}"
        return self._with(what, [(place.pointer.bytenr, self._sealed(raw))], True, self._users(place))

    def _items(self, chance: random.Random) -> Mutant:
        """What is in the items of a leaf."""
        place = self._some_node(chance)
        leaf = place.node
        raw = bytearray(leaf.raw)
        inodes = set()
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            if leaf.level or not leaf.items:
                break
            objectid, _, _, start, size = chance.choice(leaf.items)
            inodes.add(objectid)
            if size:
                at = HEADER_SIZE + start + chance.randrange(min(size, 200))
                _put(raw, at, chance.choice((*EDGES, chance.getrandbits(64))), chance.choice((1, 1, 2, 4, 8)))
        what = f"items of {sorted(inodes)[:5]} in leaf {place.pointer.bytenr:#x} of {leaf.owner}"
        return self._with(what, [(place.pointer.bytenr, self._sealed(raw))], True, inodes | self._users(place, 3))

    def _loop(self, chance: random.Random) -> Mutant:
        """A pointer that leads up, to itself, or to another tree, with everything that says so made to fit."""
        places = [place for place in self.nodes if place.node.level]
        if not places:
            return self._node(chance)
        place, target = chance.choice(places), chance.choice(self.nodes)
        if chance.random() < 0.6:
            target = place
        raw = bytearray(place.node.raw)
        at = HEADER_SIZE + chance.randrange(len(place.node.items)) * layout.KEY_PTR.size
        struct.pack_into("<QQ", raw, at + 17, target.pointer.bytenr, target.node.generation)
        if chance.random() < 0.5:
            raw[at : at + 17] = target.node.raw[HEADER_SIZE : HEADER_SIZE + 17]
        what = f"node {place.pointer.bytenr:#x} points to {target.pointer.bytenr:#x}"
        return self._with(what, [(place.pointer.bytenr, self._sealed(raw))], True, self._users(place))

    def _extent(self, chance: random.Random) -> Mutant:
        """One field of one file extent: addresses, sizes, codecs, bombs."""
        leaves = [p for p in self.nodes if not p.node.level and is_file_tree(p.node.owner)]
        leaves = [p for p in leaves if any(item[1] == layout.EXTENT_DATA for item in p.node.items)]
        place = chance.choice(leaves)
        item = chance.choice([item for item in place.node.items if item[1] == layout.EXTENT_DATA])
        raw = bytearray(place.node.raw)
        at, size = chance.choice(((8, 8), (16, 1), (17, 1), (20, 1), (21, 8), (29, 8), (37, 8), (45, 8)))
        value = chance.choice((*EDGES, 0x20000, 0x20000 - 1, chance.getrandbits(40) & -4096, *range(4)))
        if at + size <= item[4]:
            _put(raw, HEADER_SIZE + item[3] + at, value, size)
        what = f"extent of {item[0]} at {item[2]:#x}: byte {at} = {value:#x}"
        return self._with(what, [(place.pointer.bytenr, self._sealed(raw))], True, {item[0]})

    def _flip(self, chance: random.Random) -> Mutant:
        """A node with bits flipped and its checksum left alone."""
        place = self._some_node(chance)
        raw = bytearray(place.node.raw)
        for _ in range(chance.choice((1, 3, 40))):
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        what = f"bits of node {place.pointer.bytenr:#x}"
        return self._with(what, [(place.pointer.bytenr, bytes(raw))], False, self._users(place))

    def _rot(self, chance: random.Random) -> Mutant:
        """Data with bits flipped: what is served must be right all the same, or nothing."""
        address, length, inode = chance.choice(self.data)
        sector = chance.randrange(length // 4096) * 4096
        rubbish = bytes(4096) if chance.random() < 0.2 else chance.randbytes(4096)
        return self._with(f"data at {address + sector:#x}", [(address + sector, rubbish)], False, {inode})

    def _end(self, chance: random.Random) -> Mutant:
        """A device that ends early."""
        members: list[BlockDevice] = list(self.images)
        index = chance.randrange(len(members))
        image = self.images[index]
        size = chance.choice((0, 511, 0x10000, 0x11000, chance.randrange(image.size), chance.randrange(32 << 20)))
        members[index] = Image(image.name, image.data, None, size)
        return Mutant(f"{image.name} ends at {size:#x}", members, False, set())

    def _some_node(self, chance: random.Random) -> Place:
        owner = chance.choice(sorted({min(place.node.owner, 256) for place in self.nodes}))
        return chance.choice([place for place in self.nodes if min(place.node.owner, 256) == owner])

    def _users(self, place: Place, most: int = 6) -> set[int]:
        objects = sorted({item[0] for item in place.node.items})
        return set(objects[:most]) if is_file_tree(place.node.owner) else set()

    # --- reading ----------------------------------------------------------------------------------

    def read(self, mutant: Mutant, seed: int) -> None:
        """Ask ``mutant`` for everything a user could; raises what is no FsError, and AssertionError for wrong data."""
        chance = random.Random(seed)
        paths = [self.by_inode[inode] for inode in sorted(mutant.inodes) if inode in self.by_inode]
        paths = [*paths[:8], *chance.sample(sorted(self.paths), SAMPLE), "/", "/@/../@/vmlinuz"]
        complaints: list[FsError] = []
        for pool in pools.assemble(mutant.members, complaints.append):
            try:
                pool.roots()
                filesystem = pool.open("/")
            except FsError:
                continue
            for path in paths:
                try:
                    self._ask(filesystem, path, not mutant.repaired)
                except FsError:
                    continue
            if seed % 16 == 0:
                for _ in zip(range(1000), pool.verify(True, Totals()), strict=False):
                    pass

    def _ask(self, filesystem: Filesystem, path: str, right: bool) -> None:
        node = filesystem.resolve(path)
        status = filesystem.stat(node)
        filesystem.xattrs(node)
        if status.type == DIRECTORY:
            for count, _ in enumerate(filesystem.entries(node)):
                assert count < ENTRIES, f"{path}: no end of names"
        elif status.type == SYMLINK:
            filesystem.link_target(node)
        elif status.type == FILE:
            total, size = hashlib.sha256(), 0
            for chunk in filesystem.open(path).chunks():
                assert len(chunk) <= 8 << 20, f"{path}: a piece of {len(chunk)} bytes"
                size += len(chunk)
                total.update(chunk)
                if size > READ:
                    return
            if right and path in self.records and not path.endswith(UNCHECKED):
                wanted = self.records[path].fields().get("sha256")
                assert wanted in (None, total.hexdigest()), f"{path}: wrong data"


def run(subject: Subject, seed: int) -> str:
    """What is wrong with how mutant ``seed`` was read, "" for nothing."""

    def late(*_: object) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    mutant = subject.mutant(seed)
    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        subject.read(mutant, seed)
    except FsError as error:
        return f"{mutant.what}: {error!r} escaped"
    except Exception as error:
        import traceback

        return f"{mutant.what}: {error!r}\n{''.join(traceback.format_tb(error.__traceback__)[-4:])}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return ""


def _assemble(members: list[BlockDevice]) -> BtrfsPool:
    (pool,) = pools.assemble(members)
    assert isinstance(pool, BtrfsPool)
    return pool


def _put(raw: bytearray, at: int, value: int, size: int) -> None:
    """``size`` bytes of ``value`` at ``at``, cut at the end of ``raw``."""
    data = (value & (1 << 8 * size) - 1).to_bytes(size, "little")[: len(raw) - at]
    raw[at : at + len(data)] = data
