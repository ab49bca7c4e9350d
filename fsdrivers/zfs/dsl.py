"""The DSL: the tree of dataset directories, their datasets and snapshots, and properties with inheritance.

Sources: include/sys/dsl_dir.h, include/sys/dsl_dataset.h, module/zfs/dsl_dir.c:dsl_dir_hold_obj,
dsl_prop.c:dsl_prop_get_dd, dsl_dataset.c:dsl_dataset_name; OpenZFS 2.3.4.
"""

from __future__ import annotations

from collections.abc import Iterator

from fsdrivers.errors import Corrupt, TooMany
from fsdrivers.zfs import blkptr, layout
from fsdrivers.zfs.blkptr import Blkptr
from fsdrivers.zfs.dmu import Dnode, Objset
from fsdrivers.zfs.nvlist import text
from fsdrivers.zfs.zap import Value, Zap, opened

MAX_DATASETS = 100_000  # file systems and volumes of a pool, and snapshots of one of them
MAX_DEPTH = 50  # fs/zfs.h:ZAP_MAXNAMELEN and zcommon's zfs_max_dataset_nesting
MAX_NAME = 255  # bytes of a full name, snapshot included: fs/zfs.h:ZFS_MAX_DATASET_NAME_LEN without its NUL
MAX_LIST = 4 << 20  # bytes of a packed list: of a configuration of thousands of devices
KEY_FORMATS = {0: "none", 1: "raw", 2: "hex", 3: "passphrase"}  # fs/zfs.h:zfs_keyformat_t
REDACTED = b"com.delphix:redacted_datasets"  # the feature's entry in a dataset's own ZAP
CRYPTO_KEY = "com.datto:crypto_key_obj"  # DD_FIELD_CRYPTO_KEY_OBJ


class Dataset:
    """A file system, volume or snapshot: a named object set.

    There may be a hundred thousand of them, so that not even their block pointers are kept.
    """

    __slots__ = (
        "birth", "created", "created_txg", "directory", "flags", "guid", "hole", "name", "number", "snapshot",
        "snapshot_names",
    )  # fmt: skip

    def __init__(self, directory: Directory, number: int, snapshot: str = "") -> None:
        """Decode the dataset object ``number`` of ``directory``; ``snapshot`` is its name after the "@"."""
        self.directory, self.number, self.snapshot = directory, number, snapshot
        self.name = directory.name + (f"@{snapshot}" if snapshot else "")
        dnode = self._dnode()
        fields = layout.DSL_DATASET[dnode.order].unpack_from(dnode.bonus)
        self.snapshot_names, self.created, self.created_txg = fields[4], fields[6], fields[7]
        self.guid, self.flags = fields[14], fields[15]
        pointer = self.pointer
        self.hole, self.birth = pointer.hole, pointer.birth

    def _dnode(self) -> Dnode:
        dnode = self.directory.mos.dnode(self.number)
        if len(dnode.bonus) < layout.DSL_DATASET[dnode.order].size:
            raise dnode.corrupt("length of dataset bonus", 0, len(dnode.bonus))
        return dnode

    @property
    def pointer(self) -> Blkptr:
        """Where its object set is."""
        dnode = self._dnode()
        return blkptr.parse(dnode.bonus, 128, dnode.order)

    def redacted(self) -> bool:
        """Whether blocks were left out when it was received (dsl_dataset.c:dsl_dataset_feature_is_active)."""
        dnode = self.directory.mos.dnode(self.number)
        return dnode.type != layout.OT_DSL_DATASET and Zap(dnode).get(REDACTED) is not None

    def objset(self) -> Objset:
        """Its objects.  Raises Corrupt when there are none (an unfinished receive)."""
        if self.hole:
            raise Corrupt(self.directory.mos.store.name, f"{self.name}: dataset without content", 0)
        return Objset(self.directory.mos.store, self.pointer, self.name)

    def snapshots(self) -> Iterator[Dataset]:
        """The snapshots of this dataset, by creation."""
        if not self.snapshot_names:
            return
        found = []
        seen: set[int] = set()
        for name, value in opened(self.directory.mos, self.snapshot_names).items():
            number = _one(self.directory, value)
            if number in seen:
                raise Corrupt(self.directory.mos.store.name, f"{self.name}: one snapshot has two names", number)
            seen.add(number)
            if len(seen) > MAX_DATASETS:
                raise TooMany(f"snapshots of {self.name}", MAX_DATASETS)
            found.append(Dataset(self.directory, number, _text(self.directory, name)))
        yield from sorted(found, key=lambda one: (one.created_txg, one.name))

    def find_snapshot(self, name: str) -> Dataset | None:
        """The snapshot called ``name``, None when there is none."""
        if not self.snapshot_names:
            return None
        value = opened(self.directory.mos, self.snapshot_names).get(name.encode("utf-8", "surrogateescape"))
        return None if value is None else Dataset(self.directory, _one(self.directory, value), name)


class Directory:
    """A node in the tree of datasets.  ``name`` is the full name, from the pool's own down."""

    __slots__ = ("_children", "_props", "depth", "head", "mos", "name", "number", "origin", "parent", "parent_number")

    def __init__(self, mos: Objset, number: int, name: str, parent: Directory | None) -> None:
        self.mos, self.number, self.name, self.parent = mos, number, name, parent
        self.depth: int = parent.depth + 1 if parent else 0
        dnode = mos.dnode(number)
        bonus, shape = dnode.bonus, layout.DSL_DIR[dnode.order]
        if len(bonus) < shape.size:
            raise dnode.corrupt("length of directory bonus", 0, len(bonus))
        fields = shape.unpack_from(bonus)
        self.head, self.parent_number, self.origin, self._children, self._props = (
            fields[1], fields[2], fields[3], fields[4], fields[10],
        )  # fmt: skip

    def dataset(self) -> Dataset | None:
        """The dataset that the directory stands for; internal directories have none."""
        return Dataset(self, self.head) if self.head else None

    def children(self) -> list[Directory]:
        """The directories below, by name, without the pool's internal ones and unfinished receives."""
        if not self._children:
            return []
        if self.depth >= MAX_DEPTH:
            raise Corrupt(self.mos.store.name, f"{self.name}: datasets nested too deeply", 0)
        listed = []
        for name, value in opened(self.mos, self._children).items():
            if name[:1] not in (b"$", b"%"):
                listed.append((name, _one(self, value)))
                if len(listed) > MAX_DATASETS:
                    raise TooMany(f"datasets in {self.name}", MAX_DATASETS)
        return [self._child(name, number) for name, number in sorted(listed)]

    def child(self, name: str) -> Directory | None:
        """The directory called ``name`` below this one, None when there is none."""
        key = name.encode("utf-8", "surrogateescape")
        if not self._children or key[:1] in (b"$", b"%"):
            return None
        value = opened(self.mos, self._children).get(key)
        return None if value is None else self._child(key, _one(self, value))

    def _child(self, name: bytes, number: int) -> Directory:
        return Directory(self.mos, number, f"{self.name}/{_text(self, name)}", self)

    def walk(self) -> Iterator[Directory]:
        """This directory and all below, parents first."""
        todo, count = [self], 0
        seen = set()
        while todo:
            here = todo.pop()
            count += 1
            if here.number in seen:
                raise Corrupt(self.mos.store.name, f"{here.name}: the tree of datasets does not end", 0)
            if count + len(todo) > MAX_DATASETS:
                raise TooMany(f"datasets in pool {self.name}", MAX_DATASETS)
            seen.add(here.number)
            yield here
            todo += reversed(here.children())

    def local(self, name: str) -> Value | None:
        """The value of property ``name`` set or received on this very directory."""
        if not self._props:
            return None
        key, properties = name.encode(), opened(self.mos, self._props)
        value = properties.get(key)
        if value is None and properties.get(key + b"$inherit") is None:
            value = properties.get(key + b"$recvd")
        return value

    def inherited(self, name: str) -> tuple[Value, Directory] | None:
        """The value of property ``name`` and the directory that it comes from, up to the pool's root."""
        here: Directory | None = self
        while here is not None:
            value = here.local(name)
            if value is not None:
                return value, here
            here = here.parent
        return None

    def string(self, name: str) -> str | None:
        """A property whose value is a string, inherited from above; None when nobody set it."""
        found = self.inherited(name)
        return as_text(found[0]) if found else None

    def mountpoint(self) -> str:
        """Where the dataset mounts: a path, "none" or "legacy".

        What is inherited gets the rest of the name appended (lib/libzfs/libzfs_dataset.c:get_mountpoint-like rule).
        """
        found = self.inherited("mountpoint")
        if found is None:
            return "/" + self.name
        value, source = as_text(found[0]), found[1]
        if value in ("none", "legacy") or source is self:
            return value
        rest = self.name[len(source.name) :]
        return value.rstrip("/") + rest

    def canmount(self) -> str:
        """The property of that name: "on", "off" or "noauto"; it is not inherited."""
        value = self.local("canmount")
        return {0: "off", 1: "on", 2: "noauto"}.get(value[0], "on") if value else "on"

    def key_format(self) -> str | None:
        """The format of the key that this dataset is encrypted with; None when it is not encrypted.

        Source: module/zfs/dsl_crypt.c:dsl_crypto_key_sync_impl: every encrypted dataset has a key object with it.
        """
        key = self.field(CRYPTO_KEY)
        if not key:
            return None
        return KEY_FORMATS.get(opened(self.mos, key[0]).number("keyformat") or 0, "unknown")

    def field(self, name: str) -> Value | None:
        """An entry of a directory that has become a ZAP with a bonus (dsl_dir.c:dsl_dir_zapify)."""
        if self.mos.dnode(self.number).type == layout.OT_DSL_DIR:
            return None
        return opened(self.mos, self.number).get(name.encode())


def as_text(value: Value) -> str:
    """A string value: one byte an integer, ending in NUL."""
    return text(bytes(byte & 0xFF for byte in value).split(b"\0", 1)[0])


def _one(directory: Directory, value: Value) -> int:
    if len(value) != 1:
        raise Corrupt(directory.mos.store.name, f"{directory.name}: object number", 0, got=str(value[:4]))
    return value[0]


def _text(directory: Directory, name: bytes) -> str:
    """A part of a full name, as long as that may become."""
    if len(directory.name) + 1 + len(name) > MAX_NAME:
        raise Corrupt(directory.mos.store.name, f"{directory.name}: length of a name below it", 0, got=len(name))
    return text(name)


def object_number(mos: Objset, name: str) -> int | None:
    """The object that the pool's directory lists as ``name`` (dmu.h:DMU_POOL_*)."""
    return Zap(mos.dnode(layout.MOS_DIRECTORY)).number(name)


def packed_list(mos: Objset, number: int) -> bytes:
    """The packed list in object ``number``, whose bonus is its length (spa.c:load_nvlist)."""
    dnode: Dnode = mos.dnode(number)
    if len(dnode.bonus) < 8:
        raise dnode.corrupt("length of packed list", 0)
    (length,) = layout.both("Q")[dnode.order].unpack_from(dnode.bonus)
    return dnode.whole(length, MAX_LIST)
