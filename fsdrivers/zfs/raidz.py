"""RAID-Z geometry: which sectors of which child hold a block.  Pure functions.

Sources: module/zfs/vdev_raidz.c:vdev_raidz_map_alloc and vdev_raidz_map_alloc_expanded, OpenZFS 2.3.4.
"""

from __future__ import annotations

from typing import NamedTuple

from fsdrivers.zfs.layout import BOOT_SIZE


class Column(NamedTuple):
    """A stretch of one child: ``child`` is its index, ``offset`` and ``size`` are bytes in its data area."""

    child: int
    offset: int
    size: int


class Row(NamedTuple):
    """Columns that protect each other: first ``nparity`` parity columns (P, Q, R), then data.

    ``places`` says for each data column at which byte of the block it belongs.
    """

    columns: tuple[Column, ...]
    places: tuple[int, ...]


def columns(offset: int, size: int, ashift: int, width: int, nparity: int) -> tuple[Column, ...]:
    """The columns of a block of ``size`` bytes (a multiple of the sector) at ``offset`` of the vdev.

    The first ``nparity`` are parity.  The first columns may be one sector longer than the later ones; parity is
    computed as if those ended in zeros.  The data columns in order, one after the other, are the block.
    """
    start, sectors = offset >> ashift, size >> ashift
    first, base = start % width, (start // width) << ashift
    quotient, remainder = divmod(sectors, width - nparity)
    big = remainder + nparity if remainder else 0
    count = width if quotient else big
    found = []
    for number in range(count):
        child, at = first + number, base
        if child >= width:
            child -= width
            at += 1 << ashift
        found.append(Column(child, at, (quotient + (number < big)) << ashift))
    # Single parity swaps places with the first data column in every second MiB: meant to spread the load, now a
    # part of the format.  It is the block's address that decides, not the sector's.
    if nparity == 1 and offset & 1 << 20:
        found[0], found[1] = found[1], found[0]
    return tuple(found)


def rows(
    offset: int,
    size: int,
    ashift: int,
    width: int,
    old_width: int,
    nparity: int,
    moved: int | None,
    scratch: bool = False,
) -> tuple[Row, ...]:
    """The rows of a block in a RAID-Z that was or is being expanded to ``width`` children.

    ``old_width`` is the width that the block was written with, ``moved`` the progress of a running expansion in
    bytes (None when it has ended): rows that are not wholly below it are still in the layout of ``width - 1``.
    With ``scratch`` the others are in the boot area in front of the data, where the first of them are put
    before they overwrite their old selves.  Each row is one sector high.
    """
    sectors = size >> ashift
    quotient, remainder = divmod(sectors, old_width - nparity)
    big = remainder + nparity if remainder else 0
    total = sectors + nparity * (quotient + bool(remainder))
    height = -(-total // old_width)
    count = min(total, old_width)
    sector = 1 << ashift
    found = []
    for row in range(height):
        start = (offset >> ashift) + row * old_width
        physical, shift = width, 0
        if moved is not None and start + count > moved >> ashift:
            physical -= 1
        elif scratch:
            shift = BOOT_SIZE
        members, places = [], []
        for number in range(count):
            at = start + number
            length = sector
            if number >= nparity:
                data = number - nparity
                if row == height - 1 and big and number >= big:
                    length = 0
                    place = 0
                elif number < big or not remainder:
                    place = data * height + row
                else:
                    place = remainder * height + (data - remainder) * (height - 1) + row
                places.append(place << ashift)
            members.append(Column(at % physical, ((at // physical) << ashift) - shift, length))
        if nparity == 1 and count > 1 and offset & 1 << 20:
            members[0], members[1] = members[1], members[0]
        found.append(Row(tuple(members), tuple(places)))
    return tuple(found)
