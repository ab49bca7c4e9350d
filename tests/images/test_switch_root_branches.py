"""What switch_root mounts besides the root, from the properties of a pool that OpenZFS made."""

from __future__ import annotations

import pytest
from test_zfs import _scratch, assemble, members  # noqa: F401

from init import config, roots
from init.handover import branches

pytestmark = pytest.mark.images


def test_the_datasets_that_zfs_mount_a_mounts() -> None:
    pool = assemble(members("datasets"))
    notes: list[str] = []
    (place,) = roots.candidates(pool, config.read("root=ZFS=tank/ROOT/debian"), notes.append)
    found = branches.find("tank/ROOT/promoted /srv zfs ro 0 0\n", place, notes.append)
    assert notes == []
    assert [(one.line.where, one.filesystem.root_name) for one in found] == [
        ("/srv", "tank/ROOT/promoted"), ("/home", "tank/home"), ("/home/user", "tank/home/user"),
    ]  # fmt: skip
