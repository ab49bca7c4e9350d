"""Noise and damage for the small parsers: whatever they read, they end, quickly, with text that a console can show."""

from __future__ import annotations

import gzip
import os

from hypothesis import given
from hypothesis import strategies as st
from init_doubles import MemoryPool, place, system

from artefacts import cpio
from init import config, entries
from init.entries import dialect, extlinux, grubenv, snapshots
from init.entries.item import MAX_ITEMS
from init.kernel.files import MemoryFile
from init.roots import BootRoot

XML = st.sampled_from(["<description>", "</description>", "<date>", "</date>", "2024-05-01", "&lt;", "\x1b[2J"])
JSON = st.sampled_from(['"comments"', ":", '"', "\\u00", "\\", "\\u0007", "x", "\n", "\x9b"])


@given(st.lists(XML, max_size=20).map("".join) | st.text(max_size=200), st.lists(JSON, max_size=20).map("".join))
def test_descriptions(xml: str, json: str) -> None:
    day = "2024-99-01_12-30-00"
    date = f"timeshift-btrfs/snapshots/{day}"
    pool = MemoryPool(
        {"/": {"timeshift-btrfs": {"snapshots": {day: {"info.json": json.encode("utf-8", "replace")}}}},
         "@": system("1"), "@/.snapshots": {"7": {"info.xml": xml.encode("utf-8", "replace")}},
         "@/.snapshots/7/snapshot": {}, f"{date}/@": {}},
        readonly=("@/.snapshots/7/snapshot",),
    )  # fmt: skip
    at = BootRoot(pool, pool.roots()[1], pool.open("@"))
    found = snapshots.described(snapshots.of(at, lambda note: None))
    assert len(found) == 2
    for one in found:
        assert one.title.isprintable()
        assert len(one.title) < 200


@given(st.text(max_size=80), st.lists(st.sampled_from(["a=", "b\\\n", "\\", "\n", "#", "="])).map("".join))
def test_environment_blocks(text: str, more: str) -> None:
    for found in (grubenv.parse(text), grubenv.parse(grubenv.SIGNATURE + more + text)):
        assert found is None or len(found) <= grubenv.MAX_VARIABLES


EARLY = cpio.Archive()
EARLY.file("kernel/x86/microcode/GenuineIntel.bin", b"m" * 700)
MAIN = cpio.Archive()
MAIN.file("scripts/zfs", b"#!/bin/sh")
INITRD = EARLY.pack() + gzip.compress(MAIN.pack())


EDITS = st.tuples(st.integers(0, len(INITRD) - 1), st.binary(min_size=1, max_size=9))


@given(st.lists(EDITS, max_size=6), st.integers(0))
def test_damaged_initrds(edits: list[tuple[int, bytes]], length: int) -> None:
    data = bytearray(INITRD)
    for at, new in edits:
        data[at : at + len(new)] = new
    whole = MemoryFile("initrd", data)
    assert dialect._inside(whole) in (*dialect.PREFIXES, "")
    assert dialect._inside(MemoryFile("initrd", data[: length % len(data)])) in (*dialect.PREFIXES, "")
    assert edits or dialect._inside(whole) == dialect.INITRAMFS_TOOLS


@given(st.binary(max_size=300))
def test_any_bytes_in_any_configuration(noise: bytes) -> None:
    tree = system("6.1", fstab=noise, default={"grub": noise}, kernel={"cmdline": noise}, **{"os-release": noise})
    boot = {
        "grub": {"grub.cfg": noise, "grubenv": noise}, "extlinux": {"extlinux.conf": noise},
        "loader": {"entries": {"x.conf": noise}, "loader.conf": noise}, "EFI": {"Linux": {"x.efi": b"MZ" + noise}},
    }  # fmt: skip
    tree["boot"] |= boot  # type: ignore[operator]
    found = entries.find(place(tree), config.read(""), lambda note: None)
    assert "6.1" in [entry.version for entry in found]
    assert len(found) <= MAX_ITEMS


def test_extlinux_with_includes_in_a_circle() -> None:
    other = b"include extlinux.conf\nlabel x\n linux /k\n"
    tree: dict[str, object] = {"extlinux": {"extlinux.conf": b"include a\n", "a": other}, "k": b"k"}
    found = extlinux.entries(place(tree).filesystem)
    assert len(found.items) <= extlinux.MAX_INCLUDES
    assert any("it includes itself" in note for note in found.notes)


def test_noise_of_this_size_is_noise() -> None:
    assert dialect._inside(MemoryFile("initrd", os.urandom(1 << 20))) in ("", *dialect.PREFIXES)
