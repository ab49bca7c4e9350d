"""The rescue prompt: look at what is there, pick what to boot, or try again.  It reads; only boot changes anything."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterator

from fsdrivers.errors import FsError
from fsdrivers.filesystem import DIRECTORY, SYMLINK, DirEntry, Filesystem
from fsdrivers.pool import Pool
from init import config as _config
from init import report, syscalls
from init.console import Closed, Console
from init.devices import Disks, human
from init.entries import policy
from init.entries.entry import BootEntry
from init.handover import power
from init.survey import Survey, pool_line

MAX_CAT = 256 << 10  # bytes that cat prints of a file
DMESG_LINES = 40
PATIENCE = 8  # empty reads in a row before we slow down

HELP = """\
  pools            the pools, their members and what is missing
  devices          the disks
  roots            the trees (subvolumes, datasets) of all pools
  use N            look into tree N of that list from now on
  ls [PATH]        list a directory
  cat PATH         print a file
  entries          what can be booted
  boot N [WORDS]   boot entry N, with WORDS added to its command line
  dmesg [LINES]    the end of the kernel's log
  retry            look at the disks again and boot
  reboot, poweroff
  help             this list"""


class Rescue:
    """One stay at the prompt; what it knows of the machine is ``survey``, None when we crashed before there was one."""

    def __init__(self, console: Console, survey: Survey | None, disks: Disks) -> None:
        self._console, self._survey, self._disks = console, survey, disks
        self._used: Filesystem | None = None
        self._commands: dict[str, Callable[[str], None]] = {
            "pools": self._pools, "devices": self._devices, "roots": self._roots, "use": self._use, "ls": self._ls,
            "cat": self._cat, "entries": self._entries, "dmesg": self._dmesg, "help": self._help, "?": self._help,
            "reboot": lambda _: power.reboot(), "poweroff": lambda _: power.poweroff(),
        }  # fmt: skip

    def run(self) -> BootEntry | None:
        """Serve commands until one leaves: the entry to boot, or None to try everything again.

        Raises Closed when no console is left to talk to.
        """
        self._console.say("rescue: type help for what can be done here")
        empty = 0
        while True:
            line = self._console.readline("poolboot> ")
            if line is None:
                empty += 1
                if empty >= PATIENCE:
                    time.sleep(1)  # a line that was cut reads as endless ends of file
                continue
            empty = 0
            name, _, rest = line.strip().partition(" ")
            if name == "retry":
                return None
            entry = self._boot(rest) if name == "boot" else None
            if entry is not None:
                return entry
            if name and name != "boot":
                self._serve(name, rest.strip())

    def _serve(self, name: str, rest: str) -> None:
        command = self._commands.get(name)
        if command is None:
            near = _config.nearest(name, [*self._commands, "boot", "retry"])
            self._console.write(f"{name}: no such command" + (f"; did you mean {near}?" if near else "; try help"))
            return
        try:
            command(rest)
        except Closed:
            raise
        except (FsError, OSError) as error:
            self._console.write(f"{name}: {error}")
        except Exception as error:  # a bug in one command must not take the prompt away
            for line in report.crash(error, f"serving {name}", ()):
                self._console.error(line)

    # --- commands -----------------------------------------------------------------------------

    def _boot(self, rest: str) -> BootEntry | None:
        number, _, words = rest.strip().partition(" ")
        entries = self._survey.entries() if self._survey else []
        entry = policy.find(entries, number) if number else None
        if entry is None:
            self._console.write(f"boot: there is no entry {number}" if number else "boot: which one? See entries")
            return None
        return entry._replace(cmdline=f"{entry.cmdline} {words.strip()}") if words.strip() else entry

    def _pools(self, _: str) -> None:
        if not self._pool_list():
            self._console.write("no pools; see devices")
        for pool in self._pool_list():
            self._console.write(f"{pool_line(pool)} {pool.state}")
            for slot in pool.slots:
                self._console.write(f"  {slot.id}  {slot.state:8}  {slot.device or '-'}  {slot.uuid}")
        for note in self._survey.notes if self._survey else ():
            self._console.write(f"  note: {note}")

    def _devices(self, _: str) -> None:
        for line in self._disks.describe() or ["no disks"]:
            self._console.write(line)

    def _roots(self, _: str) -> None:
        for number, (pool, name, text) in enumerate(self._all_roots(), 1):
            self._console.write(f"  {number}  {pool.name or pool.uuid}:{name or '/'}{text}")

    def _use(self, rest: str) -> None:
        roots = list(self._all_roots())
        if not rest.isdecimal() or not 1 <= int(rest) <= len(roots):
            self._console.write("use: wants a number of the list that roots prints")
            return
        pool, name, _ = roots[int(rest) - 1]
        self._used = pool.open(name)
        self._console.write(f"now in {pool.name or pool.uuid}:{name or '/'}")

    def _ls(self, rest: str) -> None:
        filesystem, path = self._filesystem(), rest or "/"
        node = filesystem.resolve(path)
        if filesystem.stat(node).type != DIRECTORY:
            self._console.write(_line(filesystem, DirEntry(path, filesystem.stat(node).type, node)))
            return
        for entry in filesystem.listdir(path):
            self._console.write(_line(filesystem, entry))

    def _cat(self, rest: str) -> None:
        if not rest:
            self._console.write("cat: which file?")
            return
        file = self._filesystem().open(rest)
        data = file.read(0, min(file.size, MAX_CAT))
        self._console.write(data.decode("utf-8", "backslashreplace").removesuffix("\n"))
        if file.size > MAX_CAT:
            self._console.write(f"... {human(file.size - MAX_CAT)} more")

    def _entries(self, _: str) -> None:
        entries = self._survey.entries() if self._survey else []
        if not entries:
            self._console.write("nothing to boot was found; see pools")
        for number, entry in enumerate(entries, 1):
            for line in entry_lines(number, entry):
                self._console.write(line)

    def _dmesg(self, rest: str) -> None:
        count = int(rest) if rest.isdecimal() else DMESG_LINES
        for line in syscalls.kernel_log().decode("utf-8", "replace").splitlines()[-count:]:
            # "<6>[ 1.2] text": the level is for programs.
            self._console.write(line.partition(">")[2] if line.startswith("<") else line)

    def _help(self, _: str) -> None:
        self._console.write(HELP)

    # --- what they look at --------------------------------------------------------------------

    def _pool_list(self) -> list[Pool]:
        return self._survey.pools if self._survey else []

    def _all_roots(self) -> Iterator[tuple[Pool, str, str]]:
        """Pool, name and remarks of every tree that can be listed; errors are printed."""
        for pool in self._pool_list():
            try:
                for root in pool.roots():
                    marks = (" default" if root.default else "") + (" read-only" if root.readonly else "")
                    yield pool, root.name, marks
            except FsError as error:
                self._console.write(f"  {pool.name or pool.uuid}: {error}")

    def _filesystem(self) -> Filesystem:
        """The tree that ls and cat look into: the chosen one, else that of the first entry, else the default one of
        the first pool that opens."""
        problems = []
        entries = self._survey.entries() if self._survey and self._used is None else []
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


def entry_lines(number: int, entry: BootEntry) -> list[str]:
    """An entry for a person: the title line, then its details."""
    lines = [
        f"entry {number} {entry.title} ({entry.source})",
        f"    id {entry.id}",
        f"    kernel {entry.kernel} initrd {' '.join(entry.initrds) or 'none'}",
        f"    cmdline {entry.cmdline}",
    ]
    return lines + [f"    note: {note}" for note in entry.notes]


def _line(filesystem: Filesystem, entry: DirEntry) -> str:
    """One object as ls -l has it."""
    try:
        status = filesystem.stat(entry.node)
        target = f" -> {filesystem.link_target(entry.node)}" if status.type == SYMLINK else ""
    except FsError as error:
        return f"?????????? {entry.name}: {error}"
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(status.mtime // 10**9))
    size = f"{status.rdev[0]},{status.rdev[1]}" if status.type in ("char", "block") else str(status.size)
    return f"{stat.filemode(status.st_mode)} {status.uid:5} {status.gid:5} {size:>11} {when} {entry.name}{target}"
