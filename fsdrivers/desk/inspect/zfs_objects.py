"""Objects of a ZFS pool for `fsdrivers inspect`: what is in the MOS, one object with its blocks, block pointers."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from fsdrivers.desk.inspect import words
from fsdrivers.desk.inspect import zfs_words as meant
from fsdrivers.desk.inspect.report import Field, Nothing, Report, fields
from fsdrivers.desk.inspect.zfs import disk, nvlist
from fsdrivers.errors import BadData, FsError
from fsdrivers.zfs import blkptr, compress, dsl, layout
from fsdrivers.zfs import nvlist as lists
from fsdrivers.zfs.blkptr import Blkptr
from fsdrivers.zfs.dmu import Dnode, Objset
from fsdrivers.zfs.layout import BLKPTR_SIZE, DNODE_CORE, DNODE_SIZE
from fsdrivers.zfs.pool import ZfsPool, find
from fsdrivers.zfs.sa import Registry, nanoseconds
from fsdrivers.zfs.zap import Zap

MAX_ENTRIES = 100_000  # of a ZAP that are shown
MAX_POINTERS = 100_000  # of an object that are looked at
MAX_OBJECTS = 1 << 22  # that are looked for in the MOS, free ones too
MAX_VALUE = 256  # integers of a value that are shown
MOS = "mos"

_NANO = 1_000_000_000


def mos(pool: ZfsPool) -> Iterator[Report]:
    """The pool's own set of objects: its head, then its objects, one report each.  Raises FsError."""
    spa = pool.spa()
    yield objset(spa.mos, spa.uberblock.raw[40 : 40 + BLKPTR_SIZE], spa.uberblock.order)
    meta = spa.mos.meta
    following = 1  # where the next dnode can begin: large ones have several slots
    for steps, piece in enumerate(meta.pieces(0, meta.size)):
        first = piece.offset // DNODE_SIZE
        if max(first, steps) > MAX_OBJECTS:
            yield Report({"structure": "objects"}, (), (f"only the first {MAX_OBJECTS} are looked at",))
            return
        data = piece.data or b""
        for number in range(first, first + len(data) // DNODE_SIZE):
            start = number * DNODE_SIZE - piece.offset
            if number >= following and data[start]:
                yield from _listed(spa.mos, number)
                following = number + 1 + data[start + 12]


def _listed(found: Objset, number: int) -> Iterator[Report]:
    title: dict[str, object] = {"structure": "object", "dataset": MOS, "object": number}
    try:
        yield Report(title, _dnode(found.dnode(number)))
    except FsError as error:
        yield Report(title, (), (str(error),))


def objset(found: Objset, raw: bytes, order: str) -> Report:
    """The head of a set of objects; ``raw`` is the pointer to it in byte order ``order``."""
    own = found.pointer.order
    z = disk[own]
    data = found.store.cached(found.pointer, f"{found.label}: object set")
    head = fields(z.ZIL_HEADER, data[layout.ZIL_HEADER_OFFSET :], meant.zil_header(own), layout.ZIL_HEADER_OFFSET)
    tail = fields(z.OBJSET_TAIL, data[layout.OBJSET_TYPE_OFFSET :], meant.OBJSET, layout.OBJSET_TYPE_OFFSET)
    meta = fields(z.DNODE, data, meant.DNODE)
    return Report(
        {"structure": "object set", "dataset": found.label},
        (
            Field("rootbp", *meant.pointer(order)(raw)),
            Field("os_meta_dnode", None, "", 0, DNODE_SIZE, meta),
            Field("os_zil_header", None, "", layout.ZIL_HEADER_OFFSET, z.ZIL_HEADER.size, head),
            *tail,
        ),
    )


def an_object(pool: ZfsPool, dataset: str, number: int) -> Iterator[Report]:
    """Object ``number`` of ``dataset`` ("mos": of the pool itself): dnode, bonus, contents, blocks.  Raises FsError."""
    found = _objset(pool, dataset)
    dnode = found.dnode(number) if number else found.meta
    title: dict[str, object] = {"structure": "object", "dataset": dataset, "object": number}
    parts: list[Field] = list(_dnode(dnode))
    problems: list[str] = []
    for show in (_pointers, lambda one: _bonus(found, one), _contents, _blocks):
        try:
            for field in show(dnode):
                parts.append(field)
        except FsError as error:
            problems.append(str(error))
    yield Report(title, tuple(parts), tuple(problems))


def _objset(pool: ZfsPool, dataset: str) -> Objset:
    spa = pool.spa()
    if dataset == MOS:
        return spa.mos
    known = find(spa.root, dataset)
    if known is None:
        raise Nothing(f"no dataset {dataset} in pool {pool.name} ({MOS} is the pool itself)")
    return known.objset()


def _dnode(dnode: Dnode) -> tuple[Field, ...]:
    return fields(disk[dnode.order].DNODE, dnode.raw, meant.DNODE)


def _pointers(dnode: Dnode) -> Iterator[Field]:
    shown = meant.pointer(dnode.order)
    for number in range(dnode.pointers):
        at = DNODE_CORE + number * BLKPTR_SIZE
        yield Field(f"dn_blkptr {number}", *shown(dnode.raw[at : at + BLKPTR_SIZE]), at, BLKPTR_SIZE)
    if dnode.spill is not None:
        at = len(dnode.raw) - BLKPTR_SIZE
        yield Field("dn_spill", *shown(dnode.raw[at:]), at, BLKPTR_SIZE)


# --- what is in the bonus buffer -------------------------------------------------------------------


def _bonus(found: Objset, dnode: Dnode) -> Iterator[Field]:
    bonus, order, z = dnode.bonus, dnode.order, disk[dnode.order]
    if not bonus:
        return
    start = DNODE_CORE + dnode.pointers * BLKPTR_SIZE
    known = {
        layout.OT_DSL_DIR: (z.DSL_DIR, meant.DSL_DIR),
        layout.OT_DSL_DATASET: (z.DSL_DATASET, meant.dsl_dataset(order)),
        layout.OT_ZNODE: (z.ZNODE, meant.ZNODE),
    }.get(dnode.bonus_type)
    if dnode.bonus_type == layout.OT_SA:
        inner = tuple(_attributes(found, dnode))
    elif known is not None and len(bonus) >= known[0].size:
        inner = fields(known[0], bonus, known[1], start)
    elif len(bonus) % 8 == 0:
        values = struct.unpack(f"{order}{len(bonus) // 8}Q", bonus)
        inner = tuple(Field(str(at), value, str(value), start + at * 8, 8) for at, value in enumerate(values))
    else:
        inner = (Field("bytes", bonus.hex(), bonus.hex(), start, len(bonus)),)
    yield Field("bonus", None, meant.type_name(dnode.bonus_type), start, len(bonus), inner)


def _attributes(found: Objset, dnode: Dnode) -> Iterator[Field]:
    """System attributes, in the order in which they are stored."""
    number = Zap(found.dnode(layout.MASTER_NODE)).number("SA_ATTRS")
    if not number:
        raise dnode.corrupt("system attributes: none are registered", 0)
    registry = Registry(found, number)
    buffers = [(dnode.bonus, dnode.order, DNODE_CORE + dnode.pointers * BLKPTR_SIZE)]
    spill = dnode.spill
    if spill is not None and not spill.hole:
        buffers.append((dnode.store.cached(spill, f"{dnode.label}: spill block"), spill.order, 0))
    for data, order, base in buffers:
        at = (layout.SA_HEADER[order].unpack_from(data)[1] >> 10) * 8 if len(data) >= 8 else 0
        for end, name in registry.plan(dnode, data, order).ends:
            raw = data[at:end]
            if name in ("ZPL_ATIME", "ZPL_MTIME", "ZPL_CTIME", "ZPL_CRTIME") and len(raw) == 16:
                whole = nanoseconds(*struct.unpack(f"{order}2Q", raw))
                shown = words.timespec({"sec": whole // _NANO, "nsec": whole % _NANO})
            elif name == "ZPL_SYMLINK":
                shown = words.text(raw)
            elif len(raw) == 8:
                shown = meant.attribute(name, struct.unpack(f"{order}Q", raw)[0])
            else:
                shown = raw.hex(), raw.hex()
            yield Field(name, *shown, base + at, len(raw))
            at = end + 7 & ~7


# --- what is in the data --------------------------------------------------------------------------


def _contents(dnode: Dnode) -> Iterator[Field]:
    """The entries of a ZAP, or a packed list."""
    if meant.is_zap(dnode.type):
        entries = []
        for number, (name, value) in enumerate(Zap(dnode).items()):
            if number >= MAX_ENTRIES:
                text = f"only the first {MAX_ENTRIES} are shown"
                entries.append(Field("...", text, text))
                break
            entries.append(_entry(name, value))
        yield Field("zap", None, f"{len(entries)} entries", inner=tuple(entries))
    elif dnode.type == layout.OT_PACKED_NVLIST and len(dnode.bonus) >= 8:
        (length,) = struct.unpack_from(dnode.order + "Q", dnode.bonus)
        try:
            found = lists.parse(dnode.whole(length, dsl.MAX_LIST))
        except lists.NvError as error:
            raise dnode.corrupt(str(error), 0) from error
        yield Field("nvlist", None, "", inner=nvlist(found))


def _entry(name: bytes, value: tuple[int, ...]) -> Field:
    key = name.decode("utf-8", "surrogateescape")
    if len(value) == 1:
        return Field(key, value[0], str(value[0]))
    if value and max(value) < 256 and value[-1] == 0 and 0 not in value[:-1]:
        return Field(key, *words.text(bytes(value)))
    shown = " ".join(map(str, value[:MAX_VALUE])) + (" ..." if len(value) > MAX_VALUE else "")
    return Field(key, list(value[:MAX_VALUE]), shown)


def _blocks(dnode: Dnode) -> Iterator[Field]:
    """Every block pointer of an object, by level and the byte of the object where its block begins."""
    left = MAX_POINTERS
    shown: list[Field] = []
    problems: list[str] = []
    shift = int(dnode.indirect_shift) - 7
    # (pointer as it is on the disk, its byte order, its level, the number of its block on that level)
    todo = [
        (
            dnode.raw[DNODE_CORE + at * BLKPTR_SIZE : DNODE_CORE + (at + 1) * BLKPTR_SIZE],
            dnode.order,
            dnode.levels - 1,
            at,
        )
        for at in reversed(range(dnode.pointers))
    ]
    while todo:
        raw, order, level, number = todo.pop()
        pointer = blkptr.parse(raw, 0, order)
        left -= 1  # for holes too: blocks full of them may be shared by many pointers
        if left < 0:
            problems.append(f"only the first {MAX_POINTERS} block pointers are looked at")
            break
        if pointer.hole:
            continue
        offset = (number << shift * level) * dnode.block_size
        shown.append(Field(f"L{level} {offset:#x}", *meant.pointer(order)(raw)))
        if level:
            below, problem = _below(dnode, pointer, level)
            problems += [problem] if problem else []
            count = len(below) // BLKPTR_SIZE
            todo += [
                (below[at * BLKPTR_SIZE : (at + 1) * BLKPTR_SIZE], pointer.order, level - 1, (number << shift) + at)
                for at in reversed(range(count))
                if any(below[at * BLKPTR_SIZE : (at + 1) * BLKPTR_SIZE])
            ]
    yield Field("blocks", None, f"{len(shown)}", inner=tuple(shown))
    if problems:
        raise dnode.corrupt("; ".join(dict.fromkeys(problems[:16])), 0)


def _below(dnode: Dnode, pointer: Blkptr, level: int) -> tuple[bytes, str]:
    """The block of pointers that ``pointer`` leads to; nothing, and why, when it cannot be read."""
    if pointer.level != level or pointer.lsize != 1 << dnode.indirect_shift:
        return b"", f"a block of level {pointer.level} and {pointer.lsize} bytes on level {level}"
    try:
        return dnode.store.cached(pointer, f"{dnode.label}: indirect block"), ""
    except FsError as error:
        return b"", str(error)


def pointers(pool: ZfsPool, vdev: int, offset: int, lsize: int, psize: int) -> Iterator[Report]:
    """The block pointers in the block of ``psize`` bytes at ``offset`` of top-level ``vdev``.

    Nothing says how it was checksummed: every copy is shown on its own.  When ``lsize`` is another it is decompressed
    by what fits.  Raises FsError.
    """
    spa = pool.spa()
    if vdev >= len(spa.store.vdevs):
        raise Nothing(f"no vdev {vdev} in pool {pool.name}: it has {len(spa.store.vdevs)}")
    seen: set[bytes] = set()
    home = spa.store.vdevs[vdev]
    whole = -(-psize >> home.ashift) << home.ashift
    for attempt in home.attempts(offset, whole, spa.txg):
        title: dict[str, object] = {"structure": "block", "device": attempt.device, "offset": attempt.offset}
        try:
            raw = attempt.fetch()[:psize]
        except FsError as error:
            yield Report(title, (), (str(error),))
            continue
        if raw in seen:
            continue
        seen.add(raw)
        data = raw if lsize == psize else _unpacked(raw, lsize)
        if data is None:
            yield Report(title, (), (f"no compression makes {lsize} bytes of it",))
            continue
        yield Report(title, tuple(_all(data)))
        if len(seen) >= 16:
            return


def _unpacked(raw: bytes, lsize: int) -> bytes | None:
    for number in (compress.LZ4, compress.ZSTD, compress.LZJB, compress.GZIP_1, compress.ZLE):
        try:
            return compress.decompress(number, raw, lsize)
        except BadData:
            continue
    return None


def _all(data: bytes) -> Iterator[Field]:
    shown = meant.pointer(layout.LITTLE)
    for at in range(0, len(data) - BLKPTR_SIZE + 1, BLKPTR_SIZE):
        raw = data[at : at + BLKPTR_SIZE]
        if any(raw):
            yield Field(f"blkptr {at // BLKPTR_SIZE}", *shown(raw), at, BLKPTR_SIZE)
