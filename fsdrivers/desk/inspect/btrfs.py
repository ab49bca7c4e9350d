"""Superblocks, chunks, nodes and trees of btrfs for `fsdrivers inspect`, as far as they can be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fsdrivers.block import BlockDevice
from fsdrivers.btrfs import checksum, geometry, layout, superblock
from fsdrivers.btrfs.chunks import ChunkMap, parse, system_chunks
from fsdrivers.btrfs.pool import BtrfsPool
from fsdrivers.btrfs.roots import Roots
from fsdrivers.btrfs.tree import HEADER_SIZE, Node, Nodes, Pointer
from fsdrivers.btrfs.volume import Volume
from fsdrivers.desk.inspect import btrfs_items as items
from fsdrivers.desk.inspect import btrfs_words as meant
from fsdrivers.desk.inspect import words
from fsdrivers.desk.inspect.btrfs_items import Data, disk
from fsdrivers.desk.inspect.report import Field, Nothing, Report, fields
from fsdrivers.errors import Corrupt, FsError
from fsdrivers.redundancy import Attempt, Health

TREES = {
    "root": 1, "extent": 2, "chunk": 3, "dev": 4, "fs": 5, "csum": 7, "quota": 8, "uuid": 9, "free-space": 10,
    "block-group": 11, "raid-stripe": 12, "log": layout.TREE_LOG, "data-reloc": 2**64 - 9,
}  # fmt: skip
"""What `inspect tree` calls the trees that are no subvolumes."""


# --- superblocks ----------------------------------------------------------------------------------


def superblocks(devices: Sequence[BlockDevice]) -> Iterator[Report]:
    """Every copy of the superblock on those of ``devices`` that have one.  Raises Nothing when none has."""
    found = False
    for device in devices:
        copies = list(_copies(device))
        if any(raw[0x40:0x48] == layout.SUPER_MAGIC for _, _, raw in copies):
            found = True
            for number, offset, raw in copies:
                yield _superblock(device, number, offset, raw)
    if not found:
        raise Nothing(f"no btrfs superblock on {', '.join(device.name for device in devices)}")


def _copies(device: BlockDevice) -> Iterator[tuple[int, int, bytes]]:
    """(number, offset, bytes) of the places that a superblock may have; no bytes when they cannot be read."""
    for number, offset in enumerate(layout.SUPER_OFFSETS):
        if offset + layout.SUPER_SIZE <= device.size:
            try:
                yield number, offset, device.read(offset, layout.SUPER_SIZE)
            except FsError:
                yield number, offset, b""


def _superblock(device: BlockDevice, number: int, offset: int, raw: bytes) -> Report:
    title: dict[str, object] = {"structure": f"superblock {number}", "device": device.name, "offset": offset}
    if not raw:
        return Report(title, (), ("it cannot be read",))
    if raw[0x40:0x48] != layout.SUPER_MAGIC:
        return Report(title, (), ("there is none: the magic is missing",))
    found = fields(disk.SUPERBLOCK, raw, {**meant.SUPERBLOCK, "csum": _stored, "reserved": words.blank,
                                          "padding": words.blank, "super_roots.unused_64": words.blank,
                                          "super_roots.unused_8": words.blank})  # fmt: skip
    kind = checksum.TYPES.get(raw[0xC4] | raw[0xC5] << 8)
    if kind is not None:
        computed = kind.sum(raw[layout.CSUM_FIELD :])
        found = _replaced(found, "csum", words.checksum(raw[: kind.size].hex(), computed.hex()))
    size = next(int(str(one.value)) for one in found if one.name == "sys_chunk_array_size")
    array, problem = _array(raw, min(size, layout.SYS_CHUNK_ARRAY_SIZE))
    found = tuple(
        one._replace(value=None, text="", inner=array) if one.name == "sys_chunk_array" else one for one in found
    )
    problems = [problem] if problem else []
    try:
        superblock.parse(raw, device.name, offset)
    except FsError as error:
        problems.insert(0, str(error))
    return Report(title, found, tuple(problems))


def _stored(raw: bytes) -> tuple[object, str]:
    return raw.hex(), raw.hex()


def _replaced(found: tuple[Field, ...], name: str, shown: tuple[object, str]) -> tuple[Field, ...]:
    return tuple(one._replace(value=shown[0], text=shown[1]) if one.name == name else one for one in found)


def _array(raw: bytes, size: int) -> tuple[tuple[Field, ...], str]:
    """The chunks in a superblock's array, and what is wrong with it."""
    start = disk.SUPERBLOCK.offset("sys_chunk_array")
    array = raw[start : start + size]
    at = 0
    found: list[Field] = []
    try:
        while at < size:
            data = Data((0, 0, 0), array, start)
            key = layout.KEY.unpack(array[at : at + disk.KEY.size].ljust(disk.KEY.size, b"\0"))
            if key[1] != layout.CHUNK_ITEM:
                return tuple(found), f"sys_chunk_array: {meant.key(*key)} at {at:#x} is no chunk"
            inner = tuple(items.chunk(data, at + disk.KEY.size))
            length = disk.KEY.size + disk.CHUNK.size + disk.STRIPE.size * (len(inner) - len(disk.CHUNK.places))
            found.append(Field(str(len(found)), list(key), meant.key(*key), start + at, length, inner))
            at += length
    except items.Ends as error:
        return tuple(found), f"sys_chunk_array: {error}"
    return tuple(found), ""


# --- the address space -----------------------------------------------------------------------------


class Reader:
    """A filesystem whose chunk tree may be damaged: its chunks are those that can be read.  Problems are kept."""

    def __init__(self, pool: BtrfsPool) -> None:
        self.block = block = pool.superblock
        self.volume = Volume(pool.name or pool.uuid, block, pool.legs, Health())
        self.nodes = Nodes(self.volume)
        self.problems: list[str] = []
        self.items: dict[int, bytes] = {}  # of chunks, by address
        try:
            for chunk in system_chunks(block, self.volume.name):
                self.volume.chunks.add(chunk)
        except FsError as error:
            self.problems.append(str(error))
        top = Pointer(block.chunk_root, block.chunk_root_level, block.chunk_root_generation, layout.CHUNK_TREE)
        known = ChunkMap(self.volume.name)
        for seen in self.walk(top):
            self.problems += seen.problems
            for key, data, _ in _leaf_items(seen):
                if key[1] == layout.CHUNK_ITEM:
                    self.items[key[2]] = data
                    self._add(known, key[2], data)
        for chunk in known:
            try:
                self.volume.chunks.add(chunk)
            except Corrupt as error:
                self.problems.append(str(error))

    def _add(self, known: ChunkMap, start: int, data: bytes) -> None:
        try:
            known.add(parse(data, start, self.block.sectorsize, self.volume.name))
        except Corrupt as error:
            self.problems.append(str(error))

    def see(self, bytenr: int, pointer: Pointer | None = None) -> Seen:
        """The node at ``bytenr``, all copies held against ``pointer`` (or what the node says of itself)."""
        size = self.block.nodesize
        copies: list[Copy] = []
        try:
            segments = self.volume.segments(bytenr, size)
        except FsError as error:
            return Seen(bytenr, b"", (), (str(error),))
        for leg, place in self.volume.ranked(segments[0]) if len(segments) == 1 else ():
            try:
                raw = leg.device.read(place.offset, size)
            except FsError as error:
                copies.append(Copy(leg.device.name, place.offset, b"", str(error)))
                continue
            problem = self._judge(raw, bytenr, pointer, leg.device.name, place.offset)
            copies.append(Copy(leg.device.name, place.offset, raw, problem))
        best = next((one for one in copies if not one.problem), None)
        if best is None:
            best = self._rebuilt(bytenr, pointer, copies)
        raw = best.raw if best else next((one.raw for one in copies if one.raw), b"")
        problems = tuple(dict.fromkeys(one.problem for one in copies if one.problem))
        return Seen(bytenr, raw, tuple(copies), problems)

    def _rebuilt(self, bytenr: int, pointer: Pointer | None, copies: list[Copy]) -> Copy | None:
        """The node as parity or a mixture of copies gives it, put in front of ``copies``; why not goes behind them."""

        def verify(raw: bytes, attempt: Attempt) -> FsError | None:
            problem = self._judge(raw, bytenr, pointer, attempt.device, attempt.offset)
            return Corrupt(attempt.device, "tree node", attempt.offset) if problem else None

        try:
            raw = self.volume.read_verified(bytenr, self.block.nodesize, verify)
        except FsError as error:
            if not copies:
                copies.append(Copy("", 0, b"", str(error)))
            return None
        copies.insert(0, Copy("what others make up for", 0, raw, ""))
        return copies[0]

    def _judge(self, raw: bytes, bytenr: int, pointer: Pointer | None, device: str, offset: int) -> str:
        if pointer is None:
            head = disk.HEADER.parse(raw)
            pointer = Pointer(bytenr, head.level, head.generation, head.owner)
        problem = self.nodes.judge(raw, pointer, device, offset)
        return str(problem) if problem else ""

    def walk(self, top: Pointer) -> Iterator[Seen]:
        """All nodes of a tree, parents first, each once; what cannot be read is told, and left out with all below."""
        stack = [top]
        known: set[int] = set()
        while stack:
            pointer = stack.pop()
            if pointer.bytenr in known:
                yield Seen(pointer.bytenr, b"", (), ("it was there before: the tree leads to it more than once",))
                continue
            known.add(pointer.bytenr)
            seen = self.see(pointer.bytenr, pointer)
            yield seen
            if seen.raw and pointer.level and any(not one.problem for one in seen.copies):
                below = Node(seen.raw).items
                stack += [
                    Pointer(address, pointer.level - 1, generation, top.owner, (objectid, kind, offset))
                    for objectid, kind, offset, address, generation in reversed(below)
                ]

    def top(self, name: str) -> Pointer:
        """The root of the tree called ``name``, or of subvolume number ``name``.  Raises FsError."""
        block = self.block
        number = TREES.get(name, -1)
        if number < 0 and name.removeprefix("id:").isdecimal():
            number = int(name.removeprefix("id:"))
        if number == layout.ROOT_TREE:
            return Pointer(block.root, block.root_level, block.generation, layout.ROOT_TREE)
        if number == layout.CHUNK_TREE:
            return Pointer(block.chunk_root, block.chunk_root_level, block.chunk_root_generation, layout.CHUNK_TREE)
        if number == layout.TREE_LOG:
            if not block.log_root:
                raise Nothing("no log tree (the filesystem was unmounted)")
            return Pointer(block.log_root, block.log_root_level, block.generation + 1, layout.TREE_LOG)
        roots = Roots(self.nodes, self.top("root"), self.volume.name)
        item = roots.item(number) if 0 <= number < 1 << 64 else None
        if item is None:
            raise Nothing(f"no tree {name} (there are {', '.join(TREES)}, and subvolumes by their numbers)")
        return item.pointer


class Copy(NamedTuple):
    """One copy of a node: its bytes, and what is wrong with it."""

    device: str
    offset: int
    raw: bytes
    problem: str


class Seen(NamedTuple):
    """A node: the best of its copies, empty when there is none."""

    bytenr: int
    raw: bytes
    copies: tuple[Copy, ...]
    problems: tuple[str, ...]


def _leaf_items(seen: Seen) -> Iterator[tuple[tuple[int, int, int], bytes, int]]:
    """(key, data, offset in the node) of what lies inside of a leaf that is whole."""
    if not seen.raw or all(one.problem for one in seen.copies):
        return
    node = Node(seen.raw)
    for objectid, kind, offset, start, size in () if node.level else node.items:
        yield (objectid, kind, offset), seen.raw[HEADER_SIZE + start : HEADER_SIZE + start + size], HEADER_SIZE + start


# --- what is shown of it ---------------------------------------------------------------------------


def chunks(reader: Reader, address: int | None) -> Iterator[Report]:
    """All chunks, or the one around ``address`` and where that lies.  Raises Corrupt when there is none."""
    only = reader.volume.chunks.at(address) if address is not None else None
    for chunk in reader.volume.chunks:
        if only is not None and chunk is not only:
            continue
        raw = reader.items.get(chunk.start)
        where = () if address is None else tuple(_where(reader.volume, address))
        if raw is None:  # of the superblock alone: the tree's item cannot be read
            stripes = ", ".join(f"devid {one.devid} at {one.offset:#x}" for one in chunk.stripes)
            found: tuple[Field, ...] = (
                Field("length", chunk.length, str(chunk.length)),
                Field("type", *meant.block_group(chunk.type)),
                Field("stripes", stripes, stripes),
            )
        else:
            key = layout.FIRST_CHUNK_TREE, layout.CHUNK_ITEM, chunk.start
            found = tuple(items.chunk(Data(key, raw, 0)))
        yield Report({"structure": "chunk", "address": chunk.start}, found + where)
    if reader.problems:
        yield Report({"structure": "chunk map"}, (), tuple(reader.problems))


def _where(volume: Volume, address: int) -> Iterator[Field]:
    """The copies of the sector at ``address``."""
    start = address - address % volume.sectorsize
    for segment in geometry.segments(volume.chunks.at(start), start, volume.sectorsize):
        for number, (leg, copy) in enumerate(volume.ranked(segment)):
            value = {"device": leg.device.name, "offset": copy.offset + address - start}
            yield Field(f"address, copy {number}", value, f"{leg.device.name} at {copy.offset + address - start:#x}")


def node(reader: Reader, address: int) -> Iterator[Report]:
    """The node at ``address``."""
    yield shown(reader, reader.see(address))


def tree(reader: Reader, name: str) -> Iterator[Report]:
    """All nodes of a tree."""
    for seen in reader.walk(reader.top(name)):
        yield shown(reader, seen)


def shown(reader: Reader, seen: Seen) -> Report:
    """What there is of a node."""
    title: dict[str, object] = {"structure": "node", "address": seen.bytenr, "size": reader.block.nodesize}
    copies = tuple(
        Field(
            str(number),
            {"device": one.device, "offset": one.offset, "right": not one.problem},
            f"{one.device} at {one.offset:#x} ({'wrong' if one.problem else 'right'})"
            if one.raw
            else "it cannot be read",
        )
        for number, one in enumerate(seen.copies)
    )
    if not seen.raw:
        return Report(title, (), seen.problems)
    raw = seen.raw
    head = fields(disk.HEADER, raw, {**meant.HEADER, "csum": _stored})
    kind = reader.volume.checksum
    computed = kind.sum(raw[layout.CSUM_FIELD :])
    head = _replaced(head, "csum", words.checksum(raw[: kind.size].hex(), computed.hex()))
    level = raw[HEADER_SIZE - 1]
    title["structure"] = "node" if level else "leaf"
    below, problems = _pointers(raw) if level else _items(raw)
    return Report(title, (*head, Field("copies", None, "", None, 0, copies), *below), (*seen.problems, *problems))


def _pointers(raw: bytes) -> tuple[list[Field], list[str]]:
    found = []
    for number in range(len(Node(raw).items)):
        at = HEADER_SIZE + number * disk.KEY_PTR.size
        inner = fields(disk.KEY_PTR, raw[at : at + disk.KEY_PTR.size], meant.ITEM, at)
        found.append(_numbered("pointer", number, inner, disk.KEY_PTR.size, ()))
    return found, []


def _items(raw: bytes) -> tuple[list[Field], list[str]]:
    found, problems = [], []
    left = len(raw)  # items of a hostile leaf may all have the same bytes
    for number, (objectid, kind, offset, start, size) in enumerate(Node(raw).items):
        at = HEADER_SIZE + number * disk.ITEM.size
        inner = fields(disk.ITEM, raw[at : at + disk.ITEM.size], meant.ITEM, at)
        base = HEADER_SIZE + start
        more: tuple[Field, ...] = ()
        problem = "" if base + size <= len(raw) else "its data lies outside of the node"
        left -= size
        if not problem and left < 0:
            problem = "not shown, as the items before it have all the room of a node"
        if not problem:
            more, problem = items.of((objectid, kind, offset), raw[base : base + size], base)
        if problem:
            problems.append(f"item {number} {meant.key(objectid, kind, offset)}: {problem}")
        key, place, length = inner
        named = key, place._replace(name="itemoff"), length._replace(name="itemsize")
        found.append(_numbered("item", number, named, disk.ITEM.size, more))
    return found, problems


def _numbered(name: str, number: int, inner: tuple[Field, ...], size: int, more: tuple[Field, ...]) -> Field:
    """An item or pointer: its key in its own line, the rest below it."""
    first, *rest = inner
    return Field(f"{name} {number}", first.value, first.text, first.at, size, (*rest, *more))
