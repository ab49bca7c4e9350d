"""`inspect` on ZFS: what it says is what zdb says, and damage is shown as such."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import zstandard
from inspected import PROJECT, Asking, compare_labels, compare_objects, golden, inspect, run
from test_zfs_object_amplifiers import Levels, dnode, pointer

from fsdrivers.desk.inspect import zfs_objects
from fsdrivers.desk.inspect.derived import Structures
from fsdrivers.desk.inspect.report import Field
from fsdrivers.errors import Corrupt
from fsdrivers.zfs import layout

disk = Structures(layout)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The pool `single` of tests/images/zfs_recipes.py."""
    packed = (PROJECT / "tests/images/zfs/single.tar.zst").read_bytes()
    stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(io.BytesIO(packed))
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            if member.name.endswith("d0.img"):
                tar.extract(member, tmp_path)
    return next(tmp_path.rglob("d0.img"))


def changed(image: Path, offset: int, data: bytes) -> None:
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_labels_and_uberblocks_are_what_zdb_says(image: Path) -> None:
    assert compare_labels([image], golden("single.zdb-label.txt")) == 80


def test_objects_are_what_zdb_says(image: Path) -> None:
    assert compare_objects([image], golden("single.zdb-objects.txt")) == 139


def test_a_damaged_label_is_shown_with_what_is_wrong(image: Path) -> None:
    changed(image, layout.LABEL_NVLIST + 0x8000, b"\1")  # behind the list: it can still be read
    first, *others = inspect("-a", str(image), "labels", status=1)
    assert first["problems"] == ["checksum"]
    assert "(wrong, it should be" in first["fields"]["zec_cksum"]["words"]
    assert first["fields"]["name"] == "tank"
    assert len(others) == 3
    assert not any("problems" in one for one in others)
    changed(image, layout.LABEL_NVLIST, b"\7")
    assert "packed list" in inspect("-a", str(image), "labels", status=1)[0]["problems"][1]


def test_a_damaged_uberblock_is_shown_with_what_is_wrong(image: Path) -> None:
    where = layout.LABEL_RING + 4 * 1024 + disk.UBERBLOCK.offset("ub_timestamp")
    changed(image, where, b"\0")
    broken, good = (
        one for one in inspect("-a", str(image), "uberblocks", status=1) if one["structure"] == "uberblock 4"
    )
    assert broken["labels"] == [0]
    assert broken["problems"] == ["label 0: checksum"]
    assert good["labels"] == [1, 2, 3]


def test_a_block_of_pointers_by_its_address(image: Path) -> None:
    (whole,) = Asking([image])("object", "tank", "0")
    blocks = whole["fields"]["blocks"]["fields"]
    dva = blocks["L1 0x0"]["dvas"][0]
    address = f"{dva['vdev']}:{dva['offset']:x}:20000/{blocks['L1 0x0']['psize']:x}"
    (report,) = inspect("-a", str(image), "blkptr", address)
    assert report["fields"] == {"blkptr 0": blocks["L0 0x0"], "blkptr 1": blocks["L0 0x4000"]}
    packed = address.replace("20000/", "")
    assert len(inspect("-a", str(image), "blkptr", packed, status=None)) == 1


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("object", "tank"), 2), (("object", "tank", "x"), 2), (("blkptr", "0:200"), 2), (("blkptr", "0:1:200"), 2),
        (("object", "nothing", "1"), 1), (("object", "tank", "4711"), 1), (("blkptr", "7:0:200"), 1),
        (("super",), 1), (("labels", "1"), 2),
    ],
)  # fmt: skip
def test_what_is_not_there_and_what_makes_no_sense(image: Path, arguments: tuple[str, ...], status: int) -> None:
    assert run("-a", str(image), *arguments, status=status) == ""


def test_devices_without_labels(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(bytes(1 << 21))
    for what in ("labels", "uberblocks", "mos"):
        assert run("-a", str(empty), what, status=1) == ""


def test_names_do_not_forge_lines(image: Path) -> None:
    """A name with a line break is one line, on a terminal or not."""
    raw = image.read_bytes()
    at = raw.index(b"/out/pool/d0.img", layout.LABEL_NVLIST)
    changed(image, at, b"\n\x1b[31mwrong")
    text = run("-a", str(image), "labels", status=1)
    assert "\\x0a\\x1b[31mwrong" in text
    assert "\x1b" not in text


def test_pointers_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of pointers that all lead to the same few blocks: data, and holes that were born some time."""
    monkeypatch.setattr(zfs_objects, "MAX_POINTERS", 5000)
    for lowest in (pointer(0, 512), disk.BLKPTR(blk_birth=7)):
        found: list[Field] = []
        with pytest.raises(Corrupt, match="only the first 5000"):
            found.extend(zfs_objects._blocks(dnode(Levels(lowest))))
        assert len(found[0].inner) <= 5000
