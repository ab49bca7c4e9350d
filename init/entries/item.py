"""What a boot loader's configuration says, before it is tied to a root: the result of every parser here."""

from __future__ import annotations

from typing import NamedTuple

from fsdrivers.errors import FsError, TooMany
from fsdrivers.filesystem import FILE, MAX_PATH, Filesystem
from init.entries.mounts import BOOT, Mounted

MAX_ITEMS = 512  # entries of one source
MAX_CONFIG = 4 << 20  # bytes of one configuration file
MAX_OPTIONS = 1 << 14  # characters of a command line: eight times what any kernel keeps
MAX_TITLE = 256  # characters that are shown
MAX_INITRDS = 32  # of one entry
MAX_TEXT = 1 << 20  # characters of all entries of one source: they may all take in the same long text
MAX_LOOKS = 4096  # files that one source looks for
MAX_BESIDE = 1 << 16  # names in directories beside images: all of these may be one directory


DEVICE_TREE = "its device tree is not taken over"  # the remark of an entry that names one


class Item(NamedTuple):
    """One entry as it stands in a configuration.  Paths are in the tree that was parsed, or where ``device`` says.

    ``kernel`` and ``initrds`` may name a section of a PE file ("/EFI/Linux/x.efi#.linux"): see init/kernel/pe.py.
    """

    id: str
    title: str
    kernel: str
    initrds: tuple[str, ...] = ()
    options: str = ""  # the command line as it is stated
    version: str = ""
    sort_key: str = ""
    machine_id: str = ""
    menu: tuple[str, ...] = ()  # titles of the submenus that it lies in
    # "" for the tree that was parsed, "top" for paths from the top of its pool (a subvolume or dataset in front),
    # "UUID=..." or "LABEL=..." for another file system, with paths from that one's top
    device: str = ""
    tries_left: int | None = None  # boot counting; None when the entry is not counted
    tries_done: int = 0
    counted: str = ""  # the path of the file whose name counts
    remarks: tuple[str, ...] = ()


class Listing(NamedTuple):
    """All entries of one source in its own order, which of them is its default, and what was passed over and why."""

    items: tuple[Item, ...] = ()
    notes: tuple[str, ...] = ()
    default: int | None = None  # an index into ``items``
    with_bls: bool = False  # whether a grub.cfg took in the entries of the Boot Loader Specification
    named: bool = False  # whether somebody wrote down that this is the default, rather than its coming first


class Budget:
    """What one source of entries may take, however many files it has."""

    def __init__(self) -> None:
        self._text, self._looks, self._names = MAX_TEXT, MAX_LOOKS, MAX_BESIDE

    def text(self, text: str) -> str:
        """``text``, counted.  Raises TooMany."""
        self._text -= len(text)
        if self._text < 0:
            raise TooMany("characters in all entries together", MAX_TEXT)
        return text

    def look(self, count: int = 1) -> None:
        """Count files that are looked for.  Raises TooMany."""
        self._looks -= count
        if self._looks < 0:
            raise TooMany("files that the entries name", MAX_LOOKS)

    def name(self) -> None:
        """Count a name in a directory beside an image.  Raises TooMany."""
        self._names -= 1
        if self._names < 0:
            raise TooMany("names beside all images", MAX_BESIDE)


def read_text(filesystem: Filesystem, path: str, limit: int = MAX_CONFIG) -> str:
    """A configuration file as text; raises FsError (TooLarge beyond ``limit`` bytes)."""
    return filesystem.read_file(path, limit).decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def is_file(filesystem: Filesystem, path: str) -> bool:
    """Whether ``path`` leads to a regular file; damage on the way counts as no."""
    try:
        return filesystem.stat(filesystem.resolve(path)).type == FILE
    except FsError:
        return False


def own_prefix(filesystem: Filesystem) -> str:
    """What boot loaders write in front of a path in this tree, as they see the whole pool: "/@", "/ROOT/debian@".

    Source: grub-core/fs/btrfs.c:find_path (from the top-level subvolume) and zfs/zfs.c:dnode_get_fullpath
    (dataset, "@", path), GRUB 2.12.
    """
    name = filesystem.root_name.strip("/")
    if filesystem.kind == "zfs":
        dataset, _, snapshot = name.partition("@")
        return f"/{dataset.partition('/')[2]}@{snapshot}"
    return f"/{name}" if filesystem.kind == "btrfs" and name else ""


def locate(filesystem: Filesystem, path: str) -> str | None:
    """Where the file that a boot loader calls ``path`` lies in this tree, or None.

    ``path`` may be the tree's own, may count from the pool's top, or from a /boot that is a file system of its own.
    """
    if len(path) > MAX_PATH:
        return None
    path = "/" + path.lstrip("/")
    options = [path]
    trees = [("", filesystem), *([(BOOT, filesystem.found.filesystem)] if isinstance(filesystem, Mounted) else [])]
    for where, tree in trees:
        prefix = own_prefix(tree)
        if prefix and path.startswith(prefix + "/"):
            options.insert(0, where + path.removeprefix(prefix))
    if not path.startswith("/boot/"):
        options.append(BOOT + path)
    return next((option for option in options if is_file(filesystem, option)), None)


def has_uuid(filesystem: Filesystem, uuid: str) -> bool:
    """Whether GRUB's ``search --fs-uuid`` means this file system, in small or capital letters, with or without dashes.

    A pool of ZFS is called by its guid in sixteen hexadecimal digits (grub-core/fs/zfs/zfs.c:zfs_uuid, GRUB 2.12).
    """
    own = filesystem.uuid
    wanted = uuid.lower().replace("-", "")
    return wanted == own.lower().replace("-", "") or (own.isdecimal() and wanted == f"{int(own):016x}")


def in_boot(boot: Filesystem, path: str) -> str:
    """Where the file that a boot loader calls ``path`` in ``boot`` lies in a tree that has ``boot`` at its /boot."""
    prefix = own_prefix(boot)
    inside = path.removeprefix(prefix) if prefix and path.startswith(prefix + "/") else path
    return f"{BOOT}/{inside.lstrip('/')}"
