"""What ring 0 takes for proved: what it saw itself, of these very inputs."""

from __future__ import annotations

from pathlib import Path

import bareroot
import pytest
import ring
from bareroot import Root
from releases import RELEASES

from artefacts.steps import BuildError


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of three files, and an empty cache."""
    here = tmp_path / "checkout"
    (here / "init").mkdir(parents=True)
    for name in ("setup.sh", "pyproject.toml", "init/main.py"):
        (here / name).write_text('packages="gcc make"\n')
    monkeypatch.setenv("POOLBOOT_CACHE", str(tmp_path / "cache"))
    for module in (bareroot, ring):
        monkeypatch.setattr(module, "PROJECT", here)
    monkeypatch.setattr(bareroot, "files", lambda: sorted(p.relative_to(here) for p in here.rglob("*") if p.is_file()))
    return here


def test_a_proof_is_for_its_inputs_and_a_failure_is_none(checkout: Path) -> None:
    calls = []

    def prove() -> int:
        calls.append(len(calls))
        if len(calls) == 1:
            raise BuildError("a test failed")
        return len(calls)

    steps = ring.Ring(RELEASES[0])
    with pytest.raises(BuildError):
        steps._proved("unit-test", prove, ["these"])
    assert [steps._proved("unit-test", prove, [inputs]) for inputs in ("these", "these", "others")] == [2, 2, 3]


def test_what_a_step_depends_on_is_the_content_of_files(checkout: Path) -> None:
    def identities() -> list[list[object]]:
        steps = ring.Ring(RELEASES[0])
        return [steps._identity(), steps._identity("init")]

    everything, program = identities()
    (checkout / "note").write_text("new")
    assert identities()[0] != everything
    assert identities()[1] == program
    (checkout / "init/main.py").chmod(0o755)
    assert identities()[1] != program
    (checkout / "init/main.py").chmod(0o644)
    (checkout / "setup.sh").write_text('packages="gcc make"\n# another word\n')
    assert identities()[1] == program
    (checkout / "setup.sh").write_text('packages="gcc make file"\n')
    assert identities()[1] != program


@pytest.mark.parametrize("change", ["changed", "added", "removed"])
def test_a_checkout_that_changes_under_its_copy_is_refused(checkout: Path, tmp_path: Path, change: str) -> None:
    steps = ring.Ring(RELEASES[0])
    if change == "removed":
        (checkout / "init/main.py").unlink()
    else:
        (checkout / ("init/main.py" if change == "changed" else "more")).write_text("else")
    root = Root(tmp_path / "root", tmp_path / "store")
    root.put_checkout()
    with pytest.raises(BuildError, match="changed while ring 0 started"):
        steps._check(root)


def test_a_copy_is_the_checkout(checkout: Path, tmp_path: Path) -> None:
    steps = ring.Ring(RELEASES[0])
    root = Root(tmp_path / "root", tmp_path / "store")
    root.put_checkout()
    steps._check(root)


def test_a_closing_line_tells_how_many_passed() -> None:
    lines = "tests ...\n=========== 2209 passed, 1361 deselected, 3 warnings in 304.11s (0:05:04) ===========\n"
    assert ring._CLOSING.findall(lines) == ["2209"]
    assert not ring._CLOSING.findall("===== no tests ran in 0.01s =====\n===== 1 failed in 2.00s =====\n")
