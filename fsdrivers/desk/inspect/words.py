"""What numbers and bytes mean to a person, whatever structure they are in: pairs of what JSON has and what is read."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from typing import Any

from fsdrivers.desk.inspect.report import Words
from fsdrivers.partitions import guid_text
from fsdrivers.shown import NANO, when

SECONDS = "%Y-%m-%dT%H:%M:%SZ"
_TYPES = {0o14: "socket", 0o12: "symlink", 0o10: "file", 0o6: "block", 0o4: "directory", 0o2: "char", 0o1: "fifo"}


def named(names: Mapping[int, str], unknown: str = "unknown") -> Words:
    """An enumeration."""
    return lambda value: (value, f"{value} ({names.get(value, unknown)})")


def flags(names: Mapping[int, str], none: str = "none") -> Words:
    """Bits by their numbers: ``names`` is {0: "what bit 0 means", ...}."""

    def words(value: int) -> tuple[object, str]:
        found = [names.get(bit, f"unknown bit {bit}") for bit in range(value.bit_length()) if value >> bit & 1]
        return value, f"{value:#x} ({' | '.join(found) or none})"

    return words


def hexadecimal(value: int) -> tuple[object, str]:
    """A number that people compare in hex."""
    return value, f"{value:#x}"


def octal_mode(value: int) -> tuple[object, str]:
    """A mode as in stat()."""
    kind = _TYPES.get(value >> 12, "unknown type")
    return value, f"{value:o} ({stat.filemode(value & 0xFFFF)} {kind})"


def uuid(raw: bytes) -> tuple[object, str]:
    """A UUID in the order of its bytes."""
    text = raw.hex()
    text = "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
    return text, text


def guid(raw: bytes) -> tuple[object, str]:
    """A GUID whose first three fields are little-endian."""
    text = guid_text(raw)
    return text, text


def text(raw: bytes) -> tuple[object, str]:
    """Characters up to the first NUL; what is not UTF-8 as surrogate escapes."""
    found = raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    return found, found


def utf16(raw: bytes) -> tuple[object, str]:
    """Characters in UTF-16LE up to the first NUL."""
    found = raw.decode("utf-16-le", "replace").split("\0", 1)[0]
    return found, found


def magic(wanted: int | bytes) -> Words:
    """A value that has to be ``wanted``."""
    shown: Callable[[Any], tuple[object, str]] = text if isinstance(wanted, bytes) else hexadecimal

    def words(value: Any) -> tuple[object, str]:
        found = shown(value)
        return found[0], f"{found[1]} ({'right' if value == wanted else f'wrong, it should be {shown(wanted)[1]}'})"

    return words


def seconds(value: int) -> tuple[object, str]:
    """A time since 1970."""
    return value, f"{value} ({when(value * NANO, SECONDS)})" if value else "0"


def timespec(value: Mapping[str, int]) -> tuple[object, str]:
    """A structure of ``sec`` and ``nsec`` since 1970."""
    number = f"{value['sec']}.{value['nsec']:09}"
    return number, f"{number} ({when(value['sec'] * NANO, SECONDS)})"


def pair_of_times(value: list[int]) -> tuple[object, str]:
    """Two words: seconds since 1970, and nanoseconds."""
    return timespec({"sec": value[0] - (1 << 64) if value[0] >> 63 else value[0], "nsec": value[1]})


def checksum(stored: str, computed: str) -> tuple[object, str]:
    """A checksum, right or wrong; both as text."""
    return stored, f"{stored} ({'right' if stored == computed else f'wrong, it should be {computed}'})"


def blank(raw: bytes) -> tuple[object, str]:
    """Bytes that nobody uses yet."""
    return (raw.hex(), raw.hex()) if any(raw) else ("", f"{len(raw)} bytes, all zero")
