"""What can be booted from a root: one parser for each source, composed here; order and choice, snapshots, command
lines, the /boot that a root mounts, and the archives behind an initrd.

Knows kernels and what is asked; neither the firmware nor how a machine is handed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from fsdrivers.block import BlockDevice
from fsdrivers.errors import FsError
from init.config import BootConfig
from init.entries import kernels, mounts, snapshots, stated
from init.entries.entry import BootEntry
from init.entries.snapshots import Snapshot
from init.entries.stated import on_partitions
from init.roots import BootRoot

__all__ = ["BootEntry", "Snapshot", "find", "of_snapshot", "on_partitions", "snapshots_of"]

Source = Callable[[BootRoot, BootConfig, Callable[[str], None]], Iterator[BootEntry]]

# In the order of preference; each yields entries and says to its third argument what it passed over.
SOURCES: tuple[Source, ...] = (stated.find, kernels.find)


def find(place: BootRoot, config: BootConfig, note: Callable[[str], None]) -> list[BootEntry]:
    """All entries of ``place``; poolboot.kernel= replaces them by the one that it names."""
    if config.kernel:
        pair = kernels.Pair("", _absolute(config.kernel), tuple(map(_absolute, config.initrd)))
        try:
            place.files.open(pair.kernel)
            return [kernels.make(place, config, pair, f"poolboot.kernel= on {place.where}", note)]
        except FsError as error:
            note(f"{place.where}: poolboot.kernel=: {error}")
            return []
    entries: list[BootEntry] = []
    environment = place.environment
    # Who states a command line for a boot environment has it booted without the help of a boot loader's files.
    for source in SOURCES if not (environment and environment.commandline) else (kernels.find,):
        try:
            # A kernel that the boot loader's configuration names is not offered once more by its file name.
            known = {
                entry.kernel
                for entry in entries
                if (entry.initrds or entry.whole) and entry.files in (None, place.boot) and not entry.rescue
            }
            for entry in source(place, config, note):
                if source is stated.find or entry.kernel not in known:
                    entries.append(entry)
        except FsError as error:
            note(f"{place.where}: {error}")
    if environment and environment.kernel:
        entries = _preferred(entries, environment.kernel)
    if not entries and config.handover == "switch_root":
        entries = kernels.without_kernel(place, config, note)
    if config.initrd:
        initrds = tuple(map(_absolute, config.initrd))
        entries = [entry if entry.whole else entry._replace(initrds=initrds) for entry in entries]
    return entries


def _preferred(entries: list[BootEntry], name: str) -> list[BootEntry]:
    """``entries`` with those for the default that org.zfsbootmenu:kernel means; if there are none, as they were."""
    alike = [name in entry.kernel.rpartition("/")[2] for entry in entries]
    if not any(alike):
        return entries
    return [entry._replace(default=matches) for entry, matches in zip(entries, alike, strict=True)]


def snapshots_of(entry: BootEntry, note: Callable[[str], None]) -> list[Snapshot]:
    """The snapshots of ``entry``'s root, the newest first, with what their tools noted about them: for a list.

    Names cost next to nothing, descriptions one small file each; nothing is looked for in the snapshots themselves.
    """
    return snapshots.described(snapshots.of(entry.place, note))


def of_snapshot(
    snapshot: Snapshot,
    like: BootEntry,
    config: BootConfig,
    note: Callable[[str], None],
    devices: Iterable[BlockDevice] = (),
) -> list[BootEntry]:
    """What can be booted from ``snapshot``, the newest kernel first; empty with a note when that is nothing.

    The kernels are the snapshot's own, or those in the snapshot of the same name of a dataset that is the root's /boot.
    When it has none, they are those that entries on the boot partitions of ``devices`` state for it; without any, that
    of ``like``, an entry of the root that it is a snapshot of, is taken with the snapshot as its root.
    """
    try:
        tree = snapshot.pool.open(snapshot.root.name)
        place = BootRoot(snapshot.pool, snapshot.root, tree, like.place.environment)
    except FsError as error:
        note(f"{snapshot.where} cannot be opened: {error}")
        return []
    place = mounts.with_snapshot(place, like.place, note)
    found = list(kernels.find(place, config, note)) or list(on_partitions(devices, [place], config, lambda _: None))
    found.sort(key=lambda entry: entry.sort_key, reverse=True)
    if not found and like.files is not None and not like.whole:
        found = [stated.with_root(like, place, config)]
    if not found:
        note(f"{snapshot.where}: no kernel in it")
    return [_marked(entry, snapshot) for entry in found]


def _marked(entry: BootEntry, snapshot: Snapshot) -> BootEntry:
    notes = list(entry.notes)
    if snapshot.tool == snapshots.ZFS:
        from init.entries import dialect  # not before it is needed

        clone = dialect.clone(entry.place)
        words = (
            f"boots a clone of it, {clone}, made anew each time" if clone else "may refuse it: a clone could be booted"
        )
        notes.append(f"its initrd {words}")
    elif snapshot.readonly:
        notes.append("this snapshot is read-only: the system cannot write to its root")
    return entry._replace(title=f"{entry.title}, {snapshot.title}", notes=tuple(notes), snapshot=snapshot)


def _absolute(path: str) -> str:
    return "/" + path.lstrip("/")
