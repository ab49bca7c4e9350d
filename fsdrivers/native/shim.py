"""What the native modules need of ``cython`` when they run uncompiled: names that change nothing.

Types only serve annotations, decorators and ``nogil`` do nothing, casts give back what they get.  Compiled code
never sees this module; machines without Cython need it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

compiled = False

uchar = uint = ulonglong = Py_ssize_t = int
p_uchar = p_const_uchar = p_ulonglong = p_uint = object
void = None


def _unchanged(function: T) -> T:
    return function


cfunc = inline = _unchanged


def exceptval(value: object = None, *, check: bool = False) -> Callable[[T], T]:
    """Say how a compiled function reports errors; Python functions raise anyway."""
    return _unchanged


def cast(to: object, value: T) -> T:
    """The value itself: there is only one kind of object to be had."""
    return value


def declare(kind: object, value: T) -> T:
    """The value itself: a module's constant that compiled code keeps as a C variable."""
    return value


class _Nogil:
    """``@cython.nogil`` and ``with cython.nogil:`` alike."""

    def __call__(self, function: T) -> T:
        return function

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: Any) -> None:
        pass


nogil = _Nogil()
