"""ZFS: labels, packed lists, block pointers, objects, logs, and whole pools whose blocks were changed."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import cast

from built import zfs
from smallimages import SparseDisk, disks
from target import DATA, Disk, Target, edit, edits, look_around
from test_zfs_object_amplifiers import pointer
from zaps import Blocks, array, entry, header, leaf
from zfslabels import ROOM, packed, pair, string

from fsdrivers import pools
from fsdrivers.errors import FsError
from fsdrivers.redundancy import Health
from fsdrivers.zfs import blkptr, label, layout, nvlist, tree, zil
from fsdrivers.zfs.blkptr import Blkptr
from fsdrivers.zfs.dmu import Dnode, Objset
from fsdrivers.zfs.store import Store
from fsdrivers.zfs.zap import Zap

ORDERS = ("<", ">")


def _nvlist(data: bytes) -> int:
    return len(nvlist.parse(data))


def _nvlist_seeds() -> list[bytes]:
    found: dict[str, str] = json.loads((DATA / "zfs" / "nvlists.json").read_text())
    return [bytes.fromhex(text) for text in found.values()]


def _config() -> bytes:
    """The list of a pool of one disk."""

    def number(name: bytes, value: int) -> bytes:
        return pair(name, 8, struct.pack(">Q", value))

    def text(name: bytes, value: bytes) -> bytes:
        return pair(name, 9, string(value))

    disk = packed(text(b"type", b"disk"), number(b"id", 0), number(b"guid", 7), number(b"ashift", 9))[4:]
    numbers = (
        (b"version", 5000), (b"txg", 4), (b"state", 0), (b"pool_guid", 6), (b"guid", 7), (b"top_guid", 7),
        (b"hostid", 1),
    )  # fmt: skip
    return packed(
        text(b"name", b"tank"), text(b"hostname", b"box"), *(number(*one) for one in numbers),
        pair(b"vdev_tree", 19, disk), number(b"vdev_children", 1),
    )  # fmt: skip


def _label(data: bytes) -> int:
    """A disk with one label, whose checksum is right, and an uberblock behind it."""
    content = data[:ROOM].ljust(ROOM, b"\0")
    eck = layout.ECK["<"].pack(layout.ECK_MAGIC, layout.LABEL_NVLIST, 0, 0, 0)
    digest = struct.unpack(">4Q", hashlib.sha256(content + eck).digest())
    raw = bytes(layout.LABEL_NVLIST) + content + layout.ECK["<"].pack(layout.ECK_MAGIC, *digest)
    disk = Disk(raw + data[ROOM:], layout.MIN_DEVICE)
    found = label.read(disk)
    if found is None:
        raise FsError("no label")
    list(label.damaged(disk))
    list(label.uberblocks(disk, 9))
    for one in tree.leaves(found.tree):
        tree.describe(one)
    complaints: list[FsError] = []
    for pool in pools.assemble([disk], complaints.append):
        assert pool.name
        assert len(pool.slots) <= 1 << 16
    return 1


def _zap(data: bytes) -> int:
    """The first byte is the size of the blocks, the rest are the blocks."""
    size = 512 << (data[0] % 4 if data else 0)
    blocks = [data[at : at + size].ljust(size, b"\0") for at in range(1, len(data), size)] or [bytes(size)]
    object_ = Blocks(lambda number: blocks[number % len(blocks)], len(blocks) - 1)
    found = Zap(cast(Dnode, object_))
    count = sum(1 for _ in zip(range(1 << 16), found.items(), strict=False))
    found.get(b"name")
    found.number("VERSION")
    return count


def _zap_seeds() -> list[bytes]:
    head = zfs.MZAP_HEADER(mz_block_type=layout.ZBT_MICRO, mz_salt=1)
    names = head + zfs.MZAP_ENTRY(mze_value=7, mze_name=b"VERSION")
    table = struct.pack("<Q", 1) * 32
    chunks = [entry(1, 5, 2, 1, 8), array(b"name\0"), array(struct.pack(">Q", 5))]
    return [b"\0" + names.ljust(512, b"\0"), b"\0" + header(512, 5, 0, table) + leaf(512, chunks)]


def _blkptr(data: bytes) -> int:
    """A pointer, and what it stands for when nothing is at its address."""
    found = blkptr.parse(data[1:].ljust(128, b"\0"), 0, ORDERS[data[0] & 1 if data else 0])
    assert found.lsize > 0
    assert found.psize > 0
    assert all(dva.offset >= 0 for dva in found.dvas)
    read = Store("pool", Health()).read(found, "block")
    assert len(read) == found.lsize
    return 1


def _blkptr_seeds() -> list[bytes]:
    return [b"\0" + pointer(0, 4096), b"\0" + bytes(128)]


class _Echo(Store):
    """Every block of the pool has the same bytes in it, as often as it has room for them."""

    def __init__(self, content: bytes) -> None:
        super().__init__("pool", Health())
        self.content = content or b"\0"

    def read(self, pointer_: Blkptr, structure: str) -> bytes:
        if pointer_.embedded is not None or not pointer_.dvas or pointer_.lsize > 1 << 20:
            return super().read(pointer_, structure)
        return (self.content * (pointer_.lsize // len(self.content) + 1))[: pointer_.lsize]

    def cached(self, pointer_: Blkptr, structure: str) -> bytes:
        return self.read(pointer_, structure)

    def verified(self, pointer_: Blkptr, structure: str, check: object) -> bytes:
        return self.read(pointer_, structure)


def _dnode(data: bytes) -> int:
    """A byte of choices, an object of 512 bytes, and what is in all of its blocks."""
    found = Dnode(_Echo(data[513:]), data[1:513].ljust(512, b"\0"), ORDERS[data[0] & 1 if data else 0], "object 7")
    _ = found.bonus, found.spill, found.size
    length = min(found.size, 1 << 20)
    at = 0
    for piece in found.pieces(0, length):
        assert piece.offset == at
        assert piece.length > 0
        assert piece.data is None or len(piece.data) == piece.length
        at += piece.length
    assert at == length
    return at


def _dnode_seed(levels: int) -> bytes:
    raw = zfs.DNODE(
        dn_type=layout.OT_PLAIN_FILE, dn_indblkshift=17, dn_nlevels=levels, dn_nblkptr=1, dn_datablkszsec=8,
        dn_maxblkid=3 * (levels > 1),
    ) + pointer(levels - 1, 4096 if levels == 1 else 128 << 10)  # fmt: skip
    return b"\0" + raw.ljust(layout.DNODE_SIZE, b"\0") + pointer(0, 4096)


def _zil(data: bytes) -> int:
    """The header of a log (0x80 bytes), and what is in its blocks."""

    class Set:
        label, pointer = "set", cast(Blkptr, type("Pointer", (), {"order": "<"})())
        zil_header = data[: layout.ZIL_HEADER["<"].size].ljust(layout.ZIL_HEADER["<"].size, b"\0")
        store = _Echo(data[layout.ZIL_HEADER["<"].size :])

    return sum(1 for _ in zil.records(cast(Objset, Set()), 4))


def _zil_seed() -> bytes:
    first = bytearray(pointer(0, 4096))
    first[96:128] = struct.pack("<4Q", 1, 2, 3, 1)
    head = zfs.ZIL_HEADER(zh_log=bytes(first))
    records = struct.pack("<QQQQ", 2, 96, 5, 1) + bytes(64) + struct.pack("<QQQQ", 9, 64, 5, 2) + bytes(32)
    block = bytearray(records.ljust(4096, b"\0"))
    following = bytearray(128)
    following[96:128] = struct.pack("<4Q", 1, 2, 3, 2)
    eck = {"zec_magic": layout.ECK_MAGIC}
    chain = zfs.ZIL_CHAIN(zc_next_blk=bytes(following), zc_nused=len(records), zc_eck=eck)
    block[-len(chain) :] = chain
    return head + bytes(block)


# --- whole pools -------------------------------------------------------------------------------------


@cache
def _members(name: str) -> list[SparseDisk]:
    return disks(f"zfs/{name}")


@contextmanager
def _changed(data: bytes) -> Iterator[None]:
    """While this lasts the n-th block that is read from a pool has changes in it, as if all checksums had been made
    anew: the tree of checksums above it would have to be."""
    wanted: dict[int, list[tuple[int, bytes]]] = {}
    for part, offset, new in edits(data):
        wanted.setdefault(part % 256, []).append((offset, new))
    before, count = Store.unpack, 0

    def unpack(self: Store, pointer_: Blkptr, raw: bytes, structure: str) -> bytes:
        nonlocal count
        plain = before(self, pointer_, raw, structure)
        for offset, new in wanted.get(count % 256, ()):
            patched = bytearray(plain)
            at = offset % len(patched) if patched else 0
            patched[at : at + len(new)] = new[: len(patched) - at]
            plain = bytes(patched)
        count += 1
        return plain

    Store.unpack = unpack  # type: ignore[method-assign]
    try:
        yield
    finally:
        Store.unpack = before  # type: ignore[method-assign]


def _pool(data: bytes) -> int:
    """The first byte is the pool, the rest changes of its blocks."""
    names = ("tall", "claimed", "xattrs")
    members = _members(names[data[0] % len(names) if data else 0])
    answered = 0
    complaints: list[FsError] = []
    with _changed(data[1:]):
        for pool in pools.assemble(list(members), complaints.append):
            for root in pool.roots()[:4]:
                answered += look_around(pool.open(root.name))
    if not answered:
        raise complaints[0] if complaints else FsError("nothing answered")
    return answered


TARGETS = (
    Target("zfs-label", _label, lambda: [_config()], ROOM + 2048),
    Target("zfs-nvlist", _nvlist, _nvlist_seeds, 4096),
    Target("zfs-zap", _zap, _zap_seeds, 8193),
    Target("zfs-blkptr", _blkptr, _blkptr_seeds, 129),
    Target("zfs-dnode", _dnode, lambda: [_dnode_seed(1), _dnode_seed(2)], 4096),
    Target("zfs-log", _zil, lambda: [_zil_seed()], 8192),
    Target("zfs-pool", _pool, lambda: [b"\0", b"\1", b"\2", b"\0" + edit(3, 0, b"\0")], 256),
)
