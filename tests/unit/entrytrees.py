"""The golden trees of boot configurations in data/entries, as file systems.

Each has ``tree`` (the files of one file system), ``about.json`` (what the file system is and which parser reads it)
and ``expected.json`` (what has to come out).  Where about.json has ``boot`` and ``boot_uuid``, what lies at /boot in
the tree is a file system of its own, of the same kind.  data/entries/README.md says which tool wrote which.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from memoryfs import MemoryFilesystem

from fsdrivers.filesystem import Filesystem
from init.entries import bls, extlinux, grub, uki
from init.entries.item import Item, Listing
from init.entries.mounts import Found, Mounted

DATA = Path(__file__).parent / "data" / "entries"
CASES = sorted(path.parent.name for path in DATA.glob("*/about.json"))
PARSERS: dict[str, Callable[[Filesystem, str], Listing]] = {
    "grub": grub.entries, "bls": bls.entries, "uki": uki.entries,
    "extlinux": lambda filesystem, machine: extlinux.entries(filesystem),
}  # fmt: skip


class Tree(MemoryFilesystem):
    """A tree in memory that passes for one of another kind."""

    def __init__(self, tree: dict[str, object], kind: str = "btrfs", root_name: str = "", uuid: str = "0-0") -> None:
        super().__init__(tree, root_name)
        self.kind, self.uuid = kind, uuid


def load(path: Path) -> dict[str, object]:
    """A directory as MemoryFilesystem takes it."""
    tree: dict[str, object] = {}
    for entry in os.scandir(path):
        if entry.is_symlink():
            tree[entry.name] = os.readlink(entry)
        elif entry.is_dir():
            tree[entry.name] = load(Path(entry))
        else:
            # A new object each: files are told apart by identity.
            tree[entry.name] = bytes(bytearray(Path(entry).read_bytes() + b"."))[:-1]
    return tree


def about(case: str) -> dict[str, str]:
    """The about.json of ``case``."""
    found: dict[str, str] = json.loads((DATA / case / "about.json").read_text())
    return found


def tree(case: str) -> Filesystem:
    """The file system of ``case``."""
    facts = about(case)
    files = load(DATA / case / "tree")
    if "boot" not in facts:
        return Tree(files, facts["kind"], facts["root_name"], facts["uuid"])
    boot = files["boot"]
    assert isinstance(boot, dict)
    files["boot"] = {}
    below = Tree(files, facts["kind"], facts["root_name"], facts["uuid"])
    return Mounted(below, Found(Tree(boot, facts["kind"], facts["boot"], facts["boot_uuid"]), facts["boot"]))


def listing(case: str) -> Listing:
    """What the parser of ``case`` finds."""
    facts = about(case)
    return PARSERS[facts["parser"]](tree(case), facts["machine"])


def as_json(found: Listing) -> dict[str, object]:
    """A listing for comparison: fields that have their default are left out."""

    def item(one: Item) -> dict[str, object]:
        fields = one._asdict()
        default = Item("", "", "")._asdict()
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in fields.items()
            if value != default[key]
        }

    return {"items": [item(one) for one in found.items], "notes": list(found.notes), "default": found.default}
