"""What is derived from the drivers' declarations agrees with them, byte for byte."""

from __future__ import annotations

import random
import struct
from types import ModuleType
from typing import Any

import pytest

from fsdrivers import partitions
from fsdrivers.btrfs import layout as btrfs
from fsdrivers.desk.inspect.derived import Place, Structure, Structures, declared
from fsdrivers.fat import layout as fat
from fsdrivers.record import Record
from fsdrivers.zfs import layout as zfs

DECLARATIONS = [
    (module, order, name)
    for module, orders in ((btrfs, "<"), (zfs, "<>"), (fat, "<"), (partitions, "<"))
    for order in orders
    for name in Structures(module, order).names()
]


def plain(module: ModuleType, name: str, order: str) -> Any:
    """The Struct or Record that the driver uses."""
    shape = getattr(module, name)
    shape = shape[1] if isinstance(shape, tuple) else shape
    return shape[order] if isinstance(shape, dict) else shape


def flat(value: Any) -> list[Any]:
    """The values in a container, in the order of the disk."""
    if isinstance(value, dict):
        return [one for key, inner in value.items() if key != "_io" for one in flat(inner)]
    if isinstance(value, list):
        return [one for inner in value for one in flat(inner)]
    return [value]


def leaves(places: tuple[Place, ...], at: int = 0) -> list[tuple[int, str, int]]:
    """(offset, code, count) of every field, those of structures inside too."""
    found = []
    for place in places:
        if not place.inner:
            found.append((at + place.at, place.code, place.repeat))
        for number in range(place.repeat if place.inner else 0):
            found += leaves(place.inner, at + place.at + number * (place.size // place.repeat))
    return found


def test_everything_that_is_declared_is_here() -> None:
    names = {(module.__name__.rpartition(".")[2], name) for module, _, name in DECLARATIONS}
    assert {("layout", "SUPERBLOCK"), ("layout", "HEADER"), ("layout", "BLKPTR"), ("layout", "EXTENDED_32"),
            ("partitions", "GPT_HEADER")} <= names  # fmt: skip
    assert len(DECLARATIONS) > 55


@pytest.mark.parametrize(("module", "order", "name"), DECLARATIONS, ids=lambda value: getattr(value, "__name__", value))
def test_sizes_offsets_and_values_agree(module: ModuleType, order: str, name: str) -> None:
    derived, shape = declared(module, name, order), plain(module, name, order)
    assert derived.construct.sizeof() == derived.size == shape.size
    raw = random.Random(name).randbytes(shape.size)
    values = [value for value in flat(derived.parse(raw)) if value is not None]
    if isinstance(shape, Record):
        assert values == flat(shape.parse(raw))
    else:
        assert values == list(shape.unpack(raw))
    # Each field is where it says: what the Struct makes of the bytes there alone is its value.
    again = []
    for at, code, count in leaves(derived.places):
        again += struct.unpack_from(f"{order}{count}{code}" if count > 1 else order + code, raw, at - derived.base)
    assert again == values


@pytest.mark.parametrize(("module", "order", "name"), DECLARATIONS, ids=lambda value: getattr(value, "__name__", value))
def test_what_is_built_is_what_was_taken_apart(module: ModuleType, order: str, name: str) -> None:
    derived = declared(module, name, order)
    raw = random.Random(name).randbytes(derived.size)
    built = derived.construct.build(derived.parse(raw))
    assert derived.parse(built) == derived.parse(raw)
    assert derived.build() == bytes(derived.size)


def test_offsets_that_others_have_got_wrong() -> None:
    b, z = Structures(btrfs), Structures(zfs)
    assert (b.STRIPE.size, b.HEADER.size) == (0x20, 0x65)
    assert [b.HEADER.offset(name) for name in ("owner", "nritems", "level")] == [0x58, 0x60, 0x64]
    assert b.ROOT.offset("bytenr") == 0xB0
    assert b.DIR.offset("location.offset") == 0x09
    assert z.ZAP_HEADER.offset("zt_shift") == 32
    assert z.ZIL_CHAIN.offset("zc_eck.zec_cksum") == 152


def test_building_by_name() -> None:
    b = Structures(btrfs)
    assert b.KEY(objectid=1, type=2, offset=3) == btrfs.KEY.pack(1, 2, 3)
    assert b.DIR(location={"objectid": 5}, type=9) == btrfs.DIR.pack(5, 0, 0, 0, 0, 0, 9)
    assert b.SUPERBLOCK(label=b"x")[0x12B:0x12D] == b"x\0"
    assert Structures(zfs, ">").ECK(zec_cksum=[1, 2, 3, 4]) == zfs.ECK[">"].pack(0, 1, 2, 3, 4)
    with pytest.raises(ValueError, match="KEY has no field kind"):
        b.KEY(kind=1)
    with pytest.raises(ValueError, match="location has no field kind"):
        b.DIR(location={"kind": 1})
    with pytest.raises(AttributeError):
        _ = b.NOTHING


@pytest.mark.parametrize(
    "text",
    ["0 a", "0 a  8 b  9 c", "0 a  7 b", "0 a  8 b[2]", "0 A  8 b"],
    ids=["too few", "too many", "a wrong place", "more values than there are", "no name"],
)
def test_declarations_that_do_not_fit_are_refused(text: str) -> None:
    module = ModuleType("made")
    vars(module).update(PAIR=struct.Struct("<QB"), PAIR_FIELDS=text)
    with pytest.raises(ValueError, match="PAIR"):
        declared(module, "PAIR")


def test_a_declaration_without_names_is_refused() -> None:
    module = ModuleType("made")
    vars(module).update(PAIR=struct.Struct("<QB"))
    with pytest.raises(AttributeError, match="PAIR_FIELDS"):
        declared(module, "PAIR")
    assert isinstance(declared(btrfs, "KEY"), Structure)
