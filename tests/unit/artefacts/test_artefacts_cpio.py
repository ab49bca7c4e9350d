"""The archive writer, judged by GNU cpio and zstd, and by the promise of same input, same bytes."""

from __future__ import annotations

import subprocess

import pytest

from artefacts import cpio


def sample(order: int = 1, mtime: int | None = 0) -> cpio.Archive:
    archive = cpio.Archive(mtime)
    steps = [
        lambda: archive.file("init", b"#!/bin/true\n", 0o755),
        lambda: archive.file("/etc/deep/er/config", b"x" * 5),
        lambda: archive.symlink("proc/self/exe", "/init"),
        lambda: archive.character_device("dev/console", 5, 1, 0o600),
        lambda: archive.directory("tmp", 0o777),
    ]
    for step in steps[::order]:
        step()
    return archive


def cpio_lists(packed: bytes) -> list[list[str]]:
    done = subprocess.run(["cpio", "-itvn", "--quiet"], input=packed, capture_output=True, check=True)
    return [line.split() for line in done.stdout.decode().splitlines()]


def test_gnu_cpio_reads_what_was_written() -> None:
    lines = {line[-1] if "->" not in line else line[-3]: line for line in cpio_lists(sample().pack())}
    assert lines["init"][0] == "-rwxr-xr-x"
    assert lines["init"][4] == "12"
    assert lines["etc/deep/er/config"][0] == "-rw-r--r--"
    assert lines["proc/self/exe"][0] == "lrwxrwxrwx"
    assert lines["proc/self/exe"][-1] == "/init"
    assert lines["dev/console"][0] == "crw-------"
    assert lines["dev/console"][4:6] == ["5,", "1"]
    assert lines["tmp"][0] == "drwxrwxrwx"
    assert {line[2] + line[3] for line in lines.values()} == {"00"}, "everything belongs to root"


def test_contents_and_parents_come_out_right(tmp_path) -> None:
    subprocess.run(
        ["cpio", "-idm", "--quiet", "--no-absolute-filenames", "etc/*", "init"],
        input=sample().pack(),
        cwd=tmp_path,
        check=True,
    )
    assert (tmp_path / "init").read_bytes() == b"#!/bin/true\n"
    assert (tmp_path / "etc/deep/er/config").read_bytes() == b"xxxxx"


def test_parents_come_before_their_children() -> None:
    names = [name for name, _ in sample()]
    for name in names:
        parent = name.rpartition("/")[0]
        assert not parent or names.index(parent) < names.index(name)


def test_same_input_same_bytes_whatever_the_order() -> None:
    assert sample(1).pack() == sample(-1).pack()
    assert cpio.compress(sample(1).pack()) == cpio.compress(sample(-1).pack())


def test_time_stamp_follows_source_date_epoch(monkeypatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert sample(mtime=None).pack() == sample(mtime=0).pack()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    dated = sample(mtime=None).pack()
    assert dated == sample(mtime=86400).pack() != sample(mtime=0).pack()


def test_zstd_unpacks_the_frame_and_the_window_fits_the_kernel() -> None:
    packed = sample().pack() + bytes(20 << 20)
    frame = cpio.compress(packed)
    # --memory refuses frames whose window is larger: 8 MiB is what every kernel's unpacker accepts.
    done = subprocess.run(["zstd", "-dc", "--memory=8MB"], input=frame, capture_output=True, check=True)
    assert done.stdout == packed


@pytest.mark.parametrize("path", ["", "/", "a//b", "../a", "a/./b", "a/.."])
def test_odd_paths_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not a path"):
        cpio.Archive().file(path, b"")


def test_a_file_cannot_be_a_parent_nor_change_its_type() -> None:
    archive = cpio.Archive()
    archive.file("a", b"")
    with pytest.raises(ValueError, match="no directory"):
        archive.file("a/b", b"")
    with pytest.raises(ValueError, match="another type"):
        archive.symlink("a", "b")
