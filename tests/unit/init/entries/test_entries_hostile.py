"""Broken and hostile boot configurations, each in every source of entries: a note, and the good entry still boots."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from init_doubles import MemoryPool, bzimage, initrd, system
from memoryfs import MemoryFilesystem

from fsdrivers.errors import FsError
from fsdrivers.filesystem import Filesystem, Node, Piece
from init import config, entries
from init.entries import BootEntry
from init.handover import kexec
from init.roots import BootRoot

GOOD = "6.1.0-28"


def grub(kernel: str, archive: str) -> dict[str, Any]:
    return {"grub": {"grub.cfg": f"menuentry 'bad' {{\nlinux {kernel} ro\ninitrd {archive}\n}}\n".encode()}}


def bls(kernel: str, archive: str) -> dict[str, Any]:
    return {"loader": {"entries": {"bad.conf": f"title bad\nlinux {kernel}\ninitrd {archive}\n".encode()}}}


def extlinux(kernel: str, archive: str) -> dict[str, Any]:
    return {"extlinux": {"extlinux.conf": f"label bad\n  linux {kernel}\n  initrd {archive}\n".encode()}}


SOURCES = {"grub": grub, "bls": bls, "extlinux": extlinux}


def tree(source: str, kernel: str, archive: str, **more: Any) -> dict[str, Any]:
    """A system with one good kernel, whose boot loader states an entry for ``kernel`` besides."""
    found: dict[str, Any] = system(GOOD)
    found["boot"] |= {**SOURCES[source](kernel, archive), **more}
    return found


def find(where: dict[str, Any]) -> tuple[list[BootEntry], str]:
    pool = MemoryPool({"@": where})
    notes: list[str] = []
    place = BootRoot(pool, pool.roots()[0], pool.open("@"))
    return entries.find(place, config.read(""), notes.append), "\n".join(notes)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("kernel", "archive"),
    [
        ("/../../../../../../etc/hostname", f"/boot/initrd.img-{GOOD}"),  # this machine has it, the tree has not
        ("/boot", f"/boot/initrd.img-{GOOD}"),
        ("/boot/circle", f"/boot/initrd.img-{GOOD}"),
        ("/boot/outside", f"/boot/initrd.img-{GOOD}"),
        ("/boot/device", f"/boot/initrd.img-{GOOD}"),
        (f"/boot/vmlinuz-{GOOD}", "/boot/gone"),
        (f"/boot/vmlinuz-{GOOD}", "/boot"),
        (f"/boot/vmlinuz-{GOOD}", "/boot/circle"),
        (f"/boot/vmlinuz-{GOOD}", "/boot/outside"),
        ("//////" + "a/" * 4000, "x" * 5000),
    ],
)
def test_an_entry_that_leads_nowhere(source: str, kernel: str, archive: str) -> None:
    links = {"circle": "turn", "turn": "circle", "outside": "../../../../../etc/hostname", "device": "/dev/null"}
    found, notes = find(tree(source, kernel, archive, **links))
    assert [entry.kernel for entry in found] == [f"/boot/vmlinuz-{GOOD}"]
    assert found[0].title != "bad"
    assert "passed over" in notes


@pytest.mark.parametrize("source", SOURCES)
def test_what_lies_above_the_root_is_the_root(source: str) -> None:
    found, _ = find(tree(source, f"/../../boot/../../boot/vmlinuz-{GOOD}", f"/boot/initrd.img-{GOOD}"))
    assert found[0].open_kernel().read(0x1000, 8) == GOOD.encode()


@pytest.mark.parametrize("source", SOURCES)
def test_a_configuration_that_is_a_circle_or_a_directory(source: str) -> None:
    for bad in ("loop", {}):
        where = tree(source, "x", "y")
        name, inside = next(iter(SOURCES[source]("", "").items()))
        file = next(iter(inside))
        where["boot"][name] = {file: bad, "loop": file}
        found, _ = find(where)
        assert [entry.version for entry in found] == [GOOD]
        where["boot"][name] = name
        assert [entry.version for entry in find(where)[0]] == [GOOD]


def test_a_boot_that_is_a_circle() -> None:
    where: dict[str, Any] = system(GOOD)
    where["boot"] = "there"
    where["there"] = "boot"
    assert find(where)[0] == []


class Endless(MemoryFilesystem):
    """Its largest file says that it has 100 MB, and fails the test when it is read."""

    def stat(self, node: Node) -> Any:
        status = super().stat(node)
        return status._replace(size=100_000_000) if self._value(node) == b"huge" else status

    def pieces(self, node: Node, offset: int, length: int) -> Iterator[Piece]:
        assert self._value(node) != b"huge", "nobody reads 100 MB of configuration"
        return super().pieces(node, offset, length)


class EndlessPool(MemoryPool):
    def open(self, root: str | None = None) -> Filesystem:
        return Endless(self.trees[root or "@"], "@")  # type: ignore[arg-type]


@pytest.mark.parametrize("source", [*SOURCES, "os-release", "grub default", "fstab", "cmdline"])
def test_100_mb_of_configuration(source: str) -> None:
    where: dict[str, Any] = system(GOOD)
    if source in SOURCES:
        name, inside = next(iter(SOURCES[source]("", "").items()))
        file = next(iter(inside))
        where["boot"][name] = {file: {"bad.conf": b"huge"} if source == "bls" else b"huge"}
    else:
        where["etc"] |= {
            "os-release": {"os-release": b"huge"}, "grub default": {"default": {"grub": b"huge"}},
            "fstab": {"fstab": b"huge"}, "cmdline": {"kernel": {"cmdline": b"huge"}},
        }[source]  # fmt: skip
    pool = EndlessPool({"@": where})
    notes: list[str] = []
    place = BootRoot(pool, pool.roots()[0], pool.open("@"))
    found = entries.find(place, config.read(""), notes.append)
    assert [entry.version for entry in found] == [GOOD]


def test_a_kernel_that_is_none_is_refused_before_anything_is_loaded() -> None:
    found, _ = find(tree("bls", "/etc/os-release", f"/boot/initrd.img-{GOOD}"))
    (bad,) = [entry for entry in found if entry.title == "bad"]
    with pytest.raises(FsError, match="no bzImage or arm64 Image"):
        kexec.preflight(bad, sys.maxsize, "x86_64")


def test_hundreds_of_thousands_of_names_in_boot() -> None:
    where: dict[str, Any] = system(GOOD)
    where["boot"] |= {f"a{number}": b"" for number in range(200_000)}
    where["boot"] |= {"vmlinuz-9": bzimage("9"), "initrd.img-9": initrd("9")}
    assert sorted(entry.version for entry in find(where)[0]) == [GOOD, "9"]
