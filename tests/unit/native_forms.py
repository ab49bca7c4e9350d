"""The native modules in both of their forms: compiled, and as the plain Python files that they also are."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import fsdrivers.native

HOME = Path(fsdrivers.native.__file__).parent
FORMS = ("compiled", "python")


def names() -> list[str]:
    """All modules that are made to be compiled: they begin with Cython's directives."""
    return sorted(path.stem for path in HOME.glob("*.py") if path.read_text().startswith("# cython:"))


@cache
def load(name: str, form: str) -> ModuleType:
    """The module ``name`` of fsdrivers.native in one of FORMS; fails the test when it was not compiled."""
    if form == "compiled":
        module = importlib.import_module(f"fsdrivers.native.{name}")
        if not str(module.__file__).endswith(".so"):
            pytest.fail(f"fsdrivers/native/{name}.py is not compiled: run `python build.py native`")
        return module
    spec = importlib.util.spec_from_file_location(f"uncompiled_{name}", HOME / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # As on a machine without Cython.
    before = sys.modules.get("cython")
    sys.modules["cython"] = None  # type: ignore[assignment]
    try:
        spec.loader.exec_module(module)
    finally:
        if before is None:
            del sys.modules["cython"]
        else:
            sys.modules["cython"] = before
    return module
