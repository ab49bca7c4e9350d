"""Unified kernel images, type 2 of the Boot Loader Specification: kernel, initrd and command line in one PE file.

Sources: UAPI.5 Unified Kernel Image; src/boot/stub.c and pe.c of systemd 257; Microsoft's PE/COFF specification.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fsdrivers.errors import FsError, NotADirectory, NotFound, TooLarge
from fsdrivers.filesystem import File, Filesystem
from fsdrivers.notes import Notes
from init.entries import blsrules
from init.entries.item import DEVICE_TREE, MAX_ITEMS, MAX_OPTIONS, Budget, Item, Listing
from init.kernel.pe import MARK, Profile, profiles, sections

DIRECTORIES = ("/EFI/Linux", "/boot/EFI/Linux", "/efi/EFI/Linux", "/boot/efi/EFI/Linux")
MAX_TEXT = 1 << 16  # bytes of a section that is text
MAX_ADDONS = 32  # in one directory

MACHINES = {"x86_64": 0x8664, "aarch64": 0xAA64, "riscv64": 0x5064, "loongarch64": 0x6264}


class Addons(NamedTuple):
    """What lies beside an image for its stub: words for the command line, sections of addons, and what is not taken."""

    options: str = ""
    microcode: tuple[str, ...] = ()
    initrds: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


class Addon(NamedTuple):
    """One addon: the kernel that it is for ("" for any), its words for the command line, the names of its sections."""

    path: str
    kernel: str
    options: str
    sections: frozenset[str]


Found = list[Addon]
_ADDON, _OTHERS = ".addon.efi", (".cred", ".raw")


def entries(filesystem: Filesystem, machine: str = "x86_64") -> Listing:
    """The unified kernel images in ``filesystem``, one entry for each profile, newest first."""
    notes = Notes()
    items = collect(filesystem, machine, notes)
    index, named = blsrules.default(filesystem, items, notes)
    return Listing(tuple(items), tuple(notes), index, named=named)


def collect(filesystem: Filesystem, machine: str, notes: list[str]) -> list[Item]:
    """The items of entries(); what was passed over goes to ``notes``."""
    images: dict[Item, list[Item]] = {}  # by their first profile
    source = _Source(filesystem, Budget(), notes)
    count, seen = 0, set()
    for directory in DIRECTORIES:
        try:
            node = filesystem.resolve(directory)
            names = [entry.name for entry in filesystem.listdir(directory, lambda name: name.lower().endswith(".efi"))]
        except (NotFound, NotADirectory):
            continue
        except FsError as error:
            notes.append(f"{directory}: {error}")
            continue
        if node in seen:
            continue
        seen.add(node)
        for name in names[: MAX_ITEMS + 1]:
            if count >= MAX_ITEMS:
                notes.append(f"{directory}: only {MAX_ITEMS} entries are looked at")
                break
            try:
                found = list(_items(source, f"{directory}/{name}", machine))
                count += max(1, len(found))
            except FsError as error:
                notes.append(f"{directory}/{name} is passed over: {error}")
            else:
                images |= {found[0]: found} if found else {}
    return [item for first in blsrules.order(list(images)) for item in images[first]][:MAX_ITEMS]


def one(filesystem: Filesystem, path: str, number: int, budget: Budget) -> Item | None:
    """The profile ``number`` of the image at ``path``, wherever that lies; None for another program.

    Raises Corrupt, the driver's errors, and NotFound for a profile that it does not have.
    """
    file = filesystem.open(path)
    found = profiles(sections(file)[1])
    if ".linux" not in found[0].sections:
        return None
    if number >= len(found):
        raise NotFound(f"{path}, profile {number}")
    notes = Notes()
    source = _Source(filesystem, budget, notes)
    addons = _addons(*_beside(source, path), _text(file, found[number], ".uname", budget).strip())
    return _item(file, path, found[number], addons, budget)


class _Source:
    """What all images have in common: where they lie, what that may take, and the addons for all of them."""

    def __init__(self, filesystem: Filesystem, budget: Budget, notes: list[str]) -> None:
        self.filesystem, self.budget, self.notes = filesystem, budget, notes
        self.known: dict[str, Found] = {}  # addons by their directory


def _items(source: _Source, path: str, machine: str) -> Iterator[Item]:
    notes, budget = source.notes, source.budget
    budget.look()
    file = source.filesystem.open(path)
    wanted, found = sections(file)
    if MACHINES.get(machine, wanted) != wanted:
        notes.append(f"{path} is passed over: it is for machine {wanted:#06x}")
        return
    beside = _beside(source, path)
    for profile in profiles(found):
        if ".linux" not in profile.sections:
            notes.append(f"{path} is passed over: it has no .linux section")
            return
        addons = _addons(*beside, _text(file, profile, ".uname", budget).strip())
        yield _item(file, path, profile, addons, budget)


def _item(file: File, path: str, profile: Profile, addons: Addons, budget: Budget) -> Item:
    release, about = (_pairs(_text(file, profile, part, budget)) for part in (".osrel", ".profile"))
    name, left, done = blsrules.counter(path.rpartition("/")[2][:-4])
    kernel = _text(file, profile, ".uname", budget).strip()
    title = release.get("PRETTY_NAME") or release.get("NAME") or name
    trees = {".dtb", ".dtbauto"} & profile.sections.keys()
    mark = f"@{profile.number}" if profile.number else ""
    own = blsrules.plain(_text(file, profile, ".cmdline", budget))
    if len(own) > MAX_OPTIONS - len(addons.options):
        raise TooLarge(f"the command line of {path} with its addons", len(own) + len(addons.options), MAX_OPTIONS)
    if about.get("TITLE"):
        title += f" ({about['TITLE']})"
    elif mark:
        title += f" (profile {profile.number})"
    return Item(
        id=f"{name}.efi{mark}",
        title=title,
        kernel=f"{path}{MARK}.linux{mark}",
        # The stub puts microcode first, that of addons before all; their initrds come last.
        initrds=(
            *addons.microcode,
            *(f"{path}{MARK}{part}{mark}" for part in (".ucode", ".initrd") if part in profile.sections),
            *addons.initrds,
        ),
        options=" ".join(part for part in (own, budget.text(addons.options)) if part),
        version=kernel or release.get("VERSION_ID", ""),
        sort_key=release.get("IMAGE_ID") or release.get("ID", ""),
        tries_left=left,
        tries_done=done,
        counted="" if left is None else path,
        remarks=tuple(dict.fromkeys((*(DEVICE_TREE for _ in trees), *addons.remarks))),
    )


def _pairs(text: str) -> dict[str, str]:
    """KEY=value lines; unlike in a shell a value may have blanks without quotes (line_get_key_value)."""
    values = {}
    for line in text.split("\n"):
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
                value = value[1:-1]
            values[key.strip()] = value
    return values


def _beside(source: _Source, path: str) -> tuple[Found, bool]:
    """The addons for all images and then those for the one at ``path``; whether something else lies beside it."""
    top, own = path[: max(path.upper().rfind("/EFI/LINUX"), 0)], f"{path}.extra.d"
    everywhere = f"{top}/loader/addons"
    if everywhere not in source.known:
        source.known[everywhere], _ = _in_directory(source, everywhere)
    found, more = _in_directory(source, own)
    return source.known[everywhere] + found, more


def _in_directory(source: _Source, directory: str) -> tuple[Found, bool]:
    """The addons in ``directory``, and whether there are credentials or extensions."""
    filesystem, notes = source.filesystem, source.notes
    suffixes = (_ADDON, *_OTHERS)

    def counts(name: str) -> bool:
        source.budget.name()
        return name.lower().endswith(suffixes)

    try:
        names = [one.name for one in filesystem.listdir(directory, counts)]
    except (NotFound, NotADirectory):
        return [], False
    except FsError as error:
        notes.append(f"{directory}: {error}")
        return [], False
    found: Found = []
    for name in [name for name in names if name.lower().endswith(_ADDON)][:MAX_ADDONS]:
        try:
            found.append(_addon(source, f"{directory}/{name}"))
        except FsError as error:
            notes.append(f"{directory}/{name} is passed over: {error}")
    return found, any(name.lower().endswith(_OTHERS) for name in names)


def _addon(source: _Source, path: str) -> Addon:
    """What an addon has to offer; read once, whatever it is for."""
    source.budget.look()
    file = source.filesystem.open(path)
    own = Profile(0, {section.name: section for section in sections(file)[1]})
    return Addon(
        path,
        _text(file, own, ".uname", source.budget).strip(),
        blsrules.plain(_text(file, own, ".cmdline", source.budget)),
        frozenset(own.sections),
    )


def _addons(found: Found, more: bool, kernel: str) -> Addons:
    """What addons add to a profile, as src/boot/stub.c:load_addons and run, systemd 257, have it.

    ``kernel`` is the profile's .uname: an addon that has one is for this kernel alone.
    """
    found = [addon for addon in found if not addon.kernel or not kernel or addon.kernel == kernel]
    remarks = [DEVICE_TREE] if any(".dtb" in addon.sections for addon in found) else []
    remarks += ["the credentials and extensions beside it are left behind"] if more else []
    return Addons(
        " ".join(addon.options for addon in found if addon.options),
        tuple(f"{addon.path}{MARK}.ucode" for addon in found if ".ucode" in addon.sections),
        tuple(f"{addon.path}{MARK}.initrd" for addon in found if ".initrd" in addon.sections),
        tuple(remarks),
    )


def _text(file: File, profile: Profile, name: str, budget: Budget) -> str:
    """A section as text, "" when there is none; raises TooLarge, TooMany."""
    section = profile.sections.get(name)
    if section is None:
        return ""
    if section.size > MAX_TEXT:
        raise TooLarge(f"{file.path}: section {name}", section.size, MAX_TEXT)
    raw = file.read(section.offset, section.size)
    return budget.text(raw.rstrip(b"\0").decode("utf-8", "surrogateescape"))
