"""Entries of extlinux.conf and syslinux.cfg: what U-Boot, extlinux and syslinux read.

Sources: doc/menu.txt and com32/menu/readconfig.c of Syslinux 6.03; boot/pxe_utils.c of U-Boot 2024.10;
UAPI's description of extlinux.conf.
"""

from __future__ import annotations

import posixpath
import re
from typing import NamedTuple

from fsdrivers.errors import FsError, NotADirectory, NotFound
from fsdrivers.filesystem import Filesystem
from fsdrivers.notes import Notes
from init.entries.item import (
    DEVICE_TREE,
    MAX_INITRDS,
    MAX_ITEMS,
    MAX_OPTIONS,
    MAX_TEXT,
    Budget,
    Item,
    Listing,
    is_file,
    locate,
    read_text,
)

CONFIGS = (
    "/boot/extlinux/extlinux.conf", "/extlinux/extlinux.conf", "/boot/extlinux.conf", "/extlinux.conf",
    "/boot/syslinux/extlinux.conf", "/boot/syslinux/syslinux.cfg", "/syslinux/syslinux.cfg", "/syslinux.cfg",
)  # fmt: skip
MAX_INCLUDES = 64
MAX_LINES = 20_000
PROGRAM = ""  # among the fields of a label: which word its kernel stands behind, "kernel" or "linux"
# What a label may start that is no kernel.
_OTHER = ("localboot", "com32", "config", "pxe", "boot", "bss", "fdimage", "comboot", "fit", "menu quit", "kaslrseed")
_VARIABLE = r"\$\{[^{}]*\} ?"  # boot/pxe_utils.c:label_boot puts U-Boot's environment in
# What Syslinux takes for something else by its name behind KERNEL, though not behind LINUX: doc/syslinux.txt, 6.03.
_NOT_KERNELS = (".c32", ".cbt", ".com", ".bin", ".bss", ".bs", ".img", ".0", ".efi")
# Who writes these writes for U-Boot, to which both words are one: boot/pxe_utils.c:label_create, keywords.
_U_BOOT = frozenset(("fdt", "devicetree", "fdtdir", "devicetreedir", "fdtoverlays", "devicetree-overlay", "kaslrseed"))


class _Label(NamedTuple):
    """A LABEL with its lines, last one winning."""

    name: str
    fields: dict[str, str]
    directory: str  # of the file that it is in: relative paths start there


class _Reader:
    """Reads a configuration with its includes."""

    def __init__(self, filesystem: Filesystem) -> None:
        self.filesystem = filesystem
        self.globals: dict[str, str] = {}
        self.labels: list[_Label] = []
        self.notes = Notes()
        self.budget = Budget()
        self._files = self._lines = 0
        self._open: list[str] = []  # the files that are being read

    def read(self, path: str) -> None:
        """Take in the file at ``path``; raises FsError."""
        self._files += 1
        if path in self._open or self._files > MAX_INCLUDES:
            self.notes.append(
                f"{path}: {'it includes itself' if path in self._open else 'too many files'}: passed over"
            )
            return
        self._open.append(path)
        directory = path.rpartition("/")[0]
        for line in self.budget.text(read_text(self.filesystem, path, MAX_TEXT)).split("\n"):
            self._lines += 1
            if self._lines > MAX_LINES:
                self.notes.append(f"{path}: only the first {MAX_LINES} lines are looked at")
                break
            self._line(line.strip(), directory)
        self._open.pop()

    def _line(self, line: str, directory: str) -> None:
        key, value = _split(line)
        if key == "menu":
            word, value = _split(value)
            key = f"menu {word}"
            if word == "include":
                key, value = "include", value.split()[0] if value else ""
        if not key or key.startswith("#"):
            return
        if key == "include":
            try:
                self.read(absolute(value, directory))
            except FsError as error:
                self.notes.append(f"include {value}: {error}")
        elif key == "label":
            if len(self.labels) < MAX_ITEMS:
                self.labels.append(_Label(value, {}, directory))
            else:
                self.notes.append(f"only the first {MAX_ITEMS} labels are looked at")
        else:
            fields = self.labels[-1].fields if self.labels else self.globals
            if key in ("default", "ontimeout"):
                fields = self.globals
            if key in ("kernel", "linux"):  # one setting, the last one winning
                fields[PROGRAM] = key
                key = "linux"
            fields[key] = value


def _split(line: str) -> tuple[str, str]:
    parts = line.split(None, 1)
    return (parts[0].lower() if parts else "", parts[1].strip() if len(parts) > 1 else "")


def absolute(path: str, directory: str) -> str:
    """``path`` from the top, taken from ``directory`` when it is relative."""
    return path if path.startswith("/") else f"{directory}/{path}"


def entries(filesystem: Filesystem) -> Listing:
    """The entries of the first configuration in ``filesystem``, in its order."""
    for path in CONFIGS:
        try:
            filesystem.resolve(path)
        except (NotFound, NotADirectory):
            continue
        except FsError as error:
            return Listing(notes=(f"{path}: {error}",))
        return of_config(filesystem, path)
    return Listing()


def of_config(filesystem: Filesystem, path: str) -> Listing:
    """The entries of the configuration at ``path``; never raises, what is wrong is in the notes."""
    reader = _Reader(filesystem)
    try:
        reader.read(path)
    except FsError as error:
        reader.notes.append(str(error))
    items: list[Item] = []
    default = None
    wanted = reader.globals.get("default", "")
    for label in reader.labels:
        try:
            item = _item(filesystem, label, reader.globals, reader.budget)
        except (FsError, _Unusable) as why:
            reader.notes.append(f"label {label.name} is passed over: {why}")
            continue
        if "menu default" in label.fields or (default is None and label.name == wanted):
            default = len(items)
        items.append(item)
    if default is None and items and not wanted:
        default = 0
    return Listing(tuple(items), tuple(f"{path}: {note}" for note in reader.notes), default)


class _Unusable(Exception):
    """Why a label is passed over."""


def _item(filesystem: Filesystem, label: _Label, shared: dict[str, str], budget: Budget) -> Item:
    fields = label.fields
    other = next((key for key in _OTHER if key in fields), None)
    path = fields.get("linux", "")
    by_name = fields.get(PROGRAM) == "kernel" and _U_BOOT.isdisjoint(fields) and _U_BOOT.isdisjoint(shared)
    if other is not None or (by_name and path.lower().endswith(_NOT_KERNELS)):
        raise _Unusable(f"it starts {path or other}, not a kernel")
    if not path:
        raise _Unusable("it names no kernel")
    options = fields.get("append", shared.get("append", ""))
    options = "" if options == "-" else options
    if len(options) > MAX_OPTIONS:
        raise _Unusable("its command line is too long")
    options, unknown = re.subn(_VARIABLE, "", options)
    initrds = fields.get("initrd", shared.get("initrd", ""))
    words = budget.text(options).split(" ")
    for word in words:
        # Syslinux takes the initrd from the command line, where the kernel ignores it.
        if word.startswith("initrd=") and not initrds:
            initrds = word.removeprefix("initrd=")
    if len(initrds) > MAX_OPTIONS:
        raise _Unusable("its initrds have names that are too long")
    archives = [initrd for initrd in initrds.split(",", MAX_INITRDS + 1) if initrd]
    if len(archives) > MAX_INITRDS:
        raise _Unusable(f"more than {MAX_INITRDS} initrds")
    budget.look(1 + len(archives))
    title = fields.get("menu label", label.name).replace("^", "", 1)
    kernel = _place(filesystem, path, label.directory)
    name = kernel.rpartition("/")[2].partition("-")[2]
    return Item(
        id=label.name,
        title=title,
        kernel=kernel,
        initrds=tuple(_place(filesystem, initrd, label.directory) for initrd in archives),
        options=" ".join(word for word in words if not word.startswith("initrd=")),
        version=name if name[:1].isdigit() else "",
        remarks=(
            *((DEVICE_TREE,) if {"fdt", "devicetree", "fdtdir"} & fields.keys() else ()),
            *(("variables of U-Boot's in its command line are left out",) if unknown else ()),
        ),
    )


def _place(filesystem: Filesystem, path: str, directory: str) -> str:
    found = locate(filesystem, absolute(path, directory))
    if found is None:
        raise _Unusable(f"{path} is not there, or no file")
    plain = posixpath.normpath(found)
    # Without the dots it is known by the name that others give it; behind a link they may mean another place.
    same = is_file(filesystem, plain) and filesystem.resolve(plain) == filesystem.resolve(found)
    return plain if same else found
