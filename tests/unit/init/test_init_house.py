"""Lines from the console, the dry run of a desk, and rules of the house."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import init
from init.console import console, lineedit

# --- console ----------------------------------------------------------------------------------


def test_lines_arrive_in_pieces_and_in_bunches() -> None:
    source, sink = os.pipe()
    screen = console.Console((), (source,))
    os.write(sink, b"one\r\ntwo\nthr")
    assert [screen.readline(""), screen.readline("")] == ["one", "two"]
    assert screen.readline("", timeout=0.01) is None
    os.write(sink, b"ee\xff\n")
    assert screen.readline("") == "three\udcff"


def test_one_console_closing_leaves_the_other() -> None:
    (gone, gone_sink), (source, sink) = os.pipe(), os.pipe()
    os.close(gone_sink)
    os.write(sink, b"here\n")
    screen = console.Console((-1, sink), (gone, source))
    screen.say("goes to who is left")
    answers = [screen.readline(""), screen.readline("")]
    assert "here" in answers


def test_a_flood_without_a_line_end_is_bounded() -> None:
    source, sink = os.pipe()
    screen = console.Console((), (source,))
    for _ in range(20):
        os.write(sink, b"x" * 2048)
        screen.readline("", timeout=0.01)
    os.write(sink, b"\n")
    line = screen.readline("")
    assert line is not None
    assert len(line) <= lineedit.MAX_LINE


def test_consoles_of_the_kernel_are_found(tmp_path: Path) -> None:
    (tmp_path / "class" / "tty" / "console").mkdir(parents=True)
    (tmp_path / "class" / "tty" / "console" / "active").write_text("ttyA ttyB ttyGone\n")
    for name in ("ttyA", "ttyB"):
        (tmp_path / name).touch()
    code = (
        f"from init.console import console\nscreen = console.open_consoles({str(tmp_path)!r}, {str(tmp_path)!r})\n"
        "screen.say('hello')\nprint('from print', flush=True)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(init.__file__).parents[1])
    assert (tmp_path / "ttyB").read_text() == "poolboot: hello\n"
    assert "from print" in (tmp_path / "ttyA").read_text()


# --- the desk and the house -------------------------------------------------------------------


def test_dry_run_of_no_disk_and_of_a_foreign_one(tmp_path: Path) -> None:
    image = tmp_path / "foreign.img"
    image.write_bytes(b"\x55\xaa" * 4096)
    command = [sys.executable, "-m", "init", "--dry-run"]
    cwd = Path(init.__file__).parents[1]
    done = subprocess.run([*command, "-a", str(image)], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 1
    assert "would stay at the rescue prompt: a btrfs filesystem or ZFS pool: no disk has one so far" in done.stdout
    done = subprocess.run([*command, "-a", str(tmp_path / "gone")], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 1
    assert done.stderr.startswith("poolboot: error: ")
    assert "Traceback" not in done.stderr


COSTLY = {
    "logging",
    "argparse",
    "dataclasses",
    "pathlib",
    "subprocess",
    "socket",
    "tempfile",
    "json",
    "ctypes",
    "shlex",
}
HOUSE = Path(init.__file__).parent


@pytest.mark.parametrize("path", sorted(HOUSE.rglob("*.py")), ids=lambda path: str(path.relative_to(HOUSE)))
def test_costly_modules_are_imported_only_where_they_are_needed(path: Path) -> None:
    """At the top of a module they would cost every boot a tenth of a second each on a slow machine."""
    for node in ast.parse(path.read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not COSTLY & {name.partition(".")[0] for name in names}


def test_one_version() -> None:
    project = tomllib.loads((Path(init.__file__).parents[1] / "pyproject.toml").read_text())
    assert project["project"]["version"] == init.VERSION
