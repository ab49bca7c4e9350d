"""Where btrfs-progs says that a file lies, read from what the recipe kept of its words."""

from __future__ import annotations

from pathlib import Path

import pytest

from qemu import images
from qemu.images import Copy
from qemu.workshop import Made

# btrfs-map-logical of btrfs-progs 6.2 on a RAID1 of three disks, behind the recipe's own "extent LOGICAL LENGTH".
SAID = """\
extent 298844160 4030464
mirror 1 logical 298844160 physical 285265920 device /dev/vdb
mirror 2 logical 298844160 physical 285265920 device /dev/vdc
extent 302878720 5611520
mirror 1 logical 302878720 physical 289300480 device /dev/vdb
mirror 2 logical 302878720 physical 268435456 device /dev/vda
"""


@pytest.fixture
def made(tmp_path: Path) -> Made:
    (tmp_path / "vmlinuz-6.1.0.copies").write_text(SAID)
    return Made([Path("d0"), Path("d1"), Path("d2")], tmp_path)


def test_each_stretch_has_its_copies(made: Made) -> None:
    assert images.copies_of(made, "vmlinuz-") == [
        Copy(1, 1, 285265920, 4030464),
        Copy(2, 2, 285265920, 4030464),
        Copy(1, 1, 289300480, 5611520),
        Copy(0, 2, 268435456, 5611520),
    ]


def test_a_file_that_is_not_there(made: Made) -> None:
    with pytest.raises(ValueError, match="unpack"):
        images.copies_of(made, "initrd.img-")
