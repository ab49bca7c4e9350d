"""btrfs: superblocks, chunks, trees, and whole filesystems with changed nodes whose checksums are right again."""

from __future__ import annotations

import struct
from functools import cache
from typing import NamedTuple, cast

from built import btrfs
from smallimages import SparseDisk, disks
from target import DATA, Disk, Target, edit, edits, look_around
from test_btrfs_tree import FSID, OWNER, Memory, leaf, node, seal

from fsdrivers import pools
from fsdrivers.btrfs import checksum, chunks, directory, inode, layout, superblock
from fsdrivers.btrfs.pool import BtrfsPool
from fsdrivers.btrfs.store import Store
from fsdrivers.btrfs.superblock import Superblock
from fsdrivers.btrfs.tree import HEADER_SIZE, Key, Node, Nodes, Pointer, Tree
from fsdrivers.btrfs.volume import Volume
from fsdrivers.errors import FsError

NODE = 4096


def _sealed(raw: bytes, size: int) -> bytes:
    """A superblock or node with the checksum of the type that it has, of ``size`` bytes."""
    data = bytearray(raw[:size].ljust(size, b"\0"))
    kind = checksum.TYPES.get(struct.unpack_from("<H", data, 0xC4)[0], checksum.TYPES[0])
    data[: kind.size] = kind.sum(memoryview(data)[layout.CSUM_FIELD :])
    return bytes(data)


# --- parts -------------------------------------------------------------------------------------------


def _superblock(data: bytes) -> Superblock:
    raw = _sealed(data, layout.SUPER_SIZE)
    found = superblock.find(Disk(bytes(layout.SUPER_OFFSETS[0]) + raw, 1 << 20))
    if found is None:
        raise superblock.Corrupt("disk", "superblock", 0)
    superblock.notes(found)
    for chunk in superblock_chunks(found):
        assert chunk.length > 0
        assert chunk.stripes
    return found


def superblock_chunks(found: Superblock) -> list[chunks.Chunk]:
    """The chunks of the array, in a map that finds each of them."""
    known = chunks.ChunkMap("fs")
    listed = []
    for chunk in chunks.system_chunks(found, "fs"):
        known.add(chunk)
        listed.append(chunk)
        assert known.at(chunk.start) == chunk
        assert known.at(chunk.start + chunk.length - 1) == chunk
    return listed


def _superblock_seed() -> bytes:
    return (DATA / "btrfs" / "superblock.bin").read_bytes()


def _array(data: bytes) -> int:
    """The array of chunks alone."""
    raw = bytearray(_superblock_seed())
    array = data[:2048]
    struct.pack_into("<I", raw, 0xA0, len(array))
    raw[0x32B : 0x32B + 2048] = array.ljust(2048, b"\0")
    found = superblock.parse(_sealed(bytes(raw), layout.SUPER_SIZE), "disk", layout.SUPER_OFFSETS[0])
    assert found is not None
    return len(superblock_chunks(found))


def _array_seed() -> bytes:
    found = superblock.parse(_superblock_seed(), "disk", layout.SUPER_OFFSETS[0])
    assert found is not None
    return found.sys_chunk_array


def _nodes(data: bytes) -> int:
    """Nodes of 4 KiB at 0x1000, 0x2000...; what says that they are of this tree is made to fit."""
    blocks: dict[int, list[bytes]] = {}
    for number in range(min(8, -(-len(data) // NODE))):
        raw = bytearray(data[number * NODE : (number + 1) * NODE].ljust(NODE, b"\0"))
        at = (number + 1) * NODE
        raw[0x20:0x30] = FSID
        raw[0x30:0x38], raw[0x50:0x58], raw[0x58:0x60] = (value.to_bytes(8, "little") for value in (at, 7, OWNER))
        blocks[at] = [seal(raw)]
    if not blocks:
        return 0
    tree = Tree(Nodes(cast(Volume, Memory(blocks))), Pointer(NODE, blocks[NODE][0][0x64], 7, OWNER))
    last: Key = (-1, -1, -1)
    count = 0
    for item in tree.items((0, 0, 0), layout.MAX_KEY):
        key = (item.objectid, item.type, item.offset)
        assert key > last, f"{key} behind {last}"
        last, count = key, count + 1
        assert len(item.data) <= NODE
        _item(tree, item.objectid)
        if item.type == layout.INODE_ITEM:
            inode.parse(item, "fs")
        elif item.type in (layout.DIR_INDEX, layout.DIR_ITEM):
            for entry in directory.parse(item, "fs"):
                assert entry.name
        elif item.type == layout.CHUNK_ITEM:
            chunks.parse(item.data, item.offset, 4096, "fs")
    return count


def _item(tree: Tree, number: int) -> None:
    for work in (lambda: list(directory.entries(tree, number, "fs")), lambda: inode.xattrs(tree, number, "fs")):
        try:
            work()
        except FsError:
            continue
    tree.at_or_before(number, layout.EXTENT_DATA, 1)


def _nodes_seed() -> bytes:
    location = {"objectid": 257, "type": layout.INODE_ITEM}
    name = btrfs.DIR(location=location, transid=7, name_len=5, type=layout.FT_REG_FILE) + b"hello"
    items = [((256, layout.INODE_ITEM, 0), bytes(160)), ((256, layout.DIR_INDEX, 2), name)]
    one, two = leaf(0x2000, cast("list[tuple[Key, bytes]]", items)), leaf(0x3000, [((257, 1, 0), bytes(160))])
    return bytes(node(0x1000, 1, [(cast(Key, items[0][0]), 0x2000), ((257, 1, 0), 0x3000)])) + bytes(one) + bytes(two)


# --- whole filesystems -------------------------------------------------------------------------------


class _Image(NamedTuple):
    """A filesystem as the kernel wrote it, and its nodes."""

    disk: SparseDisk
    store: Store
    nodes: list[Node]


def _pool(disk: SparseDisk) -> BtrfsPool:
    (pool,) = pools.assemble([disk])
    assert isinstance(pool, BtrfsPool)
    return pool


@cache
def _image() -> _Image:
    (disk,) = disks("btrfs/stripes-single")
    store = _pool(disk)._opened()
    block = store.superblock
    roots = [Pointer(block.chunk_root, block.chunk_root_level, block.chunk_root_generation, layout.CHUNK_TREE)]
    roots.append(store.roots.tree.root)
    for item in store.roots.tree.items((0, 0, 0), layout.MAX_KEY):
        if item.type == layout.ROOT_ITEM:
            roots.append(store.roots.parse(item).pointer)
    nodes: dict[int, Node] = {}
    while roots:
        pointer = roots.pop()
        if pointer.bytenr in nodes:
            continue
        found = nodes[pointer.bytenr] = store.nodes.load(pointer)
        if found.level:
            roots += [Pointer(b, found.level - 1, g, pointer.owner) for _, _, _, b, g in found.items]
    return _Image(disk, store, [nodes[at] for at in sorted(nodes)])


def _filesystem(data: bytes) -> int:
    """``data`` are changes: of the superblock (part 0) or of the nodes behind it."""
    image = _image()
    changed: dict[int, bytearray] = {}
    for part, offset, new in edits(data):
        number = part % (len(image.nodes) + 1)
        if not number:
            at, raw = -1, image.store.superblock.raw
        else:
            at, raw = image.nodes[number - 1].bytenr, image.nodes[number - 1].raw
        raw = changed.setdefault(at, bytearray(raw))
        # Headers and the first items matter most; what they lead to is at the end.
        where = layout.CSUM_FIELD + offset % (len(raw) - layout.CSUM_FIELD)
        raw[where : where + len(new)] = new[: len(raw) - where]
    patches: dict[int, bytes] = {}
    for at, raw in changed.items():
        if at < 0:
            for copy in layout.SUPER_OFFSETS:
                if copy + layout.SUPER_SIZE <= image.disk.size:
                    struct.pack_into("<Q", raw, 0x30, copy)
                    patches[copy] = _sealed(bytes(raw), layout.SUPER_SIZE)
            continue
        kind = checksum.TYPES[image.store.superblock.csum_type]
        raw[: kind.size] = kind.sum(memoryview(raw)[layout.CSUM_FIELD :])
        for segment in image.store.volume.segments(at, len(raw)):
            for _, copy in image.store.volume.ranked(segment):
                patches[copy.offset] = bytes(raw)
    answered = 0
    complaints: list[FsError] = []
    for pool in pools.assemble([image.disk.patched(patches)], complaints.append):
        pool.roots()
        answered += look_around(pool.open("/"))
    if not answered:
        raise complaints[0] if complaints else FsError("nothing answered")
    return answered


def _filesystem_seeds() -> list[bytes]:
    """No change, and one in the first item of some nodes that leaves all as it is."""
    image = _image()
    same = [
        edit(number + 1, HEADER_SIZE - layout.CSUM_FIELD, bytes(one.raw[HEADER_SIZE : HEADER_SIZE + 16]))
        for number, one in enumerate(image.nodes[:12])
    ]
    return [b"", *same]


TARGETS = (
    Target("btrfs-superblock", _superblock, lambda: [_superblock_seed()], layout.SUPER_SIZE),
    Target("btrfs-chunks", _array, lambda: [_array_seed()], 2048),
    Target("btrfs-nodes", _nodes, lambda: [_nodes_seed()], 8 * NODE),
    Target("btrfs-filesystem", _filesystem, _filesystem_seeds, 256),
)
