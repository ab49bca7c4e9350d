"""Entries of the Boot Loader Specification, type 1: a small text file each.

Sources: UAPI.1 Boot Loader Specification; src/boot/boot.c:boot_entry_add_type1 and line_get_key_value of systemd 257;
grub-core/commands/blscfg.c of Fedora's GRUB for variables in options.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from functools import cmp_to_key

from fsdrivers.errors import FsError, NotADirectory, NotFound
from fsdrivers.filesystem import Filesystem
from init.entries import grubenv, version
from init.entries.item import MAX_ITEMS, MAX_OPTIONS, Item, Listing, locate, read_text

DIRECTORIES = ("/boot/loader/entries", "/loader/entries", "/efi/loader/entries", "/boot/efi/loader/entries")
LOADER_CONFS = ("/boot/loader/loader.conf", "/loader/loader.conf")
MAX_ENTRY = 1 << 16  # bytes of one entry file
MAX_INITRDS = 64

# UEFI's names for machines, by uname -m.
ARCHITECTURES = {"x86_64": "x64", "aarch64": "aa64", "riscv64": "riscv64", "loongarch64": "loongarch64"}

_COUNTER = r"\+([0-9]{1,9})(?:-([0-9]{1,9}))?$"
_VARIABLE = r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})"
_LINE = r"[ \t]*([^ \t#][^ \t]*)[ \t]+(.*?)[ \t\r]*$"

# What Fedora's kernels mention and most systems do not set.
OPTIONAL = ("tuned_params", "tuned_initrd", "early_initrd")

Fields = dict[str, list[str]]


class _Unusable(Exception):
    """Why an entry is passed over."""


def entries(filesystem: Filesystem, machine: str = "x86_64", variables: Mapping[str, str] | None = None) -> Listing:
    """The entries in the usual directories of ``filesystem``, best first.

    ``machine`` as in uname -m.  ``variables`` are what "$name" in options stands for; without them those of GRUB's
    environment block.
    """
    if variables is None:
        variables = grubenv.read(filesystem)
    items: list[Item] = []
    notes: list[str] = []
    seen = set()
    for directory in (*DIRECTORIES, *([variables["blsdir"]] if "blsdir" in variables else [])):
        try:
            node = filesystem.resolve(directory)
            names = [entry.name for entry in filesystem.listdir(directory)]
        except (NotFound, NotADirectory):
            continue
        except FsError as error:
            notes.append(f"{directory}: {error}")
            continue
        if node in seen:
            continue
        seen.add(node)
        for name in [name for name in names if name.endswith(".conf")][: MAX_ITEMS - len(items)]:
            path = f"{directory}/{name}"
            try:
                items.append(_entry(filesystem, path, machine, variables, notes))
            except (FsError, _Unusable) as error:
                notes.append(f"{path} is passed over: {error}")
    items = order(items)
    return Listing(tuple(items), tuple(notes), _default(filesystem, items, notes))


def parse(text: str) -> Fields:
    """The keys of an entry in small letters with all their values, in order.

    Key and value are divided by any blanks; a line without a value and "#" lines count for nothing.
    """
    fields: Fields = {}
    for line in text.split("\n"):
        found = re.match(_LINE, line)
        if found is not None and found[2]:
            value = found[2]
            if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
                value = value[1:-1]
            fields.setdefault(found[1].lower(), []).append(value)
    return fields


def _entry(filesystem: Filesystem, path: str, machine: str, variables: Mapping[str, str], notes: list[str]) -> Item:
    fields = parse(read_text(filesystem, path, MAX_ENTRY))
    name, left, done = counter(path.rpartition("/")[2].removesuffix(".conf"))
    architecture = _last(fields, "architecture").lower()
    if architecture and architecture not in (ARCHITECTURES.get(machine), machine):
        raise _Unusable(f"it is for {architecture}")
    kernels = fields.get("linux", [])
    if not kernels:
        other = next((key for key in ("uki", "efi", "uki-url") if key in fields), None)
        raise _Unusable(f"it starts {fields[other][0]}, not a kernel" if other else "it names no kernel")
    kernel = locate(filesystem, _expand(kernels[-1], variables, path, []))
    if kernel is None:
        raise _Unusable(f"{kernels[-1]} is not there")
    initrds = []
    for value in fields.get("initrd", []):
        # Fedora has "$tuned_initrd" here, and several paths in one line.
        for initrd in _expand(value, variables, path, []).split():
            where = locate(filesystem, initrd)
            if where is None:
                raise _Unusable(f"the initrd {initrd} is not there")
            initrds.append(where)
    if len(initrds) > MAX_INITRDS:
        raise _Unusable(f"{len(initrds)} initrds")
    options = " ".join(_expand(value, variables, path, notes) for value in fields.get("options", []))
    if len(options) > MAX_OPTIONS:
        raise _Unusable("its command line is too long")
    overlays = "devicetree" in fields or "devicetree-overlay" in fields
    return Item(
        id=name,
        title=_last(fields, "title") or _last(fields, "version") or name,
        kernel=kernel,
        initrds=tuple(initrds),
        options=" ".join(options.split()) if '"' not in options else options.strip(),
        version=_last(fields, "version"),
        sort_key=_last(fields, "sort-key"),
        machine_id=_last(fields, "machine-id"),
        tries_left=left,
        tries_done=done,
        counted="" if left is None else path,
        remarks=("its device tree is not taken over",) if overlays else (),
    )


def _last(fields: Fields, key: str) -> str:
    return fields[key][-1] if key in fields else ""


def counter(name: str) -> tuple[str, int | None, int]:
    """A file name without ".conf" as (name, tries left, tries done): "x+2-1" is ("x", 2, 1), "x" is ("x", None, 0)."""
    found = re.search(_COUNTER, name)
    if found is None or not found.start():
        return name, None, 0
    return name[: found.start()], int(found[1]), int(found[2] or 0)


def _expand(value: str, variables: Mapping[str, str], path: str, notes: list[str]) -> str:
    """``value`` with GRUB's variables; those that are not set vanish."""

    def replace(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in variables and name not in OPTIONAL:
            notes.append(f"{path}: ${name} is set nowhere")
        return variables.get(name, "")

    return re.sub(_VARIABLE, replace, value)[: MAX_OPTIONS + 1]


def order(items: list[Item]) -> list[Item]:
    """The order of the specification's "Sorting": entries that used up their tries last, those with a sort-key first,
    by sort-key, machine-id and falling version, then by falling name."""
    return sorted(items, key=cmp_to_key(_compare))


def _compare(one: Item, other: Item) -> int:
    spent = (one.tries_left == 0) - (other.tries_left == 0)
    keyed = (not one.sort_key) - (not other.sort_key)
    if spent or keyed:
        return spent or keyed
    if one.sort_key:
        for left, right in ((one.sort_key, other.sort_key), (one.machine_id, other.machine_id)):
            if left != right:
                return -1 if left < right else 1
        newer = _version_order(one.version, other.version)
        if newer:
            return newer
    named = _version_order(one.id, other.id)
    if named or one.tries_left == other.tries_left:
        return named
    return (other.tries_left or 0) - (one.tries_left or 0)


def _version_order(one: str, other: str) -> int:
    left, right = version.key(one), version.key(other)
    return (left < right) - (left > right)


def _default(filesystem: Filesystem, items: list[Item], notes: list[str]) -> int | None:
    """The first entry that loader.conf's ``default`` matches; the first of all when it names none."""
    for path in LOADER_CONFS:
        try:
            fields = parse(read_text(filesystem, path, MAX_ENTRY))
        except FsError:
            continue
        pattern = _last(fields, "default").removesuffix(".conf").lower()
        if pattern.startswith("@") or not pattern:
            continue
        for index, item in enumerate(items):
            if fnmatch.fnmatchcase(item.id.lower(), pattern):
                return index
        notes.append(f"{path}: the default {pattern!r} is not among the entries found")
    return 0 if items else None
