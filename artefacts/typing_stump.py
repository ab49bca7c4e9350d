"""What the boot program has instead of the standard library's ``typing``: the names that our modules import.

``typing`` is a quarter of what the program does before its first line, and three quarters of our modules only take
``NamedTuple`` from it, whose classes each compile a function when they are made, needed or not.  Here a class compiles
its ``__new__`` when the first of it is made.  The plugin puts this text in the place of ``typing``; a unit test holds
every named tuple of ours against the real one.
"""

# mypy: ignore-errors
# It stands for what others are typed with.

import sys
from _collections import _tuplegetter

TYPE_CHECKING = False
Any = NoReturn = BinaryIO = object


def cast(_type, value):
    """Nothing at run time."""
    return value


class TypeVar:
    """Stands in brackets only.

    A class, with a ``__new__`` of its own, since from Python 3.12 on Nuitka's runtime puts another function into the
    tp_new of this one and the next two before any code of ours runs, and does not ask whether they are there
    (Nuitka 4.3, static_src/InspectPatcher.c:patchTypingType).
    """

    def __new__(cls, name, *_bounds, **_options):
        return name


class ParamSpec(TypeVar):
    """Likewise."""


class TypeVarTuple(TypeVar):
    """Likewise."""


class Generic:
    """A base that takes brackets."""

    def __class_getitem__(cls, _parameters):
        return cls


class Protocol(Generic):
    """For type checkers only."""


# As collections.namedtuple has it.
_UNEXPECTED = TypeError if sys.version_info >= (3, 13) else ValueError


class _Tuple(tuple):
    """What all named tuples can; the class of each fills in its fields."""

    __slots__ = ()
    _fields = ()
    _field_defaults = {}  # noqa: RUF012

    def __new__(cls, *args, **kwargs):
        for owner in cls.__mro__:
            if "_fields" in owner.__dict__:
                break
        arguments = "".join(
            f", {name}=_defaults[{name!r}]" if name in owner._field_defaults else f", {name}" for name in owner._fields
        )
        values = "".join(f"{name}, " for name in owner._fields)
        code = f"lambda _cls{arguments}: _new(_cls, ({values}))"
        make = eval(code, {"_new": tuple.__new__, "_defaults": owner._field_defaults, "__builtins__": {}})
        make.__name__, make.__qualname__ = "__new__", f"{owner.__name__}.__new__"
        owner.__new__ = staticmethod(make)
        return make(cls, *args, **kwargs)

    @classmethod
    def _make(cls, values):
        made = tuple.__new__(cls, values)
        if len(made) != len(cls._fields):
            raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
        return made

    def _replace(self, /, **changes):
        made = self._make(map(changes.pop, self._fields, self))
        if changes:
            raise _UNEXPECTED(f"Got unexpected field names: {list(changes)!r}")
        return made

    def _asdict(self):
        return dict(zip(self._fields, self, strict=True))

    def __repr__(self):
        return (
            self.__class__.__name__
            + "("
            + ", ".join(f"{n}={v!r}" for n, v in zip(self._fields, self, strict=True))
            + ")"
        )

    def __getnewargs__(self):
        return tuple(self)


class _Meta(type):
    """Makes of a class's annotations the fields of a tuple."""

    def __new__(cls, name, bases, body):
        fields = tuple(body.get("__annotations__", ()))
        made = {"__slots__": (), "_fields": fields, "__match_args__": fields}
        made["_field_defaults"] = {field: body.pop(field) for field in fields if field in body}
        made.update((field, _tuplegetter(number, None)) for number, field in enumerate(fields))
        made.update(body)
        return type(name, (_Tuple,), made)


def NamedTuple(*_arguments):  # noqa: N802
    """Only a base class, as ours all are."""
    raise TypeError("named tuples are classes here")


NamedTuple.__mro_entries__ = lambda bases: (type.__new__(_Meta, "NamedTuple", (), {}),)
