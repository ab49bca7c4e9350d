"""Entries of the Boot Loader Specification, type 1: a small text file each.

Sources: UAPI.1 Boot Loader Specification; src/boot/boot.c:boot_entry_add_type1, valid_type1_filename and
line_get_key_value of systemd 257 (the keys uki and profile: 258); grub-core/commands/blscfg.c of Fedora's GRUB for
variables in options, default_kernelopts and early_initrd.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from fsdrivers.errors import Corrupt, FsError, NotADirectory, NotFound
from fsdrivers.filesystem import Filesystem
from fsdrivers.notes import Notes
from init.entries import grubenv, shellvars, uki
from init.entries.blsrules import MAX_ENTRY, Fields, counter, default, last, order, parse, plain
from init.entries.item import (
    DEVICE_TREE,
    MAX_INITRDS,
    MAX_ITEMS,
    MAX_OPTIONS,
    Budget,
    Item,
    Listing,
    locate,
    read_text,
)

DIRECTORIES = ("/boot/loader/entries", "/loader/entries", "/efi/loader/entries", "/boot/efi/loader/entries")

# UEFI's names for machines, by uname -m.
ARCHITECTURES = {"x86_64": "x64", "aarch64": "aa64", "riscv64": "riscv64", "loongarch64": "loongarch64"}

# What Fedora's kernels mention and most systems do not set.
OPTIONAL = ("tuned_params", "tuned_initrd", "early_initrd")


class _Unusable(Exception):
    """Why an entry is passed over."""


def entries(filesystem: Filesystem, machine: str = "x86_64", variables: Mapping[str, str] | None = None) -> Listing:
    """The entries in the usual directories of ``filesystem``, best first.

    ``machine`` as in uname -m.  ``variables`` are what "$name" in options stands for; without them those of GRUB's
    environment block.
    """
    notes = Notes()
    items = order(collect(filesystem, machine, grubenv.read(filesystem) if variables is None else variables, notes))
    index, named = default(filesystem, items, notes)
    return Listing(tuple(items), tuple(notes), index, named=named)


def collect(filesystem: Filesystem, machine: str, variables: Mapping[str, str], notes: list[str]) -> list[Item]:
    """The entries of entries(), in no order; what was passed over goes to ``notes``."""
    items: list[Item] = []
    source = _Source(filesystem, machine, variables, notes)
    seen = set()
    for directory in (*DIRECTORIES, *([variables["blsdir"]] if "blsdir" in variables else [])):
        try:
            node = filesystem.resolve(directory)
            names = [entry.name for entry in filesystem.listdir(directory, lambda name: _valid(name.lower()))]
        except (NotFound, NotADirectory):
            continue
        except FsError as error:
            notes.append(f"{directory}: {error}")
            continue
        if node in seen:
            continue
        seen.add(node)
        if len(items) + len(names) > MAX_ITEMS:
            notes.append(f"{directory}: only {MAX_ITEMS} of its {len(names)} entries are looked at")
        for name in names[: MAX_ITEMS - len(items)]:
            path = f"{directory}/{name}"
            try:
                items.append(_entry(source, path))
            except (FsError, _Unusable) as error:
                notes.append(f"{path} is passed over: {error}")
    return items


def _valid(name: str) -> bool:
    return name.endswith(".conf") and not name.startswith((".", "auto-"))


class _Source:
    """What all entries have in common: where they lie, what they are read for, and what that may take."""

    def __init__(self, filesystem: Filesystem, machine: str, variables: Mapping[str, str], notes: list[str]) -> None:
        self.filesystem, self.machine, self.variables, self.notes = filesystem, machine, variables, notes
        self.budget = Budget()

    def locate(self, path: str) -> str | None:
        """As init/entries/item.py has it.  Raises TooMany."""
        self.budget.look()
        return locate(self.filesystem, path)


def _entry(source: _Source, path: str) -> Item:
    machine, variables, notes = source.machine, source.variables, source.notes
    fields = parse(source.budget.text(read_text(source.filesystem, path, MAX_ENTRY)))
    name, left, done = counter(path.rpartition("/")[2][: -len(".conf")])
    architecture = last(fields, "architecture").lower()
    if architecture and architecture not in (ARCHITECTURES.get(machine), machine):
        raise _Unusable(f"it is for {architecture}")
    kernel = _expand(_program(fields), variables, path, [])
    where = source.locate(kernel)
    if where is None:
        raise _Unusable(f"{kernel} is not there, or no file")
    image = _image(source, where, fields)
    options = " ".join(_expand(value, variables, path, notes) for value in _options(fields, variables))
    if len(options) > MAX_OPTIONS:
        raise _Unusable("its command line is too long")
    source.budget.text(options)
    overlays = "devicetree" in fields or "devicetree-overlay" in fields
    version = last(fields, "version") or (image.version if image else "")
    return Item(
        id=name,
        title=last(fields, "title") or last(fields, "version") or (image.title if image else name),
        kernel=image.kernel if image else where,
        # The stub takes what it is given after what is in the image.
        initrds=(image.initrds if image else ()) + _initrds(source, kernel, fields, path),
        options=plain(options) if options or image is None else image.options,
        version=version,
        sort_key=last(fields, "sort-key"),
        machine_id=last(fields, "machine-id"),
        tries_left=left,
        tries_done=done,
        counted="" if left is None else path,
        remarks=((DEVICE_TREE,) if overlays else ()) + (image.remarks if image else ()),
    )


def _program(fields: Fields) -> str:
    """The path of what the entry starts: a kernel, or a unified kernel image."""
    found = [key for key in ("linux", "uki", "efi", "uki-url") if key in fields]
    if not found:
        raise _Unusable("it names no kernel")
    if len(found) > 1:
        raise _Unusable(f"it names several things to start: {', '.join(found)}")
    value = fields[found[0]][-1]
    if found[0] == "uki-url":
        raise _Unusable(f"it starts {value}, from the network")
    return value


def _image(source: _Source, path: str, fields: Fields) -> Item | None:
    """The unified kernel image that ``path`` is, with the profile that the entry asks for; None for a plain kernel."""
    if "linux" in fields and not path.lower().endswith(".efi"):
        return None
    profile = last(fields, "profile")
    try:
        number = int(profile) if profile.isdecimal() and len(profile) < 6 else 0
        found = uki.one(source.filesystem, path, number, source.budget)
    except Corrupt:
        if "linux" not in fields:
            raise
        return None  # no PE file: a compressed kernel may have that name
    if found is None and "linux" not in fields:
        raise _Unusable(f"it starts {path}, not a kernel")
    return found


def _options(fields: Fields, variables: Mapping[str, str]) -> list[str]:
    if "options" in fields or "default_kernelopts" not in variables:
        return fields.get("options", [])
    return [variables["default_kernelopts"]]


def _initrds(source: _Source, kernel: str, fields: Fields, path: str) -> tuple[str, ...]:
    """The initrds in order, those first that GRUB has put in front of all."""
    # Fedora has "$tuned_initrd" here, and several paths in one line.
    variables = source.variables
    stated = [word for value in fields.get("initrd", []) for word in _expand(value, variables, path, []).split()]
    directory = (stated[0] if stated else kernel).rpartition("/")[0]
    early = [f"{directory}/{name}" for name in variables.get("early_initrd", "").split(None, MAX_INITRDS)]
    if len(early) + len(stated) > MAX_INITRDS:
        raise _Unusable(f"more than {MAX_INITRDS} initrds")
    found = []
    for initrd in [*early, *stated]:
        where = source.locate(initrd)
        if where is None:
            raise _Unusable(f"the initrd {initrd} is not there, or no file")
        found.append(where)
    return tuple(found)


def _expand(value: str, variables: Mapping[str, str], path: str, notes: list[str]) -> str:
    """``value`` with GRUB's variables; those that are not set vanish.  Raises _Unusable when it gets too long."""
    room = MAX_OPTIONS + len(value)

    def replace(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in variables and name not in OPTIONAL:
            notes.append(f"{path}: ${name} is set nowhere")
        nonlocal room
        text = variables.get(name, "")
        room -= len(text)
        if room < 0:  # before it is joined: each of thousands may be long
            raise _Unusable("a line with its variables is too long")
        return text

    return re.sub(shellvars.VARIABLE, replace, value)
