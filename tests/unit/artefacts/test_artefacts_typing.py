"""The boot program's stump of ``typing`` against the real module: all our modules import, all named tuples behave."""

from __future__ import annotations

import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import nuitka
import pytest
from places import PROJECT

import fsdrivers
import init
from artefacts import typing_stump

RUN = ("fsdrivers.__main__", "init.__main__")  # when they are imported
ELSEWHERE = ("fsdrivers.native.", "fsdrivers.desk.")  # compiled with the real module, or never in the boot program

# Tells of every class with fields what there is to tell; argument 1: the stump, or "" for the real module.
LIST = """
import importlib, importlib.util, json, sys
stump, *names = sys.argv[1:]
if stump:
    spec = importlib.util.spec_from_file_location("typing", stump)
    sys.modules["typing"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["typing"])
told = {}
for name in names:
    for key, value in vars(importlib.import_module(name)).items():
        if isinstance(value, type) and issubclass(value, tuple) and value.__module__ == name:
            made = value(*range(len(value._fields)))
            few = value(*range(len(value._fields) - len(value._field_defaults)))
            told[f"{name}.{key}"] = [
                value._fields, repr(value._field_defaults), repr(tuple(made)), repr(tuple(few)), value.__match_args__,
                [getattr(made, field) for field in value._fields], value.__mro__[-2].__name__, value.__name__,
                value._make(tuple(made)) == made, hasattr(made, "__dict__"), value.__doc__, sorted(made._asdict()),
            ]
print(json.dumps(told))
"""


def modules() -> list[str]:
    names = []
    for package in (fsdrivers, init):
        for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if one.name not in RUN and not one.name.startswith(ELSEWHERE):
                names.append(one.name)
    return names


def tell(stump: str) -> dict[str, Any]:
    command = [sys.executable, "-c", LIST, stump, *modules()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_all_named_tuples_of_ours_are_what_they_are_with_the_real_module() -> None:
    ours, real = tell(str(PROJECT / "artefacts" / "typing_stump.py")), tell("")
    assert len(real) > 60
    assert ours == real


class Real(NamedTuple):
    """A tuple."""

    one: int
    two: str = "b"

    @property
    def both(self) -> str:
        return f"{self.one}{self.two}"


class Stump(typing_stump.NamedTuple):  # type: ignore[misc]
    """A tuple."""

    one: int
    two: str = "b"

    @property
    def both(self) -> str:
        return f"{self.one}{self.two}"


class Child(Stump):
    """With a way of its own to be made."""

    def __new__(cls, one: int) -> Child:
        made: Child = super().__new__(cls, one, "child")
        return made


def unexpected() -> type[Exception]:
    """What this Python's own named tuples raise: ValueError, since 3.13 TypeError."""
    try:
        Real(1)._replace(no=1)  # type: ignore[call-arg]
    except (TypeError, ValueError) as error:
        return type(error)
    raise AssertionError("an unknown field was taken")


def test_it_behaves_as_a_tuple_with_names() -> None:
    for kind in (Real, Stump):
        assert kind(1) == (1, "b") == kind(one=1)
        assert kind(1, two="c")._replace(one=5) == (5, "c")
        assert repr(kind(1)).partition("(")[2] == "one=1, two='b')"
        assert kind(2).both == "2b"
        assert hash(kind(1)) == hash((1, "b"))
        assert kind(1).__getnewargs__() == (1, "b")
        for wrong in (lambda kind=kind: kind(), lambda kind=kind: kind(1, "b", 3), lambda kind=kind: kind(1, no=1)):
            with pytest.raises(TypeError):
                wrong()
        with pytest.raises(unexpected(), match="no"):
            kind(1)._replace(no=1)
        with pytest.raises(AttributeError):
            kind(1).one = 2
    assert Child(7).both == "7child"
    assert type(Child(7)) is Child
    assert type(Stump(7)) is Stump


def test_it_has_the_types_that_nuitka_patches() -> None:
    """Before the program's first line, without asking whether they are there: a name that is missing is a SIGSEGV."""
    patcher = Path(nuitka.__file__).parent / "build" / "static_src" / "InspectPatcher.c"
    patched = re.findall(r'patchTypingType\("(\w+)"\)', patcher.read_text())
    assert patched
    for name in patched:
        kind = getattr(typing_stump, name)
        assert isinstance(kind, type), name
        assert kind("T") == "T"


def test_a_tuple_is_no_call() -> None:
    with pytest.raises(TypeError):
        typing_stump.NamedTuple("Name", [("one", int)])
