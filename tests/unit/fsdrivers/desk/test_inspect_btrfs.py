"""`inspect` on btrfs: what it says is what btrfs-progs says, and damage is shown as such."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from inspected import PROJECT, compare_supers, compare_trees, golden, inspect, run, start_image

from fsdrivers.btrfs import layout
from fsdrivers.btrfs.checksum import TYPES
from fsdrivers.btrfs.tree import Pointer
from fsdrivers.desk.inspect import btrfs
from fsdrivers.desk.inspect.derived import Structures

disk = Structures(layout)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return start_image(tmp_path / "start.img")


def test_superblocks_are_what_dump_super_says(image: Path) -> None:
    assert compare_supers(image, golden("start.dump-super.txt")) > 70


def test_trees_are_what_dump_tree_says(image: Path) -> None:
    assert compare_trees([image], golden("start.dump-tree.txt")) > 300


def changed(image: Path, offset: int, data: bytes) -> None:
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_a_damaged_superblock_is_shown_with_what_is_wrong(image: Path) -> None:
    changed(image, 0x10000 + disk.SUPERBLOCK.offset("generation"), b"\x77")
    (report,) = inspect("-a", str(image), "super", status=1)
    assert report["fields"]["generation"] == 0x77
    right = TYPES[1].sum(image.read_bytes()[0x10020:0x11000]).hex()
    assert report["fields"]["csum"]["words"].endswith(f"(wrong, it should be {right})")
    assert "superblock checksum" in report["problems"][0]
    assert "wrong: " in run("-a", str(image), "super", status=1)


def test_copies_that_are_not_there(image: Path) -> None:
    with image.open("r+b") as file:
        file.truncate(0x4000000 + 0x1000)
    first, second = inspect("-a", str(image), "super", status=1)
    assert "problems" not in first
    assert second["problems"] == ["there is none: the magic is missing"]


def test_offsets_are_those_of_the_structure(image: Path) -> None:
    (report,) = inspect("-a", str(image), "super", "--offsets")
    raw = image.read_bytes()[0x10000:0x11000]
    found = report["fields"]
    for name in ("generation", "root", "nodesize"):
        at, size = found[name]["at"], found[name]["size"]
        assert at == disk.SUPERBLOCK.offset(name)
        assert int.from_bytes(raw[at : at + size], "little") == found[name]["value"]
    stripe = found["sys_chunk_array"]["fields"]["0"]["fields"]["stripe 0"]["fields"]["devid"]
    assert raw[stripe["at"]] == stripe["value"] == 1
    assert "0x0048     8    generation" in run("-a", str(image), "super", "--offsets")


def test_a_damaged_node_is_shown_and_the_others_too(image: Path) -> None:
    (report,) = inspect("-a", str(image), "tree", "fs")
    at = report["address"]
    changed(image, at + disk.HEADER.offset("owner"), b"\x63")  # one device without redundancy: addresses are offsets
    for command in (("node", hex(at)), ("tree", "fs")):
        (broken,) = inspect("-a", str(image), *command, status=1)
        assert "(wrong, it should be" in broken["fields"]["csum"]["words"]
        assert broken["fields"]["owner"] == 0x63
        assert broken["fields"]["item 0"] == report["fields"]["item 0"]
        assert "checksum" in broken["problems"][0]
    assert len(inspect("-a", str(image), "tree", "root")) == 1


def test_a_chunk_around_an_address(image: Path) -> None:
    assert len(inspect("-a", str(image), "chunk")) == 2
    (report,) = inspect("-a", str(image), "chunk", "0x500010")
    assert report["address"] == 0x500000
    assert report["fields"]["address, copy 0"] == {
        "device": str(image),
        "offset": 0x500010,
    }
    assert "outside of every chunk" in failed("-a", str(image), "chunk", "1", status=1)


def failed(*arguments: str, status: int) -> str:
    command = [sys.executable, "-m", "fsdrivers", "inspect", *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.startswith("fsdrivers: error: " if status == 1 else ("fsdrivers: error: ", "usage: "))
    return done.stderr


def test_what_makes_no_sense_is_usage(image: Path) -> None:
    name = str(image)
    assert "inspect node ADDRESS" in failed("-a", name, "node", status=2)
    assert "x is no number" in failed("-a", name, "node", "x", status=2)
    assert "inspect super" in failed("-a", name, "super", "1", status=2)
    assert "invalid choice" in failed("-a", name, "nothing", status=2)


def test_what_is_not_there_is_one_error(image: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(bytes(1 << 20))
    assert "no btrfs superblock on" in failed("-a", str(empty), "super", status=1)
    assert "no pool found on" in failed("-a", str(empty), "tree", "fs", status=1)
    assert "no tree 4711" in failed("-a", str(image), "tree", "4711", status=1)
    assert "no log tree" in failed("-a", str(image), "tree", "log", status=1)


def test_without_construct_it_says_what_to_install(image: Path) -> None:
    script = (
        "import sys; sys.modules['construct'] = None; from fsdrivers.desk import cli; "
        f"sys.exit(cli.main(['inspect', '-a', {str(image)!r}, 'super']))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "fsdrivers: error: inspect needs the Python package construct: pip install construct\n"


def test_a_leaf_whose_items_have_the_same_bytes() -> None:
    """Or one leaf of 64 KiB would be shown two thousand times."""
    size, count = 65536, 2000
    data = disk.INODE_REF_ITEM(index=1) * 900
    head = disk.HEADER(nritems=count)
    one = disk.ITEM(key={"objectid": 1, "type": layout.INODE_REF}, offset=size - len(data) - len(head), size=len(data))
    raw = head + one * count
    found, problems = btrfs._items(raw.ljust(size - len(data), b"\0") + data)
    assert len(found) == count
    assert len(problems) > count - 10
    assert sum(len(field.inner) for field in found) < 2 * count + size // disk.INODE_REF_ITEM.size


def test_a_tree_that_leads_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    pointers = disk.KEY_PTR(blockptr=0x1000) + disk.KEY_PTR(key={"objectid": 1}, blockptr=0x1000)
    raw = (disk.HEADER(nritems=2, level=2) + pointers).ljust(4096, b"\0")
    reader = object.__new__(btrfs.Reader)

    def see(bytenr: int, pointer: Pointer | None = None) -> btrfs.Seen:
        return btrfs.Seen(bytenr, raw, (btrfs.Copy("d", 0, raw, ""),), ())

    monkeypatch.setattr(reader, "see", see)
    seen = list(reader.walk(Pointer(0x1000, 2, 0, 5)))
    assert [one.bytenr for one in seen] == [0x1000] * 3
    assert "more than once" in seen[1].problems[0]
