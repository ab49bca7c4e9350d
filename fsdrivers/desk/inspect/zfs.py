"""Labels and uberblocks of ZFS for `fsdrivers inspect`: what is on each device, whether it makes a pool or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fsdrivers.block import BlockDevice
from fsdrivers.desk.inspect import words
from fsdrivers.desk.inspect import zfs_words as meant
from fsdrivers.desk.inspect.derived import Structures
from fsdrivers.desk.inspect.report import Field, Nothing, Report, fields
from fsdrivers.errors import FsError
from fsdrivers.zfs import label, layout
from fsdrivers.zfs.label import eck_order, embedded_sum, offsets, slot_size
from fsdrivers.zfs.nvlist import NvError, NvList, parse

disk = {order: Structures(layout, order) for order in (layout.LITTLE, layout.BIG)}

_TIMES = ("timestamp",)


def labels(devices: Sequence[BlockDevice]) -> Iterator[Report]:
    """All four labels of those of ``devices`` that have any.  Raises Nothing when none has."""
    found = False
    for device in devices:
        regions = list(_regions(device, layout.LABEL_NVLIST, layout.LABEL_NVLIST_SIZE))
        if any(raw and eck_order(raw) for _, _, raw in regions):
            found = True
            for number, offset, raw in regions:
                yield _label(device, number, offset, raw)
    if not found:
        raise Nothing(f"no ZFS label on {', '.join(device.name for device in devices)}")


def _regions(device: BlockDevice, start: int, length: int) -> Iterator[tuple[int, int, bytes]]:
    """(number, offset, bytes) of a part of each label; no bytes when it cannot be read."""
    if device.size < layout.LABELS * layout.LABEL_SIZE:
        return
    for number, at in enumerate(offsets(device.size)):
        try:
            yield number, at + start, device.read(at + start, length)
        except FsError:
            yield number, at + start, b""


def _label(device: BlockDevice, number: int, offset: int, raw: bytes) -> Report:
    title: dict[str, object] = {"structure": f"label {number}", "device": device.name, "offset": offset}
    if not raw:
        return Report(title, (), ("it cannot be read",))
    order = eck_order(raw)
    problems = []
    found: list[Field] = []
    if order is None:
        problems.append("there is no checksum")
    else:
        found += _checksum(raw, offset, order)
        if "(right)" not in found[-1].text:
            problems.append("checksum")
    try:
        found += nvlist(parse(raw))
    except NvError as error:
        problems.append(str(error))
    return Report(title, tuple(found), tuple(problems))


def _checksum(raw: bytes, offset: int, order: str) -> tuple[Field, ...]:
    """The checksum at the end of ``raw``, which is at ``offset`` of its device."""
    eck = disk[order].ECK
    at = len(raw) - eck.size
    stored = eck.parse(raw[at:]).zec_cksum
    computed = embedded_sum(raw, offset, order)
    shown = words.checksum(_sum(stored), _sum(computed))
    return fields(eck, raw[at:], {"zec_magic": words.magic(layout.ECK_MAGIC), "zec_cksum": lambda _: shown}, at)


def _sum(four: Sequence[int]) -> str:
    return ":".join(f"{word:016x}" for word in four)


def nvlist(found: NvList) -> tuple[Field, ...]:
    """A name/value list, however deep."""
    return tuple(_pair(name, value) for name, value in found.items())


def _pair(name: str, value: Any) -> Field:
    if isinstance(value, dict):
        return Field(name, None, "", inner=nvlist(value))
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return Field(name, None, "", inner=tuple(_pair(str(at), one) for at, one in enumerate(value)))
    if isinstance(value, bytes):
        return Field(name, value.hex(), value.hex())
    if name == "state" and isinstance(value, int):
        return Field(name, value, f"{value} ({label.STATES.get(value, 'unknown')})")
    if name in _TIMES and isinstance(value, int):
        return Field(name, *words.seconds(value))
    return Field(name, value, "yes" if value is True else str(value))


def uberblocks(devices: Sequence[BlockDevice]) -> Iterator[Report]:
    """The slots of the rings that have uberblocks, the same ones of several labels together.

    Raises Nothing when no device has any.
    """
    found = False
    for device in devices:
        for report in _rings(device):
            found = True
            yield report
    if not found:
        raise Nothing(f"no ZFS uberblock on {', '.join(device.name for device in devices)}")


def _rings(device: BlockDevice) -> Iterator[Report]:
    size = slot_size(_ashift(device))
    rings = list(_regions(device, layout.LABEL_RING, layout.LABEL_RING_SIZE))
    for slot in range(layout.LABEL_RING_SIZE // size):
        same: dict[tuple[str, bytes], list[tuple[int, int, bytes]]] = {}
        for number, offset, ring in rings:
            raw = ring[slot * size : (slot + 1) * size]
            for order, structure in layout.UBERBLOCK.items():
                if raw and structure.unpack_from(raw)[0] == layout.UBERBLOCK_MAGIC:
                    key = order, raw[: structure.size]
                    same.setdefault(key, []).append((number, offset + slot * size, raw))
        for (order, raw), copies in same.items():
            yield _uberblock(device, slot, order, raw, copies)


def _uberblock(
    device: BlockDevice, slot: int, order: str, raw: bytes, copies: list[tuple[int, int, bytes]]
) -> Report:  # fmt: skip
    found = fields(disk[order].UBERBLOCK, raw, meant.uberblock(order))
    sums, problems = [], []
    for number, offset, whole in copies:
        if eck_order(whole) is None:
            problems.append(f"label {number}: there is no checksum")
            continue
        # The place in the device goes into the sum, so that each label has another.
        shown = _checksum(whole, offset, eck_order(whole) or order)[-1]
        sums.append(shown._replace(name=f"label {number}"))
        if "(right)" not in shown.text:
            problems.append(f"label {number}: checksum")
    numbers = [number for number, _, _ in copies]
    title = {"structure": f"uberblock {slot}", "device": device.name, "offset": copies[0][1], "labels": numbers}
    return Report(title, (*found, Field("zec_cksum", None, "", inner=tuple(sums))), tuple(problems))


def _ashift(device: BlockDevice) -> int:
    """The ashift that any label of ``device`` says, else the least."""
    for _, _, raw in _regions(device, layout.LABEL_NVLIST, layout.LABEL_NVLIST_SIZE):
        try:
            tree = parse(raw).get("vdev_tree")
        except NvError:
            continue
        found = tree.get("ashift") if isinstance(tree, dict) else None
        if isinstance(found, int):
            return found
    return layout.ASHIFT_MIN
