"""Boot environments and snapshots as the init sees them, on pools that OpenZFS made."""

from __future__ import annotations

import pytest
from test_zfs import _scratch, assemble, members  # noqa: F401

from init import config, roots
from init.entries import snapshots

pytestmark = pytest.mark.images


def test_the_environments_of_a_real_pool() -> None:
    pool = assemble(members("datasets"))
    notes: list[str] = []
    found = {one.root.name: one for one in roots.candidates(pool, config.read("root=zfs:AUTO"), notes.append)}
    assert notes == []
    # The clone says that it is off; what was promoted mounts nowhere.
    assert list(found) == ["tank/ROOT/debian"]
    debian = found["tank/ROOT/debian"].environment
    assert debian is not None
    assert (debian.bootfs, debian.canmount, debian.commandline) == (True, "noauto", "quiet loglevel=4")
    (hidden,) = roots.candidates(pool, config.read("root=ZFS=tank/ROOT/clone"), notes.append)
    assert hidden.filesystem.exists("/of-the-clone")


def test_the_snapshots_of_a_real_root() -> None:
    pool = assemble(members("datasets"))
    (place,) = roots.candidates(pool, config.read("root=ZFS=tank/ROOT/promoted"), lambda note: None)
    found = snapshots.of(place, lambda note: None)
    assert [(one.number, one.readonly) for one in found] == [("after", True), ("before", True)]
    assert all(one.when.startswith("20") for one in found)
