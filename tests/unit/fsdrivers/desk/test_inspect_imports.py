"""construct costs nobody anything but who inspects: not the boot program, and no other command of the desk tool."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from places import PROJECT
from test_arrows import TABLE, imports, modules

from artefacts import program
from fsdrivers.desk import cli
from fsdrivers.desk.inspect import command

INSPECT = "fsdrivers.desk.inspect"


def test_one_room_knows_construct() -> None:
    users = set()
    for top in ("fsdrivers", "init", "loader", "artefacts", "qemu"):
        for path in (PROJECT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                if any(name.partition(".")[0] == "construct" for name in names):
                    users.add(path.parent.relative_to(PROJECT))
    assert users == {Path("fsdrivers/desk/inspect")}


def test_the_boot_program_does_not_reach_it() -> None:
    known = modules(PROJECT, TABLE)
    arrows: dict[str, set[str]] = {}
    for one in imports(known, PROJECT):
        arrows.setdefault(one.who, set()).add(one.what)
    reached, todo = set(), ["init.__main__"]
    while todo:
        new = arrows.get(todo.pop(), set()) - reached
        reached |= new
        todo += new
    assert "fsdrivers.btrfs.layout" in reached
    assert not [name for name in reached if name.startswith("fsdrivers.desk")]
    # Nor would it be packed if it were mentioned: nothing is but these packages and the standard library.
    assert set(program._PACKAGES) == {"init", "fsdrivers"}


@pytest.mark.parametrize("module", ["init.__main__", "fsdrivers.__main__", "fsdrivers.desk.cli", "fsdrivers.pools"])
def test_who_starts_does_not_load_it(module: str) -> None:
    script = f"import sys, {module}; print([one for one in sys.modules if 'construct' in one or '{INSPECT}' in one])"
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_knows_all_that_can_be_shown() -> None:
    """It has the names of its own: to look them up it would have to load construct."""
    assert {name: " ".join(what.arguments) for name, what in command.WHATS.items()} == cli._INSPECTED
    page = (PROJECT / "docs/command-line.md").read_text()
    for name, what in command.WHATS.items():
        assert f"| `{' '.join((name, *what.arguments))}` |" in page
