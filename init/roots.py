"""Which trees of the pools may hold an operating system, the likeliest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from fsdrivers.errors import FsError
from fsdrivers.filesystem import DIRECTORY, Filesystem
from fsdrivers.pool import Pool, Root, Slot
from init.config import BootConfig

if TYPE_CHECKING:
    from fsdrivers.zfs.environments import Environment

OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
# init/main.c:kernel_init, v6.12; then systemd's own place
INITS = ("/sbin/init", "/etc/init", "/bin/init", "/usr/lib/systemd/systemd", "/bin/sh")

TOP_LEVEL = 5  # include/uapi/linux/btrfs_tree.h:BTRFS_FS_TREE_OBJECTID, v6.12
MAX_CANDIDATES = 32  # subvolumes that are opened to look for an operating system
MAX_DEPTH = {"btrfs": 2, "zfs": 5}  # path components of such a tree: those of containers lie deeper
# Where container managers keep trees with a system in each.
_CONTAINERS = ("docker", "containers", "lxc", "lxd", "incus", "machines", "podman")
# Where snapper and timeshift keep snapshots of the root: never booted unless asked for.
_SNAPSHOTS = (".snapshots", "timeshift-btrfs", "snapshots")
_USUAL = ("@", "@rootfs", "root", "rootfs", "@root")  # Ubuntu, Debian, Fedora and Arch call it so

Note = Callable[[str], None]


class BootRoot(NamedTuple):
    """One tree that may hold an operating system, opened."""

    pool: Pool
    root: Root
    filesystem: Filesystem
    environment: Environment | None = None  # what a file system of ZFS says of itself as one to boot
    boot: Filesystem | None = None  # this tree with its /boot in it, when that is a file system of its own

    @property
    def files(self) -> Filesystem:
        """The tree as the running system sees it: what is read for booting is in it."""
        return self.boot or self.filesystem

    def has(self, path: str) -> bool:
        """Whether ``path`` is there; damage on the way counts as no."""
        try:
            return self.filesystem.exists(path)
        except FsError:
            return False

    @property
    def identity(self) -> tuple[str, ...]:
        """What no other tree has in common with it: one on another disk may have its name and its uuid."""
        return (self.where, self.pool.uuid, *(device.name for device in self.pool.devices))

    @property
    def where(self) -> str:
        """How messages call it."""
        return tree_name(self.pool, self.root.name)


class Wanted(NamedTuple):
    """What root= asks for: the pool by ``key`` ("uuid", "label", "device", "kind", "" for any), and the tree in it."""

    key: str = ""
    value: str = ""
    tree: str = ""
    problem: str = ""

    def matches(self, pool: Pool) -> bool:
        """Whether ``pool`` is one that root= may mean."""
        if self.key == "uuid":
            return pool.uuid.lower() == self.value.lower()
        if self.key == "label":
            return pool.name == self.value
        if self.key == "kind":
            return pool.kind == self.value
        if self.key == "zfs":
            return pool.kind == "zfs" and pool.name == self.value
        if self.key == "device":
            return any(slot.device == self.value for slot in pool.slots)
        return True

    def __str__(self) -> str:
        """For "waiting for ..."."""
        if self.key == "kind":
            return f"any {self.value} pool"
        if self.key == "zfs":
            return f"zfs pool {self.value}"
        return f"the pool with {self.key} {self.value}" if self.key else "a btrfs filesystem or ZFS pool"


def tree_name(pool: Pool, name: str) -> str:
    """How messages call the tree ``name`` of ``pool``: the pool's name (or uuid), a colon, the tree's."""
    return f"{pool.name or pool.uuid}:{name or '/'}"


def wanted(root: str) -> Wanted:
    """Understand ``root=``; what cannot be understood matches every pool and says so in ``problem``."""
    upper = root.upper()
    for prefix, key in (("UUID=", "uuid"), ("LABEL=", "label")):
        if upper.startswith(prefix):
            return Wanted(key, root[len(prefix) :].strip('"'))
    for prefix, key in (("/dev/disk/by-uuid/", "uuid"), ("/dev/disk/by-label/", "label")):
        if root.startswith(prefix):
            return Wanted(key, root.removeprefix(prefix))
    if upper in ("ZFS", "ZFS=AUTO", "ZFS:AUTO", "ZFS:"):
        return Wanted("kind", "zfs")
    if upper.startswith(("ZFS=", "ZFS:")):
        # dracut has "+" for a blank, which no name on ZFS holds.
        dataset = root[4:].strip("/").replace("+", " ")
        return Wanted("zfs", dataset.partition("/")[0], dataset if "/" in dataset else "")
    if root.startswith("/dev/"):
        return Wanted("device", root)
    if root:
        return Wanted(problem=f"root={root}: not a form that is known here; looking at every pool")
    return Wanted()


def absent(pool: Pool) -> list[Slot]:
    """The places of ``pool`` without a device.  A member that is there but out of date is no reason to wait."""
    return [slot for slot in pool.missing if slot.device is None]


def candidates(pool: Pool, config: BootConfig, note: Note) -> Iterator[BootRoot]:
    """The trees of ``pool`` to look for kernels in: those that the command line names, else the default one and
    those that look like the root of a system.  What is passed over is told to ``note``."""
    try:
        roots = pool.roots()
    except FsError as error:
        note(f"{pool.kind} {pool.name or pool.uuid}: cannot list its trees: {error}")
        return
    known = {one.name: one for one in environments(pool, note)}
    named = _named(roots, config)
    if named is not None:
        if not named:
            note(f"{pool.kind} {pool.name or pool.uuid}: has no tree that root= and rootflags= ask for")
        for root in named:
            yield from _open(pool, root, known, note)
        return
    if known:
        # The pool itself says which ones are meant to be booted.
        usable = [one.name for one in known.values() if one.bootfs or one.canmount != "off"]
        likely = sorted((root for root in roots if root.name in usable), key=lambda root: not known[root.name].bootfs)
        for root in likely[:MAX_CANDIDATES]:
            yield from _open(pool, root, known, note)
        return
    likely = sorted((root for root in roots if not root.default and _plausible(pool, root)), key=_rank)
    if len(likely) > MAX_CANDIDATES:
        note(f"{pool.kind} {pool.name or pool.uuid}: looks at {MAX_CANDIDATES} of {len(likely)} trees")
    for root in [root for root in roots if root.default] + likely[:MAX_CANDIDATES]:
        for found in _open(pool, root, known, note):
            if root.default or looks_like_root(found.filesystem):
                yield found


def environments(pool: Pool, note: Note) -> list[Environment]:
    """The boot environments of a ZFS pool; none of another one."""
    listing: Callable[[], list[Environment]] | None = getattr(pool, "environments", None)
    if listing is None:
        return []
    try:
        return listing()
    except FsError as error:
        note(f"{pool.kind} {pool.name}: its boot environments cannot be listed: {error}")
        return []


def looks_like_root(filesystem: Filesystem) -> bool:
    """Whether the tree has what every installed system has: an os-release and an init."""
    if os_release_path(filesystem) is not None and init_path(filesystem, "") is not None:
        return True
    return is_nixos(filesystem)


def is_nixos(filesystem: Filesystem) -> bool:
    """Whether it is the root of a NixOS, which has all else below /nix, often a tree of its own.

    Source: nixos/modules/system/etc/setup-etc.pl, nixpkgs 24.05.
    """
    return _first(filesystem, ("/etc/NIXOS",)) is not None and _first(filesystem, ("/nix",)) is not None


def elsewhere(filesystem: Filesystem, path: str) -> str:
    """The top directory of ``path`` when that is empty, as the place for another file system is; else ""."""
    top = "/" + path.strip("/").partition("/")[0]
    try:
        found = filesystem.resolve(top)
        status = filesystem.stat(found)
        return top if status.type == DIRECTORY and not any(True for _ in filesystem.entries(found)) else ""
    except FsError:
        return ""


def os_release_path(filesystem: Filesystem) -> str | None:
    """The os-release file of the tree, or None."""
    return _first(filesystem, OS_RELEASE)


def init_path(filesystem: Filesystem, asked: str) -> str | None:
    """The init that the kernel or the initrd would start in this tree (``asked`` by init=), or None."""
    return _first(filesystem, (asked,) if asked else INITS)


def _first(filesystem: Filesystem, paths: tuple[str, ...]) -> str | None:
    try:
        return next((path for path in paths if filesystem.exists(path)), None)
    except FsError:
        return None


def _named(roots: list[Root], config: BootConfig) -> list[Root] | None:
    """The roots that the command line names, or None when it names none."""
    tree = wanted(config.root).tree
    if tree:
        return [root for root in roots if root.name.strip("/") == tree]
    if config.subvolid is not None:
        return [root for root in roots if root.id == (config.subvolid or TOP_LEVEL)]
    if config.subvol is not None:
        return [root for root in roots if path_of(root) == config.subvol]
    return None


def path_of(root: Root) -> str:
    """The path below the top level as subvol= takes it, "" for the top level itself."""
    return "" if root.id == TOP_LEVEL else root.name.strip("/")


def _plausible(pool: Pool, root: Root) -> bool:
    parts = path_of(root).split("/")
    if len(parts) > MAX_DEPTH.get(pool.kind, 1) or any(part in _SNAPSHOTS or part in _CONTAINERS for part in parts):
        return False
    return not root.readonly


def _rank(root: Root) -> tuple[int, int, str]:
    path = path_of(root)
    return (_USUAL.index(path) if path in _USUAL else len(_USUAL), path.count("/"), path)


def _open(pool: Pool, root: Root, known: dict[str, Environment], note: Note) -> Iterator[BootRoot]:
    """The opened root, or nothing and a note when it cannot be opened."""
    try:
        yield BootRoot(pool, root, pool.open(root.name), known.get(root.name.partition("@")[0]))
    except FsError as error:
        note(f"{pool.kind} {pool.name or pool.uuid}: {root.name or '/'} cannot be opened: {error}")
