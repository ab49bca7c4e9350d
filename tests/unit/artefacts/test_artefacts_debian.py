"""Kernels of Debian's packages: which packages they are in, and where in these."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from artefacts import debian
from artefacts.steps import BuildError


def _tree(tree: Path, release: str, modules: str, image: str) -> None:
    (tree / modules / release / "kernel").mkdir(parents=True)
    (tree / image).parent.mkdir(parents=True, exist_ok=True)
    (tree / image).write_text(release)


def test_the_image_is_in_boot_or_beside_its_modules(tmp_path: Path) -> None:
    _tree(tmp_path / "12", "6.1.0-9-amd64", "lib/modules", "boot/vmlinuz-6.1.0-9-amd64")
    _tree(tmp_path / "14", "7.2.12+deb14-amd64", "usr/lib/modules", "usr/lib/modules/7.2.12+deb14-amd64/vmlinuz")
    for name, release in (("12", "6.1.0-9-amd64"), ("14", "7.2.12+deb14-amd64")):
        found = debian.kernel_in(tmp_path / name)
        assert (found.release, found.modules.name) == (release, release)
        assert found.vmlinuz.read_text() == release


def test_the_newest_kernel_is_the_one_with_the_largest_numbers(tmp_path: Path) -> None:
    for release in ("6.9.1-amd64", "6.12.1-amd64", "6.2.1-amd64"):
        _tree(tmp_path, release, "usr/lib/modules", f"boot/vmlinuz-{release}")
    assert debian.kernel_in(tmp_path).release == "6.12.1-amd64"


def test_modules_without_an_image_are_no_kernel(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/modules/6.1.0-9-amd64").mkdir(parents=True)
    with pytest.raises(BuildError, match="no kernel"):
        debian.kernel_in(tmp_path)


# As `apt-cache depends` prints them, of Debian 14.
_DEPENDS = {
    "linux-image-amd64": "  Depends: linux-base-amd64\n  Depends: linux-image-7.2.12+deb14-amd64\n",
    "linux-image-7.2.12+deb14-amd64": (
        "  PreDepends: linux-base\n |Depends: dracut\n  Depends: initramfs-tools\n"
        "  Depends: linux-binary-7.2.12+deb14-amd64\n  Depends: linux-modules-7.2.12+deb14-amd64\n"
        "  Suggests: linux-doc-7.2\n"
    ),
}


def test_a_metapackage_leads_to_the_packages_of_its_version(tmp_path: Path) -> None:
    tools, root = tmp_path / "tools", tmp_path / "root"
    tools.mkdir()
    root.mkdir()
    for name, text in _DEPENDS.items():
        (tools / f"{name}.depends").write_text(text)
    scripts = {
        "apt-cache": f'shift; for name; do cat "{tools}/$name.depends" 2>/dev/null; done; true',
        "apt-get": 'shift; for name; do touch "$name.deb"; done',
    }
    for name, text in scripts.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    script = debian._download_script(["linux-image-amd64"], debian.KERNEL_PACKAGES)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "MMDEBSTRAP_APT_CONFIG": "/dev/null"}
    subprocess.run(["sh", "-c", script, "sh", root], env=environment, check=True)
    assert sorted(path.stem for path in (root / "debs").iterdir()) == [
        "linux-binary-7.2.12+deb14-amd64",
        "linux-image-7.2.12+deb14-amd64",
        "linux-image-amd64",
        "linux-modules-7.2.12+deb14-amd64",
    ]
