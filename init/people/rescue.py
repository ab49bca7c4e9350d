"""The rescue prompt: look at what is there, pick what to boot, or try again.  It reads; no pool is ever written to."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from fsdrivers.bounds import around, attempt, progress
from fsdrivers.errors import FsError, TooLarge
from fsdrivers.filesystem import DIRECTORY, SYMLINK, DirEntry, Filesystem
from fsdrivers.pool import Pool
from fsdrivers.shown import printable, when
from init import config as _config
from init import report
from init.console.console import Closed, Console, Enough
from init.console.lineedit import remember
from init.console.progress import Progress
from init.entries.entry import BootEntry
from init.firmware.keeper import Keeper
from init.handover import power
from init.locks import ALL, EDITOR, MENU
from init.machine import syscalls
from init.machine.devices import Disks, human
from init.people import chooser
from init.people.gate import Gate
from init.people.menu import WHOLE, Menu
from init.roots import tree_name
from init.survey import Survey, pool_line
from init.trust import disks_of

MAX_CAT = 256 << 10  # bytes that cat prints of a file
DMESG_LINES = 40
MAX_COMPLETED = 20000  # names of a directory that completion looks at
CHOOSERS = ("boot", "menu")  # the commands that may leave the prompt with an entry
# The commands that a lock keeps from everybody, and from which level on; what is not here shows the state, or leaves.
LOCKED = {
    "ls": EDITOR, "cat": EDITOR, "sha256": EDITOR, "use": EDITOR, "dmesg": EDITOR, "default": EDITOR, "once": EDITOR,
    "boot": ALL, "menu": ALL,
}  # fmt: skip
LEAVING = ("exit", "quit", "logout", "continue")  # what people type to get out
PATIENCE = 8  # empty reads in a row before we slow down

HELP = """\
  pools            the pools, their members and what is missing
  devices          the disks
  roots            the trees (subvolumes, datasets) of all pools
  use N            look into tree N of that list (or its name) from now on
  ls [PATH]        list a directory
  cat PATH...      print files
  sha256 PATH...   the checksums of files, and how long reading took
  entries          what can be booted
  boot N [WORDS]   boot entry N (or its id or title), with WORDS added to its
                   command line
  default [N]      have entry N booted from now on; without N the usual one
  once [N]         have entry N booted the next time alone
  menu             the menu, with snapshots and an editor for command lines
  dmesg [LINES]    the end of the kernel's log
  retry [KNOBS]    look at the disks again and boot, with KNOBS on top (root=,
                   poolboot.wait=60 ...)
  unlock           give the password, where something is locked
  reboot, poweroff
  help             this list
Tab completes, Up and Down recall."""


class Rescue:
    """One stay at the prompt; what it knows of the machine is ``survey``, None when we crashed before there was one."""

    def __init__(
        self,
        console: Console,
        survey: Survey | None,
        disks: Disks,
        keeper: Keeper | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._console, self._survey, self._disks, self._keeper = console, survey, disks, keeper
        self._gate = gate or Gate()
        self._used: Filesystem | None = None
        self._history: list[str] = []
        self.knobs = ""  # what retry is to put on top of the command line
        self._commands: dict[str, Callable[[str], None]] = {
            "pools": self._pools, "devices": self._devices, "roots": self._roots, "use": self._use, "ls": self._ls,
            "cat": self._cat, "sha256": self._sha256, "entries": self._entries, "dmesg": self._dmesg,
            "default": lambda rest: self._remember(rest, False), "once": lambda rest: self._remember(rest, True),
            "help": self._help, "?": self._help, "unlock": self._unlock,
            "reboot": lambda _: power.reboot(), "poweroff": lambda _: power.poweroff(),
        }  # fmt: skip

    def run(self) -> BootEntry | None:
        """Serve commands until one leaves: the entry to boot, or None to try everything again.

        Raises Closed when no console is left to talk to.
        """
        self._console.say("rescue: type help for what can be done here")
        empty = 0
        while True:
            line = self._console.readline("poolboot> ", history=self._history, complete=self._completed)
            if line is None:
                empty += 1
                if empty >= PATIENCE:
                    time.sleep(1)  # a line that was cut reads as endless ends of file
                continue
            empty = 0
            name, _, rest = line.strip().partition(" ")
            if name != "unlock":  # what stands behind it by mistake is nothing to recall
                remember(self._history, line.strip())
            if name == "retry":
                if self._understands(rest.strip()):
                    return None
                continue
            if name in LOCKED and not self._let_in(name, LOCKED[name]):
                continue
            entry = self._choose(name, rest.strip()) if name in CHOOSERS else None
            if entry is not None:
                return entry
            if name and name not in CHOOSERS:
                self._serve(name, rest.strip())

    def _let_in(self, name: str, level: str, typed: bool = False) -> bool:
        """Whether the command may do what ``level`` locks; asks for the password, and says why not."""
        if not (granted := self._gate.ask(self._console, level, typed)):
            self._line(f"{name}: {self._gate.closed(level, typed)}")
        return granted

    def _unlock(self, rest: str) -> None:
        if rest:
            self._line("unlock: the password is asked for, so that it is not to be seen")
        elif not self._gate.closed(EDITOR):
            self._line("nothing is locked")
        elif self._let_in("unlock", EDITOR):
            self._line("unlocked")

    def _understands(self, rest: str) -> bool:
        """Take the knobs that retry was given, or say what is wrong with them."""
        if rest and not self._let_in("retry", EDITOR):
            return False
        complaints = self._gate.objections(rest) + [
            f"{word} is no knob; root, rootflags, rootdelay and poolboot.* are" for word in _config.foreign(rest)
        ]
        complaints += _config.read(rest).warnings
        for complaint in complaints:
            self._line(f"retry: {complaint}")
        self.knobs = rest
        return not complaints

    def _serve(self, name: str, rest: str) -> None:
        command = self._commands.get(name)
        if command is None:
            self._console.write(f"{name}: no such command; {self._hint(name)}")
            return
        try:
            self._console.pages(True)
            with around("this command", ()):
                command(rest)
        except (Closed, Enough) as stopped:
            if isinstance(stopped, Closed):
                raise
        except (FsError, OSError) as error:
            self._line(f"{name}: {error}")
        except Exception as error:  # a bug in one command must not take the prompt away
            for line in report.crash(error, f"serving {name}", ()):
                self._console.error(line)
        finally:
            self._console.pages(False)

    def _hint(self, name: str) -> str:
        if name in LEAVING:
            return "retry, boot, reboot and poweroff leave this prompt"
        near = _config.nearest(name, self._names())
        return f"did you mean {near}?" if near else "try help"

    # --- commands -----------------------------------------------------------------------------

    def _choose(self, name: str, rest: str) -> BootEntry | None:
        """The entry that "boot" or "menu" leads to, None when it leads back here."""
        try:
            return self._boot(rest) if name == "boot" else self._menu()
        except (FsError, OSError) as error:
            self._line(f"{name}: {error}")
        return None

    def _boot(self, rest: str) -> BootEntry | None:
        # Ids and titles may hold blanks: the longest beginning of the line that is one of them.
        for entry in sorted(self._known(), key=lambda entry: -max(len(entry.id), len(entry.title))):
            for name in (entry.id, entry.title):
                if rest == name or rest.startswith(f"{name} "):
                    return self._with_words(entry, rest.removeprefix(name).strip())
        number, _, words = rest.partition(" ")
        found = self._survey.look_for(number) if self._survey and number else None
        if found is None:
            self._console.write(f"boot: there is no entry {number}" if number else "boot: which one? See entries")
            return None
        return self._with_words(found, words.strip())

    def _with_words(self, entry: BootEntry, words: str) -> BootEntry | None:
        """``entry`` with ``words`` behind its command line; None where it is locked."""
        if entry.snapshot is not None and not self._let_in("boot", MENU):
            return None
        if not words:
            return entry
        if entry.whole:
            self._line(f"boot: {WHOLE}")
            return None
        return entry._replace(cmdline=f"{entry.cmdline} {words}") if self._let_in("boot", EDITOR, typed=True) else None

    def _menu(self) -> BootEntry | None:
        if not self._known():
            self._line(f"menu: {self._nothing()}")
            return None
        return chooser.run(
            self._console,
            Menu(
                self._known(),
                source=self._survey,
                prefer=self._keeper.toggle if self._keeper else None,
                gate=self._gate,
            ),
        ).entry

    def _remember(self, rest: str, once: bool) -> None:
        if self._keeper is None:
            self._console.write("there is no memory from boot to boot yet: try retry")
            return
        entry = self._survey.look_for(rest) if self._survey and rest else None
        if rest and entry is None:
            self._console.write(f"there is no entry {rest}")
            return
        self._console.write(self._keeper.remember(entry, once))

    def _pools(self, _: str) -> None:
        if not self._pool_list():
            self._console.write("no pools; see devices")
        for pool in self._pool_list():
            self._line(f"{pool_line(pool)} {pool.state}")
            for slot in pool.slots:
                self._line(f"  {slot.id}  {slot.state:8}  {slot.device or '-'}  {slot.uuid}")
            if self._survey is not None and pool.devices:
                self._line(f"  on {self._survey.trust.describe(disks_of(pool))}")
        for note in self._survey.notes if self._survey else ():
            self._line(f"  note: {note}")

    def _devices(self, _: str) -> None:
        for line in self._disks.describe() or ["no disks"]:
            self._console.write(line)

    def _roots(self, _: str) -> None:
        for number, (pool, name, text) in enumerate(self._all_roots(), 1):
            self._line(f"  {number}  {tree_name(pool, name)}{text}")

    def _use(self, rest: str) -> None:
        roots = list(self._all_roots())
        names = [tree_name(pool, name) for pool, name, _ in roots]
        if rest in names:
            number = names.index(rest)
        elif 1 <= (_config.number(rest) or 0) <= len(roots):
            number = int(rest) - 1
        else:
            self._console.write("use: wants a number or a name of the list that roots prints")
            return
        pool, name, _ = roots[number]
        self._used = pool.open(name)
        self._line(f"now in {tree_name(pool, name)}")

    def _ls(self, rest: str) -> None:
        filesystem = self._filesystem()
        path = _without_options(rest) or "/"
        node = filesystem.resolve(path)
        if filesystem.stat(node).type != DIRECTORY:
            self._line(_listed(filesystem, DirEntry(path, filesystem.stat(node).type, node)))
            return
        try:
            entries: Iterable[DirEntry] = filesystem.listdir(path)
        except TooLarge:
            entries = filesystem.entries(node)  # as they lie on the disk
        for entry in entries:
            self._line(_listed(filesystem, entry))

    def _cat(self, rest: str) -> None:
        if not rest:
            self._console.write("cat: which file?")
            return
        for path in self._paths(rest):
            file = self._filesystem().open(path)
            data = file.read(0, min(file.size, MAX_CAT))
            if data:
                self._console.write(data.decode("utf-8", "backslashreplace").removesuffix("\n"))
            if file.size > MAX_CAT:
                self._console.write(f"... {human(file.size - MAX_CAT)} more")

    def _sha256(self, rest: str) -> None:
        if not rest:
            self._console.write("sha256: which files?")
            return
        from hashlib import sha256

        filesystem, size, start = self._filesystem(), 0, time.monotonic()
        for path in self._paths(rest):
            file, digest = filesystem.open(path), sha256()
            progress = Progress(f"reading {path}", file.size, self._line)
            for chunk in file.chunks():
                digest.update(chunk)
                progress.advance(len(chunk))
                self._console.interrupted()
            size += file.size
            self._line(f"{digest.hexdigest()}  {path}")
        self._console.write(f"{human(size)} read and hashed in {time.monotonic() - start:.2f} s")

    def _nothing(self) -> str:
        found = self._survey
        if found and found.pools and not found.matching:
            return f"nothing is looked into but {found.sought}, as root= asks for it; retry root= looks into all pools"
        return "nothing to boot was found; see pools"

    def _entries(self, _: str) -> None:
        entries = self._known()
        if not entries:
            self._line(self._nothing())
        for number, entry in enumerate(entries, 1):
            for line in entry_lines(number, entry):
                self._console.write(line)

    def _dmesg(self, rest: str) -> None:
        count = _config.number(rest) if rest else DMESG_LINES
        if count is None:
            self._console.write(f"dmesg: {rest} is not a number of lines")
            return
        lines = syscalls.kernel_log().decode("utf-8", "replace").splitlines()
        for line in lines[max(0, len(lines) - count) :]:
            # "<6>[ 1.2] text": the level is for programs.
            self._console.write(line.partition(">")[2] if line.startswith("<") else line)

    def _line(self, text: str) -> None:
        """One line, whatever the names in it hold."""
        self._console.write(printable(text, ""))
        progress()

    def _help(self, _: str) -> None:
        self._console.write(HELP)

    # --- completion ---------------------------------------------------------------------------

    def _names(self) -> list[str]:
        return sorted([*(name for name in self._commands if name != "?"), *CHOOSERS, "retry"])

    def _completed(self, text: str) -> tuple[int, list[str]]:
        """As _complete(); nothing when that goes wrong or takes too long."""
        return attempt("completing", (), lambda: self._complete(text), lambda error: None) or (len(text), [])

    def _complete(self, text: str) -> tuple[int, list[str]]:
        """What the last word of ``text`` may become: a command, an entry, a tree or a path."""
        command, blank, rest = text.lstrip().partition(" ")
        if not blank:
            return len(text) - len(command), [f"{name} " for name in self._names() if name.startswith(command)]
        start = len(text) - len(rest)
        if command in LOCKED and self._gate.closed(LOCKED[command]):
            return start, []
        if command in ("boot", "default", "once"):
            return start, _beginning(rest, [name for entry in self._known() for name in (entry.id, entry.title)])
        if command == "use":
            return start, _beginning(rest, [tree_name(pool, name) for pool, name, _ in self._all_roots(quiet=True)])
        if command == "retry":
            word = rest.rpartition(" ")[2]
            return len(text) - len(word), _beginning(word, [f"{name}=" for name in _config.names()])
        if command == "ls":
            return self._complete_path(text, _without_options(rest))
        if command in ("cat", "sha256"):
            return self._complete_path(text, rest.rpartition(" ")[2] if command == "sha256" else rest)
        return start, []

    def _known(self) -> list[BootEntry]:
        return self._survey.entries() if self._survey else []

    def _complete_path(self, text: str, path: str) -> tuple[int, list[str]]:
        directory, slash, name = path.rpartition("/")
        try:
            found: list[str] = []
            for entry in self._filesystem().listdir(directory + slash or "/", lambda one: one.startswith(name)):
                if len(found) >= MAX_COMPLETED:
                    break
                found.append(entry.name + ("/" if entry.type == DIRECTORY else ""))
        except (FsError, OSError):
            return len(text), []
        return len(text) - len(name), found

    # --- what they look at --------------------------------------------------------------------

    def _pool_list(self) -> list[Pool]:
        return self._survey.pools if self._survey else []

    def _all_roots(self, quiet: bool = False) -> Iterator[tuple[Pool, str, str]]:
        """Pool, name and remarks of every tree that can be listed; errors are printed unless ``quiet``."""
        for pool in self._pool_list():
            try:
                for root in pool.roots():
                    marks = (" default" if root.default else "") + (" read-only" if root.readonly else "")
                    yield pool, root.name, marks
            except FsError as error:
                if not quiet:
                    self._line(f"  {pool.name or pool.uuid}: {error}")

    def _paths(self, rest: str) -> list[str]:
        """The paths in ``rest``: one with blanks in it if there is such a file, else several."""
        return [rest] if self._filesystem().exists(rest) else rest.split()

    def _filesystem(self) -> Filesystem:
        """The tree that ls and cat look into: the chosen one, else that of the first entry, else the default one of
        the first pool that opens."""
        problems = []
        entries = self._known() if self._used is None else []
        if entries:
            self._used = entries[0].place.filesystem
        for pool in self._pool_list() if self._used is None else ():
            try:
                self._used = pool.open()
                break
            except FsError as error:
                problems.append(str(error))
        if self._used is None:
            raise FsError("; ".join(problems) or "there is no pool to look into")
        return self._used


def _without_options(rest: str) -> str:
    """``rest`` without options of ls(1), given out of habit: our list is as long as it gets."""
    rest = rest.lstrip()
    while rest.startswith("-"):
        rest = rest.partition(" ")[2].lstrip()
    return rest


def _beginning(text: str, words: Sequence[str]) -> list[str]:
    """Those of ``words`` that begin with ``text``, in small letters or large ones."""
    return sorted({word for word in words if word.lower().startswith(text.lower())})


def entry_lines(number: int, entry: BootEntry) -> list[str]:
    """An entry for a person: the title line, then its details."""
    lines = [
        f"entry {number} {entry.title} ({entry.source})",
        f"    id {entry.id}",
        *([f"    disk {entry.disk}"] if entry.disk else []),
        f"    kernel {entry.kernel} initrd {' '.join(entry.initrds) or ('its own' if entry.whole else 'none')}",
        f"    cmdline {entry.cmdline or ('its own' if entry.whole else '')}",
    ]
    return [printable(line, "") for line in (*lines, *(f"    note: {note}" for note in entry.notes))]


def _listed(filesystem: Filesystem, entry: DirEntry) -> str:
    """One object as ls -l has it."""
    try:
        status = filesystem.stat(entry.node)
        target = f" -> {filesystem.link_target(entry.node)}" if status.type == SYMLINK else ""
    except FsError as error:
        return f"?????????? {entry.name}: {error}"
    size = f"{status.rdev[0]},{status.rdev[1]}" if status.type in ("char", "block") else str(status.size)
    mode = stat.filemode(status.st_mode & 0xFFFF)
    return f"{mode} {status.uid:5} {status.gid:5} {size:>11} {when(status.mtime)} {entry.name}{target}"
