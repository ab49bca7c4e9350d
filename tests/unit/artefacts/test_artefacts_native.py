"""C modules: the objects and their names, and the system call primitive in action."""

from __future__ import annotations

import errno
import importlib.machinery
import importlib.util
import os
import subprocess
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

from artefacts import native
from artefacts.native import Extension

GETPID, NANOSLEEP, OPENAT, PIPE2, WRITE = (
    {"x86_64": (39, 35, 257, 293, 1), "aarch64": (172, 101, 56, 59, 64)}[os.uname().machine]
)  # fmt: skip


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "log"


@pytest.fixture(scope="module")
def sysc(tmp_path_factory: pytest.TempPathFactory, log: Path) -> ModuleType:
    """init/machine/_sysc.c as a shared module."""
    work = tmp_path_factory.mktemp("sysc")
    native.link(Extension("_sysc", "PyInit__sysc", (native.PROJECT / "init/machine/_sysc.c",), ""), log, work)
    loader = importlib.machinery.ExtensionFileLoader("_sysc", str(work / "module.so"))
    spec = importlib.util.spec_from_loader("_sysc", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_a_call_without_arguments(sysc: ModuleType) -> None:
    assert sysc.syscall(GETPID) == os.getpid()


def test_bytes_are_strings_and_failures_are_oserrors(sysc: ModuleType) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        sysc.syscall(OPENAT, -100, b"/nonexistent", 0, 0)
    assert caught.value.errno == errno.ENOENT
    os.close(sysc.syscall(OPENAT, -100, b"/", os.O_RDONLY, 0))  # -100: AT_FDCWD


def test_the_kernel_writes_into_a_bytearray(sysc: ModuleType) -> None:
    pair = bytearray(8)
    assert sysc.syscall(PIPE2, pair, 0) == 0
    ends = [int.from_bytes(pair[at : at + 4], "little") for at in (0, 4)]
    assert sysc.syscall(WRITE, ends[1], memoryview(b"through"), 4) == 4
    assert os.read(ends[0], 10) == b"thro"
    for end in ends:
        os.close(end)


def test_none_is_a_null_pointer(sysc: ModuleType) -> None:
    with pytest.raises(OSError, match="Bad address"):
        sysc.syscall(PIPE2, None, 0)


@pytest.mark.parametrize("value", ["text", 1.5, object()])
def test_other_types_are_refused(sysc: ModuleType, value: object) -> None:
    with pytest.raises(TypeError):
        sysc.syscall(GETPID, b"a buffer before it", value)


def test_too_few_and_too_many_arguments(sysc: ModuleType) -> None:
    for arguments in ((), (GETPID, 1, 2, 3, 4, 5, 6, 7)):
        with pytest.raises(TypeError, match="up to six"):
            sysc.syscall(*arguments)


def test_words_are_64_bits(sysc: ModuleType) -> None:
    for value in (2**64 - 1, 2**63, -1, -(2**63)):
        assert sysc.syscall(GETPID, value) == os.getpid()
    for value in (2**64, -(2**63) - 1):
        with pytest.raises(OverflowError):
            sysc.syscall(GETPID, value)


def test_other_threads_run_meanwhile(sysc: ModuleType) -> None:
    request = (0).to_bytes(8, "little") + (300_000_000).to_bytes(8, "little")
    sleeper = threading.Thread(target=sysc.syscall, args=(NANOSLEEP, request, None))
    start = time.monotonic()
    sleeper.start()
    rounds = 0
    while sleeper.is_alive():
        rounds += 1
        time.sleep(0.01)
    assert time.monotonic() - start >= 0.3
    assert rounds > 2


def test_the_archive_has_one_global_symbol_a_module(tmp_path: Path, log: Path) -> None:
    """Two modules may define the same names, and their init functions may have names of libpython's."""
    modules = []
    for number in (1, 2):
        source = tmp_path / f"{number}.c"
        source.write_text(f"int helper(void) {{ return {number}; }}\nint PyInit_zlib(void) {{ return helper(); }}\n")
        modules.append(Extension(f"a.b{number}", "PyInit_zlib", (source,), native.digest([source])))
    made = native.archive(modules, tmp_path / "out", log)
    symbols = subprocess.run(["nm", "-g", "--defined-only", made], capture_output=True, text=True, check=True).stdout
    assert sorted(line.split()[2] for line in symbols.splitlines() if " T " in line) == [
        "PyInit_poolboot_a_b1",
        "PyInit_poolboot_a_b2",
    ]
    assert 'PyImport_AppendInittab("a.b1", PyInit_poolboot_a_b1);' in (tmp_path / "out/register.c").read_text()


def test_the_sanitizers_see_what_compiled_modules_do(log: Path) -> None:
    """Every compiled module of ours calls them, and none brings a copy of their library."""
    made = native.build_sanitized(log)
    assert set(made) == {module.name for module in native.cython_extensions(log)}
    for name, library in made.items():
        symbols = subprocess.run(["nm", "-D", library], capture_output=True, text=True, check=True).stdout
        assert " U __asan_report_load1" in symbols, name
        assert " U __ubsan_handle_" in symbols, name
        needed = subprocess.run(["objdump", "-p", library], capture_output=True, text=True, check=True).stdout
        assert "libasan" not in needed
        assert "libubsan" not in needed
