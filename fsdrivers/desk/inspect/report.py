"""What is said of one structure: its fields in words, as lines for a person or as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from fsdrivers.desk.inspect.derived import Place, Structure
from fsdrivers.errors import FsError
from fsdrivers.shown import printable


class Nothing(FsError):
    """There is nothing of what was asked for."""


Words = Callable[[Any], tuple[object, str]]
"""From a value to what JSON has for it, and what a person reads."""

MAX_TEXT = 4096  # characters of one value for a person

_COLUMN = 28  # characters of a name before its value


class Field(NamedTuple):
    """One field: ``size`` bytes at ``at`` of its structure (None: it was worked out, and is nowhere on the disk)."""

    name: str
    value: object = None
    text: str = ""
    at: int | None = None
    size: int = 0
    inner: tuple[Field, ...] = ()


class Report(NamedTuple):
    """One structure, or why it cannot be shown: ``title`` says which and where, ``problems`` what is wrong with it."""

    title: dict[str, object]
    fields: tuple[Field, ...] = ()
    problems: tuple[str, ...] = ()


def fields(
    structure: Structure, raw: bytes, words: Mapping[str, Words] | None = None, base: int = 0
) -> tuple[Field, ...]:
    """The fields of ``structure`` in ``raw``; ``words`` tell by name ("a.b": b inside of a) what a value means.

    ``base`` is added to the offsets.
    """
    found = structure.parse(raw[: structure.size])
    return tuple(_field(place, found[place.name], words or {}, "", base) for place in structure.places)


def _field(place: Place, value: Any, words: Mapping[str, Words], prefix: str, base: int) -> Field:
    path, at = prefix + place.name, base + place.at
    if place.inner and path not in words:
        if place.repeat == 1:
            inner = tuple(_field(one, value[one.name], words, f"{path}.", at) for one in place.inner)
        else:
            size = place.size // place.repeat
            inner = tuple(
                Field(str(number), None, "", at + number * size, size, tuple(
                    _field(one, part[one.name], words, f"{path}.", at + number * size) for one in place.inner
                ))
                for number, part in enumerate(value)
            )  # fmt: skip
        return Field(place.name, None, "", at, place.size, inner)
    shown, text = words.get(path, plain)(value)
    return Field(place.name, shown, text, at, place.size)


def plain(value: Any) -> tuple[object, str]:
    """A value nobody has words for: numbers as they are, bytes in hex."""
    if isinstance(value, bytes):
        return value.hex(), value.hex()
    if isinstance(value, list):
        parts = [plain(one) for one in value]
        return [part[0] for part in parts], " ".join(part[1] for part in parts)
    return value, str(value)


def find(found: tuple[Field, ...], name: str) -> Field:
    """The field called ``name``.  Raises KeyError."""
    for one in found:
        if one.name == name:
            return one
    raise KeyError(name)


def lines(report: Report, offsets: bool) -> Iterator[str]:
    """``report`` for a person."""
    yield heading(report.title)
    for field in report.fields:
        yield from _lines(field, offsets, 1)
    for problem in report.problems:
        yield f"  wrong: {printable(problem, '')}"


def heading(title: Mapping[str, object]) -> str:
    """What a structure is called: what it is, then where."""
    kind, *rest = title.items()
    return printable(", ".join([str(kind[1]), *(f"{key} {_place(key, value)}" for key, value in rest)]), "")


def _place(key: str, value: object) -> str:
    return hex(value) if isinstance(value, int) and key in ("offset", "address") else str(value)


def _lines(field: Field, offsets: bool, depth: int) -> Iterator[str]:
    place = ""
    if offsets:
        place = f"{field.at:#06x} {field.size:5}  " if field.at is not None else " " * 14
    indent = "  " * depth
    text = field.text if len(field.text) <= MAX_TEXT else f"{field.text[:MAX_TEXT]}..."
    yield f"{place}{indent}{printable(field.name, ''):{max(_COLUMN - len(indent), 1)}} {printable(text, '')}".rstrip()
    for one in field.inner:
        yield from _lines(one, offsets, depth + 1)


def to_json(report: Report, offsets: bool) -> str:
    """``report`` as one line of JSON."""
    problems = {"problems": list(report.problems)} if report.problems else {}
    inner = {"fields": {one.name: _json(one, offsets) for one in report.fields}} if report.fields else {}
    return json.dumps({**report.title, **inner, **problems})


def _json(field: Field, offsets: bool) -> object:
    """A value alone when that says all; else an object with ``value``, ``words``, ``at``, ``size`` and ``fields``."""
    found: dict[str, object] = {}
    if field.value is not None:
        found["value"] = field.value
    if field.text and not isinstance(field.value, dict) and field.text != plain(field.value)[1]:
        found["words"] = field.text
    if offsets and field.at is not None:
        found |= {"at": field.at, "size": field.size}
    if field.inner:
        inner = {one.name: _json(one, offsets) for one in field.inner}
        if not found:
            return inner
        found["fields"] = inner
    return found["value"] if set(found) == {"value"} else found
