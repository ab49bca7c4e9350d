"""Unified kernel images while Secure Boot is on: whole as they were signed, or not at all."""

from __future__ import annotations

import gzip
import struct
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from entrytrees import DATA
from init_doubles import MemoryPool, bzimage, place, system
from memoryfs import MemoryFilesystem
from test_entries_stated import Pool, esp

from fsdrivers.block import FileDevice
from fsdrivers.errors import Unsupported
from fsdrivers.filesystem import File
from init import config, entries, handover
from init.config import BootConfig
from init.entries import BootEntry, stated
from init.firmware import efivars
from init.firmware.bootvars import BootMenu, LoadOption
from init.firmware.efivars import Variables
from init.handover import firmware
from init.kernel import formats
from init.people.menu import EDIT, WHOLE, Menu, details
from init.people.rescue import entry_lines
from init.refused import Refused
from init.roots import BootRoot

OTHER = "0f6c2a8e-1f7d-4c55-9a3e-5f0d8f8f2a11"
ROOT = "5f0e1b7c-8f5a-4d0b-9a53-0c6f1de2a001"
CASE = DATA / "systemd-257-type2" / "tree"
SECURE = BootConfig(secure=True)


def image(*sections: tuple[bytes, bytes]) -> bytes:
    """A PE file of sections, with a table of signatures that holds something."""
    head = bytearray(0x80)
    head[:2] = b"MZ"
    struct.pack_into("<I", head, 0x3C, 0x80)
    optional = bytearray(0xF0)
    struct.pack_into("<H", optional, 0, 0x20B)
    struct.pack_into("<H", optional, 0x44, 10)
    struct.pack_into("<I", optional, 0x6C, 16)
    start = 0x80 + 24 + 0xF0 + 40 * len(sections)
    table, body = b"", b""
    for name, data in sections:
        table += struct.pack("<8sIIIIIIHHI", name, len(data), 0x1000, len(data), start + len(body), 0, 0, 0, 0, 0x60)
        body += data
    struct.pack_into("<II", optional, 0x70 + 32, start + len(body), 8)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, len(sections), 0, 0, 0, 0xF0, 0x22)
    return bytes(head) + coff + bytes(optional) + table + body + b"SIGNATUR"


def uki(cmdline: bytes = b"root=UUID=" + ROOT.encode() + b" ro quiet", initrd: bytes = b"initrd") -> bytes:
    return image((b".osrel", b"ID=x\n"), (b".uname", b"6.1"), (b".cmdline", cmdline), (b".linux", bzimage("6.1")),
                 (b".initrd", initrd))  # fmt: skip


@pytest.fixture
def on_esp(tmp_path: Path) -> Callable[..., list[BootEntry]]:
    """Makes the entries of an ESP with these files; the root that they name is there."""

    def make(files: dict[str, bytes], settings: BootConfig = SECURE) -> list[BootEntry]:
        top = tmp_path / "files"
        for path, data in files.items():
            (top / path).parent.mkdir(parents=True, exist_ok=True)
            (top / path).write_bytes(data)
        pool = Pool({"@": system()}, uuid=ROOT)
        places = [BootRoot(pool, root, pool.open(root.name)) for root in pool.roots()]
        return list(stated.on_partitions([esp(tmp_path / "disk.img", top)], places, settings, print))

    return make


@pytest.fixture
def variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Variables:
    (tmp_path / "efivars").mkdir()
    found = Variables(str(tmp_path / "efivars"))
    found.set("SecureBoot", efivars.GLOBAL, b"\1")
    monkeypatch.setattr(efivars, "Variables", lambda: found)
    return found


ADDON = image((b".cmdline", b"init=/bin/sh"), (b".initrd", b"EVIL"))
FILES = {"EFI/Linux/x.efi": uki(), "loader/addons/a.addon.efi": ADDON, "EFI/Linux/x.efi.extra.d/b.addon.efi": ADDON}


def test_without_secure_boot_it_is_taken_apart_as_ever(on_esp: Callable[..., list[BootEntry]]) -> None:
    (found,) = on_esp(FILES, BootConfig())
    assert found.kernel == "/EFI/Linux/x.efi#.linux"
    assert found.initrds[0] == "/EFI/Linux/x.efi#.initrd"
    assert found.whole is None
    assert "init=/bin/sh" in found.cmdline


@pytest.mark.parametrize("settings", [SECURE, BootConfig(require_uki=True)])
def test_nothing_of_it_is_taken(on_esp: Callable[..., list[BootEntry]], settings: BootConfig) -> None:
    (found,) = on_esp(FILES, settings)
    assert (found.kernel, found.initrds, found.cmdline) == ("/EFI/Linux/x.efi", (), "")
    assert found.whole
    assert found.whole.partition
    assert found.whole.path == "/EFI/Linux/x.efi"
    assert found.sort_key[0]
    assert not any("initrd" in note for note in found.notes)
    assert found.describe().endswith("kernel=/EFI/Linux/x.efi initrd=its-own cmdline=its-own")
    assert dict(details(found))["cmdline"] == "its own"
    assert "    cmdline its own" in entry_lines(1, found)
    with pytest.raises(Unsupported, match="whole by the firmware, or not at all"):
        found.open_kernel(True)


def test_profiles_are_asked_for_by_number(on_esp: Callable[..., list[BootEntry]]) -> None:
    name = "EFI/Linux/debian-6.9.12-amd64.efi"
    found = on_esp({name: (CASE / name).read_bytes()})
    assert {entry.cmdline for entry in found} <= {"", "@1", "@2", "@3"}
    assert all(entry.kernel == f"/{name}" for entry in found)


@pytest.mark.parametrize("wrap", [bytes, gzip.compress, lambda data: gzip.compress(gzip.compress(data))])
def test_no_wrapping_leads_around_it(wrap: Callable[[bytes], bytes]) -> None:
    files = MemoryFilesystem({"vmlinuz": wrap(uki()), "plain": wrap(bzimage("6.1"))})
    assert formats.open_kernel(files, "/vmlinuz").size == len(bzimage("6.1"))
    assert formats.open_kernel(files, "/plain", True).size == len(bzimage("6.1"))
    with pytest.raises(Unsupported, match="unified image"):
        formats.open_kernel(files, "/vmlinuz", True)


def test_a_section_is_no_kernel_either() -> None:
    files = MemoryFilesystem({"x.efi": uki()})
    with pytest.raises(Unsupported, match="unified image"):
        formats.open_kernel(files, "/x.efi#.linux", True)


def test_an_entry_of_type_1_that_names_one(on_esp: Callable[..., list[BootEntry]], variables: Variables) -> None:
    """kexec does not take it; the firmware gets the whole file, whose stub has a command line of its own."""
    conf = f"linux /x.efi\ninitrd /evil\noptions root=UUID={ROOT} init=/bin/sh\n".encode()
    (found,) = on_esp({"loader/entries/a.conf": conf, "x.efi": uki(), "evil": b"e"})
    with pytest.raises(Unsupported, match="unified image"):
        found.open_kernel(SECURE.whole)


def test_the_firmware_starts_it_where_it_lies(on_esp: Callable[..., list[BootEntry]], variables: Variables) -> None:
    (found,) = on_esp(FILES)
    said: list[str] = []
    for _ in range(firmware.TRIES):
        firmware.stage(found, SECURE, said.append)
    option = next_option(variables)
    assert option.file == "\\EFI\\Linux\\x.efi"
    assert option.data == b""
    assert option.description.startswith("poolboot: ")
    assert said[-1] == f"the firmware starts {option.name} next: /EFI/Linux/x.efi on {found.source}, whole"
    with pytest.raises(Refused, match="told 3 times"):
        firmware.stage(found, SECURE, said.append)
    moved = found.place.root._replace(generation=found.place.root.generation + 1)
    firmware.stage(found._replace(place=found.place._replace(root=moved), cmdline="@2"), SECURE, said.append)
    assert next_option(variables).data == "@2\0".encode("utf-16-le")


def next_option(variables: Variables) -> LoadOption:
    menu = BootMenu(variables)
    return next(one for one in menu.options() if one.number == menu.next())


def test_boot_counting_renames_it_before_the_firmware_looks(
    on_esp: Callable[..., list[BootEntry]], variables: Variables
) -> None:
    (found,) = on_esp({"EFI/Linux/x+3.efi": uki()})
    firmware.stage(found, SECURE, print)
    assert next_option(variables).file == "\\EFI\\Linux\\x+2-1.efi"


def test_what_nobody_signed_is_not_started(on_esp: Callable[..., list[BootEntry]], variables: Variables) -> None:
    data = bytearray(uki())
    struct.pack_into("<II", data, 0x80 + 24 + 0x70 + 32, 0, 0)
    (found,) = on_esp({"EFI/Linux/x.efi": bytes(data)})
    with pytest.raises(Refused, match="is not signed, and Secure Boot is on"):
        firmware.stage(found, SECURE, print)
    assert BootMenu(variables).next() is None


def test_nothing_goes_behind_its_initrd(on_esp: Callable[..., list[BootEntry]], variables: Variables) -> None:
    (found,) = on_esp(FILES)
    archive: File = MemoryFilesystem({"a.cpio": b"07"}).open("/a.cpio")
    with pytest.raises(Refused, match="append-initrd"):
        firmware.stage(found._replace(appended=(archive,)), SECURE, print)


def test_its_command_line_is_not_edited(on_esp: Callable[..., list[BootEntry]]) -> None:
    shown = Menu(on_esp(FILES))
    shown.key("e")
    assert (shown.page == EDIT, shown.message) == (False, WHOLE)


def test_in_a_root_it_lies_where_no_firmware_looks() -> None:
    tree = system()
    tree["EFI"] = {"Linux": {"x.efi": uki(b"ro quiet")}}
    found = [one for one in entries.find(place(tree), SECURE, print) if one.whole]
    assert [one.whole.partition for one in found if one.whole] == [None]


def test_with_require_uki_nothing_else_is_booted() -> None:
    pool = MemoryPool({"@": system("6.1")})
    root = BootRoot(pool, pool.roots()[0], pool.open("@"))
    settings = config.read("poolboot.require-uki")
    (entry,) = entries.find(root, settings, print)
    with pytest.raises(Refused, match="is no unified kernel image, and poolboot"):
        handover.stage(entry, settings, print)


def test_staging_is_for_the_disk_that_we_came_from(tmp_path: Path, variables: Variables) -> None:
    """Somebody's stick with an ESP that is called poolboot is not written to, although no other is called so."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "x").write_bytes(b"x")
    ours, theirs = esp(tmp_path / "ours.img", tmp_path / "files"), esp(tmp_path / "theirs.img", tmp_path / "files")
    subprocess.run(["sfdisk", "-q", "--part-label", tmp_path / "theirs.img", "1", "poolboot"], check=True)
    subprocess.run(["sfdisk", "-q", "--part-uuid", tmp_path / "theirs.img", "1", OTHER], check=True)
    theirs = FileDevice(str(tmp_path / "theirs.img"))
    assert firmware.staging_place([ours, theirs], BootConfig(), variables).parent is theirs
    with pytest.raises(Refused, match="which disk is ours"):
        firmware.staging_place([ours, theirs], SECURE, variables)
    variables.set("StubInfo", efivars.LOADER, efivars.ucs2("systemd-stub 257"))
    variables.set("LoaderDevicePartUUID", efivars.LOADER, efivars.ucs2(str(uuid.UUID(int=7))))
    for settings in (BootConfig(), SECURE):
        with pytest.raises(Refused, match="called poolboot: there is none"):
            firmware.staging_place([ours, theirs], settings, variables)
    named = SECURE._replace(esp=f"PARTUUID={OTHER}")
    assert firmware.staging_place([ours, theirs], named, variables).parent is theirs
