"""The parser of manifests, on what the guest's shell function writes; and the parts of a guest."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from qemu import guest, manifest, workshop


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "dir").mkdir(parents=True)
    (root / "dir" / "two\nlines").write_bytes(b"x" * 5000)
    os.symlink("tab\there\n", root / "link")
    os.mkfifo(root / "pipe", 0o600)
    with open(os.fsencode(root) + b"/\xff \\", "wb"):
        pass
    os.utime(root / "dir" / "two\nlines", ns=(0, -1_500_000_000))
    (root / "dir" / "two\nlines").chmod(0o4755)
    return root


def _write(tree: Path, out: Path) -> None:
    """Run the recipes' own shell function on this machine."""
    out.mkdir()
    library = workshop._LIBRARY.replace("/out/", f"{out}/")
    subprocess.run(["bash", "-euc", f"{library}\nmanifest {tree}"], check=True, env={**os.environ, "LC_ALL": "C"})


def test_what_find_says_comes_back_as_records(tree: Path, tmp_path: Path) -> None:
    _write(tree, tmp_path / "out")
    records = manifest.read(tmp_path / "out")
    assert sorted(records) == sorted(["/", "/dir", "/dir/two\nlines", "/link", "/pipe", "/\udcff \\"])
    file = records["/dir/two\nlines"]
    assert (file.type, file.mode, file.size, file.mtime) == ("file", 0o4755, 5000, -1_500_000_000)
    assert file.sha256 == hashlib.sha256(b"x" * 5000).hexdigest()
    assert records["/link"].target == "tab\there\n"
    assert records["/link"].sha256 is None
    assert records["/pipe"].type == "fifo"
    assert records["/pipe"].mode == 0o600
    assert records["/dir"].uid == os.getuid()


def test_fields_leave_out_what_an_object_does_not_have(tree: Path, tmp_path: Path) -> None:
    _write(tree, tmp_path / "out")
    records = manifest.read(tmp_path / "out")
    common = {"path", "type", "mode", "uid", "gid", "size", "mtime"}
    assert set(records["/dir"].fields()) == common
    assert set(records["/link"].fields()) == common | {"target"}
    assert set(records["/dir/two\nlines"].fields()) == common | {"sha256"}


def test_half_a_manifest_is_refused(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _write(tree, out)
    whole = (out / "manifest.find").read_bytes()
    for broken in (whole[:-1], whole[: whole.rindex(b"\0", 0, -1) + 1], b""):
        (out / "manifest.find").write_bytes(broken)
        with pytest.raises(ValueError, match=r"manifest\.find"):
            manifest.read(out)


def test_a_guest_has_its_programs_in_usr() -> None:
    archive = guest.root()
    for path, place in (("/bin/ls", "usr/bin/ls"), ("lib64/ld.so", "usr/lib64/ld.so"), ("/etc/x", "etc/x")):
        assert guest.usr(path) == place
        archive.file(guest.usr(path), b"")
    targets = {path: entry.data for path, entry in archive if path == os.path.basename(path) and entry.data}
    assert targets == {name: f"usr/{name}".encode() for name in ("bin", "sbin", "lib", "lib64")}


def test_the_names_of_many_disks() -> None:
    names = [workshop._device(number) for number in (0, 25, 26, 27, 51, 52, 701, 702)]
    assert [name.removeprefix("/dev/vd") for name in names] == ["a", "z", "aa", "ab", "az", "ba", "zz", "aaa"]
