"""The server under a real kernel: what a mount shows is what the tree holds.

Needs /dev/fuse and the right to mount; a machine without them cannot run the desk tool's `mount` either.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import PROJECT, UNIT

SERVE = """
import sys
sys.path[:0] = [{root!r}, {unit!r}, {unit!r} + "/fsdrivers/fuse"]
from test_fuse_mount import tree
from fsdrivers.desk import mount
mount.serve_at(tree(), sys.argv[1], lambda text: print("log:", text, flush=True))
"""
pytestmark = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK) or os.geteuid() != 0,
    reason="only root may mount, and only where the kernel has FUSE; the protocol is tested in test_fuse_protocol.py",
)


def tree() -> object:
    from memoryfs import Damaged, MemoryFilesystem

    from fsdrivers.errors import Corrupt

    return MemoryFilesystem(
        {
            "big": bytes(range(256)) * 20_000,
            "many": {f"{number:05}": b"%d" % number for number in range(5_000)},
            "deep": {"a": {"b": {"c": b"end"}}},
            "link": "deep/a",
            "caf\udce9": b"latin",
            "bad": Damaged(Corrupt("d0.img", "extent", 0x1000)),
        }
    )


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    directory = tmp_path / "mnt"
    directory.mkdir()
    script = SERVE.format(root=str(PROJECT), unit=str(UNIT))
    process = subprocess.Popen([sys.executable, "-c", script, str(directory)], stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: os.path.ismount(directory) or process.poll() is not None)
        assert process.poll() is None
        yield directory, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        assert not os.path.ismount(directory)


def wait_for(condition: object, seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:  # type: ignore[operator]
        time.sleep(0.02)


def test_what_is_seen(mounted: tuple[Path, subprocess.Popen[str]]) -> None:
    root, _ = mounted
    assert sorted(os.listdir(os.fsencode(root))) == [b"bad", b"big", b"caf\xe9", b"deep", b"link", b"many"]
    assert (root / "big").read_bytes() == bytes(range(256)) * 20_000
    assert (root / "link" / "b" / "c").read_bytes() == b"end"
    assert os.readlink(root / "link") == "deep/a"
    assert sorted(os.listdir(root / "many")) == [f"{number:05}" for number in range(5_000)]
    assert all((root / "many" / f"{number:05}").read_bytes() == b"%d" % number for number in range(0, 5_000, 500))
    with open(root / "big", "rb") as file:
        file.seek(777_777)
        assert file.read(10) == bytes((777_777 + i) % 256 for i in range(10))


def test_no_writing(mounted: tuple[Path, subprocess.Popen[str]]) -> None:
    root, _ = mounted
    for attempt in (
        lambda: (root / "new").write_bytes(b""),
        lambda: (root / "big").unlink(),
        lambda: (root / "big").chmod(0),
        lambda: (root / "new").mkdir(),
    ):
        with pytest.raises(OSError, match="Read-only"):
            attempt()


def test_damage(mounted: tuple[Path, subprocess.Popen[str]]) -> None:
    root, process = mounted
    with pytest.raises(OSError) as caught:  # noqa: PT011
        (root / "bad").read_bytes()
    assert caught.value.errno == errno.EIO
    assert process.stdout is not None
    assert process.stdout.readline() == "log: d0.img: corrupt extent at offset 0x1000\n"
    assert (root / "deep/a/b/c").read_bytes() == b"end"


def test_a_signal_unmounts_while_somebody_looks(mounted: tuple[Path, subprocess.Popen[str]]) -> None:
    root, process = mounted
    fd = os.open(root / "big", os.O_RDONLY)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert not os.path.ismount(root)
    with pytest.raises(OSError, match="not connected"):
        os.pread(fd, 1, 0)
    with contextlib.suppress(OSError):
        os.close(fd)


def test_umount_ends_the_server(mounted: tuple[Path, subprocess.Popen[str]]) -> None:
    root, process = mounted
    subprocess.run(["umount", str(root)], check=True)
    assert process.wait(10) == 0
