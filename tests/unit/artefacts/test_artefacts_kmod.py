"""Kernel modules: .modinfo, load order, the table, as the init reads it.  The modules are objects that gcc made."""

from __future__ import annotations

import gzip
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from artefacts import kmod
from artefacts.steps import BuildError
from init.machine import modules as reader

RELEASE = "6.1.0-test"
Maker = Callable[..., Path]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "lib/modules" / RELEASE


@pytest.fixture
def make(directory: Path) -> Maker:
    def make(path: str, *info: str, pack: Callable[[bytes], bytes] | None = None) -> Path:
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{line}\\0" for line in info)
        code = f'__attribute__((section(".modinfo"), used)) static const char info[] = "{text}";\n'
        subprocess.run(["gcc", "-x", "c", "-", "-c", "-o", target], input=code.encode(), check=True)
        if pack:
            target.write_bytes(pack(target.read_bytes()))
        return target

    return make


def names(closure: kmod.Closure) -> list[str]:
    return [module.name for module in closure.modules]


def test_dependencies_come_first_and_once(make: Maker, directory: Path) -> None:
    make("kernel/virtio.ko", "depends=virtio_ring", "name=virtio")
    make("kernel/virtio_ring.ko", "depends=", "name=virtio_ring")
    make("kernel/virtio_blk.ko", "depends=virtio,virtio-ring", "name=virtio_blk")
    found = kmod.Modules(directory).closure(["virtio-blk", "virtio"])
    assert names(found) == ["virtio_ring", "virtio", "virtio_blk"]


def test_builtin_and_missing_modules_are_told_apart(make: Maker, directory: Path) -> None:
    make("kernel/sd_mod.ko", "depends=scsi_mod")
    (directory / "modules.builtin").write_text("kernel/drivers/scsi/scsi_mod.ko\nkernel/drivers/nvme/host/nvme.ko\n")
    found = kmod.Modules(directory).closure(["sd_mod", "nvme", "ahci"])
    assert (names(found), found.builtin, found.missing) == (["sd_mod"], ("nvme",), ("ahci",))
    with pytest.raises(BuildError, match="has no module ahci"):
        kmod.Modules(directory).closure(["ahci"], required=True)


def test_a_dependency_that_is_nowhere_is_an_error(make: Maker, directory: Path) -> None:
    make("kernel/sd_mod.ko", "depends=scsi_mod")
    with pytest.raises(BuildError, match="sd_mod depends on scsi_mod"):
        kmod.Modules(directory).closure(["sd_mod"])


def test_soft_dependencies_come_along_only_when_there_are_any(make: Maker, directory: Path) -> None:
    make("kernel/uas.ko", "depends=", "softdep=pre: crc32c nothing post: late")
    make("kernel/crc32c.ko", "depends=")
    make("kernel/late.ko", "depends=")
    found = kmod.Modules(directory).closure(["uas"])
    assert names(found) == ["crc32c", "uas"]
    assert kmod.table(found.modules, RELEASE).splitlines()[1].split("\t")[1] == "", "a soft one is no dependency"


def test_a_cycle_ends(make: Maker, directory: Path) -> None:
    make("kernel/a.ko", "depends=b")
    make("kernel/b.ko", "depends=a")
    assert sorted(names(kmod.Modules(directory).closure(["a"]))) == ["a", "b"]


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [(".xz", lzma.compress), (".gz", gzip.compress), (".zst", zstandard.compress)],
)
def test_packed_modules_are_unpacked(make: Maker, directory: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    make(f"kernel/fuse.ko{suffix}", "depends=", "alias=fs-fuse", pack=pack)
    module = kmod.Modules(directory).module("fuse")
    assert module.path == "kernel/fuse.ko"
    assert module.data.startswith(b"\x7fELF")
    assert module.aliases == ("fs-fuse",)


@pytest.mark.parametrize("suffix", [".xz", ".gz", ".zst"])
def test_damaged_packing_is_one_error(make: Maker, directory: Path, suffix: str) -> None:
    make(f"kernel/fuse.ko{suffix}", pack=lambda data: b"\x00garbage" + data[:50])
    with pytest.raises(BuildError, match=r"fuse\.ko"):
        kmod.Modules(directory).module("fuse")


@pytest.mark.parametrize("data", [b"", b"text", b"\x7fELF" + bytes(100)])
def test_what_is_no_module_is_one_error(data: bytes) -> None:
    with pytest.raises(BuildError, match="is not a kernel module"):
        kmod.parse("odd", "odd.ko", data)


def test_the_init_reads_the_table(make: Maker, directory: Path) -> None:
    make("kernel/virtio.ko", "depends=")
    make("kernel/virtio-blk.ko", "depends=virtio", "alias=virtio:d00000002v*", "alias=two words", "alias=block-9")
    table = kmod.table(kmod.Modules(directory).closure(["virtio_blk"]).modules, RELEASE)
    first, second = reader.parse(table)
    assert first == ("virtio", f"/lib/modules/{RELEASE}/kernel/virtio.ko", (), ())
    assert second == ("virtio_blk", f"/lib/modules/{RELEASE}/kernel/virtio-blk.ko", ("virtio",),
                      ("virtio:d00000002v*", "block-9"))  # fmt: skip
    loaded: list[str] = []
    modules = reader.Modules(table, load=loaded.append)
    assert modules.load("virtio_blk")
    assert loaded == [first.path, second.path]
