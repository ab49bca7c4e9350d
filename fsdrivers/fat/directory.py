"""Directories: short entries, and the slots before them that hold the long names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fsdrivers.fat import layout

_NANO = 1_000_000_000
# By the attributes of a slot: 1 for a label.
_LABELS = bytes(
    bool(attributes & layout.ATTR_VOLUME) and attributes & layout.ATTR_MASK != layout.ATTR_EXT
    for attributes in range(256)
)
_DAYS_TO_1970 = 719162  # from the year 1 on
_DAYS_BEFORE_MONTH = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)


class Entry(NamedTuple):
    """One object, as its directory describes it; ``position`` is the entry's byte offset on the device."""

    position: int
    name: str
    alias: str  # the short name, by which it can be found as well
    attributes: int
    first: int  # cluster
    size: int
    raw: bytes  # its slot: times are computed for those who ask

    @property
    def times(self) -> tuple[int, int, int]:
        """When it was changed, read (a day) and made, in nanoseconds since 1970; of the root nobody knows."""
        if not self.raw:
            return 0, 0, 0
        _, _, _, ctime_cs, ctime, cdate, adate, _, time, date, _, _ = layout.ENTRY.unpack(self.raw)
        return _time(date, time, 0), _time(adate, 0, 0), _time(cdate, ctime, ctime_cs)

    @property
    def directory(self) -> bool:
        """Whether this is a directory."""
        return bool(self.attributes & layout.ATTR_DIR)


def slots(raw: bytes) -> int:
    """How many slots of a directory are in use, or were once."""
    marks = raw[:: layout.ENTRY.size]
    free = marks.find(layout.FREE)
    return len(marks) if free < 0 else free


def label(raw: bytes) -> str | None:
    """The volume's label in the bytes of a root directory: nobody has to understand all of it for that."""
    kinds = raw[11 : slots(raw) * layout.ENTRY.size : layout.ENTRY.size].translate(_LABELS)
    found = -1
    while (found := kinds.find(b"\1", found + 1)) >= 0:
        at = found * layout.ENTRY.size
        if raw[at] != layout.DELETED:
            return _short_name(raw[at : at + 11], 0).replace(".", "")
    return None


def entries(raw: bytes, places: list[tuple[int, int]], is_32: bool) -> Iterator[Entry]:
    """The objects and volume labels in the bytes of a directory.

    ``places`` are (offset in ``raw``, offset on the device) of its contiguous parts.  Slots that do not belong to the
    short entry behind them are passed over, as fs/fat/dir.c:fat_parse_long, v6.12, does.
    """
    slots: list[tuple[int, int, bytes]] = []
    place = 0
    for at in range(0, len(raw) - layout.ENTRY.size + 1, layout.ENTRY.size):
        mark, attributes = raw[at], raw[at + 11] & layout.ATTR_MASK
        if mark == layout.FREE:
            return
        if mark == layout.DELETED:
            slots.clear()
            continue
        if attributes == layout.ATTR_EXT:
            number, part0, _, _, checksum, part1, _, part2 = layout.SLOT.unpack_from(raw, at)
            if number & layout.LAST_SLOT:
                slots.clear()
            if len(slots) <= layout.MAX_SLOTS:  # one too many spoils them already
                slots.append((number & layout.SLOT_NUMBER, checksum, part0 + part1 + part2))
            continue
        while place + 1 < len(places) and places[place + 1][0] <= at:
            place += 1
        position = places[place][1] + at - places[place][0]
        entry = _entry(raw, at, position, _long_name(slots, raw[at : at + 11]), is_32)
        slots.clear()
        yield entry


def _entry(raw: bytes, at: int, position: int, name: str, is_32: bool) -> Entry:
    slot = raw[at : at + layout.ENTRY.size]
    short, attributes, lower, _, _, _, _, high, _, _, low, size = layout.ENTRY.unpack(slot)
    alias = _short_name(short, 0)
    if not name:
        name = _short_name(short, lower) if lower else alias
    return Entry(position, name, alias, attributes, low | (high << 16 if is_32 else 0), size, slot)


def _long_name(slots: list[tuple[int, int, bytes]], short: bytes) -> str:
    """The name in ``slots`` when they are whole and made for ``short``, else ""."""
    count = len(slots)
    if not 0 < count <= layout.MAX_SLOTS:
        return ""
    checksum = alias_checksum(short)
    if any(number != count - index or check != checksum for index, (number, check, _) in enumerate(slots)):
        return ""
    text = b"".join(part for _, _, part in reversed(slots)).decode("utf-16-le", "replace")
    name = text.partition("\0")[0]
    return "" if "/" in name or name in (".", "..") else name


def alias_checksum(short: bytes) -> int:
    """The sum that ties slots to their short entry: fs/fat/dir.c:fat_checksum, v6.12."""
    total = 0
    for byte in short:
        total = ((total << 7) + (total >> 1) + byte) & 0xFF
    return total


def _short_name(raw: bytes, lower: int) -> str:
    """An 8.3 name; ``lower`` says which half is to be shown in small letters."""
    if raw[0] == layout.ESCAPED_E5:
        raw = b"\xe5" + raw[1:]
    base, extension = (_decode(part.rstrip(b" ")) for part in (raw[:8], raw[8:]))
    if lower & layout.LOWER_BASE:
        base = base.lower()
    if lower & layout.LOWER_EXT:
        extension = extension.lower()
    return f"{base}.{extension}" if extension else base


def _decode(raw: bytes) -> str:
    if raw.isascii():
        return raw.decode("ascii")
    return "".join(chr(byte) if byte < 0x80 else layout.CP437[byte - 0x80] for byte in raw)


def _time(date: int, time: int, hundredths: int) -> int:
    """Nanoseconds since 1970; the disk's clock is taken as UTC.  Source: fs/fat/misc.c:fat_time_fat2unix, v6.12."""
    day, month, year = max(1, date & 0x1F), min(max(1, date >> 5 & 0xF), 12), 1980 + (date >> 9)
    leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
    before = year - 1
    days = before * 365 + before // 4 - before // 100 + before // 400 - _DAYS_TO_1970
    days += _DAYS_BEFORE_MONTH[month - 1] + (leap and month > 2) + day - 1
    seconds = days * 86400 + (time >> 11) * 3600 + (time >> 5 & 0x3F) * 60 + (time & 0x1F) * 2
    return seconds * _NANO + hundredths * (_NANO // 100)
