"""The boot image as a whole: the same bytes twice, what users add, and the size table."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from artefacts import initramfs
from artefacts.debian import Kernel
from artefacts.initramfs import Include, parse_include
from artefacts.program import Program
from artefacts.steps import BuildError

RELEASE = "6.1.0-test"


@pytest.fixture
def program(tmp_path: Path) -> Program:
    binary = tmp_path / "program"
    code = b"int main(void) { return 0; }\n"
    subprocess.run(["gcc", "-static", "-x", "c", "-", "-o", binary], input=code, check=True)
    return Program(binary, None)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    modules = tmp_path / "lib/modules" / RELEASE
    (modules / "kernel").mkdir(parents=True)
    for name, depends in (("virtio_blk", "virtio"), ("virtio", ""), ("zfs", "spl"), ("spl", "")):
        code = (
            f'__attribute__((section(".modinfo"), used)) static const char i[] = "depends={depends}\\0name={name}";\n'
        )
        target = modules / "kernel" / f"{name}.ko"
        subprocess.run(["gcc", "-x", "c", "-", "-c", "-o", target], input=code.encode(), check=True)
    (tmp_path / "vmlinuz").write_bytes(b"kernel")
    return Kernel(tmp_path / "vmlinuz", modules, RELEASE)


def listing(image: Path) -> dict[str, str]:
    """Name -> type and permissions, by zstd and GNU cpio."""
    packed = subprocess.run(["zstd", "-dc", image], capture_output=True, check=True).stdout
    lines = subprocess.run(["cpio", "-itvn", "--quiet"], input=packed, capture_output=True, check=True).stdout
    found = {}
    for line in lines.decode().splitlines():
        words = line.split(" -> ")[0].split()
        found[words[-1]] = words[0]
    return found


def test_the_same_input_makes_the_same_bytes(program: Program, kernel: Kernel, tmp_path: Path) -> None:
    images = []
    for name in ("one", "two"):
        image, _ = initramfs.build(tmp_path / name, program, kernel, RELEASE, [])
        images.append(image.read_bytes())
    assert images[0] == images[1]


def test_what_every_start_needs_is_there(program: Program, kernel: Kernel, tmp_path: Path) -> None:
    image, parts = initramfs.build(tmp_path / "out", program, kernel, RELEASE, [])
    found = listing(image)
    assert found["init"] == "-rwxr-xr-x"
    assert found["proc/self/exe"] == "lrwxrwxrwx"
    assert found["dev/console"] == "crw-------"
    assert found["dev/urandom"] == found["dev/null"] == "crw-rw-rw-"
    assert f"lib/modules/{RELEASE}/kernel/virtio_blk.ko" in found
    assert "lib/modules/poolboot.modules" in found
    assert f"lib/modules/{RELEASE}/kernel/zfs.ko" not in found, "nobody asked for it"
    assert sum(part.size for part in parts) > program.binary.stat().st_size


def test_a_program_brings_its_libraries(program: Program, tmp_path: Path) -> None:
    image, parts = initramfs.build(tmp_path / "out", program, None, "", [Include("/usr/bin/zstd", "/bin/")])
    found = listing(image)
    assert found["bin/zstd"] == "-rwxr-xr-x"
    assert any(name.endswith("/libc.so.6") for name in found)
    assert any("/ld-linux" in name for name in found)
    assert any(part.what == "/bin/zstd and its libraries" for part in parts)


def test_a_module_by_name_brings_its_dependencies(program: Program, kernel: Kernel, tmp_path: Path) -> None:
    image, _ = initramfs.build(tmp_path / "out", program, kernel, RELEASE, [Include("zfs", "")])
    assert f"lib/modules/{RELEASE}/kernel/spl.ko" in listing(image)


def test_a_module_by_path_brings_its_dependencies(program: Program, kernel: Kernel, tmp_path: Path) -> None:
    elsewhere = tmp_path / "own-zfs.ko"
    elsewhere.write_bytes((kernel.modules / "kernel/zfs.ko").read_bytes())
    image, _ = initramfs.build(tmp_path / "out", program, kernel, RELEASE, [Include(str(elsewhere), "")])
    found = listing(image)
    assert f"lib/modules/{RELEASE}/extra/own-zfs.ko" in found
    assert f"lib/modules/{RELEASE}/kernel/spl.ko" in found


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("nothing", "", "has no module nothing"),
        ("./nothing", "", "no such file"),
        ("gone.ko", "", "has no module gone"),
        ("/usr/bin/zstd", "/init/below", "no directory"),
    ],
)
def test_what_cannot_be_included_is_one_error(
    program: Program, kernel: Kernel, tmp_path: Path, source: str, target: str, message: str
) -> None:
    with pytest.raises(BuildError, match=message):
        initramfs.build(tmp_path / "out", program, kernel, RELEASE, [Include(source, target)])


def test_a_kernel_without_modules_takes_none(program: Program, tmp_path: Path) -> None:
    image, _ = initramfs.build(tmp_path / "out", program, None, "", [])
    assert not [name for name in listing(image) if name.startswith("lib")]
    with pytest.raises(BuildError, match="no modules for this kernel"):
        initramfs.build(tmp_path / "out", program, None, "", [Include("zfs", "")])


def test_over_budget_is_said(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(initramfs, "BUDGET", 1000)
    initramfs.build(tmp_path / "out", program, None, "", [])
    assert "the budget is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "include"),
    [
        ("/bin/sh", Include("/bin/sh", "")),
        ("/bin/sh:/usr/bin/sh", Include("/bin/sh", "/usr/bin/sh")),
        ("/a:b:/c/", Include("/a:b", "/c/")),
        ("zfs", Include("zfs", "")),
        ("odd:name", Include("odd:name", "")),
    ],
)
def test_include_options(text: str, include: Include) -> None:
    assert parse_include(text) == include
