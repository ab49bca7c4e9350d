"""Scripts run as GRUB runs them: what ours makes of one is what grub-emu printed (data/grub-emu/make is how)."""

from __future__ import annotations

import places
from entrytrees import Tree

from init.entries.grubcommands import Machine

DATA = places.DATA / "grub-emu"


def test_as_grub_itself() -> None:
    tree = Tree({"boot": {"grub": {"grub.cfg": (DATA / "script.cfg").read_bytes()}}})
    machine = Machine(tree, "/boot/grub/grub.cfg", "x86_64")
    said: list[str] = []

    def echo(words: list[str]) -> bool:
        said.append(" ".join(words[1:]))
        return True

    machine._commands["echo"] = echo
    assert machine.source("/boot/grub/grub.cfg")
    assert machine.notes == []
    assert said == (DATA / "output.txt").read_text().splitlines()
