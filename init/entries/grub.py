"""Entries from grub.cfg: what GRUB would boot, by running the part of its language that its own tools write.

The top level runs first, then each entry's body with the variables as they are then, as GRUB does it.  Nothing is
guessed: an entry whose body needs what is not known here is passed over with a note, and so is an ``if`` whose
condition cannot be decided.
Source: grub-core/script/execute.c and normal/menu.c, util/grub.d/ and util/grub-mkconfig.in, GRUB 2.12.
"""

from __future__ import annotations

from typing import NamedTuple

from fsdrivers.errors import FsError, NotADirectory, NotFound
from fsdrivers.filesystem import Filesystem
from fsdrivers.notes import Notes
from init.entries.grubcommands import Machine, Menu, NoSystem
from init.entries.grubplaces import CannotKnow
from init.entries.item import DEVICE_TREE, MAX_ITEMS, Item, Listing, locate, own_prefix

CONFIGS = (
    "/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/grub/grub.cfg", "/grub2/grub.cfg",
)  # fmt: skip
MAX_MENUS = 64  # submenus that are opened
MAX_MENU_DEPTH = 4
MAX_STEPS = 50_000  # statements in the bodies of all entries and submenus
NAMES_PER_STEP = 16  # variables and functions that a body is given


class _Node(NamedTuple):
    """One line of a menu, for finding the default: ``item`` is an index, -1 for an entry that was passed over."""

    title: str
    id: str
    item: int
    children: list[_Node] | None


def entries(filesystem: Filesystem, machine: str = "x86_64") -> Listing:
    """The entries of the grub.cfg in ``filesystem``, in the order of its menu.  ``machine`` as in uname -m."""
    for path in CONFIGS:
        try:
            filesystem.resolve(path)
        except (NotFound, NotADirectory):
            continue
        except FsError as error:
            return Listing(notes=(f"{path}: {error}",))
        return of_config(filesystem, path, machine)
    return Listing()


def of_config(filesystem: Filesystem, path: str, machine: str = "x86_64") -> Listing:
    """The entries of the grub.cfg at ``path``; never raises, what is wrong is in the notes."""
    run = Machine(filesystem, path, machine)
    run.source(path)
    builder = _Builder(filesystem, run)
    nodes = builder.nodes(run.menu, (), run)
    default = _default(nodes, run.variables.get("default", "0"))
    notes = Notes(f"{path}: {note}" for note in run.notes)
    if default is None and builder.items:
        notes.append(f"{path}: the default entry {run.variables.get('default', '0')!r} is not among those found")
    return Listing(tuple(builder.items), tuple(notes), default, run.with_bls)


class _Builder:
    """Runs the bodies of a menu's entries."""

    def __init__(self, filesystem: Filesystem, run: Machine) -> None:
        self._filesystem, self._notes = filesystem, run.notes
        self.items: list[Item] = []
        self._menus = 0
        self._steps = MAX_STEPS

    def nodes(self, menu: list[Menu], above: tuple[str, ...], run: Machine) -> list[_Node]:
        """A node for each line of ``menu``; fills ``items``."""
        found = []
        for line in menu:
            if len(self.items) >= MAX_ITEMS or self._steps <= 0:
                what = f"only the first {MAX_ITEMS} entries" if self._steps > 0 else "no further entries"
                self._notes.append(f"{what} are looked at")
                break
            if line.item is not None:
                found.append(_Node(line.title, line.id, self._add(line.item), None))
            elif line.submenu:
                found.append(_Node(line.title, line.id, -1, self._open(line, above, run)))
            else:
                found.append(_Node(line.title, line.id, self._entry(line, above, run), None))
        return found

    def _open(self, line: Menu, above: tuple[str, ...], run: Machine) -> list[_Node]:
        self._menus += 1
        if self._menus > MAX_MENUS or len(above) >= MAX_MENU_DEPTH:
            self._notes.append(f"submenu {line.title!r} is not opened: too many of them")
            return []
        inner = self._enter(line, run, submenu=True)
        try:
            inner.run(line.body)
        except CannotKnow as why:
            self._notes.append(f"submenu {line.title!r} is passed over: {why}")
            return []
        finally:
            self._steps -= inner.taken
        return self.nodes(inner.menu, (*above, line.title), inner)

    def _entry(self, line: Menu, above: tuple[str, ...], run: Machine) -> int:
        """The index of the item that the entry makes, -1 with a note when it makes none."""
        inner = self._enter(line, run, submenu=False)
        try:
            inner.run(line.body)
            return self._add(self._item(line, above, inner))
        except NoSystem:
            return -1
        except CannotKnow as why:
            self._notes.append(f"entry {line.title!r} is passed over: {why}")
            return -1
        finally:
            self._steps -= 1 + inner.taken

    def _enter(self, line: Menu, run: Machine, submenu: bool) -> Machine:
        """A machine for a body, which has all variables and functions: thousands of them take their time, too."""
        self._steps -= (len(run.variables) + len(run.functions)) // NAMES_PER_STEP
        return run.enter(line, submenu)

    def _add(self, item: Item) -> int:
        self.items.append(item)
        return len(self.items) - 1

    def _item(self, line: Menu, above: tuple[str, ...], run: Machine) -> Item:
        if not run.linux:
            raise CannotKnow("it starts no Linux kernel")
        for _ in (run.linux, *run.initrds):
            run.shared.look()
        device, kernel = self._place(run.linux)
        places = [self._place(initrd) for initrd in run.initrds]
        if any(other != device for other, _ in places):
            raise CannotKnow(f"{', '.join([kernel, *(path for _, path in places)])} lie on different file systems")
        name = kernel.rpartition("/")[2].partition("-")[2]
        return Item(
            id=line.id or ">".join((*above, line.title)),
            title=line.title,
            kernel=kernel,
            initrds=tuple(path for _, path in places),
            options=run.options,
            version=name if name[:1].isdigit() else "",
            menu=above,
            device=device,
            remarks=(DEVICE_TREE,) if run.devicetree else (),
        )

    def _place(self, where: tuple[str, str]) -> tuple[str, str]:
        """(device, path) of a file as Item has it; raises CannotKnow for one that is not there."""
        device, path = where
        if device:
            return device, path
        found = locate(self._filesystem, path)
        if found is not None:
            return "", found
        prefix = own_prefix(self._filesystem)
        if prefix and not path.startswith(prefix + "/") and not self._filesystem.exists(path):
            return "top", path
        raise CannotKnow(f"{path} is not there, or no file")


def _default(nodes: list[_Node], wanted: str) -> int | None:
    """The index of the item that ``default`` means: a number, id or title, of submenus divided by ">".

    Source: grub-core/normal/menu.c:get_entry_number and grub_split..., GRUB 2.12; ">>" stands for ">" in a title.
    """
    parts = [part.replace("\0", ">") for part in wanted.replace(">>", "\0").split(">")]
    for part in parts:
        node = _pick(nodes, part)
        if node is None:
            return None
        if node.children is None:
            return node.item if node.item >= 0 else None
        nodes = node.children
    return None


def _pick(nodes: list[_Node], wanted: str) -> _Node | None:
    wanted = wanted.strip() or "0"
    if wanted.isdecimal() and len(wanted) < 6:
        return nodes[int(wanted)] if int(wanted) < len(nodes) else None
    return next((node for node in nodes if wanted in (node.id, node.title)), None)
