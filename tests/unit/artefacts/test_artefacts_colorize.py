"""What the boot program has in the place of `_colorize`: help and tracebacks are as where nobody wants colours."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from places import PROJECT

PLUGIN = PROJECT / "artefacts" / "nuitka_plugin.py"

_USE = """
import argparse, traceback
parser = argparse.ArgumentParser(prog="init", description="what it does", epilog="and no more")
parser.add_argument("--number", type=int, choices=[1, 2], default=1, help="one or two")
parser.add_argument("rest", nargs="*", metavar="WORD")
print(parser.format_help())
try:
    parser.parse_args(["--number", "3"])
except SystemExit:
    pass
try:
    {}["key"]
except KeyError as error:
    print("".join(traceback.format_exception(error)))
    traceback.print_exc()
"""


def _stump() -> str:
    """The text in the plugin, which only Nuitka can import."""
    for node in ast.parse(PLUGIN.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_COLORIZE":
            text = ast.literal_eval(node.value)
            assert isinstance(text, str)
            return text
    raise AssertionError("no stump")


def _said(before: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", before + _USE], capture_output=True, text=True, check=False, env={"NO_COLOR": "1"}
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(sys.version_info[:2] == (3, 13), reason="its _colorize is another one, and the build leaves it in")
def test_help_and_tracebacks_are_those_without_colours() -> None:
    put = f"import sys, types; made = types.ModuleType('_colorize'); exec({_stump()!r}, made.__dict__)\n"
    real, ours = _said("pass\n"), _said(f"{put.strip()}; sys.modules['_colorize'] = made\n")
    assert real == ours
    assert real[0] == 0
    assert "usage: init" in real[1]
    assert "KeyError: 'key'" in real[1]
