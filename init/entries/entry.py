"""What can be booted: the one shape that every source of entries fills in."""

from __future__ import annotations

from typing import NamedTuple

from fsdrivers.filesystem import File, Filesystem
from fsdrivers.partitions import Partition
from fsdrivers.pool import Root
from init.entries import version as _version
from init.entries.snapshots import Snapshot
from init.kernel import formats, pe
from init.roots import BootRoot

# systemd.special(7) and sysvinit's runlevels, as words of the command line; Ubuntu's friendly-recovery
_RESCUE = frozenset((
    "single", "s", "S", "1", "rescue", "emergency", "recovery", "systemd.unit=rescue.target",
    "systemd.unit=emergency.target",
))  # fmt: skip


class Counter(NamedTuple):
    """A file whose name counts the boots of its entry, on a partition that may be written: systemd's boot counting."""

    partition: Partition
    path: str  # from its top
    left: int
    done: int

    def counted_down(self) -> str:
        """The path after one more try.  Source: src/boot/boot.c:boot_entry_bump_counters, systemd 257."""
        directory, _, name = self.path.rpartition("/")
        stem, dot, suffix = name.rpartition(".")
        return f"{directory}/{stem[: stem.rindex('+')]}+{max(0, self.left - 1)}-{self.done + 1}{dot}{suffix}"


class Whole(NamedTuple):
    """A unified kernel image that is started as it was signed: what is inside counts, and nothing that is outside.

    ``path`` is from the top of ``partition``, where the firmware can start it in its place; None when it can not.
    """

    partition: Partition | None
    path: str


class BootEntry(NamedTuple):
    """One thing that can be booted.  Paths are in ``place``'s tree, or in ``files`` when that is given.

    A path may name a section of a unified kernel image ("x.efi#.linux"): open() and open_kernel() know.
    """

    id: str  # stable over boots: "tank:@/6.1.0-28-amd64"
    title: str  # for people
    source: str  # where the entry comes from: "/boot of tank:@"
    place: BootRoot
    kernel: str
    initrds: tuple[str, ...]
    cmdline: str  # complete: what the kernel gets
    version: str  # of the kernel
    notes: tuple[str, ...] = ()  # what a person should know before choosing it
    files: Filesystem | None = None  # what kernel and initrds are read from, when that is not the root itself
    default: bool = False  # whether the installed boot loader would start this one
    tries_left: int | None = None  # boot counting by the entry's file name; None when it is not counted
    appended: tuple[File, ...] = ()  # archives that go behind the initrds: poolboot.append-initrd=
    counter: Counter | None = None  # the file to count down, when it may be
    snapshot: Snapshot | None = None  # which earlier state of a root this boots; None for a root as it is now
    partition: Partition | None = None  # where it was found, when that is no root
    disk: str = ""  # the disks of its root and of itself for a person, where there are others
    ask: str = ""  # why only a person starts it
    plugged: bool = False  # it is on a disk that somebody plugged in, and that was not booted from before
    never: bool = False  # nothing but a person starts it, also when there is nothing else
    whole: Whole | None = None  # set: ``kernel`` is the image, ``cmdline`` "" or its profile ("@1")

    @property
    def name(self) -> str:
        """What its own boot loader calls it, or the kernel's version: the id without where it comes from."""
        return self.id.rpartition("/")[2]

    @property
    def root(self) -> Root:
        """The tree that becomes the system's root: its name, whether it is read-only, when it was made."""
        return self.place.root

    @property
    def sort_key(self) -> tuple[bool, bool, _version.Key]:
        """Larger is better, within one root: a kernel with its initrd first, entries that stop in a rescue mode after
        those that start the system, then the newer one.  An entry that used up its tries counts as one without."""
        return (bool(self.initrds or self.whole) and self.tries_left != 0, not self.rescue, _version.key(self.version))

    @property
    def rescue(self) -> bool:
        """Whether it starts a rescue mode, where somebody has to log in."""
        return not _RESCUE.isdisjoint(self.cmdline.split())

    def open(self, path: str) -> File:
        """The file or section that ``kernel`` or one of ``initrds`` names.  Raises the driver's errors."""
        return pe.open_file(self.files or self.place.filesystem, path)

    def open_kernel(self, whole: bool = False) -> File:
        """The kernel, out of what it is wrapped in; with ``whole`` not out of a unified image.

        Raises Unsupported, Corrupt, TooLarge, the driver's errors.
        """
        return formats.open_kernel(self.files or self.place.filesystem, self.kernel, whole)

    def open_initrds(self) -> list[File]:
        """All parts of the initrd in order.  Raises the driver's errors."""
        return [*map(self.open, self.initrds), *self.appended]

    def describe(self) -> str:
        """As the "booting" line of the console has it."""
        if self.whole:
            return f"{self.title} kernel={self.kernel} initrd=its-own cmdline={self.cmdline or 'its-own'}"
        initrds = ",".join([*self.initrds, *(file.path for file in self.appended)])
        return f"{self.title} kernel={self.kernel or 'none'} initrd={initrds or 'none'} cmdline={self.cmdline}"
