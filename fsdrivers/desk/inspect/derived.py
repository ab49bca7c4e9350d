"""The drivers' declarations as structures of the library construct, which can be taken apart and built by name.

A declaration is a struct.Struct (or one for each byte order, or one with the offset where it starts) called X and,
beside it, X_FIELDS: the offset and name of each field; or a fsdrivers.record.Record, which has its names inside.
``name[N]`` are N values, ``a.b`` is the field b of a structure a inside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from struct import Struct, calcsize
from types import ModuleType
from typing import Any, NamedTuple

import construct

from fsdrivers.record import Record

_UNITS = re.compile(r"(\d*)([a-zA-Z?])")
_SAME = {"I": "L", "i": "l"}  # construct takes one of the two letters for four bytes


class Place(NamedTuple):
    """One field: ``size`` bytes at ``at`` of its structure, ``repeat`` values of the struct format ``code``."""

    name: str
    at: int
    size: int
    code: str
    repeat: int = 1
    inner: tuple[Place, ...] = ()  # of a structure inside; of several, of each


class Structure:
    """A declaration: ``places`` are its fields, ``size`` its bytes, ``base`` the offset that the first may have."""

    def __init__(self, name: str, places: tuple[Place, ...], size: int, order: str, base: int = 0) -> None:
        self.name, self.places, self.size, self.order, self.base = name, places, size, order, base
        self.construct = _struct(places, base, base + size, order)

    def parse(self, raw: bytes) -> Any:
        """The fields in ``raw`` as a construct.Container.  Raises construct.ConstructError when it is too short."""
        return self.construct.parse(raw)

    def build(self, **values: Any) -> bytes:
        """Its bytes with ``values``, all else zero.  Raises ValueError for a field that it does not have."""
        _known(self.name, self.places, values)
        return bytes(self.construct.build(values))

    __call__ = build

    def offset(self, name: str) -> int:
        """Where the field ``name`` starts; "a.b" is one inside of another.  Raises KeyError."""
        places, at = self.places, 0
        for part in name.split("."):
            place = next((one for one in places if one.name == part), None)
            if place is None:
                raise KeyError(f"{self.name} has no field {name}")
            places, at = place.inner, at + place.at
        return at


class Structures:
    """All that a module declares, by name, in byte order ``order`` where it declares both."""

    def __init__(self, module: ModuleType, order: str = "<") -> None:
        self._module, self._order = module, order
        self._made: dict[str, Structure] = {}

    def __getattr__(self, name: str) -> Structure:
        if name not in self._made:
            self._made[name] = declared(self._module, name, self._order)
        return self._made[name]

    def names(self) -> list[str]:
        """The names of all declarations in the module."""
        return [name for name, value in vars(self._module).items() if _is_declaration(value)]


def declared(module: ModuleType, name: str, order: str = "<") -> Structure:
    """The declaration ``name`` of ``module``.

    Raises AttributeError when it is not there or has no names for its fields, ValueError when offsets and Struct do not
    agree.
    """
    shape = getattr(module, name)
    if isinstance(shape, Record):
        return Structure(name, tuple(_of_record(shape)), shape.size, "<")
    base = 0
    if isinstance(shape, tuple):
        base, shape = shape
    if isinstance(shape, dict):
        shape = shape[order]
    places = tuple(_nested(list(_of_struct(name, shape, getattr(module, f"{name}_FIELDS"), base))))
    return Structure(name, places, shape.size, shape.format[:1], base)


def _is_declaration(value: object) -> bool:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], int):
        value = value[1]
    if isinstance(value, dict):
        value = next(iter(value.values()), None)
    return isinstance(value, Struct | Record)


def _of_record(record: Record) -> Iterator[Place]:
    for name, shape in record.fields:
        at = record.offset(name)
        if isinstance(shape, str):
            yield Place(name, at, calcsize(f"<{shape}"), shape)
        elif isinstance(shape, Record):
            yield Place(name, at, shape.size, "", 1, tuple(_of_record(shape)))
        else:
            count, one = shape
            yield Place(name, at, count * one.size, "", count, tuple(_of_record(one)))


def _of_struct(name: str, shape: Struct, text: str, base: int) -> Iterator[Place]:
    """The fields of ``shape`` that ``text`` names, held against where its values are."""
    values = list(_values(shape, base))
    words = text.split()
    for offset, field in zip(words[::2], words[1::2], strict=True):
        known = re.fullmatch(r"([a-z_][a-z0-9_.]*)(?:\[(\d+)\])?", field)
        if known is None:
            raise ValueError(f"{name}: {field} is no name of a field")
        count = int(known[2] or 1)
        mine, values = values[:count], values[count:]
        if len(mine) < count or mine[0].at != int(offset, 0) or len({one.code for one in mine}) > 1:
            raise ValueError(f"{name}: {field} is not at {offset}")
        yield Place(known[1], mine[0].at, sum(one.size for one in mine), mine[0].code, count)
    if values:
        raise ValueError(f"{name}: no name for what is at {values[0].at:#x}")


def _values(shape: Struct, at: int) -> Iterator[Place]:
    """What unpacking ``shape`` gives, one after the other, without names."""
    for count, code in _UNITS.findall(shape.format[1:]):
        size = calcsize(f"<{count}{code}")
        if code == "s":
            yield Place("", at, size, f"{count}{code}")
        elif code != "x":
            one = calcsize(f"<{code}")
            for number in range(int(count or 1)):
                yield Place("", at + number * one, one, code)
        at += size


def _nested(places: list[Place]) -> Iterator[Place]:
    """``places`` with neighbours called a.b and a.c as one structure a."""
    while places:
        outer, dot, _ = places[0].name.partition(".")
        if not dot:
            yield places.pop(0)
            continue
        start = places[0].at
        mine = []
        while places and places[0].name.startswith(f"{outer}."):
            one = places.pop(0)
            mine.append(one._replace(name=one.name.partition(".")[2], at=one.at - start))
        yield Place(outer, start, mine[-1].at + mine[-1].size, "", 1, tuple(_nested(mine)))


def _struct(places: tuple[Place, ...], at: int, end: int, order: str) -> Any:
    """The construct for ``places``, which begin at ``at`` or later; everything is zero unless it is given."""
    parts = []
    for place in places:
        if place.at > at:
            parts.append(construct.Padding(place.at - at))
        parts.append(place.name / _one(place, order))
        at = place.at + place.size
    if end > at:
        parts.append(construct.Padding(end - at))
    return construct.Struct(*parts)


def _one(place: Place, order: str) -> Any:
    if place.inner:
        size = place.size // place.repeat
        shape = _struct(place.inner, 0, size, order)
        if place.repeat == 1:
            return construct.Default(shape, {})
        return construct.Default(construct.Array(place.repeat, shape), [{}] * place.repeat)
    if place.code.endswith("s"):
        # Short values are filled up with zeros, as names and labels on disks are.
        return construct.Default(_Bytes(place.size), b"")
    number = construct.FormatField(order, _SAME.get(place.code, place.code))
    if place.repeat == 1:
        return construct.Default(number, 0)
    return construct.Default(construct.Array(place.repeat, number), [0] * place.repeat)


def _Bytes(size: int) -> Any:  # noqa: N802 - it stands among the constructs
    raw = construct.Bytes(size)
    return construct.ExprAdapter(raw, lambda data, _: data, lambda data, _: bytes(data).ljust(size, b"\0"))


def _known(name: str, places: tuple[Place, ...], values: Mapping[str, Any]) -> None:
    """Raise ValueError when one of ``values`` is for a field that is not there: construct would leave it out."""
    inner = {place.name: place for place in places}
    for key, value in values.items():
        if key not in inner:
            raise ValueError(f"{name} has no field {key}")
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, Mapping):
                _known(f"{name}.{key}", inner[key].inner, one)
