"""No program leaves the build that did not start: what is said of broken ones, and where they end up."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import pytest
from places import PROJECT

from artefacts import program, started, toolchain
from artefacts.steps import BuildError
from artefacts.toolchain import NATIVE, Toolchain

GOOD = f'#!/bin/sh\necho "poolboot 0.1.0"\necho "{started.EXPECTED}as it is the newest"\n'


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_what_is_expected_is_what_the_sources_say(tmp_path: Path) -> None:
    run = script(tmp_path / "init", f'#!/bin/sh\ncd {PROJECT} && exec {sys.executable} -m init "$@"\n')
    started.check(run, NATIVE)


def test_the_pool_has_work_for_the_c_modules(tmp_path: Path) -> None:
    """xxhash64 over all blocks and extents in zstd; names are found by crc32c in any btrfs."""
    started._unpack(tmp_path / "pool")
    superblock = (tmp_path / "pool").read_bytes()[0x10000:0x11000]
    assert superblock[0x40:0x48] == b"_BHRfS_M"
    assert int.from_bytes(superblock[0xBC:0xC4], "little") & 1 << 4  # incompat_flags: COMPRESS_ZSTD
    assert int.from_bytes(superblock[0xC4:0xC6], "little") == 1  # csum_type: xxhash


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("#!/bin/sh\nkill -SEGV $$\n", "died of SIGSEGV"),
        ("#!/bin/sh\necho first >&2\necho why >&2\nexit 3\n", "ended with status 3: why"),
        ("#!/bin/sh\nexit 3\n", "ended with status 3"),
        ("#!/bin/sh\necho would stay at the rescue prompt\n", "said 'would stay at the rescue prompt' instead of"),
        ("#!/bin/sh\n", "said 'nothing' instead of"),
        ("#!/nonexistent/loader\n", "cannot be run: No such file or directory"),
        ("", "cannot be run: Exec format error"),
    ],
)
def test_what_a_broken_program_did_is_named(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        started.check(script(tmp_path / "init", text), NATIVE)
    assert told in caught.value.message
    assert "\n" not in caught.value.message
    assert f"Python {platform.python_version()}, Nuitka 4." in caught.value.message
    assert "3.11 to 3.13" in caught.value.hint


def test_one_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(started, "TIMEOUT", 0.5)
    with pytest.raises(BuildError, match=r"did not end within 0\.5 s"):
        started.check(script(tmp_path / "init", "#!/bin/sh\nexec sleep 60\n"), NATIVE)


def test_another_architecture_needs_an_emulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = next(name for name in toolchain.TRIPLETS if name != toolchain.machine())
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    started.check(script(tmp_path / "init", ""), Toolchain(other, "prefix-"))
    assert "was not started" in capsys.readouterr().err

    script(tools / started._EMULATORS[other], '#!/bin/sh\nexec /bin/sh "$@"\n')
    started.check(script(tmp_path / "init", GOOD), Toolchain(other, "prefix-"))
    with pytest.raises(BuildError, match="died of SIGILL"):
        started.check(script(tmp_path / "init", "kill -ILL $$\n"), Toolchain(other, "prefix-"))


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build whose compiler leaves what is in "next" as program, static or not."""
    monkeypatch.setattr(program.native, "extensions", lambda log: [])
    monkeypatch.setattr(program.native, "archive", lambda *rest: None)
    monkeypatch.setattr(program.elf, "check_static", lambda path: None)
    monkeypatch.setattr(program, "_check_interpreter", lambda *rest: None)
    monkeypatch.setattr(program, "_identity", lambda *rest: (tmp_path / "sources").read_text())
    monkeypatch.setattr(program, "run", lambda command, **rest: None)  # strip

    def compiled(*rest: object) -> Path:
        (tmp_path / "dist").mkdir(exist_ok=True)
        script(tmp_path / "dist" / "init", (tmp_path / "next").read_text())
        return tmp_path / "dist"

    monkeypatch.setattr(program, "_nuitka", compiled)
    return tmp_path


@pytest.mark.parametrize("static", [True, False])
def test_a_refused_program_is_not_handed_out_now_or_later(build: Path, static: bool) -> None:
    output = build / "out"
    place = output / ("init" if static else "init.dist")
    (build / "sources").write_text("broken")
    (build / "next").write_text("#!/bin/sh\nkill -SEGV $$\n")
    for _ in range(2):
        with pytest.raises(BuildError, match="SIGSEGV"):
            program.build(output, static=static)
        assert not place.exists()
        assert place.with_name(f"{place.name}.refused").exists()
        assert not list(output.glob("*.key"))
    (build / "next").write_text(GOOD)
    assert program.build(output, static=static).binary.read_text() == GOOD


@pytest.mark.parametrize("static", [True, False])
def test_a_program_that_no_longer_starts_is_made_anew(
    build: Path, static: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    (build / "sources").write_text("same")
    (build / "next").write_text(GOOD)
    made = program.build(build / "out", static=static)
    assert program.build(build / "out", static=static) == made
    assert "is up to date" in capsys.readouterr().out
    os.truncate(made.binary, 0)
    assert program.build(build / "out", static=static).binary.read_text() == GOOD
    assert "is made anew" in capsys.readouterr().err
