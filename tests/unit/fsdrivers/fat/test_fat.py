"""The FAT driver on file systems made by mkfs.fat and mtools."""

from __future__ import annotations

import datetime
import functools
import hashlib
import os
import random
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsdrivers import fat
from fsdrivers.block import BlockDevice, FileDevice
from fsdrivers.errors import Corrupt, FsError, NotFound, NotThisFs, ReadError
from fsdrivers.fat import directory, layout, volume
from fsdrivers.filesystem import Filesystem
from fsdrivers.traverse import walk

ENVIRONMENT = os.environ | {"PATH": os.environ["PATH"] + ":/sbin:/usr/sbin", "MTOOLS_SKIP_CHECK": "1", "TZ": "UTC"}
ENVIRONMENT |= {"LC_ALL": "C.UTF-8"}

# name -> (KiB, options of mkfs.fat)
KINDS = {
    "fat12": (1440, ["-F", "12"]),
    "fat16": (33_000, ["-F", "16"]),
    "fat32": (36_000, ["-F", "32", "-s", "1"]),
    "fat32-4k": (300_000, ["-F", "32", "-S", "4096"]),
    "fat16-one-fat": (16_000, ["-F", "16", "-f", "1", "-s", "4"]),
}


def test_sizes() -> None:
    assert (layout.BOOT_SECTOR.size, layout.ENTRY.size, layout.SLOT.size) == (0x24, 32, 32)
    assert [shape.size for _, shape in (layout.EXTENDED_16, layout.EXTENDED_32)] == [18, 16]
    assert len(layout.CP437) == 128


def run(*command: str | Path) -> str:
    result = subprocess.run(list(map(str, command)), env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return result.stdout


def content(seed: str, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


FILES = {
    "EFI/Linux/a-very-long-name-of-a-unified-kernel-6.1.0-28-amd64.efi": 70_000,
    "EFI/BOOT/BOOTX64.EFI": 12_345,
    "loader/loader.conf": 30,
    "loader/entries/6a9857a3-6.1.0-28-amd64.conf": 400,
    "loader/entries/Größe → ☃.conf": 5,
    "lower.txt": 1,
    "MiXed.TxT": 512,
    "empty": 0,
    "exact": 4096,
    "fragmented": 100_000,
    "thirteen-char": 13,
    "trailing.tar.gz": 99,
}


@functools.cache
def image(kind: str) -> bytes:
    """A file system with FILES, of which "fragmented" lies in pieces."""
    import tempfile

    with tempfile.TemporaryDirectory() as where:
        path, source = Path(where, "fat.img"), Path(where, "files")
        size, options = KINDS[kind]
        path.write_bytes(b"")
        os.truncate(path, size * 1024)
        run("mkfs.fat", *options, "-i", "1234ABCD", "-n", "BOOTDISK", path)
        for name, length in FILES.items():
            file = source / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content(name, length))
            os.utime(file, (1_700_000_000, 1_700_000_000))
        # Holes for "fragmented" to fall into.
        for number in range(40):
            (source / f"gap{number}").write_bytes(bytes(3000))
        gaps = [source / f"gap{number}" for number in range(40)]
        run("mcopy", "-i", path, *gaps, "::")
        run("mdel", "-i", path, *(f"::gap{number}" for number in range(0, 40, 2)))
        if "fat32" in kind:
            # Drivers go on allocating where they were; without the hint the gaps are used again.
            with path.open("r+b") as disk:
                sector, info = (int.from_bytes(os.pread(disk.fileno(), 2, at), "little") for at in (0x0B, 0x30))
                os.pwrite(disk.fileno(), b"\xff" * 8, sector * info + 488)
        others = [item for item in sorted(source.iterdir()) if item not in gaps and item.name != "fragmented"]
        run("mcopy", "-s", "-m", "-i", path, source / "fragmented", *others, "::")
        run("mattrib", "-i", path, "+r", "::/exact")
        return path.read_bytes()


class Memory(BlockDevice):
    def __init__(self, data: bytes | bytearray, bad: range = range(0)) -> None:
        self.name, self.size, self.data, self.bad = "esp.img", len(data), data, bad

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check(offset, len(buffer))
        if offset < self.bad.stop and self.bad.start < offset + len(buffer):
            raise ReadError(self.name, offset, len(buffer), "Input/output error")
        buffer[:] = self.data[offset : offset + len(buffer)]


def tree(kind: str) -> Filesystem:
    return fat.open(Memory(image(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_file(kind: str) -> None:
    filesystem = tree(kind)
    assert (filesystem.label, filesystem.uuid) == ("BOOTDISK", "1234-ABCD")
    found = {}
    for item in walk(filesystem):
        assert item.error is None
        if item.stat is not None and item.stat.type == "file" and "/gap" not in item.path:
            found[item.path[1:]] = hashlib.sha256(filesystem.open(item.path).read()).hexdigest()
            assert item.stat.mtime // 10**9 == 1_700_000_000
    assert found == {name: hashlib.sha256(content(name, size)).hexdigest() for name, size in FILES.items()}
    assert filesystem.lstat("/exact").mode == 0o555
    assert filesystem.lstat("/lower.txt").mode == 0o755
    for number in range(1, 40, 2):
        assert filesystem.read_file(f"/gap{number}", 4000) == bytes(3000)


def test_the_kinds_are_what_they_are_called() -> None:
    bits = {kind: fat.open(Memory(image(kind)))._volume.bits for kind in KINDS}  # type: ignore[attr-defined]
    assert bits == {kind: int(kind[3:5]) for kind in KINDS}


@pytest.mark.parametrize("kind", ["fat12", "fat16", "fat32"])
def test_parts_of_a_fragmented_file(kind: str) -> None:
    filesystem = tree(kind)
    whole = content("fragmented", FILES["fragmented"])
    file = filesystem.open("/fragmented")
    for offset, length in ((0, 1), (511, 2), (4095, 4097), (50_000, 50_000), (99_999, 10), (100_000, 5), (200_000, 1)):
        assert file.read(offset, length) == whole[offset : offset + length]


@pytest.mark.parametrize("kind", ["fat12", "fat16", "fat32"])
def test_two_readers_of_one_file(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go along the same chain at different speeds, and what one found out serves the other."""
    monkeypatch.setattr(volume, "SPACING", 4)
    file = tree(kind).open("/fragmented")
    whole = content("fragmented", FILES["fragmented"])
    readers = [file.chunks(), file.chunks(1000), file.chunks(50_000, 30_000)]
    got = [b""] * 3
    while any(pieces := [next(reader, b"") for reader in readers]):
        got = [one + bytes(piece) for one, piece in zip(got, pieces, strict=True)]
    assert got == [whole, whole[1000:], whole[50_000:80_000]]
    for offset in (99_000, 3, 70_000, 12_345):
        assert file.read(offset, 5000) == whole[offset : offset + 5000]


def test_names_are_found_whatever_their_case() -> None:
    filesystem = tree("fat32")
    for path in ("/efi/linux", "/EFI/LINUX/", "/Loader/Entries/GRÖßE → ☃.CONF"):
        assert filesystem.exists(path), path
    assert filesystem.read_file("/efi/linux/A-VERY~1.EFI", 1 << 20) == filesystem.read_file(
        "/EFI/Linux/a-very-long-name-of-a-unified-kernel-6.1.0-28-amd64.efi", 1 << 20
    )
    assert not filesystem.exists("/efi/linux/other.efi")
    with pytest.raises(NotFound):
        filesystem.open("/nothing")


def test_small_letters_of_short_names(tmp_path: Path) -> None:
    """Windows keeps the case of an 8.3 name in two bits; mtools does so with this setting."""
    path = tmp_path / "fat.img"
    path.write_bytes(image("fat12"))
    (tmp_path / "abc.TXT").write_bytes(b"1")
    (tmp_path / "ABC.efi").write_bytes(b"2")
    subprocess.run(
        ["mcopy", "-i", path, tmp_path / "abc.TXT", "::/loader"], env=ENVIRONMENT | {"MTOOLS_NO_VFAT": "0"}, check=True
    )
    filesystem = fat.open(FileDevice(str(path)))
    assert "abc.TXT" in {entry.name for entry in filesystem.listdir("/loader")}
    assert directory._short_name(b"ABC     EFI", layout.LOWER_EXT) == "ABC.efi"
    assert directory._short_name(b"ABC     EFI", layout.LOWER_BASE) == "abc.EFI"
    assert directory._short_name(b"\x05BC       ", 0) == "\u03c3BC"


@pytest.mark.parametrize("kind", ["fat12", "fat16", "fat32"])
def test_many_files_in_one_directory(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "fat.img"
    path.write_bytes(image(kind))
    names = [f"entry number {number} of many" for number in range(300)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    run("mmd", "-i", path, "::many")
    run("mcopy", "-i", path, *(tmp_path / name for name in names), "::many")
    run("mdel", "-i", path, *(f"::many/{name}" for name in names[::3]))
    filesystem = fat.open(FileDevice(str(path)))
    kept = [name for name in names if name not in names[::3]]
    assert sorted(entry.name for entry in filesystem.listdir("/many")) == sorted(kept)
    assert filesystem.read_file("/many/" + kept[-1], 100) == kept[-1].encode()
    status = [filesystem.lstat(f"/many/{name}").inode for name in kept]
    assert len(set(status)) == len(kept)


@pytest.mark.parametrize("seconds", [315532800, 951782399, 951868800, 1_700_000_000, 4_102_444_798])
def test_times(seconds: int) -> None:
    when = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    date = when.day | when.month << 5 | (when.year - 1980) << 9
    clock = when.second // 2 | when.minute << 5 | when.hour << 11
    assert directory._time(date, clock, 0) == seconds // 2 * 2 * 10**9


# --- damage ---------------------------------------------------------------------------------------


def test_other_things_are_not_fat() -> None:
    for data in (b"", bytes(511), bytes(4096), b"\xff" * 4096, b"\xeb\x58\x90NTFS    " + bytes(499) + b"\x55\xaa"):
        with pytest.raises(NotThisFs):
            fat.open(Memory(data))


def test_the_second_table_serves_when_the_first_cannot_be_read() -> None:
    own = fat.open(Memory(image("fat16")))._volume  # type: ignore[attr-defined]
    bad = range(own._fat_start, own._fat_start + own._fat_size)
    filesystem = fat.open(Memory(image("fat16"), bad))
    assert filesystem.read_file("/fragmented", 1 << 20) == content("fragmented", FILES["fragmented"])
    assert filesystem.health.report()


@pytest.mark.parametrize("kind", ["fat12", "fat16", "fat32"])
def test_chains_that_go_astray(kind: str) -> None:
    """A circle, a free cluster, one behind the end and a chain that ends early, each in the middle of a file."""
    healthy = tree(kind)
    volume = healthy._volume  # type: ignore[attr-defined]
    node = healthy.resolve("/fragmented")
    (first, _), second, *_ = healthy._stretches(node, 0, 20)  # type: ignore[attr-defined]
    assert second
    last = first.first + first.length - 1
    for value in (0, 1, volume.end, layout.END[volume.bits]):
        with pytest.raises(Corrupt, match=r"esp\.img"):
            fat.open(Memory(patched(kind, last, value))).read_file("/fragmented", 1 << 20)
    with pytest.raises(Corrupt, match="it goes round"):
        fat.open(Memory(patched(kind, last, first.first))).read_file("/fragmented", 1 << 20)
    first = healthy.resolve("/EFI").first  # type: ignore[attr-defined]
    with pytest.raises(Corrupt, match="it goes round"):
        fat.open(Memory(patched(kind, first, first))).listdir("/EFI")


def patched(kind: str, cluster: int, value: int) -> bytearray:
    """The image with one entry of all its tables changed."""
    data = bytearray(image(kind))
    volume = fat.open(Memory(data))._volume  # type: ignore[attr-defined]
    for copy in range(volume.fats):
        at = volume._fat_start + copy * volume._fat_size + cluster * volume.bits // 8
        size = 4 if volume.bits == 32 else 2
        old = int.from_bytes(data[at : at + size], "little")
        new = value & ((1 << volume.bits) - 1)
        if volume.bits == 12:
            new = (old & 0xF) | (new << 4) if cluster & 1 else (old & 0xF000) | new
        data[at : at + size] = new.to_bytes(size, "little")
    return data


def test_truncated() -> None:
    filesystem = fat.open(Memory(image("fat16")[:100_000]))
    with pytest.raises(FsError, match=r"esp\.img"):
        filesystem.read_file("/fragmented", 1 << 20)


def use(data: bytearray) -> None:
    """Read everything; FsError is an answer, too."""
    try:
        filesystem = fat.open(Memory(data))
        for item in walk(filesystem):
            if item.stat is not None and item.stat.type == "file" and item.stat.size < 1 << 22:
                try:
                    for _ in filesystem.open(item.path).chunks():
                        pass
                except FsError:
                    continue
    except FsError:
        return


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(["fat12", "fat16", "fat32"]),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=16)), min_size=1, max_size=12),
    where=st.sampled_from(["boot", "tables", "all"]),
)
def test_damage_ends_in_an_error_or_data(kind: str, edits: list[tuple[float, bytes]], where: str) -> None:
    data = bytearray(image(kind))
    end = {"boot": 512, "tables": 40_000, "all": 600_000}[where]
    for place, value in edits:
        at = int(place * (end - len(value)))
        data[at : at + len(value)] = value
    started = time.monotonic()
    use(data)
    assert time.monotonic() - started < 20
