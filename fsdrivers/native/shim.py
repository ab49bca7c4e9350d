"""What the native modules need of ``cython`` when they run uncompiled: names that change nothing.

Compiled code never sees this module; machines without Cython need it.  Types of variables are mere annotations,
which nobody evaluates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

compiled = False
ulonglong = Py_ssize_t = int


def cfunc(function: T) -> T:
    """A function that is none of Python's when it is compiled."""
    return function


inline = cfunc


def exceptval(*, check: bool) -> Callable[[T], T]:
    """Say how a compiled function reports errors; Python functions raise anyway."""
    return cfunc


def declare(kind: object, value: T) -> T:
    """The value itself: a module's constant that compiled code keeps as a C variable."""
    return value


class _Nogil:
    """``@cython.nogil`` and ``with cython.nogil:`` alike."""

    def __call__(self, function: T) -> T:
        return function

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        pass


nogil = _Nogil()
