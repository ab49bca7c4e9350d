"""Unified kernel images: sections of the images that ukify made, and damaged ones."""

from __future__ import annotations

import struct

import pytest
from entrytrees import DATA, Tree, tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsdrivers.errors import Corrupt, FsError, NotFound
from init.entries import uki
from init.entries.item import Listing
from init.kernel import pe

CASE = "systemd-257-type2"
IMAGE = "/EFI/Linux/debian-6.12.41+deb13-amd64+3-1.efi"
PROFILES = "/EFI/Linux/debian-6.9.12-amd64.efi"
RAW = (DATA / CASE / "tree" / IMAGE[1:]).read_bytes()


def listing(image: bytes) -> Listing:
    return uki.entries(Tree({"EFI": {"Linux": {"x.efi": image}}}, "fat"))


def test_sections_are_files() -> None:
    filesystem = tree(CASE)
    wanted = {"linux": b"the kernel of the image\n", "initrd": b"initrd", "ucode": b"microcode\n"}
    for section, content in wanted.items():
        file = pe.open_file(filesystem, f"{IMAGE}#.{section}")
        data = file.read()
        assert data.startswith(content)
        assert file.size == len(data)
        assert file.read(3, 4) == data[3:7]
        assert file.read(2) == data[2:]
        assert file.read(file.size + 5) == b""
    assert pe.open_file(filesystem, f"{PROFILES}#.cmdline@1").read().startswith(b"root=tmpfs")
    assert pe.open_file(filesystem, f"{PROFILES}#.linux@1").read() == wanted["linux"]
    assert pe.open_file(filesystem, IMAGE).read() == RAW


@pytest.mark.parametrize("path", [f"{IMAGE}#.gone", f"{IMAGE}#.ucode@7", f"{IMAGE}#x", "/gone.efi#.linux", "/gone"])
def test_absent_sections(path: str) -> None:
    with pytest.raises(NotFound):
        pe.open_file(tree(CASE), path)


def test_a_file_with_such_a_name_is_itself() -> None:
    assert pe.open_file(Tree({"x#.linux": b"itself"}), "/x#.linux").read() == b"itself"


@pytest.mark.parametrize("image", [b"", b"MZ", b"MZ" + bytes(100), RAW[:1000], RAW[:2000], b"ELF" + RAW[3:]])
def test_no_images(image: bytes) -> None:
    found = listing(image)
    assert not found.items
    assert found.notes


def test_other_machines_and_hostile_numbers() -> None:
    at = struct.unpack_from("<I", RAW, 0x3C)[0]
    assert not listing(RAW[: at + 4] + b"\x64\xaa" + RAW[at + 6 :]).items
    assert "96" in listing(RAW[: at + 6] + b"\xff\xff" + RAW[at + 8 :]).notes[0]
    with pytest.raises(Corrupt):
        pe.sections(Tree({"x": b"MZ" + b"\xff" * 62}).open("/x"))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 1023), st.binary(min_size=1, max_size=8)), min_size=1, max_size=8))
def test_damaged_images_end(edits: list[tuple[int, bytes]]) -> None:
    image = bytearray(RAW)
    for at, value in edits:
        image[at : at + len(value)] = value
    filesystem = Tree({"EFI": {"Linux": {"x.efi": bytes(image)}}}, "fat")
    for item in uki.entries(filesystem).items:
        for path in (item.kernel, *item.initrds):
            try:
                assert len(pe.open_file(filesystem, path).read()) <= len(image)
            except FsError:
                continue
