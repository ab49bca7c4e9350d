"""From the vdev tree in a configuration to Vdev objects with the present devices in their places.

Source: module/zfs/vdev.c:vdev_alloc, vdev_raidz.c:vdev_raidz_init, spa.c:spa_config_parse; OpenZFS 2.3.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from fsdrivers.errors import Corrupt, Unsupported
from fsdrivers.zfs import draid
from fsdrivers.zfs.layout import ASHIFT_MAX, ASHIFT_MIN
from fsdrivers.zfs.nvlist import NvList
from fsdrivers.zfs.raidzread import RaidZ
from fsdrivers.zfs.vdevs import Absent, Indirect, Leaf, Mirror, Segment, Vdev

MAX_DEPTH = 8
LEAVES = ("disk", "file")
MIRRORS = ("mirror", "replacing", "spare")
TOPS = ("indirect", "raidz", "draid")  # never below others (vdev.c:vdev_alloc, spa.c:spa_vdev_attach)
FILLING = ("resilver_txg", "rebuild_txg")  # in a leaf's configuration while it is resilvered or rebuilt

Resolver = Callable[[int, int], list[Segment]]


class Context(NamedTuple):
    """What building a tree needs besides the configuration."""

    pool: str
    devices: Mapping[int, Leaf]  # by guid
    resolver: Callable[[int], Resolver]  # for the mapping object of a removed vdev
    reflow: int  # the uberblock's ub_raidz_reflow_info


def number(config: NvList, key: str, default: int = 0) -> int:
    """An integer of a configuration list, ``default`` when it is absent or no integer."""
    value = config.get(key, default)
    return value if isinstance(value, int) else default


def numbers(config: NvList, key: str) -> list[int]:
    """An array of integers of a configuration list, empty when it is absent or anything else."""
    value = config.get(key)
    return [item for item in value if isinstance(item, int)] if isinstance(value, list) else []


def children(config: NvList) -> list[NvList]:
    """The configurations of the children, in the order of their ids."""
    found = config.get("children", [])
    if not isinstance(found, list) or not all(isinstance(child, dict) for child in found):
        return []
    return found


def leaves(config: NvList, depth: int = 0) -> Iterator[NvList]:
    """The configurations of the devices in a tree."""
    below = children(config)
    if not below or depth > MAX_DEPTH:
        if config.get("type") in LEAVES:
            yield config
        return
    for child in below:
        yield from leaves(child, depth + 1)


def describe(config: NvList) -> str:
    """What a person calls a device of the configuration: the end of its path, or its guid."""
    path = config.get("path")
    return path.rsplit("/", 1)[-1] if isinstance(path, str) and path else str(number(config, "guid"))


def build(config: NvList, context: Context) -> Vdev:
    """The top-level vdev described by ``config``.  Raises Unsupported, Corrupt."""
    if config.get("type") in ("hole", "missing"):  # where a log was removed there are no sectors: ashift is 0
        return Absent(f"{config.get('type')}-{number(config, 'id')}")
    ashift = number(config, "ashift", ASHIFT_MIN)
    if not ASHIFT_MIN <= ashift <= ASHIFT_MAX:
        raise Corrupt(context.pool, "vdev configuration: ashift", 0, got=ashift)
    _unique(config, context.pool)
    vdev = _node(config, context, ashift, 0)
    vdev.ashift = ashift
    return vdev


def _unique(config: NvList, pool: str) -> None:
    """Raise Corrupt when a device or a distributed spare is in a top-level vdev twice: each copy there is one more."""
    seen: set[object] = set()
    todo = [config]
    while todo:
        here = todo.pop()
        todo += children(here)
        kind = here.get("type")
        key = number(here, "guid") if kind in LEAVES else ("spare", number(here, "spare_id"))
        if kind in LEAVES or kind == "dspare":
            if key in seen:
                raise Corrupt(pool, f"vdev configuration: one {kind} twice", 0, got=describe(here))
            seen.add(key)


def _node(config: NvList, context: Context, ashift: int, depth: int) -> Vdev:
    kind = config.get("type")
    name = f"{kind}-{number(config, 'id')}"
    if depth > MAX_DEPTH:
        raise Corrupt(context.pool, "vdev configuration: nested too deeply", 0)
    if depth and kind in TOPS:
        raise Corrupt(context.pool, f"vdev configuration: a {kind} below another vdev", 0)
    if kind in LEAVES:
        guid = number(config, "guid")
        leaf = context.devices.get(guid)
        if leaf is None:
            return Leaf(describe(config), guid, None)
        # A device that is still being filled lacks what its turn has not come for (vdev.c:vdev_config_generate).
        leaf.stale = leaf.stale or any(key in config for key in FILLING)
        return leaf
    if kind == "indirect":
        return Indirect(name, context.resolver(number(config, "com.delphix:indirect_object")))
    if kind in MIRRORS:
        return Mirror(name, [_node(child, context, ashift, depth + 1) for child in children(config)])
    if kind == "raidz":
        return _raidz(config, context, ashift, depth, name)
    if kind == "draid":
        return _draid(config, context, ashift, depth)
    if kind == "dspare":
        return draid.DistributedSpare(name, number(config, "spare_id"))
    raise Unsupported(f"vdev type {kind}", f"in pool {context.pool}")


def _raidz(config: NvList, context: Context, ashift: int, depth: int, name: str) -> Vdev:
    below = [_node(child, context, ashift, depth + 1) for child in children(config)]
    # Version 1 of RAID-Z did not write how many columns are parity.
    nparity = number(config, "nparity", 1)
    if not 1 <= nparity <= 3 or not nparity < len(below) <= 255:
        raise Corrupt(context.pool, "vdev configuration: raidz parity", 0, got=nparity)
    txgs = numbers(config, "raidz_expand_txgs")
    if len(txgs) > len(below):
        raise Corrupt(context.pool, "vdev configuration: raidz expansions", 0)
    moved, scratch = None, False
    if "raidz_expanding" in config:
        # uberblock_impl.h:RRSS_GET_OFFSET, RRSS_GET_STATE
        moved = (context.reflow & (1 << 55) - 1) << 9
        scratch = context.reflow >> 55 == 1
    original = len(below) - len(txgs) - (moved is not None)
    if original <= nparity:
        raise Corrupt(context.pool, "vdev configuration: raidz expansions", 0, got=len(txgs))
    widths = [(txg, original + count) for count, txg in enumerate(txgs, 1)]
    return RaidZ(f"raidz{nparity}-{number(config, 'id')}", below, nparity, ashift, widths, moved, scratch)


def _draid(config: NvList, context: Context, ashift: int, depth: int) -> Vdev:
    below = [_node(child, context, ashift, depth + 1) for child in children(config)]
    shape = draid.Shape(
        len(below), number(config, "draid_ndata"), number(config, "nparity"), number(config, "draid_nspares"),
        number(config, "draid_ngroups"),
    )  # fmt: skip
    if not shape.valid():
        raise Corrupt(context.pool, "vdev configuration: draid", 0, got=str(tuple(shape)))
    return draid.Draid(f"draid{shape.nparity}-{number(config, 'id')}", below, shape, ashift)
