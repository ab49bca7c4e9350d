"""What `fsdrivers inspect` can show, by name, and how it is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from fsdrivers.block import BlockDevice, FileDevice
from fsdrivers.btrfs.pool import BtrfsPool
from fsdrivers.desk.inspect import btrfs, fat, gpt, zfs, zfs_objects
from fsdrivers.desk.inspect.report import Nothing, Report, lines, to_json
from fsdrivers.errors import Ambiguous, FsError
from fsdrivers.partitions import partitions
from fsdrivers.pool import Pool
from fsdrivers.zfs import layout
from fsdrivers.zfs.pool import ZfsPool

Pools = Callable[[], list[Pool]]


class Usage(Exception):
    """The command line makes no sense."""


class Asked(NamedTuple):
    """What was asked for: the disks, the pools on them (found when first called), and the arguments."""

    images: Sequence[str]
    pools: Pools
    arguments: Sequence[str]

    def disks(self) -> list[BlockDevice]:
        """The disks alone."""
        return [FileDevice(image) for image in self.images]

    def devices(self) -> list[BlockDevice]:
        """The disks, and the partitions on them if a table can be read."""
        found: list[BlockDevice] = []
        for device in self.disks():
            found.append(device)
            try:
                found += partitions(device)
            except FsError:
                continue
        return found

    def pool(self, kind: str) -> Pool:
        """The one pool of ``kind``.  Raises Nothing, Ambiguous."""
        found = [pool for pool in self.pools() if pool.kind == kind]
        if not found:
            raise Nothing(f"no {kind} pool on {', '.join(self.images)}")
        if len(found) > 1:
            names = ", ".join(pool.name or pool.uuid for pool in found)
            raise Ambiguous(f"several {kind} pools found ({names}): name one with --pool")
        return found[0]


class What(NamedTuple):
    """One thing that can be shown: its arguments (in brackets: may be left out) and what it is."""

    arguments: tuple[str, ...]
    text: str
    show: Callable[[Asked], Iterator[Report]]


def run(what: str, asked: Asked, offsets: bool, as_json: bool, say: Callable[[str], None]) -> bool:
    """Show ``what`` was asked for, structure by structure; whether all of it is right.

    Raises Usage, and FsError when there is nothing to show.
    """
    one = WHATS[what]
    least = sum(not name.startswith("[") for name in one.arguments)
    if not least <= len(asked.arguments) <= len(one.arguments):
        raise Usage(f"inspect {' '.join((what, *one.arguments))}")
    right = True
    for report in one.show(asked):
        right = right and not report.problems
        for line in [to_json(report, offsets)] if as_json else lines(report, offsets):
            say(line)
    return right


def number(text: str) -> int:
    """A number as people write it: decimal, or hexadecimal after 0x.  Raises Usage."""
    try:
        found = int(text, 0)
    except ValueError:
        raise Usage(f"{text} is no number") from None
    if not 0 <= found < 1 << 64:
        raise Usage(f"{text} is no address")
    return found


def _reader(asked: Asked) -> btrfs.Reader:
    pool = asked.pool("btrfs")
    assert isinstance(pool, BtrfsPool)
    return btrfs.Reader(pool)


def _chunk(asked: Asked) -> Iterator[Report]:
    address = number(asked.arguments[0]) if asked.arguments else None
    return btrfs.chunks(_reader(asked), address)


def _node(asked: Asked) -> Iterator[Report]:
    address = number(asked.arguments[0])
    return btrfs.node(_reader(asked), address)


def _tree(asked: Asked) -> Iterator[Report]:
    return btrfs.tree(_reader(asked), asked.arguments[0])


def _zfs(asked: Asked) -> ZfsPool:
    pool = asked.pool("zfs")
    assert isinstance(pool, ZfsPool)
    return pool


def _object(asked: Asked) -> Iterator[Report]:
    dataset, name = asked.arguments
    wanted = number(name)
    return zfs_objects.an_object(_zfs(asked), dataset, wanted)


def _blkptr(asked: Asked) -> Iterator[Report]:
    """VDEV:OFFSET:SIZE as zdb writes addresses: the vdev decimal, the others hexadecimal; or :LSIZE/PSIZE."""
    known = re.fullmatch(r"(\d{1,7}):([0-9a-f]{1,16}):(?:([0-9a-f]{1,7})/)?([0-9a-f]{1,7})", asked.arguments[0])
    if known is None:
        raise Usage(f"{asked.arguments[0]} is no VDEV:OFFSET:SIZE")
    vdev, offset, psize = int(known[1]), int(known[2], 16), int(known[4], 16)
    lsize = int(known[3], 16) if known[3] else psize
    if not 0 < max(lsize, psize) <= layout.MAX_BLOCK or offset % 512 or psize % 512 or not psize:
        raise Usage(f"{asked.arguments[0]}: offset and size are whole sectors of 512 bytes (in hexadecimal)")
    return zfs_objects.pointers(_zfs(asked), vdev, offset, lsize, psize)


WHATS = {
    "super": What((), "btrfs: every copy of the superblock", lambda asked: btrfs.superblocks(asked.devices())),
    "chunk": What(("[ADDRESS]",), "btrfs: the chunks, or the one around an address", _chunk),
    "node": What(("ADDRESS",), "btrfs: a node of a tree, by its logical address", _node),
    "tree": What(("NAME",), "btrfs: all nodes of a tree: root, extent, fs, ..., or the number of a subvolume", _tree),
    "labels": What((), "ZFS: all four labels of every device", lambda asked: zfs.labels(asked.devices())),
    "uberblocks": What((), "ZFS: the uberblocks in all rings", lambda asked: zfs.uberblocks(asked.devices())),
    "mos": What((), "ZFS: the objects of the pool itself", lambda asked: zfs_objects.mos(_zfs(asked))),
    "object": What(("DATASET", "ID"), "ZFS: one object of a dataset, or of the pool itself (mos)", _object),
    "blkptr": What(("VDEV:OFFSET:SIZE",), "ZFS: the block pointers in a block, by its address in hexadecimal", _blkptr),
    "gpt": What(
        (), "partition tables: MBR, both headers of a GPT and their entries", lambda asked: gpt.tables(asked.disks())
    ),
    "fat": What((), "FAT: the boot sector and its backup", lambda asked: fat.boot_sectors(asked.devices())),
}
