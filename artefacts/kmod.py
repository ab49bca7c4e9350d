"""Kernel modules for the initramfs: which ones, what they depend on, in which order, and the table the init reads.

**The table** is ``/lib/modules/poolboot.modules`` in the initramfs, UTF-8, one line a module, three fields separated by
tabs::

    path<TAB>dependency,dependency...<TAB>alias alias...

``path`` is absolute in the initramfs and ends in ``.ko``; the module's name is its last part without ``.ko`` and with
``_`` for ``-``.  The dependencies are names of modules that have a line of their own further up: who loads the lines
from top to bottom never loads a module before what it needs.  The aliases are shell patterns (``*``, ``?``, ``[...]``)
that match the ``modalias`` files of sysfs, and names under which the kernel may ask for the module (``fs-fuse``).  Both
fields may be empty.  Files are not compressed and keep their signatures.
"""

from __future__ import annotations

import gzip
import lzma
import re
import zlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import zstandard
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from artefacts.steps import BuildError

TABLE = "lib/modules/poolboot.modules"

# What a machine needs to reach its disks, and the keyboard at its rescue prompt.  Kernels differ in what they have
# built in and what they lack (a cloud kernel has no USB): missing ones are reported, not fatal.
STORAGE = {
    "virtio": "virtio_pci virtio_mmio virtio_blk virtio_scsi",
    "NVMe": "nvme",
    "SATA and IDE": "ahci ata_piix ata_generic pata_acpi sata_sil24 sata_nv sata_via",
    "SCSI": "sd_mod mpt3sas mpi3mr megaraid_sas smartpqi hpsa aacraid mptspi mptsas sym53c8xx",
    "USB": "xhci_pci ehci_pci uhci_hcd ohci_pci usb_storage uas",
    "SD and eMMC": "mmc_block sdhci_pci sdhci_acpi",
    "Hyper-V": "hv_vmbus hv_storvsc hyperv_keyboard",
    "VMware": "vmw_pvscsi",
    "Xen": "xen_blkfront",
    "keyboards": "usbhid hid_generic atkbd i8042",
    "handing over": "fuse overlay loop",
    "firmware": "efivarfs vfat nls_cp437 nls_ascii",
}
_SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")
_MAX_MODULE = 256 << 20  # bytes, unpacked; the largest module of Debian has 20 MiB


class Module(NamedTuple):
    """One module file, as its ``.modinfo`` section describes it."""

    name: str
    path: str
    """Below ``lib/modules/RELEASE``, ending in ``.ko``."""
    data: bytes
    """The module, uncompressed."""
    depends: tuple[str, ...]
    soft: tuple[str, ...]
    """Modules that ``softdep: pre`` names: wanted before this one when there are any."""
    aliases: tuple[str, ...]


class Closure(NamedTuple):
    """Modules in an order in which they can be loaded."""

    modules: tuple[Module, ...]
    builtin: tuple[str, ...]
    """Wanted ones that the kernel has built in."""
    missing: tuple[str, ...]
    """Wanted ones that this kernel does not have."""


class Modules:
    """The modules of one kernel."""

    def __init__(self, directory: Path) -> None:
        """``directory`` is ``lib/modules/RELEASE``; it needs neither modules.dep nor modules.alias."""
        self.directory = directory
        self._files = {
            normal(path.name): path
            for path in sorted(directory.rglob("*.ko*"))
            if path.name.endswith(_SUFFIXES) and path.is_file()
        }
        builtin = directory / "modules.builtin"
        lines = builtin.read_text().splitlines() if builtin.is_file() else []
        self._builtin = {normal(line) for line in lines}
        self._read: dict[str, Module] = {}

    def has(self, name: str) -> bool:
        """Whether there is a file of the module."""
        return normal(name) in self._files

    def module(self, name: str) -> Module:
        """Read one module by name.  Raises BuildError."""
        name = normal(name)
        if name not in self._read:
            path = self._files.get(name)
            if path is None:
                raise BuildError(f"{self.directory} has no module {name}")
            relative = re.sub(r"\.ko.*$", ".ko", path.relative_to(self.directory).as_posix())
            self._read[name] = parse(name, relative, load(path))
        return self._read[name]

    def closure(self, wanted: Iterable[str], *, required: bool = False) -> Closure:
        """``wanted`` and everything they depend on.

        With ``required`` a wanted module that is neither a file nor built in raises BuildError.  A dependency that is
        neither always does: the module could not be loaded.  Soft dependencies come along when there are any.
        """
        order: dict[str, Module] = {}
        builtin, missing = [], []
        for name in map(normal, wanted):
            if name in self._files:
                self._visit(name, order, ())
            elif name in self._builtin:
                builtin.append(name)
            elif required:
                raise BuildError(f"{self.directory} has no module {name}")
            else:
                missing.append(name)
        return Closure(tuple(order.values()), tuple(builtin), tuple(missing))

    def _visit(self, name: str, order: dict[str, Module], parents: tuple[str, ...]) -> None:
        if name in order or name in parents:
            return
        module = self.module(name)
        for needed in module.depends:
            if needed in self._files:
                self._visit(needed, order, (*parents, name))
            elif needed not in self._builtin:
                raise BuildError(f"module {name} depends on {needed}, which {self.directory} does not have")
        for needed in module.soft:
            if needed in self._files:
                self._visit(needed, order, (*parents, name))
        order[name] = module


def table(modules: Iterable[Module], release: str) -> str:
    """The table of the module docstring, for modules in load order."""
    modules = list(modules)
    present = {module.name for module in modules}
    lines = []
    for module in modules:
        needs = ",".join(name for name in module.depends if name in present)
        lines.append(f"/lib/modules/{release}/{module.path}\t{needs}\t{' '.join(module.aliases)}\n")
    return "".join(lines)


def parse(name: str, path: str, data: bytes) -> Module:
    """Read the ``.modinfo`` section: NUL-separated ``key=value`` (include/linux/module.h, v6.12).

    Raises BuildError when ``data`` is no kernel module.
    """
    try:
        section = ELFFile(BytesIO(data)).get_section_by_name(".modinfo")
    except (ELFError, ValueError) as error:
        raise BuildError(f"{path} is not a kernel module: {error}") from None
    if section is None:
        raise BuildError(f"{path} is not a kernel module: it has no .modinfo section")
    depends: list[str] = []
    soft: list[str] = []
    aliases: list[str] = []
    for item in section.data().split(b"\0"):
        key, _, value = item.decode("utf-8", "replace").partition("=")
        if key == "depends":
            depends += [normal(one) for one in value.split(",") if one]
        elif key == "alias" and not re.search(r"\s", value):
            aliases.append(value)
        elif key == "softdep":
            soft += _before(value)
    return Module(name, path, data, tuple(depends), tuple(soft), tuple(aliases))


def load(path: Path) -> bytes:
    """The content of a module file, uncompressed.  Raises BuildError."""
    packed = path.read_bytes()
    try:
        if path.name.endswith(".xz"):
            return lzma.decompress(packed)
        if path.name.endswith(".gz"):
            return gzip.decompress(packed)
        if path.name.endswith(".zst"):
            with zstandard.ZstdDecompressor().stream_reader(packed) as stream:
                return stream.read(_MAX_MODULE)
    except (lzma.LZMAError, gzip.BadGzipFile, zlib.error, EOFError, zstandard.ZstdError) as error:
        raise BuildError(f"cannot unpack {path}: {error}") from None
    return packed


def normal(name: str) -> str:
    """A module's name from its name, file name or path: the kernel takes ``-`` and ``_`` for the same."""
    return re.sub(r"\.ko(\.[a-z]+)?$", "", name.rpartition("/")[2]).replace("-", "_")


def _before(softdep: str) -> list[str]:
    """The names after ``pre:`` in ``pre: a b post: c``."""
    names, take = [], False
    for word in softdep.split():
        if word.endswith(":"):
            take = word == "pre:"
        elif take:
            names.append(normal(word))
    return names
