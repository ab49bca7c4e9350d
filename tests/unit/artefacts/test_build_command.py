"""build.py as a command: its errors are one line with a hint and exit status 1."""

from __future__ import annotations

import ast
import errno
import os
import pwd
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import pytest
from places import PROJECT

import build
from artefacts import program, steps
from artefacts.steps import BuildError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kernel", "--kernel", "/nonexistent/vmlinuz"], "/nonexistent/vmlinuz: no such file"),
        (["kernel", "--modules", "/lib"], "--modules belongs to a --kernel"),
        (["kernel", "--kernel", "/etc/passwd", "--modules", "/nonexistent"], "no such directory"),
    ],
)
def test_errors(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main([*arguments, "--output", str(tmp_path)]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("build: error: ")
    assert message in errors
    assert not list(tmp_path.glob("vmlinuz*"))


def test_own_kernel_is_installed_as_it_is(tmp_path: Path) -> None:
    kernel = tmp_path / "bzImage"
    kernel.write_bytes(b"kernel image")
    assert build.main(["kernel", "--kernel", str(kernel), "--output", str(tmp_path / "out")]) == 0
    (installed,) = (tmp_path / "out").glob("vmlinuz*")
    assert installed.read_bytes() == b"kernel image"


def test_missing_static_libpython_names_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: str(tmp_path))
    monkeypatch.setattr(sys, "version_info", (3, 13, 0, "final", 0))  # later ones are refused before
    with pytest.raises(BuildError, match=r"no static libpython3\.\d+\.a") as caught:
        program.build(tmp_path)
    assert "--dynamic" in caught.value.hint
    assert "apt install" in caught.value.hint


@pytest.mark.parametrize(("version", "static"), [((3, 14), True), ((3, 15), True), ((3, 15), False)])
def test_a_python_that_is_too_new_is_named_before_anything_is_compiled(
    version: tuple[int, int], static: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
    with pytest.raises(BuildError, match=rf"Python 3\.{version[1]}") as caught:
        program.build(tmp_path, static=static)
    assert "3.11 to 3.13 (3.14 with --dynamic)" in caught.value.hint
    assert ("build with --dynamic" in caught.value.hint) == (version == (3, 14))
    assert not list(tmp_path.iterdir())


def test_a_python_that_is_too_old_says_so_in_one_line() -> None:
    for name in ("build.py", "artefacts/__init__.py"):
        ast.parse((PROJECT / name).read_text(), feature_version=(3, 8))
    code = "import sys; sys.version_info = (3, 9, 2); import artefacts"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("build: error: ")
    assert "is Python 3.9, which is too old: use Python 3.11 to 3.13" in line


def test_a_python_without_our_packages_says_so_in_one_line() -> None:
    command = [sys.executable, "-S", "build.py", "program"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("run ./setup.sh, then use .venv/bin/python")


def test_a_command_that_fails_says_what_that_means(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        steps.run(
            ["sh", "-c", "echo cut; exit 4"], log=tmp_path / "log", failure="it could not be fetched", hint="again"
        )
    first, *rest = caught.value.message.splitlines()
    assert first.startswith("it could not be fetched: sh ended with status 4; the end of ")
    assert rest[-1].strip() == "cut"


def test_a_full_disk_is_named_whoever_met_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full refuses as a full disk does."""
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    with pytest.raises(BuildError, match="no room on the disk for cp: ") as caught:
        steps.run(["cp", "/etc/hostname", "/dev/full"], log=tmp_path / "first.log", hint="apt")
    assert "POOLBOOT_CACHE" in caught.value.hint
    monkeypatch.setattr(steps, "_LITTLE", 1 << 62)
    with pytest.raises(BuildError, match=r"no room on the disk for sh: .* is full"):
        steps.run(["sh", "-c", "exit 1"], log=tmp_path / "second.log")
    with pytest.raises(OSError, match="No space left") as refused, open("/dev/full", "wb", buffering=0) as full:
        full.write(b"x")
    assert "no room on the disk: No space left on device" in steps.explain(refused.value).message


def test_what_belongs_to_somebody_else_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "cache" / "objects"
    error = PermissionError(errno.EACCES, "Permission denied", str(place))
    assert steps.explain(error).message == f"{place} cannot be used: Permission denied"
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    owner = pwd.getpwuid(tmp_path.stat().st_uid).pw_name
    assert steps.explain(error).message.endswith(f"({tmp_path} belongs to {owner})")
    assert "chown" in steps.explain(error).hint


def test_two_builds_may_write_one_file(tmp_path: Path) -> None:
    target = tmp_path / "vmlinuz"
    wholes = [bytes([number]) * 3_000_000 for number in range(4)]
    writers = [threading.Thread(target=steps.replace, args=(target, whole)) for whole in wholes for _ in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert not target.exists() or target.read_bytes() in wholes
    assert [path.name for path in tmp_path.iterdir()] == ["vmlinuz"]


def test_a_file_that_cannot_take_its_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").mkdir()
    with pytest.raises(IsADirectoryError):
        steps.replace(tmp_path / "vmlinuz", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["vmlinuz"]
