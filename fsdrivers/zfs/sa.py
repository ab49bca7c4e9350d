"""System attributes: what a file system keeps of an object besides its data.

Sources: include/sys/sa_impl.h:sa_hdr_phys_t, module/zfs/sa.c:sa_attr_iter, sa_build_index;
module/zfs/zfs_sa.c:zfs_attr_table; include/sys/zfs_sa.h:znode_phys_t; OpenZFS 2.3.4.

The attributes of an object stand one after the other, in the order of its layout, each at a multiple of 8 bytes.
Layouts and the lengths of attributes are registered per file system.  Before version 5 of the file system format
the bonus buffer was a fixed structure instead, the znode.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from fsdrivers.errors import TooMany
from fsdrivers.zfs import layout
from fsdrivers.zfs.dmu import Dnode, Objset
from fsdrivers.zfs.nvlist import text
from fsdrivers.zfs.zap import Value, Zap

_SECOND = 1_000_000_000
_MODE = 0xFFFF  # what Linux knows of a mode; 64 bits are stored
_TIMES = ("ZPL_ATIME", "ZPL_MTIME", "ZPL_CTIME")
_BYTES = ("ZPL_SYMLINK", "ZPL_DXATTR")
MAX_REGISTERED = 1024  # attributes and layouts; a header has ten bits for the number of a layout
MAX_LAYOUT = 256  # attributes in one layout; zfs_sa.c:zfs_attr_table has 22
MAX_SPILL = 128 << 10  # sa.c:sa_modify_attrs: SPA_OLD_MAXBLOCKSIZE


class Attributes(NamedTuple):
    """The attributes of one object that a reader wants.  Times are nanoseconds since 1970."""

    mode: int
    size: int
    links: int
    uid: int
    gid: int
    generation: int
    parent: int
    flags: int
    atime: int
    mtime: int
    ctime: int
    rdev: int
    xattr: int  # the directory object that holds extended attributes, 0 for none
    projid: int
    symlink: bytes | None  # the target when it is kept here
    dxattr: bytes | None  # extended attributes as a packed list


class Plan(NamedTuple):
    """Where the attributes of one layout are in a bonus or spill buffer, by what is made of them."""

    numbers: list[tuple[str, int]]  # with the index of a 64-bit word
    times: list[tuple[str, int]]  # with the index of the seconds; nanoseconds follow
    strings: list[tuple[str, int, int]]  # with start and end in bytes
    ends: list[tuple[int, str]]  # the ends of all attributes in bytes, in ascending order


class Registry:
    """The attributes and layouts registered in the object set ``objset``, from its master node's SA_ATTRS."""

    def __init__(self, objset: Objset, number: int) -> None:
        master = Zap(objset.dnode(number))
        registry, layouts = master.number("REGISTRY"), master.number("LAYOUTS")
        self.names: dict[int, str] = {}
        self.lengths: dict[int, int] = {}
        self.layouts: dict[int, tuple[int, ...]] = {}
        self._plans: dict[tuple[int, bytes], Plan] = {}
        if registry:
            for name, value in _few(Zap(objset.dnode(registry)), "attributes"):
                if value:
                    # sa_impl.h:ATTR_NUM and ATTR_LENGTH
                    self.names[value[0] & 0xFFFF] = text(name)
                    self.lengths[value[0] & 0xFFFF] = value[0] >> 24 & 0xFFFF
        if layouts:
            for name, value in _few(Zap(objset.dnode(layouts)), "layouts"):
                if name.isdigit() and len(name) <= 4 and len(value) <= MAX_LAYOUT:
                    self.layouts[int(name)] = value

    def plan(self, dnode: Dnode, data: bytes, order: str) -> Plan:
        """Where the attributes are in the bonus or spill buffer ``data``, all of them within it; raises Corrupt."""
        if len(data) < 8:
            raise dnode.corrupt("system attributes: length", 0, len(data))
        magic, info = layout.SA_HEADER[order].unpack_from(data)
        if magic != layout.SA_MAGIC:
            raise dnode.corrupt("system attributes: magic", 0, magic)
        size = (info >> 10) * 8
        if not 8 <= size <= len(data):
            raise dnode.corrupt("system attributes: header size", 0, size)
        key = info, data[6:size]
        plan = self._plans.get(key)
        if plan is None:
            plan = self._make(dnode, info & 0x3FF, struct.unpack_from(f"{order}{(size - 6) // 2}H", data, 6), size)
            if len(self._plans) > 256:
                self._plans.clear()
            self._plans[key] = plan
        if plan.ends and plan.ends[-1][0] > len(data):
            end, name = next(one for one in plan.ends if one[0] > len(data))
            raise dnode.corrupt(f"system attribute {name}: end", len(data), end)
        return plan

    def _make(self, dnode: Dnode, number: int, lengths: tuple[int, ...], at: int) -> Plan:
        if number not in self.layouts:
            raise dnode.corrupt("system attributes: unknown layout", 0, number)
        plan = Plan([], [], [], [])
        variable = 0
        for attribute in self.layouts[number]:
            length = self.lengths.get(attribute)
            if length is None:
                raise dnode.corrupt("system attributes: unregistered attribute", 0, attribute)
            if not length:
                if variable >= len(lengths):
                    raise dnode.corrupt("system attributes: lengths", 0, variable)
                length = lengths[variable]
                variable += 1
            name = self.names[attribute]
            plan.ends.append((at + length, name))
            if name in _BYTES:  # first: a target may be as long as a number
                plan.strings.append((name, at, at + length))
            elif length == 8:
                plan.numbers.append((name, at >> 3))
            elif name in _TIMES and length == 16:
                plan.times.append((name, at >> 3))
            at += length + 7 & ~7
        return plan


def _few(zap: Zap, what: str) -> Iterator[tuple[bytes, Value]]:
    """The entries of a table of attributes or layouts."""
    for number, entry in enumerate(zap.items()):
        if number >= MAX_REGISTERED:
            raise TooMany(f"system attribute {what} in {zap.dnode.label}", MAX_REGISTERED)
        yield entry


def read(dnode: Dnode, registry: Registry | None) -> Attributes:
    """The attributes of a file system object."""
    if dnode.bonus_type == layout.OT_ZNODE:
        return _znode(dnode)
    if dnode.bonus_type != layout.OT_SA or registry is None:
        raise dnode.corrupt("type of bonus", 0, dnode.bonus_type)
    return _attributes(dnode, registry)


def _attributes(dnode: Dnode, registry: Registry) -> Attributes:
    buffers = [(dnode.bonus, dnode.order)]
    spill = dnode.spill
    if spill is not None and not spill.hole:
        if spill.lsize > MAX_SPILL:
            raise dnode.corrupt("size of spill block", 0, spill.lsize)
        buffers.append((dnode.store.cached(spill, f"{dnode.label}: spill block"), spill.order))
    numbers: dict[str, int] = {}
    found: dict[str, bytes] = {}
    for data, order in buffers:
        # Every attribute starts at a multiple of 8: take them all for 64-bit numbers at once.
        words = struct.unpack_from(f"{order}{len(data) >> 3}Q", data)
        plan = registry.plan(dnode, data, order)
        for name, index in plan.numbers:
            numbers[name] = words[index]
        for name, index in plan.times:
            numbers[name] = nanoseconds(words[index], words[index + 1])
        for name, start, end in plan.strings:
            found[name] = data[start:end]
    get = numbers.get
    try:
        return Attributes(
            numbers["ZPL_MODE"] & _MODE, numbers["ZPL_SIZE"], numbers["ZPL_LINKS"], numbers["ZPL_UID"],
            numbers["ZPL_GID"],
            get("ZPL_GEN", 0), get("ZPL_PARENT", 0), get("ZPL_FLAGS", 0), get("ZPL_ATIME", 0), get("ZPL_MTIME", 0),
            get("ZPL_CTIME", 0), get("ZPL_RDEV", 0), get("ZPL_XATTR", 0), get("ZPL_PROJID", 0),
            found.get("ZPL_SYMLINK"), found.get("ZPL_DXATTR"),
        )  # fmt: skip
    except KeyError as error:
        raise dnode.corrupt(f"system attribute {error.args[0]}: missing", 0) from error


def nanoseconds(seconds: int, rest: int) -> int:
    """A time of two 64-bit words: seconds since 1970, with a sign, and nanoseconds."""
    if seconds >> 63:
        seconds -= 1 << 64
    return seconds * _SECOND + (rest if rest < _SECOND else 0)


def _znode(dnode: Dnode) -> Attributes:
    bonus = dnode.bonus
    if len(bonus) < layout.ZNODE_SIZE:
        raise dnode.corrupt("length of znode", 0, len(bonus))
    fields = layout.ZNODE[dnode.order].unpack_from(bonus)
    mode, size = fields[9] & _MODE, fields[10]
    # A short target follows the znode; a longer one is in the object's first block (zfs_znode.c, zfs_sa_readlink).
    symlink = bonus[layout.ZNODE_SIZE :][:size] if layout.ZNODE_SIZE + size <= len(bonus) else None
    times = [nanoseconds(fields[at], fields[at + 1]) for at in (0, 2, 4)]
    return Attributes(
        mode, size, fields[12], fields[16], fields[17], fields[8], fields[11], fields[15], times[0], times[1],
        times[2], fields[14], fields[13], 0, symlink if mode & 0o170000 == 0o120000 else None, None,
    )  # fmt: skip
