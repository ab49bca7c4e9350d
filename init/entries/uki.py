"""Unified kernel images, type 2 of the Boot Loader Specification: kernel, initrd and command line in one PE file.

Sources: UAPI.5 Unified Kernel Image; src/boot/stub.c and pe.c of systemd 257; Microsoft's PE/COFF specification.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fsdrivers.errors import FsError, NotADirectory, NotFound, TooLarge
from fsdrivers.filesystem import File, Filesystem
from init.entries import blsrules
from init.entries.item import DEVICE_TREE, MAX_ITEMS, Item, Listing
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


Found = list[tuple[File, Profile]]  # addons with their sections


def entries(filesystem: Filesystem, machine: str = "x86_64") -> Listing:
    """The unified kernel images in ``filesystem``, one entry for each profile, newest first."""
    notes: list[str] = []
    items = collect(filesystem, machine, notes)
    index, named = blsrules.default(filesystem, items, notes)
    return Listing(tuple(items), tuple(notes), index, named=named)


def collect(filesystem: Filesystem, machine: str, notes: list[str]) -> list[Item]:
    """The items of entries(); what was passed over goes to ``notes``."""
    images: dict[Item, list[Item]] = {}  # by their first profile
    addons: dict[str, Found] = {}
    count, seen = 0, set()
    for directory in DIRECTORIES:
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
        for name in [name for name in names if name.lower().endswith(".efi")][: MAX_ITEMS + 1]:
            if count >= MAX_ITEMS:
                notes.append(f"{directory}: only {MAX_ITEMS} entries are looked at")
                break
            try:
                found = list(_items(filesystem, f"{directory}/{name}", machine, addons, notes))
                count += max(1, len(found))
            except FsError as error:
                notes.append(f"{directory}/{name} is passed over: {error}")
            else:
                images |= {found[0]: found} if found else {}
    return [item for first in blsrules.order(list(images)) for item in images[first]][:MAX_ITEMS]


def one(filesystem: Filesystem, path: str, number: int) -> Item | None:
    """The profile ``number`` of the image at ``path``, wherever that lies; None for another program.

    Raises Corrupt, the driver's errors, and NotFound for a profile that it does not have.
    """
    file = filesystem.open(path)
    found = profiles(sections(file)[1])
    if ".linux" not in found[0].sections:
        return None
    if number >= len(found):
        raise NotFound(f"{path}, profile {number}")
    notes: list[str] = []
    beside = _beside(filesystem, path, {}, notes)
    return _item(file, path, found[number], _addons(*beside, _text(file, found[number], ".uname").strip(), notes))


def _items(
    filesystem: Filesystem, path: str, machine: str, known: dict[str, Found], notes: list[str]
) -> Iterator[Item]:
    file = filesystem.open(path)
    wanted, found = sections(file)
    if MACHINES.get(machine, wanted) != wanted:
        notes.append(f"{path} is passed over: it is for machine {wanted:#06x}")
        return
    beside = _beside(filesystem, path, known, notes)
    for profile in profiles(found):
        if ".linux" not in profile.sections:
            notes.append(f"{path} is passed over: it has no .linux section")
            return
        addons = _addons(*beside, _text(file, profile, ".uname").strip(), notes)
        yield _item(file, path, profile, addons)


def _item(file: File, path: str, profile: Profile, addons: Addons) -> Item:
    release, about = (_pairs(_text(file, profile, part)) for part in (".osrel", ".profile"))
    name, left, done = blsrules.counter(path.rpartition("/")[2][:-4])
    kernel = _text(file, profile, ".uname").strip()
    title = release.get("PRETTY_NAME") or release.get("NAME") or name
    trees = {".dtb", ".dtbauto"} & profile.sections.keys()
    mark = f"@{profile.number}" if profile.number else ""
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
        options=" ".join(part for part in (blsrules.plain(_text(file, profile, ".cmdline")), addons.options) if part),
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


def _beside(filesystem: Filesystem, path: str, known: dict[str, Found], notes: list[str]) -> tuple[Found, bool]:
    """The addons for all images and then those for the one at ``path``; whether something else lies beside it.

    ``known`` remembers those for all images.
    """
    top, own = path[: max(path.upper().rfind("/EFI/LINUX"), 0)], f"{path}.extra.d"
    everywhere = f"{top}/loader/addons"
    if everywhere not in known:
        known[everywhere], _ = _in_directory(filesystem, everywhere, notes)
    found, more = _in_directory(filesystem, own, notes)
    return known[everywhere] + found, more


def _in_directory(filesystem: Filesystem, directory: str, notes: list[str]) -> tuple[Found, bool]:
    """The addons in ``directory``, and whether there are credentials or extensions."""
    try:
        names = [entry.name for entry in filesystem.listdir(directory)]
    except (NotFound, NotADirectory):
        return [], False
    except FsError as error:
        notes.append(f"{directory}: {error}")
        return [], False
    found: Found = []
    for name in [name for name in names if name.lower().endswith(".addon.efi")][:MAX_ADDONS]:
        try:
            file = filesystem.open(f"{directory}/{name}")
            found.append((file, Profile(0, {section.name: section for section in sections(file)[1]})))
        except FsError as error:
            notes.append(f"{directory}/{name} is passed over: {error}")
    return found, any(name.lower().endswith((".cred", ".raw")) for name in names)


def _addons(found: Found, more: bool, kernel: str, notes: list[str]) -> Addons:
    """What addons add to a profile, as src/boot/stub.c:load_addons and run, systemd 257, have it.

    ``kernel`` is the profile's .uname: an addon that has one is for this kernel alone.
    """
    options, microcode, initrds, trees = [], [], [], False
    for file, own in found:
        try:
            wanted = _text(file, own, ".uname").strip()
            if wanted and kernel and wanted != kernel:
                continue
            options.append(blsrules.plain(_text(file, own, ".cmdline")))
        except FsError as error:
            notes.append(f"{file.path} is passed over: {error}")
            continue
        microcode += [f"{file.path}{MARK}.ucode"] if ".ucode" in own.sections else []
        initrds += [f"{file.path}{MARK}.initrd"] if ".initrd" in own.sections else []
        trees = trees or ".dtb" in own.sections
    remarks = [DEVICE_TREE] if trees else []
    remarks += ["the credentials and extensions beside it are left behind"] if more else []
    return Addons(" ".join(filter(None, options)), tuple(microcode), tuple(initrds), tuple(remarks))


def _text(file: File, profile: Profile, name: str) -> str:
    """A section as text, "" when there is none; raises TooLarge."""
    section = profile.sections.get(name)
    if section is None:
        return ""
    if section.size > MAX_TEXT:
        raise TooLarge(f"{file.path}: section {name}", section.size, MAX_TEXT)
    return file.read(section.offset, section.size).rstrip(b"\0").decode("utf-8", "surrogateescape")
