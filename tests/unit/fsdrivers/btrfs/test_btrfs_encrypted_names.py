"""Names that are encrypted are refused by the feature's name, not shown as bytes that mean nothing."""

from __future__ import annotations

import pytest
from built import btrfs

from fsdrivers.btrfs import directory, layout
from fsdrivers.btrfs.tree import Item
from fsdrivers.errors import Unsupported


def item(kind: int) -> Item:
    location = {"objectid": 257, "type": layout.INODE_ITEM}
    data = btrfs.DIR(location=location, transid=7, name_len=4, type=kind) + b"name"
    return Item(256, layout.DIR_INDEX, 2, data, 0, len(data))


def test_plain_name() -> None:
    (entry,) = directory.parse(item(layout.FT_REG_FILE), "fs")
    assert (entry.name, entry.location) == (b"name", (257, layout.INODE_ITEM, 0))


def test_encrypted_name() -> None:
    with pytest.raises(Unsupported, match="btrfs encrypt"):
        list(directory.parse(item(layout.FT_REG_FILE | layout.FT_ENCRYPTED), "fs"))
