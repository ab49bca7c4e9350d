"""The items of btrfs's trees, field by field: what is in each by the type of its key.

Source: include/uapi/linux/btrfs_tree.h, v6.12.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from construct import ConstructError

from fsdrivers.btrfs import layout
from fsdrivers.desk.inspect import btrfs_layout as more
from fsdrivers.desk.inspect import btrfs_words as meant
from fsdrivers.desk.inspect import words
from fsdrivers.desk.inspect.derived import Structure, Structures
from fsdrivers.desk.inspect.report import Field, Words, fields

MAX_DATA = 256  # bytes of contents that are shown

disk, extra = Structures(layout), Structures(more)
Key = tuple[int, int, int]


class Ends(Exception):
    """The item ends inside of ``what``."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"it ends inside of {what}")


class Data(NamedTuple):
    """The bytes of an item that starts at ``base`` of its node; ``key`` is its key."""

    key: Key
    raw: bytes
    base: int

    def fields(self, structure: Structure, meanings: dict[str, Words], at: int = 0) -> tuple[Field, ...]:
        """``structure`` at ``at``.  Raises Ends."""
        try:
            return fields(structure, self.raw[at:], meanings, self.base + at)
        except ConstructError:
            raise Ends(structure.name) from None

    def text(self, name: str, at: int, length: int) -> Field:
        """A name of ``length`` bytes.  Raises Ends."""
        if at + length > len(self.raw):
            raise Ends(name)
        found = self.raw[at : at + length].decode("utf-8", "surrogateescape")
        return Field(name, found, found, self.base + at, length)

    def bytes(self, name: str, at: int, length: int) -> Field:
        """``length`` bytes, the first of them shown.  Raises Ends."""
        if at + length > len(self.raw):
            raise Ends(name)
        found = self.raw[at : at + min(length, MAX_DATA)].hex()
        return Field(name, found, found + ("..." if length > MAX_DATA else ""), self.base + at, length)


Found = Iterator[Field]


def of(key: Key, raw: bytes, base: int) -> tuple[tuple[Field, ...], str]:
    """The fields of the item ``raw``, and what is wrong with it ("" for nothing)."""
    show = _ITEMS.get(key[1])
    data = Data(key, raw, base)
    found: list[Field] = []
    try:
        for field in show(data) if show else [data.bytes("data", 0, len(raw))] if raw else []:
            found.append(field)
    except Ends as error:
        return tuple(found), str(error)
    return tuple(found), ""


def chunk(data: Data, at: int = 0) -> Found:
    """A chunk and its stripes."""
    found = data.fields(disk.CHUNK, meant.CHUNK, at)
    yield from found
    (count,) = (one.value for one in found if one.name == "num_stripes")
    for number in range(int(str(count))):
        place = at + disk.CHUNK.size + number * disk.STRIPE.size
        inner = data.fields(disk.STRIPE, meant.STRIPE, place)
        yield Field(f"stripe {number}", None, "", data.base + place, disk.STRIPE.size, inner)


def _plain(structure: Structure, meanings: dict[str, Words]) -> Callable[[Data], Found]:
    return lambda data: iter(data.fields(structure, meanings))


def _several(structure: Structure, meanings: dict[str, Words], *tails: tuple[str, str]) -> Callable[[Data], Found]:
    """Structures one after the other, each with tails: (name, field that has their length)."""

    def show(data: Data) -> Found:
        at = number = 0
        while at < len(data.raw):
            start = at
            head = data.fields(structure, meanings, at)
            lengths = {one.name: int(str(one.value)) for one in head if isinstance(one.value, int)}
            at += structure.size
            inner = list(head)
            for name, length in tails:
                if name == "data" and not lengths[length]:
                    continue
                shown = data.text if name == "name" else data.bytes
                inner.append(shown(name, at, lengths[length]))
                at += lengths[length]
            yield Field(str(number), None, "", data.base + start, at - start, tuple(inner))
            number += 1

    return show


def _extent_data(data: Data) -> Found:
    head = data.fields(disk.EXTENT_HEAD, meant.EXTENT)
    if data.raw[0x14] == layout.EXTENT_INLINE:
        yield from head
        yield data.bytes("inline", disk.EXTENT_HEAD.size, len(data.raw) - disk.EXTENT_HEAD.size)
    else:
        yield from data.fields(disk.EXTENT, meant.EXTENT)


def _root(data: Data) -> Found:
    inner = data.fields(disk.INODE, meant.INODE)
    yield Field("inode", None, "", data.base, disk.INODE.size, inner)
    yield from data.fields(disk.ROOT, meant.ROOT)
    at = disk.ROOT.offset("refs") + 4
    inner = data.fields(disk.KEY, {"type": words.named(meant.KEYS)}, at)
    yield Field("drop_progress", None, "", data.base + at, disk.KEY.size, inner)
    if len(data.raw) >= disk.ROOT_V2.size:
        yield from data.fields(disk.ROOT_V2, meant.ROOT_V2)


def _extent_item(data: Data) -> Found:
    head = data.fields(extra.EXTENT_ITEM, meant.EXTENT_ITEM)
    yield from head
    at = extra.EXTENT_ITEM.size
    flags = next(int(str(one.value)) for one in head if one.name == "flags")
    if data.key[1] == more.METADATA_ITEM:
        yield Field("level", data.key[2], str(data.key[2]))
    elif flags & more.EXTENT_FLAG_TREE_BLOCK:
        yield from data.fields(extra.TREE_BLOCK_INFO, {"key": meant.ITEM["key"]}, at)
        at += extra.TREE_BLOCK_INFO.size
    number = 0
    while at < len(data.raw):
        start = at
        inner = list(data.fields(extra.INLINE_REF, meant.INLINE_REF, at))
        kind = data.raw[at]
        at += extra.INLINE_REF.size
        if kind == more.EXTENT_DATA_REF_KEY:
            del inner[1]
            at = start + 1
            inner += data.fields(extra.EXTENT_DATA_REF, meant.EXTENT_DATA_REF, at)
            at += extra.EXTENT_DATA_REF.size
        elif kind == more.SHARED_DATA_REF_KEY:
            inner += data.fields(extra.SHARED_DATA_REF, {}, at)
            at += extra.SHARED_DATA_REF.size
        yield Field(f"ref {number}", None, "", data.base + start, at - start, tuple(inner))
        number += 1


def _csums(data: Data) -> Found:
    yield data.bytes("csums", 0, len(data.raw))


def _persistent(data: Data) -> Found:
    if data.key[0]:  # dev stats are the items of object 0
        yield data.bytes("data", 0, len(data.raw))
    else:
        yield from data.fields(extra.DEV_STATS, {})


def _subvolumes(data: Data) -> Found:
    for number, at in enumerate(range(0, len(data.raw) - 7, 8)):
        value = int.from_bytes(data.raw[at : at + 8], "little")
        yield Field(f"subvolume {number}", value, str(value), data.base + at, 8)


def _nothing(data: Data) -> Found:
    return iter(())


_ITEMS: dict[int, Callable[[Data], Found]] = {
    layout.INODE_ITEM: _plain(disk.INODE, meant.INODE),
    layout.INODE_REF: _several(disk.INODE_REF_ITEM, {}, ("name", "name_len")),
    layout.INODE_EXTREF: _several(disk.INODE_EXTREF_ITEM, {}, ("name", "name_len")),
    **dict.fromkeys(
        (layout.XATTR_ITEM, layout.DIR_ITEM, layout.DIR_INDEX),
        _several(disk.DIR, meant.DIR, ("name", "name_len"), ("data", "data_len")),
    ),
    layout.EXTENT_DATA: _extent_data,
    layout.EXTENT_CSUM: _csums,
    layout.ROOT_ITEM: _root,
    **dict.fromkeys((layout.ROOT_BACKREF, layout.ROOT_REF), _several(disk.ROOT_REF_ITEM, {}, ("name", "name_len"))),
    **dict.fromkeys((more.EXTENT_ITEM_KEY, more.METADATA_ITEM), _extent_item),
    **dict.fromkeys((more.TREE_BLOCK_REF, more.SHARED_BLOCK_REF, more.FREE_SPACE_EXTENT), _nothing),
    more.EXTENT_DATA_REF_KEY: _plain(extra.EXTENT_DATA_REF, meant.EXTENT_DATA_REF),
    more.SHARED_DATA_REF_KEY: _plain(extra.SHARED_DATA_REF, {}),
    more.BLOCK_GROUP_ITEM: _plain(extra.BLOCK_GROUP, meant.BLOCK_GROUP),
    more.FREE_SPACE_INFO_KEY: _plain(extra.FREE_SPACE_INFO, meant.FREE_SPACE_INFO),
    more.DEV_EXTENT_KEY: _plain(extra.DEV_EXTENT, meant.DEV_EXTENT),
    layout.DEV_ITEM_KEY: _plain(disk.DEV_ITEM, meant.DEV_ITEM),
    layout.CHUNK_ITEM: chunk,
    layout.RAID_STRIPE: _several(disk.RAID_STRIDE, {}),
    more.PERSISTENT_ITEM: _persistent,
    **dict.fromkeys((more.UUID_SUBVOL, more.UUID_RECEIVED), _subvolumes),
}
