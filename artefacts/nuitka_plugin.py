"""The Nuitka plugin of the boot program: our C modules linked in, the standard library kept small.

Nuitka loads this file by path and gives no other way in than the environment: ``POOLBOOT_PLUGIN`` names a JSON file
with ``builtins`` (names of the modules in the archive), ``directory`` (where ``libpoolboot.a`` and ``register.c``
are), ``packages`` (what may be in the program beside the standard library, whatever else is installed), ``compiled``
(modules that become C; the others are frozen as bytecode), ``dotted`` (whether there are built-ins inside packages),
``include`` and ``libpython`` (another architecture's headers and static library of Python, or "").

It reaches into what is private to Nuitka: pyproject.toml pins it for that reason.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from nuitka.freezer import ImportDetection
from nuitka.plugins.PluginBase import NuitkaPluginBase

_CONFIG: dict[str, Any] = json.loads(Path(os.environ["POOLBOOT_PLUGIN"]).read_text())

# What the interpreter and Nuitka's runtime import before the program's first line.  No codec but these is ever asked
# for: the file system encoding is UTF-8, or ASCII before the interpreter has looked at the locale.
_AT_START = {
    "_collections_abc",
    "abc",
    "codecs",
    "encodings",
    "encodings.aliases",
    "encodings.ascii",
    "encodings.latin_1",
    "encodings.utf_16_le",
    "encodings.utf_8",
    "functools",
    "genericpath",
    "importlib",
    "importlib._bootstrap",
    "io",
    "os",
    "posixpath",
    "stat",
    "types",
    "warnings",
}

# Nuitka's runtime imports `inspect` before any code of ours runs, only to replace these functions in it (static_src/
# InspectPatcher.c), and with it come ast, dis, tokenize and others: half of the time from exec to main.
_INSPECT = """
def getgeneratorstate(generator):
    raise TypeError("no compiled generator")
def getcoroutinestate(coroutine):
    raise TypeError("no compiled coroutine")
def _get_code_position(code, instruction_index):
    return None, None, None, None
"""

# BuiltinImporter refuses names with dots before Python 3.12.
_DOTTED_BUILTINS = """
import sys, _imp
from _frozen_importlib import BuiltinImporter, ModuleSpec

class DottedBuiltins:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if path is not None and _imp.is_builtin(name):
            return ModuleSpec(name, BuiltinImporter, origin="built-in")

sys.meta_path.insert(0, DottedBuiltins)
"""


# traceback and argparse import `_colorize`, which makes dataclasses of its colours since Python 3.14.  Here are none.
_COLORIZE = """
class _Plain:
    def __getattr__(self, name):
        return ""
class _Theme:
    traceback = argparse = _Plain()
def can_colorize(*, file=None):
    return False
def decolor(text):
    return text
def get_theme(**choice):
    return _Theme
"""

_REPLACED = {"inspect": _INSPECT, "typing": Path(__file__).with_name("typing_stump.py").read_text()}
if sys.version_info >= (3, 14):
    _REPLACED["_colorize"] = _COLORIZE


class BootProgramPlugin(NuitkaPluginBase):  # type: ignore[misc]
    """See the module's docstring."""

    plugin_name = "poolboot"
    plugin_desc = "links C modules into the boot program and keeps it small"

    def onCompilationStartChecks(self) -> None:  # noqa: N802
        _leave_memoryview_alone()
        if _CONFIG["libpython"]:
            _link_for_another_architecture(_CONFIG["include"], _CONFIG["libpython"])

    def getExtraCodeFiles(self) -> dict[str, str]:  # noqa: N802
        return {"poolboot_register.c": (Path(_CONFIG["directory"]) / "register.c").read_text()}

    def getExtraLinkLibraries(self) -> list[str]:  # noqa: N802
        return ["poolboot"]

    def getExtraLinkDirectories(self) -> list[str]:  # noqa: N802
        return [_CONFIG["directory"]]

    def decideCompilation(self, module_name: Any) -> str | None:  # noqa: N802
        """Freeze all but the main module: see _COMPILED in program.py."""
        return None if module_name.asString().removesuffix("-preLoad") in _CONFIG["compiled"] else "bytecode"

    def onModuleEncounter(  # noqa: N802
        self, using_module_name: Any, module_name: Any, module_filename: Any, module_kind: Any
    ) -> tuple[bool, str] | None:
        name = module_name.asString()
        if name in _CONFIG["builtins"]:
            return False, "linked into the program"
        top = module_name.getTopLevelPackageName()
        if top not in _CONFIG["packages"] and top not in sys.stdlib_module_names:
            return False, "not a part of the boot program"
        if name == "inspect" and using_module_name is not None and _needs_inspect(using_module_name.asString()):
            self.sysexit(f"{using_module_name} imports inspect, of which the boot program has only a stump")
        return None

    def onModuleSourceCode(self, module_name: Any, source_filename: Any, source_code: str) -> str:  # noqa: N802
        return _REPLACED.get(module_name.asString(), source_code)

    @staticmethod
    def createPreModuleLoadCode(module: Any) -> tuple[str, str] | None:  # noqa: N802
        """Before the main module: the finder of built-ins inside packages."""
        if _CONFIG["dotted"] and module.isMainModule():
            return _DOTTED_BUILTINS, "built-in modules inside packages"
        return None


def _needs_inspect(user: str) -> bool:
    """Whether a module that imports inspect would miss it.  The standard library mostly asks for it inside functions
    that nobody calls; dataclasses calls it for every class.
    """
    if user in _REPLACED:
        return False
    return user == "dataclasses" or user.partition(".")[0] not in sys.stdlib_module_names


def _keep_standard_library_small() -> None:
    """Freeze what imports ask for and what the interpreter starts with, not every module there is."""
    detect = ImportDetection._detectEarlyImports

    def early() -> tuple[Any, ...]:
        return tuple(name for name in detect() if name.asString() in _AT_START)

    ImportDetection._detectEarlyImports = early
    ImportDetection._stdlib_modules_names = ()


def _leave_memoryview_alone() -> None:
    """Nuitka 4.3.3 ends with a TypeError where it turns calls of memoryview into nodes of its own: keep plain calls."""
    from nuitka.nodes import HardImportNodesGenerated  # it cannot be imported before the options are known

    def compute(
        self: Any, call_node: Any, call_args: Any, call_kw: Any, trace_collection: Any
    ) -> tuple[Any, None, None]:
        trace_collection.onExceptionRaiseExit(BaseException)
        return call_node, None, None

    HardImportNodesGenerated.ExpressionBuiltinsMemoryviewRef.computeExpressionCall = compute


def _link_for_another_architecture(include: str, libpython: str) -> None:
    """Nuitka knows no cross compiling, but the C it writes depends on the version of Python alone: only say where the
    headers and the library are.  The compiler it takes from $CC.
    """
    from nuitka import MainControl
    from nuitka.build import SconsInterface

    SconsInterface.getTargetPythonIncludePath = lambda **_: include
    MainControl.getSystemStaticLibPythonPath = lambda **_: libpython


_keep_standard_library_small()
