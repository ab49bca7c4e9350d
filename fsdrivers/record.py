"""Declarations of large on-disk structures by field: those with dozens of fields, read once a device.

What there are thousands of is declared with struct.Struct, and the names of its fields beside it.  A library for such
declarations (construct) takes longer to import than the filesystem takes to open: for people and for tests it is
derived from these (fsdrivers/desk/inspect/derived.py).
"""

from __future__ import annotations

from struct import Struct
from typing import Any


class Fields(dict[str, Any]):
    """The fields of one structure, as attributes or by name."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Record:
    """Little-endian packed fields, each (name, shape): a struct format of one value, a Record, or (count, Record)."""

    def __init__(self, *fields: tuple[str, str | Record | tuple[int, Record]]) -> None:
        self.fields = fields
        self._names: list[str] = []
        self._nested: list[tuple[str, Record, int | None]] = []
        formats = ["<"]
        self._offsets: dict[str, int] = {}
        at = 0
        for name, shape in fields:
            self._names.append(name)
            self._offsets[name] = at
            if isinstance(shape, str):
                form = shape
            elif isinstance(shape, Record):
                self._nested.append((name, shape, None))
                form = f"{shape.size}s"
            else:
                count, record = shape
                self._nested.append((name, record, count))
                form = f"{count * record.size}s"
            formats.append(form)
            at += Struct(f"<{form}").size
        self._struct = Struct("".join(formats))
        self.size: int = self._struct.size

    def offset(self, name: str) -> int:
        """Where the field ``name`` starts, in bytes."""
        return self._offsets[name]

    def parse(self, raw: bytes) -> Fields:
        """The fields in ``raw``, which must be ``size`` bytes long; a nested (count, Record) becomes a list."""
        found = Fields(zip(self._names, self._struct.unpack(raw), strict=True))
        for name, record, count in self._nested:
            data = found[name]
            if count is None:
                found[name] = record.parse(data)
            else:
                found[name] = [record.parse(data[at : at + record.size]) for at in range(0, len(data), record.size)]
        return found
