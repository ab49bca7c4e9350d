"""CRC-32C (Castagnoli), as btrfs and XFS use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from fsdrivers.native import core

# crc32c(data, value=0) -> int: ``value`` is the sum of what came before ``data``.  The bit inversions before and
# after are done inside, so this is the kernel's ~crc32c_le(~0, ...) (lib/crc32.c, v6.12) and btrfs's data sum as is.
crc32c = cast("Callable[..., int]", core("_crc32c", "crc32c._crc32c").crc32c)
