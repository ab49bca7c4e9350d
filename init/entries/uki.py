"""Unified kernel images, type 2 of the Boot Loader Specification: kernel, initrd and command line in one PE file.

Sources: UAPI.5 Unified Kernel Image; src/boot/stub.c and pe.c of systemd 257; Microsoft's PE/COFF specification.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from fsdrivers.errors import Corrupt, FsError, NotADirectory, NotFound, TooLarge
from fsdrivers.filesystem import File, Filesystem, Piece
from init.entries import bls
from init.entries.item import DEVICE_TREE, MAX_ITEMS, Item, Listing

DIRECTORIES = ("/EFI/Linux", "/boot/EFI/Linux", "/efi/EFI/Linux", "/boot/efi/EFI/Linux")
MAX_SECTIONS = 96  # the PE format's own limit
MAX_TEXT = 1 << 16  # bytes of a section that is text
MAX_PROFILES = 64
MAX_ADDONS = 32  # in one directory
MARK = "#"  # between the path of a PE file and the name of its section

# DOS header: 0x00 "MZ", 0x3C u32 offset of the PE header.  PE header: "PE\0\0", then the COFF header: 0x00 machine u16,
# 0x02 number of sections u16, 0x10 size of the optional header u16, 0x12 characteristics u16.
_DOS_SIZE, _PE_AT = 0x40, struct.Struct("<I")
_COFF = struct.Struct("<4sHHIIIHH")
# Section header: 0x00 name, 0x08 virtual size u32, 0x0C virtual address u32, 0x10 raw size u32, 0x14 raw offset u32
_SECTION = struct.Struct("<8sIIIIIIHHI")
MACHINES = {"x86_64": 0x8664, "aarch64": 0xAA64, "riscv64": 0x5064, "loongarch64": 0x6264}


class Section(NamedTuple):
    """One section: where its bytes are in the file, in bytes."""

    name: str
    offset: int
    size: int


class Addons(NamedTuple):
    """What lies beside an image for its stub: words for the command line, sections of addons, and what is not taken."""

    options: str = ""
    microcode: tuple[str, ...] = ()
    initrds: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


class Profile(NamedTuple):
    """What one profile of an image is made of: sections by name, its own in place of the shared ones."""

    number: int
    sections: dict[str, Section]


Found = list[tuple[File, Profile]]  # addons with their sections


def sections(file: File) -> tuple[int, list[Section]]:
    """The machine and the sections of a PE file.  Raises Corrupt, or the driver's errors."""
    head = file.read(0, _DOS_SIZE)
    if len(head) < _DOS_SIZE or head[:2] != b"MZ":
        raise Corrupt(file.path, "PE file", 0, b"MZ", head[:2])
    (at,) = _PE_AT.unpack_from(head, 0x3C)
    raw = file.read(at, _COFF.size) if at < file.size else b""
    if len(raw) < _COFF.size or raw[:4] != b"PE\0\0":
        raise Corrupt(file.path, "PE header", at, b"PE\0\0", raw[:4])
    _, machine, count, _, _, _, optional, _ = _COFF.unpack(raw)
    if count > MAX_SECTIONS:
        raise Corrupt(file.path, "number of PE sections", at + 6, f"at most {MAX_SECTIONS}", count)
    start = at + _COFF.size + optional
    table = file.read(start, count * _SECTION.size) if start < file.size else b""
    if len(table) < count * _SECTION.size:
        raise Corrupt(file.path, "PE section table", start)
    found = []
    for name, virtual, _, size, offset, *_ in _SECTION.iter_unpack(table):
        # The raw size is rounded up to the file's alignment, the virtual one is what was put in.
        length = min(virtual, size) if virtual else size
        label = name.rstrip(b"\0").decode("ascii", "replace")
        if offset + length > file.size:
            raise Corrupt(file.path, f"PE section {label}", offset, f"{length} bytes", file.size - offset)
        found.append(Section(label, offset, length))
    return machine, found


def profiles(found: list[Section]) -> list[Profile]:
    """The profiles: sections before the first ".profile" are shared by all of them."""
    shared: dict[str, Section] = {}
    split: list[dict[str, Section]] = []
    for section in found:
        if section.name == ".profile":
            split.append({})
        (split[-1] if split else shared).setdefault(section.name, section)
    return [Profile(number, shared | own) for number, own in enumerate(split[:MAX_PROFILES] or [{}])]


def entries(filesystem: Filesystem, machine: str = "x86_64") -> Listing:
    """The unified kernel images in ``filesystem``, one entry for each profile, newest first."""
    notes: list[str] = []
    items = collect(filesystem, machine, notes)
    index, named = bls.default(filesystem, items, notes)
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
    return [item for first in bls.order(list(images)) for item in images[first]][:MAX_ITEMS]


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
    name, left, done = bls.counter(path.rpartition("/")[2][:-4])
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
        options=" ".join(part for part in (bls.plain(_text(file, profile, ".cmdline")), addons.options) if part),
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
            options.append(bls.plain(_text(file, own, ".cmdline")))
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


class Part(File):
    """A stretch of another file, as a file of its own."""

    def __init__(self, whole: File, path: str, offset: int, size: int) -> None:
        self._whole, self._offset = whole, offset
        self.path, self.size = path, size

    def pieces(self, offset: int = 0, length: int | None = None) -> Iterator[Piece]:
        rest = max(0, self.size - offset)
        wanted = rest if length is None else min(length, rest)
        for piece in self._whole.pieces(self._offset + offset, wanted):
            yield piece._replace(offset=piece.offset - self._offset)


def open_file(filesystem: Filesystem, path: str) -> File:
    """The file that an Item's kernel or initrd names: a whole file, or a section of a PE file ("x.efi#.initrd@1").

    Raises the driver's errors, NotFound for a section that is not there, and Corrupt.
    """
    name, mark, wanted = path.rpartition(MARK)
    if not mark or not wanted.startswith(".") or filesystem.exists(path):
        return filesystem.open(path)
    file = filesystem.open(name)
    section, _, number = wanted.partition("@")
    for profile in profiles(sections(file)[1]):
        if str(profile.number) == (number or "0") and section in profile.sections:
            found = profile.sections[section]
            return Part(file, path, found.offset, found.size)
    raise NotFound(path)
