"""Distributed RAID: groups of RAID-Z rows scattered over all children by pseudo-random permutations.

Sources: module/zfs/vdev_draid.c:vdev_draid_generate_perms, vdev_draid_logical_to_physical, vdev_draid_map_alloc_row,
vdev_draid_spare_get_child; vdev_draid_rand.c; OpenZFS 2.3.4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from fsdrivers.errors import Corrupt
from fsdrivers.redundancy import Attempt
from fsdrivers.zfs import draidmaps
from fsdrivers.zfs.raidz import Column, Row
from fsdrivers.zfs.raidzread import Stripes
from fsdrivers.zfs.vdevs import Leaf, Mismatch, Vdev

ROW_HEIGHT = 16 << 20  # VDEV_DRAID_ROWHEIGHT: bytes of one child in one row of groups
_SEED = 0xD7A1D5EED  # VDEV_DRAID_SEED
_MASK = (1 << 64) - 1


class Shape(NamedTuple):
    """What the configuration says of a distributed RAID, all in numbers of devices or groups."""

    children: int
    ndata: int
    nparity: int
    nspares: int
    ngroups: int  # before the permutation changes

    @property
    def width(self) -> int:
        """Columns of one group."""
        return self.ndata + self.nparity

    @property
    def ndisks(self) -> int:
        """Children that carry data at any one time."""
        return self.children - self.nspares

    def valid(self) -> bool:
        """Whether the numbers fit together (vdev_draid.c:vdev_draid_init)."""
        return (
            2 <= self.children <= 255
            and 1 <= self.nparity <= 3
            and self.ndata >= 1
            and 0 <= self.nspares <= 100
            and self.width <= self.ndisks
            and 1 <= self.ngroups <= 255
            and self.width * self.ngroups % self.ndisks == 0
        )


@lru_cache(maxsize=8)
def permutations(children: int) -> bytes:
    """The rows of permutations of ``children`` devices, one after the other; raises Corrupt if they came out wrong."""
    at = children - draidmaps.FIRST
    state = [_SEED, int(draidmaps.SEEDS[16 * at : 16 * at + 16], 16)]
    rows = bytearray()
    row = bytearray(range(children))
    for _ in range(256 if children < 32 else 512):
        for upper in range(children - 1, 0, -1):
            lower = _random(state) % (upper + 1)
            row[upper], row[lower] = row[lower], row[upper]
        rows += row
    total = sum(struct.unpack(f"<{len(rows) // 4}I", rows))
    if total != int(draidmaps.SUMS[12 * at : 12 * at + 12], 16):
        raise Corrupt("draid", "permutations", children)
    return bytes(rows)


def _random(state: list[int]) -> int:
    """The next number of xoroshiro128++ (vdev_draid_rand)."""
    first, second = state
    result = _rotate(first + second & _MASK, 17) + first & _MASK
    second ^= first
    state[0] = _rotate(first, 49) ^ second ^ (second << 21 & _MASK)
    state[1] = _rotate(second, 28)
    return result


def _rotate(value: int, bits: int) -> int:
    return (value << bits | value >> 64 - bits) & _MASK


def child(shape: Shape, permutation: int, index: int) -> int:
    """The child that has position ``index`` in the ``permutation``-th permutation."""
    table = permutations(shape.children)
    place = permutation % len(table)
    return (table[place - place % shape.children + index] + place % shape.children) % shape.children


def rows(shape: Shape, offset: int, size: int, ashift: int) -> tuple[Row, ...]:
    """The rows of a block of ``size`` bytes at ``offset``: two when it goes beyond the end of a group."""
    group_size = shape.width * ROW_HEIGHT
    rest = group_size - offset % group_size  # allocated bytes left in the group
    stripe = shape.ndata << ashift
    whole = -(-size // stripe) * (shape.width << ashift)
    if whole <= rest:
        return (_row(shape, offset, size, ashift, 0),)
    first = rest // shape.width * shape.ndata
    return (
        _row(shape, offset, first, ashift, 0),
        _row(shape, offset + rest, size - first, ashift, first),
    )


def _row(shape: Shape, offset: int, size: int, ashift: int, place: int) -> Row:
    group = offset // (shape.width * ROW_HEIGHT)
    start = group * shape.width % shape.ndisks
    permutation, within = divmod(group, shape.ngroups)
    row = permutation * (shape.width * shape.ngroups // shape.ndisks) + within * shape.width // shape.ndisks
    height = ROW_HEIGHT >> ashift
    physical = (height * row + (offset >> ashift) % (height * shape.width) // shape.width) << ashift
    quotient, remainder = divmod(size >> ashift, shape.ndata)
    big = remainder + shape.nparity if remainder else 0
    columns, places = [], []
    for number in range(shape.width):
        at = physical + (ROW_HEIGHT if start + number >= shape.ndisks else 0)
        length = (quotient + (number < big)) << ashift
        columns.append(Column(child(shape, permutation, (start + number) % shape.ndisks), at, length))
        if number >= shape.nparity:
            places.append(place)
            place += length
    return Row(tuple(columns), tuple(places))


class Draid(Vdev):
    """A distributed RAID."""

    def __init__(self, name: str, children: Sequence[Vdev], shape: Shape, ashift: int) -> None:
        self.name, self.children, self.shape, self.ashift = name, children, shape, ashift
        for below in children:
            for spare in spares(below):
                spare.group = self

    def attempts(self, offset: int, size: int, birth: int) -> Iterator[Attempt]:
        return self._stripes(offset, size, birth).attempts()

    def compare(self, offset: int, good: bytes, birth: int) -> Iterator[Mismatch]:
        return self._stripes(offset, len(good), birth).compare(good)

    def _stripes(self, offset: int, size: int, birth: int) -> Stripes:
        found = rows(self.shape, offset, size, self.ashift)
        return Stripes(self.name, self.children, self.shape.nparity, found, offset, size, birth)

    def leaves(self) -> Iterator[Leaf]:
        for below in self.children:
            yield from below.leaves()


class DistributedSpare(Vdev):
    """Space on all children of a distributed RAID that stands in for one of them; ``number`` counts the spares."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = name, number
        self.group: Draid | None = None

    def attempts(self, offset: int, size: int, birth: int) -> Iterator[Attempt]:
        target = self._target(offset)
        if target is not None:
            yield from target.attempts(offset, size, birth)

    def compare(self, offset: int, good: bytes, birth: int) -> Iterator[Mismatch]:
        target = self._target(offset)
        if target is not None:
            yield from target.compare(offset, good, birth)

    def _target(self, offset: int) -> Vdev | None:
        """The child whose spare space stands in at ``offset``; None when it needs this spare itself."""
        target = self._child(offset)
        # A child that failed has a spare in its place, and that is another child's space; each spare has one place.
        seen, todo = {self}, [target]
        while todo:
            here = todo.pop()
            for spare in spares(here) if here is not None else ():
                if spare in seen:
                    return None
                seen.add(spare)
                todo.append(spare._child(offset))
        return target

    def _child(self, offset: int) -> Vdev | None:
        if self.group is None:
            return None
        shape = self.group.shape
        slice_size = shape.width * ROW_HEIGHT * shape.ngroups // shape.ndisks
        index = shape.children - 1 - self.number
        if not shape.ndisks <= index < shape.children:
            return None
        return self.group.children[child(shape, offset // slice_size, index)]

    def leaves(self) -> Iterator[Leaf]:
        return iter(())


def spares(vdev: Vdev) -> Iterator[DistributedSpare]:
    """The distributed spares at or below ``vdev``."""
    if isinstance(vdev, DistributedSpare):
        yield vdev
    for below in getattr(vdev, "children", ()):
        yield from spares(below)
