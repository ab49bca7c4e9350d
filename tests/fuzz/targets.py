"""All fuzz targets."""

from __future__ import annotations

import targets_btrfs
import targets_disks
import targets_kernels
import targets_machine
import targets_native
import targets_texts
import targets_zfs

ROOMS = (
    targets_disks, targets_btrfs, targets_zfs, targets_texts, targets_kernels, targets_machine, targets_native
)  # fmt: skip
TARGETS = {target.name: target for room in ROOMS for target in room.TARGETS}
