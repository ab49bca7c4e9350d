"""The four labels of a member device and its ring of uberblocks.

Sources: module/zfs/vdev_label.c:vdev_label_offset, vdev_label_read_config, vdev_uberblock_load;
module/zfs/zio_checksum.c:zio_checksum_label_verifier; OpenZFS 2.3.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fsdrivers.block import BlockDevice
from fsdrivers.errors import Corrupt, FsError, ReadError, Unsupported
from fsdrivers.zfs import layout
from fsdrivers.zfs.checksum import Words, sha256
from fsdrivers.zfs.nvlist import NvError, NvList, parse

# fs/zfs.h:pool_state_t
ACTIVE, EXPORTED, DESTROYED, SPARE, L2CACHE = range(5)
MAX_NAME = 255  # fs/zfs.h:ZFS_MAX_DATASET_NAME_LEN without its NUL
STATES = {ACTIVE: "active", EXPORTED: "exported", DESTROYED: "destroyed", SPARE: "spare", L2CACHE: "cache"}


class Uberblock(NamedTuple):
    """One slot of a ring.  ``raw`` is its struct uberblock in byte order ``order``."""

    txg: int
    timestamp: int  # seconds since 1970
    sequence: int  # of multihost writes within one txg
    version: int
    guid_sum: int
    software_version: int
    checkpoint_txg: int
    reflow: int  # ub_raidz_reflow_info
    order: str
    raw: bytes

    @property
    def rank(self) -> tuple[int, int, int]:
        """What makes one uberblock better than another (vdev_label.c:vdev_uberblock_compare)."""
        return self.txg, self.timestamp, self.sequence


class Label(NamedTuple):
    """What the labels of one device say.  ``config`` is the best label's list as it is on the disk."""

    config: NvList
    valid: tuple[int, ...]  # which of the labels 0..3 carry this pool's configuration undamaged
    txg: int
    state: int
    pool_guid: int
    pool_name: str
    guid: int  # of this device
    top_guid: int  # of the top-level vdev that it is part of
    hostid: int
    hostname: str

    @property
    def tree(self) -> NvList:
        """The configuration of the top-level vdev."""
        tree = self.config.get("vdev_tree")
        return tree if isinstance(tree, dict) else {}


def offsets(size: int) -> tuple[int, ...]:
    """Where the labels of a device of ``size`` bytes start."""
    end = size & -layout.LABEL_SIZE
    return 0, layout.LABEL_SIZE, end - 2 * layout.LABEL_SIZE, end - layout.LABEL_SIZE


def read(device: BlockDevice) -> Label | None:
    """The label of ``device``, or None when it has none.

    Of several pools that left labels here the one with most labels wins, then the newer one: a device that was
    made a member anew may still carry labels of its former life at one end.  Raises Corrupt when there is
    something that only ZFS writes, but no label is whole.
    """
    if device.size < 4 * layout.LABEL_SIZE:
        return None
    found: dict[tuple[int, int], list[tuple[int, NvList]]] = {}
    damage: FsError | None = None
    for number, start in enumerate(offsets(device.size)):
        try:
            config = _config(device, start)
        except ReadError:
            continue
        except Corrupt as error:
            damage = error
            continue
        if config is not None:
            found.setdefault((_number(config, "pool_guid"), _number(config, "guid")), []).append((number, config))
    if not found:
        if damage is not None:
            raise damage
        return None
    best = max(found.values(), key=lambda all: (len(all), max(_number(config, "txg") for _, config in all)))
    config = max((config for _, config in best), key=lambda one: _number(one, "txg"))
    label = _label(config, tuple(number for number, _ in best))
    if len(label.pool_name) > MAX_NAME:
        raise Corrupt(device.name, "label pool name (length)", layout.LABEL_NVLIST, MAX_NAME, len(label.pool_name))
    if label.state not in STATES:
        raise Corrupt(device.name, "label pool state", layout.LABEL_NVLIST, got=label.state)
    version = _number(config, "version")
    if not (1 <= version <= layout.POOL_VERSION_MAX_OLD or version == layout.POOL_VERSION_FEATURES):
        raise Unsupported(f"pool version {version}", f"on {device.name}")
    return label


def _label(config: NvList, valid: tuple[int, ...]) -> Label:
    name, hostname = config.get("name", ""), config.get("hostname", "")
    return Label(
        config,
        valid,
        _number(config, "txg"),
        _number(config, "state"),
        _number(config, "pool_guid"),
        name if isinstance(name, str) else "",
        _number(config, "guid"),
        _number(config, "top_guid"),
        _number(config, "hostid"),
        hostname[:MAX_NAME] if isinstance(hostname, str) else "",
    )


def _number(config: NvList, key: str) -> int:
    value = config.get(key, 0)
    return value if isinstance(value, int) else 0


def _config(device: BlockDevice, start: int) -> NvList | None:
    """The list in the label at ``start``; None when no label was ever there; raises Corrupt, ReadError."""
    offset = start + layout.LABEL_NVLIST
    data = device.read(offset, layout.LABEL_NVLIST_SIZE)
    order = eck_order(data)
    if order is None:
        return None
    if not verify(data, offset, order):
        raise Corrupt(device.name, "label checksum", offset)
    try:
        return parse(data)
    except NvError as error:
        raise Corrupt(device.name, f"label ({error})", offset) from error


def damaged(device: BlockDevice) -> Iterator[tuple[int, int, str]]:
    """The labels of a member device that cannot be used: their numbers, byte offsets, and what is wrong."""
    for number, start in enumerate(offsets(device.size)):
        try:
            if _config(device, start) is None:
                yield number, start, "there is none"
        except ReadError as error:
            yield number, start, str(error)
        except Corrupt as error:
            yield number, start, error.structure


def eck_order(data: bytes) -> str | None:
    """The byte order in which the checksum at the end of ``data`` was written, None when there is none."""
    for order, eck in layout.ECK.items():
        if eck.unpack_from(data, len(data) - eck.size)[0] == layout.ECK_MAGIC:
            return order
    return None


def verify(data: bytes, offset: int, order: str, *more: int) -> bool:
    """Whether the embedded checksum of ``data`` holds; the arguments are those of embedded_sum()."""
    eck = layout.ECK[order]
    return embedded_sum(data, offset, order, *more) == eck.unpack_from(data, len(data) - eck.size)[1:]


def embedded_sum(data: bytes, offset: int, order: str, *more: int) -> Words:
    """What the checksum at the end of ``data`` should be.

    While it was computed its own place held the verifier: ``offset`` and ``more`` as words.
    Source: module/zfs/zio_checksum.c:zio_checksum_error_impl.
    """
    eck = layout.ECK[order]
    body = len(data) - eck.size
    magic = eck.unpack_from(data, body)[0]
    verifier = (offset, *more, 0, 0, 0)[:4]
    return sha256(data[:body] + eck.pack(magic, *verifier))


def uberblocks(device: BlockDevice, ashift: int) -> Iterator[tuple[int, Uberblock]]:
    """The slots of all four rings that look like uberblocks, unverified, with their byte offsets."""
    size = slot_size(ashift)
    for start in offsets(device.size):
        try:
            ring = device.read(start + layout.LABEL_RING, layout.LABEL_RING_SIZE)
        except ReadError:
            continue
        for at in range(0, len(ring), size):
            uberblock = _uberblock(ring, at)
            if uberblock is not None:
                yield start + layout.LABEL_RING + at, uberblock


def behind(used: Sequence[tuple[BlockDevice, Label]]) -> set[int]:
    """The guids of the devices that were away while others below the same top-level vdev were written to.

    The labels of siblings are rewritten together, and so are their uberblocks.  A crash in the middle of the labels
    leaves some of them older, but no uberblock.
    """
    tops: dict[int, list[tuple[BlockDevice, Label]]] = {}
    for device, label in used:
        tops.setdefault(label.top_guid, []).append((device, label))
    found: set[int] = set()
    for siblings in tops.values():
        newest = max(label.txg for _, label in siblings)
        if any(label.txg < newest for _, label in siblings):
            last = {label.guid: _last_txg(device, label) for device, label in siblings}
            best = max(last.values())
            found |= {label.guid for _, label in siblings if label.txg < newest and last[label.guid] < best}
    return found


def _last_txg(device: BlockDevice, label: Label) -> int:
    ashift = label.tree.get("ashift", layout.ASHIFT_MIN)
    slots = uberblocks(device, ashift if isinstance(ashift, int) else layout.ASHIFT_MIN)
    return max((uberblock.txg for _, uberblock in slots), default=0)


def slot_size(ashift: int) -> int:
    """Bytes of one slot in the ring of a top-level vdev with ``ashift`` (vdev_impl.h:VDEV_UBERBLOCK_SHIFT)."""
    return 1 << min(max(ashift, layout.UBERBLOCK_SHIFT_MIN), layout.UBERBLOCK_SHIFT_MAX)


def uberblock_holds(device: BlockDevice, offset: int, ashift: int) -> bool:
    """Whether the checksum of the slot at ``offset`` is right."""
    data = device.read(offset, slot_size(ashift))
    order = eck_order(data)
    return order is not None and verify(data, offset, order)


def _uberblock(ring: bytes, at: int) -> Uberblock | None:
    for order, shape in layout.UBERBLOCK.items():
        (magic, version, txg, guid_sum, timestamp, _, software, mmp_magic, _, mmp, checkpoint, reflow) = (
            shape.unpack_from(ring, at)
        )
        if magic == layout.UBERBLOCK_MAGIC:
            sequence = mmp >> 32 & 0xFFFF if mmp_magic == layout.MMP_MAGIC and mmp & 2 else 0
            raw = ring[at : at + shape.size]
            return Uberblock(
                txg, timestamp, sequence, version, guid_sum, software, checkpoint, reflow, order, raw
            )  # fmt: skip
    return None
