"""The boot image as a whole: which kernel goes with the program, and both made side by side."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from artefacts import debian, initramfs, kernel_build, program, toolchain
from artefacts.debian import Kernel
from artefacts.steps import BuildError, replace
from artefacts.together import both

SLIM, DEBIAN = "slim", "debian"
_NO_MODULES = Path("/nonexistent")


class Wish(NamedTuple):
    """The bootstrap kernel that somebody wants."""

    kernel: Path = Path(SLIM)
    """SLIM, DEBIAN or a file."""
    modules: Path | None = None
    """The directory ``lib/modules/RELEASE`` of a file."""
    suite: str = "bookworm"
    """The Debian that the first two are from."""
    package: str = "linux-image-cloud-amd64"
    """Of DEBIAN."""
    architecture: str = toolchain.machine()
    """Of SLIM."""


class Image(NamedTuple):
    """A finished boot image."""

    vmlinuz: Path
    initramfs: Path
    parts: list[initramfs.Part]
    """What is in the initramfs."""


def build(output: Path, wish: Wish, includes: Sequence[initramfs.Include] = (), *, static: bool = True) -> Image:
    """Bring ``output/vmlinuz``, ``output/init`` and ``output/initramfs.cpio.zst`` up to date.  Raises BuildError."""
    chain = toolchain.find(wish.architecture)
    made, chosen = both(partial(program.build, output, static=static, chain=chain), partial(kernel, wish))
    carried = chosen if chosen.modules.is_dir() else None
    packed, parts = initramfs.build(output, made, carried, chosen.release, includes)
    return Image(install_kernel(chosen, output), packed, parts)


def kernel(wish: Wish) -> Kernel:
    """The kernel that is wished for, made or fetched when it is not there.  Raises BuildError."""
    chosen = str(wish.kernel)
    if chosen in (SLIM, DEBIAN) and wish.modules is not None:
        raise BuildError("--modules belongs to a --kernel", "give both, or neither")
    if chosen == SLIM:
        built = kernel_build.build(wish.suite, wish.architecture)
        return Kernel(built.image, _NO_MODULES, built.release)
    if chosen == DEBIAN:
        return debian.kernel(wish.suite, wish.package)
    if not wish.kernel.is_file():
        raise BuildError(f"--kernel {wish.kernel}: no such file")
    if wish.modules is None:
        return Kernel(wish.kernel, _NO_MODULES, "")
    modules = wish.modules.resolve()
    if not modules.is_dir():
        raise BuildError(f"--modules {wish.modules}: no such directory", "it is lib/modules/RELEASE")
    return Kernel(wish.kernel, modules, modules.name)


def install_kernel(kernel: Kernel, output: Path) -> Path:
    """Bring ``output/vmlinuz`` up to date."""
    data = kernel.vmlinuz.read_bytes()
    target = output / "vmlinuz"
    if not target.exists() or target.read_bytes() != data:
        replace(target, data)
    return target
