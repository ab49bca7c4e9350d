"""Who may know whom: the rooms as a table, held against every import that there is.

An import at the top of a module, one inside of a function and one for the types alone count the same: each says that
the module cannot be understood, or moved, without the other.  There are no exceptions: where two rooms need the same
thing, it goes below both.  docs/internals/architecture.md walks through the rooms.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from places import PROJECT


class Room(NamedTuple):
    """A row of the table: the modules and packages in the room, and the rooms below it."""

    name: str
    holds: str
    knows: str = ""


# A module may know its own room, the rooms that its row names, and what those may know; nothing else.  A name in the
# second column holds what is below it as well, unless that has a room of its own.  A new module beside the rooms gets
# its place here: as low as what it imports lets it.
TABLE = (
    # the readers
    Room("ground",     "fsdrivers fsdrivers.errors fsdrivers.kept fsdrivers.notes fsdrivers.record fsdrivers.shown"),
    Room("arithmetic", "fsdrivers.native fsdrivers.checksums fsdrivers.compression fsdrivers.parity", "ground"),
    Room("devices",    "fsdrivers.block fsdrivers.bounds fsdrivers.partitions", "ground"),
    Room("trees",      "fsdrivers.filesystem fsdrivers.redundancy fsdrivers.readahead fsdrivers.pool fsdrivers.damage "
                       "fsdrivers.traverse fsdrivers.copyout", "devices arithmetic"),
    Room("btrfs",      "fsdrivers.btrfs", "trees"),
    Room("zfs",        "fsdrivers.zfs", "trees"),
    Room("fat",        "fsdrivers.fat", "trees"),
    Room("pools",      "fsdrivers.pools", "btrfs zfs"),
    Room("fuse",       "fsdrivers.fuse", "trees"),
    Room("desk",       "fsdrivers.desk fsdrivers.__main__", "pools fat fuse"),
    # the boot
    Room("settings",   "init init.config init.locks init.phases init.refused init.report init.roots", "pools fat"),
    Room("machine",    "init.machine", "devices"),
    Room("console",    "init.console", "machine"),
    Room("kernel",     "init.kernel", "console trees"),
    Room("trust",      "init.trust", "settings machine"),
    Room("entries",    "init.entries", "kernel settings"),
    Room("survey",     "init.survey", "entries trust"),
    Room("firmware",   "init.firmware", "entries trust"),
    Room("handover",   "init.handover", "firmware fuse"),
    Room("waiting",    "init.waiting", "survey"),
    Room("people",     "init.people", "survey handover"),
    Room("boot",       "init.__main__ init.desk", "people waiting"),
    # what builds, packs and starts it
    Room("artefacts",  "artefacts"),
    Room("loader",     "loader", "artefacts handover"),
    Room("qemu",       "qemu", "artefacts"),
)  # fmt: skip


class Import(NamedTuple):
    """``who`` imports ``what``, in line ``line`` of its ``file``."""

    who: str
    what: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.who} imports {self.what}"


def modules(top: Path, table: Iterable[Room]) -> dict[str, Path]:
    """The modules below ``top`` that the rooms of ``table`` are about, by name."""
    packages = sorted({name.partition(".")[0] for room in table for name in room.holds.split()})
    files = [file for package in packages for file in sorted((top / package).rglob("*.py"))]
    return {".".join(file.relative_to(top).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imports(known: dict[str, Path], top: Path) -> Iterator[Import]:
    """Every import of one of the ``known`` modules by another, wherever in its file it stands."""
    for who, file in known.items():
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{file}:{node.lineno}: a relative import"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                # "from a import b": the module a.b, or something that is in a
                what = next((one for one in (name, name.rpartition(".")[0]) if one in known), "")
                if what and what != who:
                    yield Import(who, what, str(file.relative_to(top)), node.lineno)  # type: ignore[attr-defined]


def room_of(module: str, table: Iterable[Room]) -> str:
    """The room that holds ``module``; "" when none does."""
    homes = {name: room.name for room in table for name in room.holds.split()}
    if module in homes:
        return homes[module]
    name = module
    while (name := name.rpartition(".")[0]) and name not in homes:
        pass
    split = any(other.startswith(name + ".") for other in homes)
    return "" if split else homes.get(name, "")


def allowed(table: Iterable[Room]) -> dict[str, set[str]]:
    """For each room itself and all the rooms below it.  Raises KeyError for a room that does not stand above."""
    reach: dict[str, set[str]] = {}
    for room in table:
        reach[room.name] = {room.name}.union(*(reach[name] for name in room.knows.split()))
    return reach


def wrong_arrows(found: Iterable[Import], table: Iterable[Room]) -> list[Import]:
    """The imports that ``table`` does not allow."""
    reach = allowed(table)
    return [one for one in found if room_of(one.what, table) not in reach.get(room_of(one.who, table), set())]


def circles(found: Iterable[Import]) -> list[list[Import]]:
    """The imports among each set of modules that all lead to each other."""
    arrows: dict[str, set[str]] = {}
    for one in (found := list(found)):
        arrows.setdefault(one.who, set()).add(one.what)
    reach = {who: _reachable(who, arrows) for who in arrows}
    inside = [one for one in found if one.who in reach.get(one.what, ())]
    groups: dict[frozenset[str], list[Import]] = {}
    for one in inside:
        group = frozenset(who for who in reach[one.who] if one.who in reach.get(who, ()))
        groups.setdefault(group, []).append(one)
    return list(groups.values())


def _reachable(start: str, arrows: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        new = arrows.get(todo.pop(), set()) - seen
        seen |= new
        todo += new
    return seen


# --- the house --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known() -> dict[str, Path]:
    return modules(PROJECT, TABLE)


@pytest.fixture(scope="module")
def found(known: dict[str, Path]) -> list[Import]:
    return list(imports(known, PROJECT))


def test_every_module_has_a_room_and_every_room_is_there(known: dict[str, Path]) -> None:
    assert [module for module in known if not room_of(module, TABLE)] == []
    assert [name for room in TABLE for name in room.holds.split() if name not in known] == []


def test_nobody_knows_who_is_not_below(found: list[Import]) -> None:
    text = "\n".join(
        f"{one}, and {room_of(one.who, TABLE)} must not know {room_of(one.what, TABLE)}"
        for one in wrong_arrows(found, TABLE)
    )
    assert not text, f"arrows against the table in {__file__}:\n{text}"


def test_no_circles(found: list[Import]) -> None:
    text = "\n\n".join("\n".join(map(str, circle)) for circle in circles(found))
    assert not text, f"these modules import each other:\n{text}"


# --- the test of the test ---------------------------------------------------------------------

SMALL = (
    Room("low", "house house.low"),
    Room("side", "house.side", "low"),
    Room("high", "house.high", "low"),
)


TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "


@pytest.mark.parametrize(
    ("files", "wrong", "circle"),
    [
        ({"high/a.py": "from house.low import thing", "low.py": "thing = 1"}, [], []),
        ({"high/a.py": "from house.high import b", "high/b.py": "import sys"}, [], []),
        ({"low.py": "import sys\nimport house.high"}, ["house/low.py:2"], []),
        ({"low.py": "def f():\n    from house import high"}, ["house/low.py:2"], []),
        ({"side/x.py": TYPES + "from house.high.y import Z", "high/y.py": ""}, ["house/side/x.py:3"], []),
        (
            {
                "high/a.py": "from house.high import b",
                "high/b.py": "def f():\n    import house.high.c",
                "high/c.py": TYPES + "from house.high.a import Thing",
            },
            [],
            ["house/high/a.py:1", "house/high/b.py:2", "house/high/c.py:3"],
        ),
    ],
    ids=["down", "in the room", "up", "in a function", "for types, sideways", "a circle of three"],
)
def test_what_is_wrong_is_found(files: dict[str, str], wrong: list[str], circle: list[str], tmp_path: Path) -> None:
    empty = dict.fromkeys(("__init__.py", "low.py", "side/__init__.py", "high/__init__.py"), "")
    for name, text in (empty | files).items():
        path = tmp_path / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = list(imports(modules(tmp_path, SMALL), tmp_path))
    assert [f"{one.file}:{one.line}" for one in wrong_arrows(found, SMALL)] == wrong
    assert [f"{one.file}:{one.line}" for group in circles(found) for one in group] == circle


def test_a_module_without_a_room_is_found(tmp_path: Path) -> None:
    assert [room_of(name, SMALL) for name in ("house", "house.low", "house.side.x", "house.new")] == [
        "low", "low", "side", "",
    ]  # fmt: skip
