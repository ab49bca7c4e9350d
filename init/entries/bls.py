"""Entries of the Boot Loader Specification, type 1: a small text file each.

Sources: UAPI.1 Boot Loader Specification; src/boot/boot.c:boot_entry_add_type1, valid_type1_filename and
line_get_key_value of systemd 257 (the keys uki and profile: 258); grub-core/commands/blscfg.c of Fedora's GRUB for
variables in options, default_kernelopts and early_initrd.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from functools import cmp_to_key

from fsdrivers.errors import Corrupt, FsError, NotADirectory, NotFound
from fsdrivers.filesystem import Filesystem
from init.entries import grubenv, shellvars, version
from init.entries.item import DEVICE_TREE, MAX_ITEMS, MAX_OPTIONS, Item, Listing, locate, read_text

DIRECTORIES = ("/boot/loader/entries", "/loader/entries", "/efi/loader/entries", "/boot/efi/loader/entries")
LOADER_CONFS = ("/boot/loader/loader.conf", "/loader/loader.conf")
MAX_ENTRY = 1 << 16  # bytes of one entry file
MAX_INITRDS = 64

# UEFI's names for machines, by uname -m.
ARCHITECTURES = {"x86_64": "x64", "aarch64": "aa64", "riscv64": "riscv64", "loongarch64": "loongarch64"}

_COUNTER = r"\+([0-9]{1,9})(?:-([0-9]{1,9}))?$"
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
    notes: list[str] = []
    items = order(collect(filesystem, machine, grubenv.read(filesystem) if variables is None else variables, notes))
    index, named = default(filesystem, items, notes)
    return Listing(tuple(items), tuple(notes), index, named=named)


def collect(filesystem: Filesystem, machine: str, variables: Mapping[str, str], notes: list[str]) -> list[Item]:
    """The entries of entries(), in no order; what was passed over goes to ``notes``."""
    items: list[Item] = []
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
        names = [name for name in names if _valid(name.lower())]
        if len(items) + len(names) > MAX_ITEMS:
            notes.append(f"{directory}: only {MAX_ITEMS} of its {len(names)} entries are looked at")
        for name in names[: MAX_ITEMS - len(items)]:
            path = f"{directory}/{name}"
            try:
                items.append(_entry(filesystem, path, machine, variables, notes))
            except (FsError, _Unusable) as error:
                notes.append(f"{path} is passed over: {error}")
    return items


def _valid(name: str) -> bool:
    return name.endswith(".conf") and not name.startswith((".", "auto-"))


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
    name, left, done = counter(path.rpartition("/")[2][: -len(".conf")])
    architecture = _last(fields, "architecture").lower()
    if architecture and architecture not in (ARCHITECTURES.get(machine), machine):
        raise _Unusable(f"it is for {architecture}")
    kernel = _expand(_program(fields), variables, path, [])
    where = locate(filesystem, kernel)
    if where is None:
        raise _Unusable(f"{kernel} is not there, or no file")
    image = _image(filesystem, where, fields)
    options = " ".join(_expand(value, variables, path, notes) for value in _options(fields, variables))
    if len(options) > MAX_OPTIONS:
        raise _Unusable("its command line is too long")
    overlays = "devicetree" in fields or "devicetree-overlay" in fields
    version = _last(fields, "version") or (image.version if image else "")
    return Item(
        id=name,
        title=_last(fields, "title") or _last(fields, "version") or (image.title if image else name),
        kernel=image.kernel if image else where,
        # The stub takes what it is given after what is in the image.
        initrds=(image.initrds if image else ()) + _initrds(filesystem, kernel, fields, variables, path),
        options=plain(options) if options or image is None else image.options,
        version=version,
        sort_key=_last(fields, "sort-key"),
        machine_id=_last(fields, "machine-id"),
        tries_left=left,
        tries_done=done,
        counted="" if left is None else path,
        remarks=((DEVICE_TREE,) if overlays else ()) + (image.remarks if image else ()),
    )


def plain(options: str) -> str:
    """A command line as one line, its blanks as they are when there are quotes in it."""
    options = options.replace("\n", " ")
    return " ".join(options.split()) if '"' not in options else options.strip()


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


def _image(filesystem: Filesystem, path: str, fields: Fields) -> Item | None:
    """The unified kernel image that ``path`` is, with the profile that the entry asks for; None for a plain kernel."""
    if "linux" in fields and not path.lower().endswith(".efi"):
        return None
    from init.entries import uki  # it sorts as this module does

    profile = _last(fields, "profile")
    try:
        found = uki.one(filesystem, path, int(profile) if profile.isdecimal() and len(profile) < 6 else 0)
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


def _initrds(
    filesystem: Filesystem, kernel: str, fields: Fields, variables: Mapping[str, str], path: str
) -> tuple[str, ...]:
    """The initrds in order, those first that GRUB has put in front of all."""
    # Fedora has "$tuned_initrd" here, and several paths in one line.
    stated = [word for value in fields.get("initrd", []) for word in _expand(value, variables, path, []).split()]
    directory = (stated[0] if stated else kernel).rpartition("/")[0]
    early = [f"{directory}/{name}" for name in variables.get("early_initrd", "").split()]
    found = []
    for initrd in [*early, *stated]:
        where = locate(filesystem, initrd)
        if where is None:
            raise _Unusable(f"the initrd {initrd} is not there, or no file")
        found.append(where)
    if len(found) > MAX_INITRDS:
        raise _Unusable(f"{len(found)} initrds")
    return tuple(found)


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

    return re.sub(shellvars.VARIABLE, replace, value)[: MAX_OPTIONS + 1]


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


def default(filesystem: Filesystem, items: Sequence[Item], notes: list[str]) -> tuple[int | None, bool]:
    """(index of the default among ``items``, which are in order(), whether loader.conf names it).

    It is the first that its ``preferred`` or ``default`` matches; the first of all when they match none.
    Source: src/boot/boot.c:config_select_default_entry, systemd 257; loader.conf(5) of 259 for ``preferred``.
    """
    for path in LOADER_CONFS:
        try:
            fields = parse(read_text(filesystem, path, MAX_ENTRY))
        except FsError:
            continue
        for key in ("preferred", "default"):
            pattern = _last(fields, key).lower()
            if not pattern:
                continue
            if pattern.startswith("@"):
                notes.append(f"{path}: {key} {pattern}: what was booted last is not known here; taking the first")
                continue
            for index, item in enumerate(items):
                spent = key == "preferred" and item.tries_left == 0
                if not spent and fnmatch.fnmatchcase(item.id.lower(), pattern.removesuffix(".conf")):
                    return index, True
            notes.append(f"{path}: the {key} {pattern!r} is not among the entries found")
    return (0 if items else None), False
