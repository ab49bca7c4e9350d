"""Packed name/value lists: the XDR encoding of labels and pool configurations, and the native one.

Sources: module/nvpair/nvpair.c:nvs_xdr_nvpair, nvs_xdr_nvp_op, nvs_native_nvpair, nvs_native_nvp_op, OpenZFS 2.3.4.

A packed list starts with four bytes: encoding (0 native, 1 XDR), endianness of the packer (1 little), two of
padding.  Then, in XDR (everything big-endian, items aligned to 4):

    i32 version, u32 flags
    pairs: i32 encoded size (whole pair), i32 decoded size, string name (u32 length, bytes, padding),
           i32 type, i32 number of elements, value
    8 zero bytes

and natively (the packer's order): i32 version, u32 flags, pairs, i32 0.  A pair is i32 size, i16 name size with
the NUL, i16 reserved, i32 elements, i32 type, name, value at the next multiple of 8; embedded lists follow
their pair.
"""

from __future__ import annotations

import struct
from typing import Any

from fsdrivers.errors import FsError

MAX_DEPTH = 32  # vdev trees are at most five lists deep
MAX_ELEMENTS = 1 << 16
MAX_NAME = (1 << 15) - 1  # nvpair.h:nvpair_t keeps a name's size in 16 bits with a sign
MAX_PAIRS = 1 << 17  # pairs and lists on all levels; each disk of a pool costs its configuration some thirty

NvList = dict[str, Any]

BOOLEAN, BYTE_ARRAY, STRING, STRING_ARRAY, NVLIST, NVLIST_ARRAY, BOOLEAN_VALUE, DOUBLE = 1, 10, 9, 17, 19, 20, 21, 27

# nvpair.h:data_type_t -> struct character
_SCALARS = {2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "q", 8: "Q", 18: "q", 21: "i", 22: "b", 23: "B", 27: "d"}
_ARRAYS = {11: "h", 12: "H", 13: "i", 14: "I", 15: "q", 16: "Q", 24: "i", 25: "b", 26: "B"}
_XDR_WIDE = {"B": "I", "b": "i", "h": "i", "H": "I"}  # XDR has no integer below four bytes


class NvError(FsError):
    """A packed list that does not parse; the caller knows the device and says so."""


def parse(data: bytes | memoryview) -> NvList:
    """The list packed in ``data``, which may be longer; raises NvError.

    Values are int, bool, float, str (surrogate escapes for other bytes), bytes (byte arrays), dict, or lists of
    those.  No byte is looked at twice, so that what comes out is not much larger than what went in.
    """
    data = bytes(data)
    if len(data) < 12:
        raise NvError("packed list: too short")
    encoding, endian = data[0], data[1]
    try:
        if encoding == 1:
            return _Xdr().nvlist(memoryview(data)[4:], 0, 0)[0]
        if encoding == 0 and endian in (0, 1):
            return _Native(data, "<" if endian else ">").top()
    except (struct.error, IndexError) as error:
        raise NvError("packed list: ends early") from error
    raise NvError(f"packed list: unknown encoding {encoding}/{endian}")


def text(raw: bytes | memoryview) -> str:
    """Bytes of a name in the convention of os.fsdecode."""
    return str(raw, "utf-8", "surrogateescape")


class _Counted:
    """Counts pairs and lists over all levels."""

    def __init__(self) -> None:
        self._left = MAX_PAIRS

    def count(self, depth: int = 0) -> None:
        self._left -= 1
        if self._left < 0:
            raise NvError(f"packed list: more than {MAX_PAIRS} pairs")
        if depth > MAX_DEPTH:
            raise NvError("packed list: nested too deeply")


class _Xdr(_Counted):
    """A cursor-less XDR parser: every method takes bytes and a position, and returns (value, position behind it).

    The bytes are those of one pair: what a value claims to have beyond them is not there.
    """

    def nvlist(self, data: memoryview, at: int, depth: int) -> tuple[NvList, int]:
        self.count(depth)
        struct.unpack_from(">iI", data, at)
        at += 8
        found: NvList = {}
        while True:
            encoded, decoded = struct.unpack_from(">ii", data, at)
            if encoded == 0 and decoded == 0:
                return found, at + 8
            # A pair is at least its two sizes, an empty name, type and count.
            if encoded < 20 or at + encoded > len(data):
                raise NvError(f"packed list: pair of {encoded} bytes at {at:#x}")
            self.count()
            pair = data[at : at + encoded]
            name, here = self.string(pair, 8, MAX_NAME)
            kind, count = struct.unpack_from(">ii", pair, here)
            found[name], _ = self.value(pair, kind, count, here + 8, depth)
            at += encoded

    def string(self, data: memoryview, at: int, most: int) -> tuple[str, int]:
        (length,) = struct.unpack_from(">I", data, at)
        if length > most or at + 4 + length > len(data):
            raise NvError(f"packed list: string of {length} bytes at {at:#x}")
        return text(data[at + 4 : at + 4 + length]), at + 4 + ((length + 3) & ~3)

    def value(self, data: memoryview, kind: int, count: int, at: int, depth: int) -> tuple[Any, int]:
        if not 0 <= count <= (len(data) if kind == BYTE_ARRAY else MAX_ELEMENTS):
            raise NvError(f"packed list: {count} elements at {at:#x}")
        if kind == BOOLEAN:
            return True, at
        if kind in _SCALARS:
            code = ">" + _XDR_WIDE.get(_SCALARS[kind], _SCALARS[kind])
            (number,) = struct.unpack_from(code, data, at)
            return (bool(number) if kind == BOOLEAN_VALUE else number), at + struct.calcsize(code)
        if kind == STRING:
            return self.string(data, at, len(data))
        if kind == NVLIST:
            return self.nvlist(data, at, depth + 1)
        if kind == BYTE_ARRAY:
            if at + count > len(data):
                raise NvError(f"packed list: {count} bytes at {at:#x}")
            return bytes(data[at : at + count]), at + ((count + 3) & ~3)
        if kind in _ARRAYS:
            code = f">{count}" + _XDR_WIDE.get(_ARRAYS[kind], _ARRAYS[kind])
            return list(struct.unpack_from(code, data, at + 4)), at + 4 + struct.calcsize(code)
        if kind not in (STRING_ARRAY, NVLIST_ARRAY):
            raise NvError(f"packed list: unknown type {kind} at {at:#x}")
        items = []
        for _ in range(count):
            item, at = self.string(data, at, len(data)) if kind == STRING_ARRAY else self.nvlist(data, at, depth + 1)
            items.append(item)
        return items, at


class _Native(_Counted):
    """The native encoding in byte order ``order``."""

    def __init__(self, data: bytes, order: str) -> None:
        super().__init__()
        self.data, self.order = data, order

    def top(self) -> NvList:
        return self.pairs(12, 0)[0]

    def unpack(self, code: str, at: int) -> tuple[Any, ...]:
        return struct.unpack_from(self.order + code, self.data, at)

    def pairs(self, at: int, depth: int) -> tuple[NvList, int]:
        self.count(depth)
        found: NvList = {}
        while True:
            (size,) = self.unpack("i", at)
            if size == 0:
                return found, at + 4
            self.count()
            name_size, _, count, kind = self.unpack("hhii", at + 4)
            value_at = (16 + name_size + 7) & ~7
            if size < value_at or name_size < 1 or at + size > len(self.data) or not 0 <= count <= MAX_ELEMENTS:
                raise NvError(f"packed list: pair of {size} bytes at {at:#x}")
            name = text(self.data[at + 16 : at + 15 + name_size])
            end = at + size
            if kind in (NVLIST, NVLIST_ARRAY):
                # The pair itself only has room for pointers; the lists come behind it.
                items = []
                for _ in range(count):
                    item, end = self.pairs(end, depth + 1)
                    items.append(item)
                found[name] = items if kind == NVLIST_ARRAY else (items[0] if items else {})
            else:
                found[name] = self.value(kind, count, self.data[at + value_at : at + size])
            at = end

    def value(self, kind: int, count: int, raw: bytes) -> Any:
        if kind == BOOLEAN:
            return True
        if kind in _SCALARS:
            (number,) = struct.unpack_from(self.order + _SCALARS[kind], raw)
            return bool(number) if kind == BOOLEAN_VALUE else number
        if kind == STRING:
            return text(raw.split(b"\0", 1)[0])
        if kind == BYTE_ARRAY:
            return raw[:count]
        if kind in _ARRAYS:
            return list(struct.unpack_from(f"{self.order}{count}{_ARRAYS[kind]}", raw))
        if kind == STRING_ARRAY:
            return [text(item) for item in raw[8 * count :].split(b"\0", count)[:count]]
        raise NvError(f"packed list: unknown type {kind}")
