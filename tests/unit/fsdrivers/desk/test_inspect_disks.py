"""`inspect gpt` and `inspect fat`: what they say is what sfdisk and dosfstools say, and damage is shown as such."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest
from inspected import inspect, run
from test_partitions import SFDISK

from fsdrivers import partitions
from fsdrivers.desk.inspect.derived import Structures
from fsdrivers.fat import layout as fat

disk = Structures(partitions)
MKFS, FSCK = (shutil.which(name) or f"/usr/sbin/{name}" for name in ("mkfs.fat", "fsck.fat"))

TABLE = """label: gpt
label-id: 11111111-2222-3333-4444-555555555555
first-lba: 2048
size=8M, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name="EFI \u00e4", attrs="LegacyBIOSBootable GUID:63"
size=4M, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=99999999-8888-7777-6666-555555555555
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run([SFDISK, "-q", path], input=TABLE, text=True, check=True)
    return path


def changed(image: Path, offset: int, data: bytes) -> None:
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_a_table_is_what_sfdisk_says(image: Path) -> None:
    done = subprocess.run([SFDISK, "--json", image], capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout)["partitiontable"]
    mbr, head, *entries, backup, first, second = inspect("-a", str(image), "gpt")
    assert mbr["fields"]["entry 1"]["type"]["words"] == "0xee (protective, of a GPT)"
    for one, kind in ((head, "GPT header"), (backup, "GPT header, backup")):
        found = one["fields"]
        assert one["structure"] == kind
        assert found["disk_guid"] == theirs["id"].lower()
        assert (found["first_usable_lba"], found["last_usable_lba"]) == (theirs["firstlba"], theirs["lastlba"])
        assert "(right)" in found["header_crc32"]["words"]
        assert "(right)" in found["partition_entry_array_crc32"]["words"]
    assert [one["fields"] for one in entries] == [first["fields"], second["fields"]]
    assert len(entries) == len(theirs["partitions"])
    for mine, wanted in zip(entries, theirs["partitions"], strict=True):
        found = mine["fields"]
        assert found["starting_lba"] == wanted["start"]
        assert found["ending_lba"] - found["starting_lba"] + 1 == wanted["size"]
        assert found["partition_type_guid"]["value"] == wanted["type"].lower()
        assert found["unique_partition_guid"] == wanted["uuid"].lower()
        assert found["partition_name"] == wanted.get("name", "")
    assert entries[0]["fields"]["attributes"]["words"] == "0x8000000000000004 (legacy BIOS bootable | no automount)"


def test_a_damaged_table_is_shown_with_what_is_wrong(image: Path) -> None:
    changed(image, 512 + disk.GPT_HEADER.offset("first_usable_lba"), b"\x77")
    changed(image, 1024 + disk.GPT_ENTRY.offset("ending_lba"), b"\xff" * 8)
    reports = {report["structure"]: report for report in reversed(inspect("-a", str(image), "gpt", status=1))}
    head = reports["GPT header"]
    assert head["problems"] == ["header_crc32", "partition_entry_array_crc32"]
    raw = image.read_bytes()[512 : 512 + 92]
    right = zlib.crc32(raw[:0x10] + bytes(4) + raw[0x14:])
    assert head["fields"]["header_crc32"]["words"].endswith(f"(wrong, it should be {right:#010x})")
    assert reports["GPT entry 1"]["problems"] == ["it lies outside of the usable blocks"]
    assert "problems" not in reports["GPT header, backup"]


def test_a_header_that_asks_for_everything(image: Path) -> None:
    """Neither a table of four thousand million entries nor one beyond the disk is read."""
    at = 512 + disk.GPT_HEADER.offset("num_partition_entries")
    changed(image, at, b"\xff" * 8)
    found = inspect("-a", str(image), "gpt", status=1)
    assert "4294967295 entries of 4294967295 bytes" in found[1]["problems"]
    changed(image, at, b"\0\1\0\0\200\0\0\0")
    changed(image, 512 + disk.GPT_HEADER.offset("partition_entry_lba"), b"\xff" * 7)
    assert "its entries cannot be read" in inspect("-a", str(image), "gpt", status=1)[1]["problems"]


@pytest.mark.parametrize(("bits", "kibibytes"), [(12, 1440), (16, 16384), (32, 65536)])
def test_a_boot_sector_is_what_fsck_says(bits: int, kibibytes: int, tmp_path: Path) -> None:
    path = tmp_path / "fat.img"
    with path.open("wb") as file:
        file.truncate(kibibytes << 10)
    subprocess.run([MKFS, "-F", str(bits), "-i", "1234ABCD", "-n", "BOOTDISK", path], check=True, capture_output=True)
    text = subprocess.run([FSCK, "-vn", path], capture_output=True, text=True, check=True).stdout

    def said(pattern: str) -> int:
        found = re.search(pattern, text)
        assert found is not None, text
        return int(found[1], 0)

    report, *backup = inspect("-a", str(path), "fat")
    found = report["fields"]
    sector = found["sector_size"]
    assert sector == said(r"(\d+) bytes per logical sector")
    assert found["sec_per_clus"] * sector == found["bytes per cluster"] == said(r"(\d+) bytes per cluster")
    assert found["reserved"] == said(r"(\d+) reserved sector")
    assert found["fats"] == said(r"(\d+) FATs?, \d+ bit")
    assert found["FAT bits"] == bits == said(r"FATs?, (\d+) bit")
    assert (found["length"] if bits == 32 else found["fat_length"]) == said(r"bytes per FAT \(= (\d+) sector")
    assert found["data starts at"] == said(r"Data area starts at byte (\d+)")
    assert found["clusters"] == said(r"(\d+) data clusters")
    assert found["media"]["value"] == said(r"Media byte (0x\w+)")
    assert (found["heads"], found["secs_track"]) == (said(r"(\d+) heads"), said(r"(\d+) sectors/track"))
    assert (found["sectors"] or found["total_sect"]) == said(r"(\d+) sectors total")
    if bits == 32:
        assert found["root_cluster"] == said(r"Root directory start at cluster (\d+)")
    else:
        assert found["dir_entries"] == said(r"(\d+) root directory entries")
    assert found["system_id"] == "mkfs.fat"
    assert (found["vol_id"]["words"], found["vol_label"]) == ("1234-ABCD", "BOOTDISK")
    assert [one["offset"] for one in backup] == ([6 * sector] if bits == 32 else [])
    changed(path, Structures(fat).BOOT_SECTOR.offset("reserved"), b"\0\0")
    assert "no FAT boot sector" in inspect("-a", str(path), "fat", status=1)[0]["problems"][0]


def test_nothing_there(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(bytes(1 << 20))
    for what in ("gpt", "fat"):
        assert run("-a", str(empty), what, status=1) == ""
