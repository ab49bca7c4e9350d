"""Entries that an installed boot loader's own configuration states, each tied to the root that it is for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from fsdrivers.block import BlockDevice
from fsdrivers.bounds import attempt
from fsdrivers.errors import FsError
from fsdrivers.filesystem import File, Filesystem
from fsdrivers.notes import Notes
from fsdrivers.partitions import Partition, partitions
from fsdrivers.shown import short
from init import roots
from init.config import BootConfig
from init.entries import bls, blsrules, cmdline, grubenv, kernels, snapshots, uki, whose
from init.entries.entry import BootEntry, Counter, Whole
from init.entries.item import DEVICE_TREE, MAX_TITLE, Item, Listing, has_uuid, in_boot, is_file, locate
from init.entries.mounts import BOOT, at_boot
from init.kernel import image, pe
from init.roots import BootRoot

Note = Callable[[str], None]

# Types of root partitions.  Source: UAPI.2 Discoverable Partitions Specification.
ROOTS = {
    "x86_64": "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "aarch64": "b921b045-1df0-41c3-af44-4c6f280d3fae",
    "riscv64": "72ec70a6-cf74-40e6-bd49-4bda08e8f224",
}  # fmt: skip
MBR_TYPES = ("0xef", "0xea")  # of an EFI system and an extended boot partition
MAX_PARTITIONS = 16
MAX_TREES = 8  # other trees of a pool that are opened for entries whose kernel lies there


def _grub(filesystem: Filesystem, machine: str) -> Listing:
    if not _any(filesystem, "/boot/grub", "/boot/grub2", "/grub", "/grub2"):
        return Listing()
    from init.entries import grub  # not before it is needed: its grammar costs some of the start-up's time

    return grub.entries(filesystem, machine)


def _extlinux(filesystem: Filesystem, machine: str) -> Listing:
    if not _any(filesystem, "/boot/extlinux", "/boot/syslinux", "/extlinux", "/syslinux", "/boot/extlinux.conf",
                "/extlinux.conf", "/syslinux.cfg"):  # fmt: skip
        return Listing()
    from init.entries import extlinux

    return extlinux.entries(filesystem)


def _any(filesystem: Filesystem, *paths: str) -> bool:
    """Whether any of the paths is there; damage counts as yes, for the parser to tell."""
    try:
        return any(filesystem.exists(path) for path in paths)
    except FsError:
        return True


def _systemd_boot(filesystem: Filesystem, machine: str) -> Listing:
    """Both types of the Boot Loader Specification: one menu, with one default."""
    notes = Notes()
    items = bls.collect(filesystem, machine, grubenv.read(filesystem), notes) + uki.collect(filesystem, machine, notes)
    items = blsrules.order(items)
    index, named = blsrules.default(filesystem, items, notes)
    return Listing(tuple(items), tuple(notes), index, named=named)


# In the order in which their default counts.
PARSERS: tuple[Callable[[Filesystem, str], Listing], ...] = (_grub, _systemd_boot, _extlinux)


def find(place: BootRoot, config: BootConfig, note: Note) -> Iterator[BootEntry]:
    """The entries that are stated in ``place``'s own tree."""
    trees = _Trees(place)
    boot = at_boot(place.boot)
    partition = boot.partition if boot else None
    earlier = 0
    for item, default, _ in _items(place.files, place.where, note):
        if not whose.own(item.options, place):
            if partition:
                continue  # a partition may serve several systems: on_partitions() knows whose it is
            if trees.is_snapshot(item):
                earlier += 1
                continue
            if other := trees.environment(item):
                # Written for what this one is a clone of, or for another one with the same /boot.
                note(f"{place.where}: entry {item.title!r} is passed over: it is for {other}")
                continue
        found = trees.open(item)
        if found is None:
            note(f"{place.where}: entry {item.title!r} is passed over: its kernel {item.kernel} is on {item.device}")
            continue
        files, item = found
        yield _entry(item, place, files, place.where, config, default, partition)
    if earlier:
        note(f"{place.where}: {earlier} entries for its snapshots are left out: these are listed of themselves")


def on_partitions(
    devices: Iterable[BlockDevice],
    places: Sequence[BootRoot],
    config: BootConfig,
    note: Note,
    known: Sequence[BootEntry] = (),
) -> Iterator[BootEntry]:
    """The entries on EFI system and extended boot partitions whose root= names one of ``places``.

    Those in ``known`` are not offered once more: a partition may be the /boot of a root.
    """
    seen = {(entry.place.identity, entry.kernel, entry.cmdline) for entry in known}
    decided = {entry.place.identity for entry in known if entry.default}
    trees = [_Trees(place) for place in places]
    for partition in boot_partitions(devices, note):
        look = partial(_on_partition, partition, places, trees, config, note)
        found = attempt(f"{partition.name}: its entries", [partition], look, lambda error: note(str(error)))
        for entry, named in found or ():
            where = entry.place.identity
            kernel = entry.kernel if entry.files in (None, entry.place.files) else BOOT + entry.kernel
            if (where, kernel, entry.cmdline) not in seen:
                default = named and where not in decided
                decided |= {where} if default else set()
                yield entry._replace(default=default)


def _on_partition(
    partition: Partition, places: Sequence[BootRoot], trees: Sequence[_Trees], config: BootConfig, note: Note
) -> list[tuple[BootEntry, bool]]:
    """The entries on one partition, and whether somebody named each as the default."""
    from fsdrivers import fat

    try:
        filesystem = fat.open(partition)
    except FsError as error:
        note(f"{partition.name}: not read: {error}")
        return []
    entries = []
    earlier = 0
    beside = {part.name for part in partitions(partition.parent) if part.type == ROOTS.get(os.uname().machine)}
    for item, _, named in _items(filesystem, partition.name, note):
        place = whose.among(item.options, places, beside)
        if place is None and any(one.is_snapshot(item) for one in trees):
            earlier += 1
            continue
        if place is None:
            note(f"{partition.name}: entry {item.title!r} is passed over: its root is none of those found here")
            continue
        files = filesystem
        if item.device:
            inside = _inside(item, place)
            if inside is None:
                note(f"{partition.name}: entry {item.title!r} is passed over: its kernel is on {item.device}")
                continue
            item, files = inside, place.files
        try:
            entry = _entry(item, place, files, partition.name, config, False, partition)
        except FsError as error:
            note(f"{partition.name}: entry {item.title!r} is passed over: {error}")
            continue
        # Names of devices change from boot to boot, and an id may be remembered.
        entries.append((entry._replace(id=f"{filesystem.uuid or partition.name}/{item.id}"), named))
    if earlier:
        note(f"{partition.name}: {earlier} entries for snapshots are left out: these are listed of themselves")
    return entries


def _inside(item: Item, place: BootRoot) -> Item | None:
    """``item``, whose kernel lies on another file system than its configuration, with paths in ``place``'s tree; None
    when it is not there.  Ubuntu's installer has /boot/grub on the EFI system partition when the root is on ZFS."""
    kind, _, value = item.device.partition("=")
    boot = at_boot(place.boot)
    trees = [place.filesystem, *([boot.filesystem] if boot else [])]
    for tree in trees:
        if not (has_uuid(tree, value) if kind == "UUID" else kind == "LABEL" and tree.label == value):
            continue
        paths = (item.kernel, *item.initrds)
        if tree is not place.filesystem:
            found: list[str | None] = [in_boot(tree, path) for path in paths]
        else:
            found = [locate(tree, path) for path in paths]
        there = [path for path in found if path is not None and is_file(place.files, path)]
        if len(there) == len(paths):
            return item._replace(kernel=there[0], initrds=tuple(there[1:]), device="")
    return None


def boot_partitions(devices: Iterable[BlockDevice], note: Note) -> Iterator[Partition]:
    """The partitions that are for booting, by their types."""
    from fsdrivers import fat

    count = 0
    for device in devices:
        look = partial(partitions, device)
        found = attempt(f"{device.name}: its partitions", [device], look, lambda error: note(str(error)))
        for partition in found or ():
            if partition.type not in (fat.ESP, fat.XBOOTLDR, *MBR_TYPES):
                continue
            count += 1
            if count > MAX_PARTITIONS:
                return
            yield partition


def _items(filesystem: Filesystem, where: str, note: Note) -> Iterator[tuple[Item, bool, bool]]:
    """What all parsers find, each thing once, whether it is the default of the first that has one, and whether that
    one is named by somebody."""
    machine = os.uname().machine
    seen = set()
    chosen = with_bls = False
    for parser in PARSERS:
        # A GRUB that took in the entries of type 1 has their variables; they alone have not.
        listing = (uki.entries if with_bls and parser is _systemd_boot else parser)(filesystem, machine)
        with_bls = with_bls or listing.with_bls
        for text in listing.notes:
            note(f"{where}: {text}")
        for index, item in enumerate(listing.items):
            default = not chosen and index == listing.default
            what = (item.device, item.kernel, item.initrds, item.options)
            if what not in seen or default:
                seen.add(what)
                yield item, default, default and listing.named
        chosen = chosen or listing.default is not None


def _entry(
    item: Item,
    place: BootRoot,
    files: Filesystem,
    where: str,
    config: BootConfig,
    default: bool,
    partition: Partition | None = None,
) -> BootEntry:
    if config.whole and (parts := pe.named(files, item.kernel)):
        return _whole(item, parts[0], parts[2], place, files, where, config, default, partition)
    remarks = list(item.remarks)
    if config.cmdline:
        text, _ = cmdline.compute(place, config, _initrd(files, item))
    else:
        own = whose.own(item.options, place)
        text = cmdline.stated(item.options, place, config, own, _initrd(files, item))
        if not own:
            other = whose.values(item.options).get("root") != "fstab"  # which its initrd knows
            remarks += ["its command line names another root than the one that it lies in"] if other else []
    version = _release(item, place, files)
    if not item.initrds:
        remarks.append("no initrd: only a kernel with the root's driver built in can start this")
    remarks += kernels.without_modules(place, version)
    return BootEntry(
        id=f"{where.removesuffix('/')}/{item.id}",
        title=short(item.title, MAX_TITLE),
        source=where,
        place=place,
        kernel=item.kernel,
        initrds=item.initrds,
        cmdline=text,
        version=version,
        notes=tuple(remarks),
        files=None if files is place.filesystem else files,
        default=default,
        tries_left=item.tries_left,
        counter=_counter(item, partition, files is place.boot),
        partition=partition,
    )


def _whole(
    item: Item,
    path: str,
    profile: str,
    place: BootRoot,
    files: Filesystem,
    where: str,
    config: BootConfig,
    default: bool,
    partition: Partition | None,
) -> BootEntry:
    """A unified image that is not taken apart: of what its sections say only the list makes use."""
    remarks = [remark for remark in item.remarks if remark != DEVICE_TREE]
    if config.cmdline or config.append:
        remarks.append("its command line is a part of it: poolboot.cmdline= and poolboot.append= change nothing")
    there = partition if files is not place.boot or path.startswith(BOOT + "/") else None
    return BootEntry(
        id=f"{where.removesuffix('/')}/{item.id}",
        title=short(item.title, MAX_TITLE),
        source=where,
        place=place,
        kernel=path,
        initrds=(),
        cmdline=f"@{profile}" if profile else "",
        version=_release(item, place, files),
        notes=tuple(remarks),
        files=None if files is place.filesystem else files,
        default=default,
        tries_left=item.tries_left,
        counter=_counter(item, partition, files is place.boot),
        partition=partition,
        whole=Whole(there, path.removeprefix(BOOT) if files is place.boot else path),
    )


def _counter(item: Item, partition: Partition | None, mounted: bool) -> Counter | None:
    if partition is None or item.tries_left is None or (mounted and not item.counted.startswith(BOOT + "/")):
        return None
    path = item.counted.removeprefix(BOOT) if mounted else item.counted
    return Counter(partition, path, item.tries_left, item.tries_done)


def _initrd(files: Filesystem, item: Item) -> File | None:
    try:
        return pe.open_file(files, item.initrds[-1]) if item.initrds else None
    except FsError:  # the handover will say what is wrong with it
        return None


def with_root(entry: BootEntry, place: BootRoot, config: BootConfig) -> BootEntry:
    """``entry``, whose kernel lies outside of any root, with another root: ``place``."""
    if config.cmdline:
        text, _ = cmdline.compute(place, config)
    else:
        text = cmdline.stated(entry.cmdline, place, config._replace(append=""), True)
    remarks = [note for note in entry.notes if not note.startswith("no /lib/modules/")]
    remarks += kernels.without_modules(place, entry.version)
    name = entry.id.rpartition("/")[2]
    return entry._replace(id=f"{place.where}/{name}", place=place, cmdline=text, notes=tuple(remarks), default=False)


def _release(item: Item, place: BootRoot, files: Filesystem) -> str:
    """The version of ``item``'s kernel: the one that is stated when there are modules for it, else what the kernel
    says.  A stated one may be that of the system (a unified image without .uname), or have a snapshot's number in
    front (openSUSE's sdbootutil)."""
    stated = item.version.rpartition("@")[2]
    if stated[:1].isdigit() and place.has(f"/lib/modules/{stated}"):
        return stated
    return _header_version(files, item.kernel) or stated


def _header_version(files: Filesystem, path: str) -> str:
    try:
        return image.identify(pe.open_file(files, path), os.uname().machine).version
    except FsError:  # the handover will say what is wrong with it
        return ""


class _Trees:
    """The other trees of a root's pool, for entries whose kernel does not lie in the root itself."""

    def __init__(self, place: BootRoot) -> None:
        self._place = place
        self._opened: dict[str, Filesystem | None] = {}
        self._snapshots: whose.Index | None = None
        self._all: frozenset[str] | None = None
        self._prefixes: dict[str, str] | None = None

    def open(self, item: Item) -> tuple[Filesystem, Item] | None:
        """The tree that holds ``item``'s kernel and initrds, and the item with paths in it; None for another pool."""
        if not item.device:
            return self._place.files, item
        if item.device != "top":
            return None
        paths = (item.kernel, *item.initrds)
        for prefix, name in self._prefixed(paths):
            tree = self._tree(name)
            inside = [path.removeprefix(prefix) for path in paths]
            if tree is not None and all(is_file(tree, path) for path in inside):
                return tree, item._replace(kernel=inside[0], initrds=tuple(inside[1:]), device="")
        return None

    def is_snapshot(self, item: Item) -> bool:
        """Whether the command line of ``item`` names a snapshot of the root: grub-btrfs and Ubuntu's 10_linux_zfs make
        an entry for each kernel in each of them."""
        if self._snapshots is None:
            found = snapshots.of(self._place, lambda _: None)
            self._snapshots = whose.Index(self._place.pool, [one.root for one in found])
        named = whose.named(item.options)
        return named.meant(self._place.pool) and self._snapshots.has(named)

    def environment(self, item: Item) -> str:
        """The other file system of the same ZFS pool that root= names, "" when it names none that there is."""
        name = whose.dataset(item.options, self._place)
        return name if name != self._place.root.name and name in self._names() else ""

    def _names(self) -> frozenset[str]:
        """The names of all trees of the pool."""
        if self._all is None:
            try:
                self._all = frozenset(root.name for root in self._place.pool.roots())
            except FsError:
                self._all = frozenset()
        return self._all

    def _prefixed(self, paths: Sequence[str]) -> Iterator[tuple[str, str]]:
        """(what a boot loader writes in front of all of ``paths``, the root's name), the longest first."""
        if self._prefixes is None:
            self._prefixes = dict(self._find_prefixes())
        above = paths[0]
        while above:
            above = above.rpartition("/")[0]
            if above in self._prefixes and all(path.startswith(f"{above}/") for path in paths):
                yield above, self._prefixes[above]

    def _find_prefixes(self) -> Iterator[tuple[str, str]]:
        pool = self._place.pool
        for name in self._names():
            if pool.kind == "zfs":
                dataset, _, snapshot = name.partition("@")
                yield f"/{dataset.partition('/')[2]}@{snapshot}", name
        if pool.kind == "zfs":
            return
        try:
            for root in pool.roots():
                yield ("/" + path if (path := roots.path_of(root)) else ""), root.name
        except FsError:
            return

    def _tree(self, name: str) -> Filesystem | None:
        if name not in self._opened:
            if len(self._opened) >= MAX_TREES:
                return None
            try:
                self._opened[name] = self._place.pool.open(name)
            except FsError:
                self._opened[name] = None
        return self._opened[name]
