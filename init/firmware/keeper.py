"""The keeper of the memory from boot to boot: where it lies, what it makes of the choice, and what it writes down.

Never on a pool: in an EFI variable of ours where there are any, else in a file on the EFI system partition that is
called poolboot (or that poolboot.esp= names).  Counters in the names of entry files on an EFI system or extended boot
partition are counted down there, as systemd-boot does it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Protocol

from fsdrivers import fat
from fsdrivers.block import BlockDevice
from fsdrivers.bounds import around, attempt
from fsdrivers.errors import FsError, NotFound
from fsdrivers.partitions import Partition
from init.config import BootConfig
from init.entries import ledger as _ledger
from init.entries import policy
from init.entries.entry import BootEntry
from init.entries.ledger import Ledger
from init.entries.policy import Choice, Wish
from init.firmware import esp
from init.firmware.efivars import DEFAULT, LOADER, POOLBOOT, Variables, ucs2
from init.machine.modules import Modules
from init.refused import Refused
from init.roots import BootRoot
from init.trust import PLUGGED, Trust

VARIABLE = "Boots"
"""Our EFI variable."""
FILE = "boots"
"""In esp.DIRECTORY."""
COUNT_PATH = "LoaderBootCountPath"
"""Where systemd-bless-boot learns which file to rename when the boot went well."""
TRIES = 3
"""How often an entry whose system reports good boots is started in vain before another one gets its turn."""
UNITS = ("/etc/systemd/system/multi-user.target.wants/poolboot-good.service",)
"""A root that has one of these reports."""
FILESYSTEM = ("nls_cp437", "nls_ascii", "vfat")

Say = Callable[[str], None]


class Store(Protocol):
    """A place for the text of a ledger."""

    where: str

    def read(self) -> str:
        """The text, "" when there is none.  Raises FsError."""

    def write(self, text: str) -> None:
        """Replace the text; "" removes it.  Raises FsError."""


class Offered(Protocol):
    """What can be booted, as init/survey.py has found it."""

    def entries(self) -> list[BootEntry]:
        """All of it, in order."""

    def look_for(self, asked: str) -> BootEntry | None:
        """The entry that ``asked`` means; one in a snapshot stands among the entries from then on."""


class InVariable:
    """An EFI variable."""

    def __init__(self, variables: Variables) -> None:
        self._variables = variables
        self.where = f"EFI variable {VARIABLE}"

    def read(self) -> str:
        """As Store has it."""
        value = self._variables.get(VARIABLE, POOLBOOT)
        return value.data.decode("utf-8", "replace") if value else ""

    def write(self, text: str) -> None:
        """As Store has it."""
        if text:
            self._variables.set(VARIABLE, POOLBOOT, text.encode("utf-8", "surrogateescape"))
        else:
            self._variables.delete(VARIABLE, POOLBOOT)


class OnPartition:
    """A file on a FAT partition: read by our own driver, written through the kernel's."""

    def __init__(self, partition: Partition, modules: Modules | None) -> None:
        self._partition, self._modules = partition, modules
        self.where = f"{esp.DIRECTORY}/{FILE} on {partition.name}"

    def read(self) -> str:
        """As Store has it."""
        try:
            with around(self.where, [self._partition]):
                data = fat.open(self._partition).read_file(f"/{esp.DIRECTORY}/{FILE}", _ledger.MAX_TEXT)
        except NotFound:
            return ""
        return data.decode("utf-8", "replace")

    def write(self, text: str) -> None:
        """As Store has it."""
        with_fat(self._modules)
        try:
            with esp.mounted(self._partition) as root:
                directory = f"{root}/{esp.DIRECTORY}"
                os.makedirs(directory, exist_ok=True)
                esp.put(directory, FILE, [text.encode("utf-8", "surrogateescape")])
        except FsError:
            raise
        except OSError as error:
            raise Refused(f"writing {self.where}: {esp.explain(error)}") from error


def with_fat(modules: Modules | None) -> None:
    """Have the kernel's FAT driver."""
    if modules is not None:
        for name in FILESYSTEM:
            modules.load(name)


def known(variables: Variables) -> dict[str, frozenset[str]]:
    """The pools that this machine was booted from before, as the EFI variable has it; see Ledger."""
    if not variables.available:
        return {}
    try:
        return _ledger.parse(InVariable(variables).read()).known()
    except FsError:
        return {}


class Keeper:
    """The memory of one boot."""

    def __init__(
        self,
        devices: Iterable[BlockDevice],
        config: BootConfig,
        variables: Variables | None = None,
        modules: Modules | None = None,
        trust: Trust | None = None,
    ) -> None:
        """``variables``: None where only disks are to be looked at.  ``trust`` says which of them may be written."""
        self._trust = trust or Trust()
        self._config, self._variables, self._modules = config, variables, modules
        self.notes: list[str] = []
        self.store: Store | None = None
        self.lacking = ""  # why there is no store
        self.ledger = Ledger()
        try:
            self.store = self._find(devices)
            self.ledger = _ledger.parse(self.store.read())
        except FsError as error:
            self.lacking = str(error)

    def _find(self, devices: Iterable[BlockDevice]) -> Store:
        if self._variables and self._variables.available:
            return InVariable(self._variables)
        return OnPartition(esp.find(devices, self._config.esp, self._trust), self._modules)

    # --- before the choice --------------------------------------------------------------------

    def choose(self, found: Offered) -> Choice:
        """What to boot: a wish for this boot, poolboot.entry=, a wish for all boots, or the usual default; entries
        that were started in vain too often come last."""
        wishes = self._wishes(found.entries())
        for wish in wishes:
            found.look_for(wish.asked)
        return policy.choose(found.entries(), wishes, self.spent)

    def _wishes(self, entries: list[BootEntry]) -> list[Wish]:
        """What was asked for, the strongest first."""
        entries = [entry for entry in entries if not entry.ask] or entries
        found = []
        once = self._of_loader("LoaderEntryOneShot", entries)
        if self._forget_once() and once is not None:
            found.append(Wish(once.id, "the system asked for it, for this boot (LoaderEntryOneShot)", once=True))
        if self.ledger.once:
            found.append(
                Wish(self.ledger.once, f"it is wanted for this boot, says {self._named}", once=True, loud=True)
            )
        if self._config.entry:
            asked = f"poolboot.entry={self._config.entry} asks for it"
            found.append(Wish(self._config.entry, asked, loud=True, person=True))
        if (usual := self._of_loader("LoaderEntryDefault", entries)) is not None:
            found.append(Wish(usual.id, "it is the default that the system has set (LoaderEntryDefault)"))
        if self.ledger.default:
            found.append(Wish(self.ledger.default, f"it is the default in {self._named}", loud=True))
        return found

    @property
    def _named(self) -> str:
        return self.store.where if self.store else "memory"

    def _of_loader(self, name: str, entries: list[BootEntry]) -> BootEntry | None:
        value = self._variables.get(name, LOADER) if self._variables else None
        if value is None:
            return None
        from init.firmware import stub

        exact = next((one for one in entries if value.text in (stub.identifier(one), one.id)), None)
        return exact or policy.called(entries, value.text) or policy.matching(entries, value.text)

    def spent(self, entry: BootEntry) -> str:
        """Why the turn of ``entry`` is over, "" while it is not."""
        if entry.tries_left == 0:
            return "its file name has no tries left"
        limit, count = self.limit(entry), self.ledger.count(entry.id)
        if limit and count >= limit:
            return f"it was started {count} times in vain: no good boot was reported"
        return ""

    def limit(self, entry: BootEntry) -> int:
        """How many starts in vain ``entry`` has, 0 when nobody counts, or when its file name does."""
        if entry.counter is not None:
            return 0
        if entry.tries_left is not None:
            return entry.tries_left
        if self._config.tries is not None:
            return self._config.tries
        return TRIES if reports(entry.place) else 0

    # --- what a person asks for ----------------------------------------------------------------

    def remember(self, entry: BootEntry | None, once: bool = False) -> str:
        """Make ``entry`` the default, or with ``once`` that of the next boot alone; None: nothing is, any more.

        What was done, in words.  Raises FsError when it cannot be written down.
        """
        if self.store is None:
            raise Refused(f"there is no memory from boot to boot: {self.lacking}")
        name = entry.id if entry else ""
        if not _ledger.fits(name):
            raise Refused(f"{name!r} is no name that can be remembered")
        then = self.ledger._replace(once=name) if once else self.ledger._replace(default=name)
        if then != self.ledger:
            self.store.write(then.text())
            self.ledger = then
        if not once and self._variables and self._variables.available:
            self._variables.delete("LoaderEntryDefault", LOADER)  # the system's wish goes before ours, and is older
        what = "the next boot" if once else "all boots"
        if entry is None:
            return f"nothing is wanted for {what} any more, says {self.store.where}"
        stronger = (
            f"; but poolboot.entry={self._config.entry} goes before it" if self._config.entry and not once else ""
        )
        return f"{name} is wanted for {what}, says {self.store.where}{stronger}"

    def toggle(self, entry: BootEntry) -> str:
        """As remember() for all boots; the entry that is the default already is so no more."""
        return self.remember(None if self.ledger.default == entry.id else entry)

    # --- before the jump ----------------------------------------------------------------------

    def starting(self, entry: BootEntry, say: Say) -> None:
        """Write down that ``entry`` is about to be started.  What cannot be written down is told and stops nothing."""
        path = ""
        if entry.counter is not None and entry.tries_left and not entry.ask:
            path = self._count_down(entry, say)
        self._tell_bless_boot(path, say)
        counted = bool(self.limit(entry))
        # Who is not counted must not report another one, started before, as good.
        then = self.ledger.started(entry.id) if counted else self.ledger._replace(booting="")
        then = then._replace(once="")
        if isinstance(self.store, InVariable):
            # Who the disks of this machine are; a partition is not mounted for that.
            pool = entry.place.pool
            members = [slot.uuid for slot in pool.slots if slot.device is not None and slot.state == "online"]
            members += [PLUGGED] if self._trust.plugged(pool) else []
            then = self.ledger.on(pool.uuid.lower(), members)._replace(
                default=then.default, once=then.once, booting=then.booting, tries=then.tries
            )
        if then == self.ledger:
            return
        if self.store is None:
            say(f"warning: nobody counts the boots of {entry.title}: {self.lacking}")
            return
        try:
            self.store.write(then.text())
        except FsError as error:
            say(f"warning: nobody counts the boots of {entry.title}: {error}")
            return
        self.ledger = then
        if counted:
            say(f"try {then.count(entry.id)} of {self.limit(entry)} for {entry.title}, as {self.store.where} has it")

    def _count_down(self, entry: BootEntry, say: Say) -> str:
        """Rename the file of ``entry``; its new path, "" when that failed."""
        counter = entry.counter
        assert counter is not None
        new = counter.counted_down()
        try:
            with_fat(self._modules)
            with esp.mounted(counter.partition) as root:
                os.rename(root + counter.path, root + new)
        except (FsError, OSError) as error:
            text = esp.explain(error) if isinstance(error, OSError) and not isinstance(error, FsError) else str(error)
            say(f"warning: {counter.path} on {counter.partition.name} cannot be counted down: {text}")
            return ""
        say(f"counted down: {new} on {counter.partition.name}")
        return new

    def _tell_bless_boot(self, path: str, say: Say) -> None:
        """Tell systemd-bless-boot which file to rename; what an earlier boot told it is taken back."""
        if self._variables is None or not self._variables.available:
            return
        try:
            if path:
                self._variables.set(COUNT_PATH, LOADER, ucs2(path.replace("/", "\\")))
            elif (value := self._variables.get(COUNT_PATH, LOADER)) and value.attributes == DEFAULT:
                self._variables.delete(COUNT_PATH, LOADER)
        except FsError as error:
            say(f"warning: {error}")

    def _forget_once(self) -> bool:
        """Whether there was a wish for one boot that could be forgotten: else it would be for ever."""
        try:
            return self._variables is not None and self._variables.delete("LoaderEntryOneShot", LOADER)
        except FsError as error:
            self.notes.append(str(error))
            return False


def reports(place: BootRoot) -> bool:
    """Whether the system in ``place`` tells us of good boots."""

    def look() -> bool:
        for path in UNITS:
            try:
                place.filesystem.lstat(path)
            except FsError:
                continue
            return True
        return False

    return bool(attempt(f"{place.where}: its units", place.pool.devices, look, lambda error: None))
