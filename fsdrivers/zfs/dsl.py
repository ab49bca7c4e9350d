"""The DSL: the tree of dataset directories, their datasets and snapshots, and properties with inheritance.

Sources: include/sys/dsl_dir.h, include/sys/dsl_dataset.h, module/zfs/dsl_dir.c:dsl_dir_hold_obj,
dsl_prop.c:dsl_prop_get_dd, dsl_dataset.c:dsl_dataset_name; OpenZFS 2.3.4.
"""

from __future__ import annotations

from collections.abc import Iterator

from fsdrivers.errors import Corrupt
from fsdrivers.zfs import blkptr, layout
from fsdrivers.zfs.dmu import Dnode, Objset
from fsdrivers.zfs.nvlist import text
from fsdrivers.zfs.zap import Value, Zap

MAX_DATASETS = 100_000
MAX_DEPTH = 50  # fs/zfs.h:ZAP_MAXNAMELEN and zcommon's zfs_max_dataset_nesting
KEY_FORMATS = {0: "none", 1: "raw", 2: "hex", 3: "passphrase"}  # fs/zfs.h:zfs_keyformat_t
REDACTED = b"com.delphix:redacted_datasets"  # the feature's entry in a dataset's own ZAP
CRYPTO_KEY = "com.datto:crypto_key_obj"  # DD_FIELD_CRYPTO_KEY_OBJ


class Dataset:
    """A file system, volume or snapshot: a named object set."""

    def __init__(self, directory: Directory, number: int, snapshot: str = "") -> None:
        """Decode the dataset object ``number`` of ``directory``; ``snapshot`` is its name after the "@"."""
        self.directory, self.number, self.snapshot = directory, number, snapshot
        self.name = directory.name + (f"@{snapshot}" if snapshot else "")
        dnode = directory.mos.dnode(number)
        bonus = dnode.bonus
        shape = layout.DSL_DATASET[dnode.order]
        if len(bonus) < shape.size:
            raise dnode.corrupt("length of dataset bonus", 0, len(bonus))
        fields = shape.unpack_from(bonus)
        self.previous, self.snapshot_names, self.created, self.created_txg = fields[1], fields[4], fields[6], fields[7]
        self.guid, self.flags = fields[14], fields[15]
        self.pointer = blkptr.parse(bonus, 128, dnode.order)
        self.properties_object = fields[18]

    def redacted(self) -> bool:
        """Whether blocks were left out when it was received (dsl_dataset.c:dsl_dataset_feature_is_active)."""
        dnode = self.directory.mos.dnode(self.number)
        return dnode.type != layout.OT_DSL_DATASET and Zap(dnode).get(REDACTED) is not None

    def objset(self) -> Objset:
        """Its objects.  Raises Corrupt when there are none (an unfinished receive)."""
        if self.pointer.hole:
            raise Corrupt(self.directory.mos.store.name, f"{self.name}: dataset without content", 0)
        return Objset(self.directory.mos.store, self.pointer, self.name)

    def snapshots(self) -> Iterator[Dataset]:
        """The snapshots of this dataset, by creation."""
        if not self.snapshot_names:
            return
        found = []
        for name, value in Zap(self.directory.mos.dnode(self.snapshot_names)).items():
            found.append(Dataset(self.directory, _one(self.directory, value), text(name)))
            if len(found) > MAX_DATASETS:
                raise Corrupt(self.directory.mos.store.name, f"{self.name}: more than {MAX_DATASETS} snapshots", 0)
        yield from sorted(found, key=lambda one: (one.created_txg, one.name))


class Directory:
    """A node in the tree of datasets.  ``name`` is the full name, from the pool's own down."""

    def __init__(self, mos: Objset, number: int, name: str, parent: Directory | None) -> None:
        self.mos, self.number, self.name, self.parent = mos, number, name, parent
        self.depth: int = parent.depth + 1 if parent else 0
        self._dnode = mos.dnode(number)
        bonus, shape = self._dnode.bonus, layout.DSL_DIR[self._dnode.order]
        if len(bonus) < shape.size:
            raise self._dnode.corrupt("length of directory bonus", 0, len(bonus))
        fields = shape.unpack_from(bonus)
        self.head, self.parent_number, self.origin, self._children, self._props = (
            fields[1], fields[2], fields[3], fields[4], fields[10],
        )  # fmt: skip
        self._properties: dict[bytes, Value] | None = None

    def dataset(self) -> Dataset | None:
        """The dataset that the directory stands for; internal directories have none."""
        return Dataset(self, self.head) if self.head else None

    def children(self) -> list[Directory]:
        """The directories below, by name, without the pool's internal ones and unfinished receives."""
        if not self._children:
            return []
        if self.depth >= MAX_DEPTH:
            raise Corrupt(self.mos.store.name, f"{self.name}: datasets nested too deeply", 0)
        found = []
        for name, value in sorted(Zap(self.mos.dnode(self._children)).items()):
            if name[:1] not in (b"$", b"%"):
                found.append(Directory(self.mos, _one(self, value), f"{self.name}/{text(name)}", self))
        return found

    def walk(self) -> Iterator[Directory]:
        """This directory and all below, parents first."""
        todo, count = [self], 0
        seen = set()
        while todo:
            here = todo.pop()
            count += 1
            if count > MAX_DATASETS or here.number in seen:
                raise Corrupt(self.mos.store.name, f"{here.name}: the tree of datasets does not end", 0)
            seen.add(here.number)
            yield here
            todo += reversed(here.children())

    def local(self, name: str) -> Value | None:
        """The value of property ``name`` set or received on this very directory."""
        if self._properties is None:
            self._properties = dict(Zap(self.mos.dnode(self._props)).items()) if self._props else {}
        key = name.encode()
        if key in self._properties:
            return self._properties[key]
        if key + b"$inherit" in self._properties:
            return None
        return self._properties.get(key + b"$recvd")

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
        return KEY_FORMATS.get(Zap(self.mos.dnode(key[0])).number("keyformat") or 0, "unknown")

    def field(self, name: str) -> Value | None:
        """An entry of a directory that has become a ZAP with a bonus (dsl_dir.c:dsl_dir_zapify)."""
        if self._dnode.type == layout.OT_DSL_DIR:
            return None
        return Zap(self._dnode).get(name.encode())


def as_text(value: Value) -> str:
    """A string value: one byte an integer, ending in NUL."""
    return text(bytes(byte & 0xFF for byte in value).split(b"\0", 1)[0])


def _one(directory: Directory, value: Value) -> int:
    if len(value) != 1:
        raise Corrupt(directory.mos.store.name, f"{directory.name}: object number", 0, got=str(value[:4]))
    return value[0]


def object_number(mos: Objset, name: str) -> int | None:
    """The object that the pool's directory lists as ``name`` (dmu.h:DMU_POOL_*)."""
    return Zap(mos.dnode(layout.MOS_DIRECTORY)).number(name)


def packed_list(mos: Objset, number: int) -> bytes:
    """The packed list in object ``number``, whose bonus is its length (spa.c:load_nvlist)."""
    dnode: Dnode = mos.dnode(number)
    if len(dnode.bonus) < 8:
        raise dnode.corrupt("length of packed list", 0)
    (length,) = layout.both("Q")[dnode.order].unpack_from(dnode.bonus)
    return dnode.whole(length)
