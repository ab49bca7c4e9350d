"""The worst vdev trees: removed vdevs that lead to themselves, spares that need each other, copies without end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bounded import bounded

from fsdrivers import redundancy
from fsdrivers.block import BlockDevice
from fsdrivers.errors import Corrupt, FsError, TooMany, Unsupported
from fsdrivers.redundancy import Attempt, Health
from fsdrivers.zfs import draid, tree
from fsdrivers.zfs.raidzread import RaidZ
from fsdrivers.zfs.vdevs import MAX_SEGMENTS, Indirect, Leaf, Mirror, Segment, Vdev


class Zeros(BlockDevice):
    """A large disk of zeros."""

    size = 1 << 50

    def __init__(self, name: str) -> None:
        self.name = name

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check(offset, len(buffer))


def leaf(number: int = 0) -> Leaf:
    return Leaf(f"d{number}", number, Zeros(f"d{number}"))


def refuse(data: bytes, attempt: Attempt) -> FsError | None:
    return Corrupt(attempt.device, "block", attempt.offset)


def read(vdev: Vdev, size: int, health: Health | None = None) -> bytes:
    """A block of ``size`` bytes whose checksum no copy has."""
    return redundancy.read(vdev.attempts(0, size, 1), refuse, health or Health(), lambda: FsError("lost"))


def removed(follow: Callable[[Indirect, int, int], list[Segment]]) -> Indirect:
    vdev = Indirect("indirect-0", lambda offset, size: follow(vdev, offset, size))
    return vdev


def halves(vdev: Indirect, offset: int, size: int) -> list[Segment]:
    half = max(512, size // 2)
    return [(vdev, offset, half), (vdev, offset + half, half)]


def test_removed_vdevs_that_lead_to_themselves() -> None:
    loop = removed(lambda vdev, offset, size: [(vdev, offset, size)])
    assert "leads on without end" in bounded(lambda: read(loop, 512)).error
    assert "without end" in bounded(lambda: read(removed(halves), 16 << 20)).error
    assert (
        "pieces of a block"
        in bounded(lambda: read(removed(lambda vdev, at, size: [(vdev, at, 512)] * 1000), 16 << 20)).error
    )


def test_a_long_chain_of_removed_vdevs_ends() -> None:
    chain: Vdev = leaf()
    for _ in range(60):
        chain = Indirect("indirect", lambda offset, size, to=chain: [(to, offset, size)])  # type: ignore[misc]
    assert next(chain.attempts(0, 512, 1)).fetch() == bytes(512)


def test_blocks_in_many_pieces() -> None:
    two = Mirror("mirror", [leaf(0), leaf(1)])
    for pieces in (100, MAX_SEGMENTS - 1):
        vdev = removed(lambda _, at, size, pieces=pieces: [(two, at, size // pieces)] * pieces)  # type: ignore[misc]
        bounded(lambda vdev=vdev, pieces=pieces: read(vdev, 512 * pieces))  # type: ignore[misc]
    with pytest.raises(TooMany, match="pieces of a block"):
        read(removed(lambda _, at, size: [(two, at, 512)] * (MAX_SEGMENTS + 1)), 512)


@pytest.mark.parametrize("size", [4096, 128 << 10, 16 << 20])
def test_a_block_that_no_combination_makes_good(size: int) -> None:
    """The first hopeless blocks may take a while, as a damaged pool is worth it; then patience is at an end."""
    wide = RaidZ("raidz3-0", [leaf(number) for number in range(200)], 3, 9)
    health = Health()
    health.patience = 0
    bounded(lambda: read(wide, size, health), mebibytes=48 + 4 * (size >> 20))  # the block, its columns, their sum


def test_patience_is_for_the_whole_pool() -> None:
    health = Health()
    attempts = [Attempt("d", 0, lambda: bytes(1 << 20))] * redundancy.MAX_ATTEMPTS
    with pytest.raises(Corrupt):
        redundancy.read(attempts, refuse, health, lambda: FsError("lost"))
    assert health.patience == 0
    assert health.notes
    tried: list[int] = []

    def counting(data: bytes, attempt: Attempt) -> FsError | None:
        tried.append(len(data))
        return refuse(data, attempt)

    with pytest.raises(Corrupt):
        redundancy.read(attempts, counting, health, lambda: FsError("lost"))
    assert sum(tried) <= redundancy.EACH + (1 << 20)


def test_what_is_found_in_the_end_costs_no_patience() -> None:
    health = Health()
    bad, good = Attempt("bad", 0, lambda: bytes(1 << 20)), Attempt("good", 0, lambda: b"good")
    for _ in range(3):
        assert redundancy.read(
            [*[bad] * 1000, good], lambda data, at: None if data == b"good" else refuse(data, at), health, FsError
        ) == b"good"  # fmt: skip
    assert health.patience == redundancy.PATIENCE


def test_draid_spares_that_need_each_other() -> None:
    shape = draid.Shape(12, 4, 1, 3, 9)
    assert shape.valid()
    for targets in ((0, 1, 2), (1, 0, 2), (1, 2, 0), (0, 0, 0)):
        spares = [draid.DistributedSpare(f"s{number}", number) for number in range(3)]
        # Each spare in the place of the child that another one's space is on.
        places = [draid.child(shape, 0, shape.children - 1 - number) for number in range(3)]
        below: list[Vdev] = [leaf(number) for number in range(12)]
        for number, target in enumerate(targets):
            below[places[target]] = Mirror("spare", [Leaf("gone", 99, None), spares[number]])
        group = draid.Draid("draid", below, shape, 9)
        bounded(lambda group=group: read(group, 16 << 10))  # type: ignore[misc]
        for spare in spares:
            bounded(lambda spare=spare: sum(1 for _ in spare.attempts(0, 512, 1)))  # type: ignore[misc]


def disk(guid: int) -> dict[str, Any]:
    return {"type": "disk", "guid": guid}


NESTED: dict[str, Any] = disk(1)
for _ in range(500):
    NESTED = {"type": "mirror", "children": [NESTED]}

TREES: dict[str, dict[str, Any]] = {
    "one device many times": {"type": "mirror", "children": [disk(1)] * 5000},
    "raidz in raidz": {"type": "raidz", "nparity": 1, "children": [{"type": "raidz", "children": [disk(1)]}, disk(2)]},
    "draid in a mirror": {"type": "mirror", "children": [{"type": "draid", "children": []}]},
    "removed in a mirror": {"type": "mirror", "children": [{"type": "indirect"}]},
    "one spare twice": {"type": "mirror", "children": [{"type": "dspare", "spare_id": 3}] * 2},
    "mirrors in mirrors": NESTED,
    "a wide raidz": {"type": "raidz", "nparity": 3, "children": [disk(number) for number in range(4000)]},
    "shifts": {"type": "disk", "guid": 1, "ashift": 1 << 62},
}


@pytest.mark.parametrize("config", TREES.values(), ids=TREES)
def test_trees(config: dict[str, Any]) -> None:
    def build() -> None:
        list(tree.leaves(config))
        context = tree.Context("pool", {1: leaf(1)}, lambda number: lambda offset, size: [], 0)
        tree.build(config, context)

    assert bounded(build).error.startswith((Corrupt.__name__, Unsupported.__name__))
