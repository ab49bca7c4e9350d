"""How a bare root is entered, and what of a checkout goes into it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import bareroot
import pytest
from bareroot import Bind

from artefacts import cache
from artefacts.steps import BuildError


def test_a_checkout_is_what_git_sees_uncommitted_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-C", tmp_path, "-c", "user.name=x", "-c", "user.email=x@example", *words], check=True)

    git("init", "-q")
    for name in ("kept", "gone", "changed"):
        (tmp_path / name).write_text(name)
    (tmp_path / ".gitignore").write_text("/build\n")
    (tmp_path / "link").symlink_to("nowhere")
    git("add", ".")
    git("commit", "-qm", "first")
    (tmp_path / "gone").unlink()
    (tmp_path / "changed").write_text("new")
    (tmp_path / "added").write_text("added")
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "product").touch()
    monkeypatch.setattr(bareroot, "PROJECT", tmp_path)
    assert [str(path) for path in bareroot.files()] == [".gitignore", "added", "changed", "kept", "link"]


def test_a_tree_without_git_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bareroot, "PROJECT", tmp_path)
    with pytest.raises(BuildError, match="not a git checkout") as error:
        bareroot.files()
    assert "clone" in error.value.hint


def test_the_script_that_enters_quotes_paths_and_keeps_only_the_variables_named() -> None:
    binds = [Bind(Path("/with space"), "/in side"), Bind(Path("/store"), "/cache", readonly=False)]
    script = bareroot.enter_script(Path("/the root"), binds, ["HOME", "PIP_CERT"])
    assert "cd '/the root'" in script
    assert "mount --bind '/with space' './in side'" in script
    assert "mount -o remount,bind,ro './in side'" in script
    assert "remount,bind,ro ./cache" not in script
    assert 'env -i HOME="$HOME" PIP_CERT="$PIP_CERT" ' in script
    assert '"$@"; exit $?' in script  # never process 1: a boot program would take itself for a machine's init
    subprocess.run(["sh", "-n", "-c", script], check=True)


def test_roots_of_runs_that_were_killed_are_removed_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bareroot, "_outside", list)
    for name in (".root-dead", ".root-alive", "ready-trixie"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.lock").touch()
    with cache.alone(tmp_path / ".root-alive.lock"):
        bareroot._sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".root-alive", ".root-alive.lock", "ready-trixie", "ready-trixie.lock",
    ]  # fmt: skip
