"""The few loops that must run at machine speed, and the way to the C cores of libraries.

The modules in this package are written in Cython's "pure Python mode": plain Python files that run as they
are, slowly, and that ``python build.py native`` compiles to extension modules beside the sources (or into the
static binary as built-ins of the same dotted names).  Python prefers an extension to a source of the same name,
so callers import ``fsdrivers.native.NAME`` and get the fastest form there is.

Knows errors alone.
"""

from __future__ import annotations

import _imp
from types import ModuleType


def core(flat: str, module: str) -> ModuleType:
    """The C core of a library, imported without its package.

    ``module`` is the core's dotted name in the wheel ("crc32c._crc32c").  The packages' own ``__init__`` cost
    up to 95 ms (argparse, importlib.metadata), the cores 1 ms.  The static binary has the core linked in under
    the name ``flat``, because BuiltinImporter finds no built-ins inside packages.
    """
    if _imp.is_builtin(flat):
        return __import__(flat)
    from importlib.machinery import PathFinder

    package = PathFinder.find_spec(module.partition(".")[0])
    spec = package and PathFinder.find_spec(module, package.submodule_search_locations)
    if spec is None or spec.origin is None or spec.origin.endswith(".py"):
        raise ImportError(f"no module named {module!r}: install the package", name=module)
    loaded = _imp.create_dynamic(spec)
    _imp.exec_dynamic(loaded)
    return loaded
