"""A dataset or snapshot as a Filesystem.

Sources: include/sys/zfs_znode.h, module/zfs/zfs_vfsops.c:zfsvfs_init, module/os/linux/zfs/zfs_vnops_os.c:zfs_readdir,
module/os/linux/zfs/zpl_xattr.c; OpenZFS 2.3.4.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator
from typing import cast

from fsdrivers import filesystem
from fsdrivers.errors import Corrupt, NotThisFs, TooMany, Unsupported
from fsdrivers.filesystem import MAX_PATH, DirEntry, Piece, Stat
from fsdrivers.kept import Kept
from fsdrivers.redundancy import Health
from fsdrivers.zfs import layout, nvlist, sa
from fsdrivers.zfs.dmu import Objset
from fsdrivers.zfs.zap import Value, Zap, opened

MAX_XATTR = 1 << 20  # bytes of one extended attribute that are read; Linux allows 64 KiB
MAX_XATTRS = 8 << 20  # bytes of all extended attributes of an object, names and some room for each included
_INDEXED = 1 << 16  # names by which directories that ignore case or Unicode forms are searched, kept of all of them
_KEPT = 8 << 20  # bytes of decoded attributes that are kept, a KiB each and what is long in them

# Directory entries carry the type as in d_type (include/uapi: DT_*).
TYPES = {1: "fifo", 2: "char", 4: "directory", 6: "block", 8: "file", 10: "symlink", 12: "socket"}


class ZfsFilesystem(filesystem.Filesystem):
    """One tree; nodes are object numbers."""

    kind = "zfs"

    def __init__(self, objset: Objset, label: str, uuid: str, root_name: str, health: Health) -> None:
        """``label`` is the pool's name and ``uuid`` its guid.  Raises NotThisFs for volumes, Corrupt, Unsupported."""
        self.label, self.uuid, self.root_name, self.health = label, uuid, root_name, health
        self._objset = objset
        if objset.type != layout.OST_ZFS:
            raise NotThisFs(f"{root_name} is no file system")
        master = Zap(objset.dnode(layout.MASTER_NODE))
        self.version = master.number("VERSION") or 0
        if not 1 <= self.version <= layout.ZPL_VERSION_MAX:
            raise Unsupported(f"file system version {self.version}", f"of {root_name}")
        root = master.number("ROOT")
        if not root:
            raise Corrupt(label, f"{root_name}: master node without ROOT", 0)
        self._root = root
        attributes = master.number("SA_ATTRS")
        self._registry = sa.Registry(objset, attributes) if attributes else None
        # zfs.h:zfs_case_t 0 sensitive, 1 insensitive, 2 mixed (which Linux treats as sensitive)
        self.insensitive = master.number("casesensitivity") == 1
        self.normalization = master.number("normalization") or 0
        self._indexes: Kept[int, dict[str, list[tuple[bytes, Value]]]] = Kept(_INDEXED)
        self._attributes: Kept[int, sa.Attributes] = Kept(_KEPT)

    def root(self) -> Hashable:
        return self._root

    def stat(self, node: Hashable) -> Stat:
        number = cast(int, node)
        own = self.attributes(number)
        return Stat(
            own.mode & 0xFFFF, own.uid & 0xFFFFFFFF, own.gid & 0xFFFFFFFF, own.size, own.links, number, own.mtime,
            own.atime, own.ctime, _device_number(own),
        )  # fmt: skip

    def attributes(self, number: int) -> sa.Attributes:
        """All that the object's bonus and spill block say."""
        found = self._attributes.get(number)
        if found is None:
            found = sa.read(self._objset.dnode(number), self._registry)
            self._attributes.put(number, found, 1024 + len(found.symlink or b"") + len(found.dxattr or b""))
        return found

    def lookup(self, directory: Hashable, name: str) -> Hashable | None:
        number = cast(int, directory)
        found = self._entry(number, name)
        return self._object(self._directory(number), found[1]) if found else None

    def _entry(self, directory: int, name: str) -> tuple[bytes, Value] | None:
        """The entry that ``name`` leads to: its own name, which may be in other letters, and its value."""
        zap, key = self._directory(directory), os.fsencode(name)
        if not self.insensitive and not self.normalization:
            value = zap.get(key)
            return (key, value) if value else None
        wanted = _folded(name, self.insensitive, self.normalization)
        alike = self._index(directory, zap)
        found = self._alike(zap, wanted) if alike is None else alike.get(wanted, [])
        return next((one for one in found if one[0] == key), found[0] if found else None)

    def _index(self, directory: int, zap: Zap) -> dict[str, list[tuple[bytes, Value]]] | None:
        """The entries by their folded names; None for a directory that is too large to keep that of it."""
        index = self._indexes.get(directory)
        if index is None:
            index, count = {}, 0
            for key, value in zap.items():
                count += 1
                if count > _INDEXED:
                    return None
                if value:
                    folded = _folded(os.fsdecode(key), self.insensitive, self.normalization)
                    index.setdefault(folded, []).append((key, value))
            self._indexes.put(directory, index, 1 + count)
        return index

    def entries(self, directory: Hashable) -> Iterator[DirEntry]:
        zap = self._directory(cast(int, directory))
        for name, value in zap.items():
            if value:
                kind = TYPES.get(value[0] >> 60, "unknown")
                yield DirEntry(os.fsdecode(name), kind, self._object(zap, value))

    def link_target(self, node: Hashable) -> str:
        number = cast(int, node)
        own = self.attributes(number)
        if own.size > MAX_PATH:
            raise self._objset.dnode(number).corrupt("length of symlink", 0, own.size)
        target = own.symlink[: own.size] if own.symlink is not None else self._objset.dnode(number).whole(own.size)
        if not target or b"\0" in target:  # a hole where the target should be, for one
            raise self._objset.dnode(number).corrupt("target of symlink", 0, len(target))
        return os.fsdecode(target)

    def pieces(self, node: Hashable, offset: int, length: int) -> Iterator[Piece]:
        number = cast(int, node)
        end = min(offset + length, self.attributes(number).size)
        if offset < end:
            yield from self._objset.dnode(number).pieces(offset, end - offset)

    def xattrs(self, node: Hashable) -> dict[str, bytes]:
        number = cast(int, node)
        own = self.attributes(number)
        found: dict[str, bytes] = {}
        left = MAX_XATTRS
        if own.xattr:
            for entry in self.entries(own.xattr):
                target = cast(int, entry.node)
                size = self.attributes(target).size
                if size > MAX_XATTR:
                    raise Corrupt(self.label, f"{self.root_name}: size of extended attribute {entry.name}", 0, got=size)
                left -= size + 256
                if left < 0:
                    raise TooMany(f"bytes of extended attributes of object {number} of {self.root_name}", MAX_XATTRS)
                found[entry.name] = b"".join(
                    bytes(piece.length) if piece.data is None else piece.data for piece in self.pieces(target, 0, size)
                )
        if own.dxattr:
            try:
                packed = nvlist.parse(own.dxattr)
            except nvlist.NvError as error:
                raise Corrupt(
                    self.label, f"{self.root_name}: object {number}: extended attributes ({error})", 0
                ) from error
            found.update((name, value) for name, value in packed.items() if isinstance(value, bytes))
        if any("\0" in name for name in found):  # no system call takes it, and a list of names is cut there
            raise Corrupt(self.label, f"{self.root_name}: name of an extended attribute", number)
        return {_linux_name(name): value for name, value in found.items()}

    def _directory(self, number: int) -> Zap:
        return opened(self._objset, number, layout.OT_DIRECTORY)

    def _object(self, zap: Zap, value: Value) -> int:
        number = value[0] & layout.DIRENT_OBJECT
        if not number:
            raise zap.dnode.corrupt("directory entry", 0, value[0])
        return number

    def _alike(self, zap: Zap, wanted: str) -> list[tuple[bytes, Value]]:
        """The entries whose folded names are ``wanted``."""
        return [
            (key, value)
            for key, value in zap.items()
            if value and _folded(os.fsdecode(key), self.insensitive, self.normalization) == wanted
        ]


def _folded(name: str, insensitive: bool, normalization: int) -> str:
    if normalization and not name.isascii():
        from unicodedata import normalize  # large, and needed for names outside of ASCII on such datasets alone

        name = normalize("NFKD", name)
    return name.upper() if insensitive else name


def _device_number(own: sa.Attributes) -> tuple[int, int]:
    """Major and minor of a device node.

    Linux stores its internal dev_t, 20 bits of minor (include/linux/kdev_t.h); Solaris used 32 bits for each.
    """
    if own.mode & 0o170000 not in (0o020000, 0o060000):
        return 0, 0
    bits = 32 if own.rdev >> 32 else 20
    return own.rdev >> bits, own.rdev & (1 << bits) - 1


def _linux_name(name: str) -> str:
    """The name that Linux shows: attributes of other systems have no namespace (zpl_xattr.c:xattr_compat)."""
    return name if name.partition(".")[0] in ("user", "security", "system", "trusted") else f"user.{name}"
