"""Where GRUB's devices and paths lie in the tree that a grub.cfg was found in."""

from __future__ import annotations

from fsdrivers.filesystem import Filesystem
from init.entries.item import has_uuid, in_boot, locate, own_prefix
from init.entries.mounts import at_boot

# The device of the tree that the grub.cfg lies in, in the variable root and in "(...)".
OWN = "own"
OWN_BOOT = "own /boot"  # likewise, when that is another one

# The commands that search by one thing only.
SHORT = {"search.fs_uuid": "--fs-uuid", "search.fs_label": "--label", "search.file": "--file"}
_KINDS = {"-u": "--fs-uuid", "-l": "--label", "-f": "--file", "--fs-label": "--label"}


class CannotKnow(Exception):
    """What happens next depends on something that is not known here; says what."""


class Places:
    """The devices of one tree: itself, and what lies at its /boot."""

    def __init__(self, filesystem: Filesystem) -> None:
        self.filesystem, self._boot = filesystem, at_boot(filesystem)

    def split(self, path: str, root: str) -> tuple[str, str]:
        """(device, path) as Item has them, the device "" for our own; ``root`` is what GRUB's variable of that name
        holds.  Raises CannotKnow for a device by one of GRUB's own names."""
        device = root
        if path.startswith("("):
            device, _, path = path[1:].partition(")")
        if device == OWN:
            return "", path
        if device == OWN_BOOT and self._boot is not None:
            boot = self._boot.filesystem
            if boot.kind == "zfs" and not path.startswith(own_prefix(boot) + "/"):
                return f"UUID={boot.uuid}", path  # another dataset or a snapshot of that pool
            return "", in_boot(boot, path)
        if device.startswith(("UUID=", "LABEL=")):
            return device, path
        raise CannotKnow(f"which device {device or '()'} is, only GRUB knows")

    def local(self, path: str, root: str) -> str:
        """The path of something in our own tree, wherever it counts from.  Raises CannotKnow."""
        device, path = self.split(path, root)
        if device:
            raise CannotKnow(f"{path} is on another file system ({device})")
        prefix = own_prefix(self.filesystem)
        found = locate(self.filesystem, path)
        if found is not None:
            return found
        return path.removeprefix(prefix) if prefix and path.startswith(prefix + "/") else path

    def search(self, words: list[str]) -> tuple[str, str]:
        """(variable to set, device to set it to) of a command that searches.  Raises CannotKnow."""
        if words[0] in SHORT:
            return self._search_short(words)
        kind, variable, names, rest = "--file", "root", [], words[1:]
        while rest:
            word = rest.pop(0)
            if _KINDS.get(word, word) in ("--fs-uuid", "--label", "--file"):
                kind = _KINDS.get(word, word)
            elif word.startswith("--set="):
                variable = word.partition("=")[2]
            elif word in ("--set", "-s"):
                # "--set root UUID" and "--set UUID" are both in use; the name comes last.
                if len([other for other in rest if not other.startswith("-")]) > 1:
                    variable = rest.pop(0)
            elif word in ("--hint", "-h") and rest:
                rest.pop(0)
            elif not word.startswith("-"):
                names.append(word)
        if not names:
            raise CannotKnow("search for nothing")
        return variable, self._find(kind, names[0])

    def _search_short(self, words: list[str]) -> tuple[str, str]:
        """search.fs_uuid NAME [VARIABLE [HINTS]]."""
        if len(words) < 2:
            raise CannotKnow("search for nothing")
        return words[2] if len(words) > 2 else "root", self._find(SHORT[words[0]], words[1])

    def _find(self, kind: str, name: str) -> str:
        """The device that has the uuid, the label or the file ``name``."""
        if kind == "--file":
            if locate(self.filesystem, name) is None:
                raise CannotKnow(f"search for the file {name}, which is not in this tree")
            return OWN
        boot = self._boot.filesystem if self._boot else None
        for device, tree in ((OWN, self.filesystem), (OWN_BOOT, boot)):
            if tree is not None and (has_uuid(tree, name) if kind == "--fs-uuid" else name == tree.label):
                return device
        return f"{'UUID' if kind == '--fs-uuid' else 'LABEL'}={name}"
