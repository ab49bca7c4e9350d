"""build.py as a command: its errors are one line with a hint and exit status 1."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

import build
from artefacts import program
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
    with pytest.raises(BuildError, match=r"no static libpython3\.\d+\.a") as caught:
        program.build(tmp_path)
    assert "--dynamic" in caught.value.hint
    assert "apt install" in caught.value.hint
