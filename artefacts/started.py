"""Whether a program starts: each one is run on a small pool before the build hands it out."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import zstandard

from artefacts import PYTHONS, toolchain
from artefacts.steps import BuildError, short, warn
from artefacts.toolchain import Toolchain

POOL = Path(__file__).with_name("start.btrfs.zst")
"""A btrfs of one disk with one system on it; qemu/start_pool.py makes it."""
POOL_SIZE = 32 << 20  # bytes
EXPECTED = "would boot start:/6.12.1, "
TIMEOUT = 300.0  # seconds: on a busy machine, and emulated

_EMULATORS = {"x86_64": "qemu-x86_64", "arm64": "qemu-aarch64"}


def check(binary: Path, chain: Toolchain) -> None:
    """Run ``binary`` as at a desk, with what it needs around it, and compare what it says of the pool.

    One for another architecture runs under QEMU's user mode where that is installed, else there is a warning.
    Raises BuildError that says how the program ended.
    """
    emulator: list[str | Path] = []
    if chain.architecture != toolchain.machine():
        found = _emulator(chain.architecture)
        if found is None:
            name = _EMULATORS[chain.architecture]
            warn(f"{short(binary)} was not started: there is no {name} (apt install qemu-user)")
            return
        emulator = [found]
    with tempfile.TemporaryDirectory(prefix="poolboot-start-") as scratch:
        image = Path(scratch, "pool")
        _unpack(image)
        command = [*emulator, binary.resolve(), "--dry-run", "--machine", "x86_64", "-a", image]
        _judge(binary, *_run(binary, command, scratch))


def _emulator(architecture: str) -> str | None:
    name = _EMULATORS[architecture]
    return shutil.which(name) or shutil.which(f"{name}-static")


def _unpack(image: Path) -> None:
    """The pool as a sparse file."""
    data = zstandard.ZstdDecompressor().decompress(POOL.read_bytes(), max_output_size=POOL_SIZE)
    step, zeros = 1 << 16, bytes(1 << 16)
    with image.open("wb") as file:
        for start in range(0, len(data), step):
            if (piece := data[start : start + step]) != zeros:
                file.seek(start)
                file.write(piece)
        file.truncate(len(data))


def _run(binary: Path, command: list[str | Path], scratch: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr.  No environment: init has none either."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, cwd=scratch, env={}, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise BuildError(_first_words(binary, f"did not end within {TIMEOUT:g} s"), _hint()) from None
    except PermissionError:
        raise BuildError(
            f"{short(binary)} cannot be run to see whether it starts: Permission denied",
            "is the directory mounted noexec? --output DIR builds elsewhere",
        ) from None
    except OSError as error:
        raise BuildError(_first_words(binary, f"cannot be run: {error.strerror}"), _hint()) from None
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def _judge(binary: Path, status: int, out: str, complaints: str) -> None:
    if status < 0:
        raise BuildError(_first_words(binary, f"died of {_signal(-status)}"), _hint())
    last = next((line for line in reversed(complaints.splitlines()) if line.strip()), "")
    if status:
        raise BuildError(_first_words(binary, f"ended with status {status}{last and f': {last}'}"), _hint())
    told = [line for line in out.splitlines() if line.startswith("would ")]
    if not any(line.startswith(EXPECTED) for line in told):
        said = told[0] if told else last or "nothing"
        raise BuildError(_first_words(binary, f"said {said!r} instead of {EXPECTED!r}"), _hint())


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _first_words(binary: Path, what: str) -> str:
    made = f"Python {platform.python_version()}, Nuitka {importlib.metadata.version('nuitka')}"
    return f"the program does not start: {short(binary)} ({made}), run on a small pool, {what}"


def _hint() -> str:
    return (
        f"bring this system's packages up to date, or use Python {PYTHONS}, which are known to work; "
        "if it is one of these, report this with build/logs/nuitka.log"
    )
