"""Run the root under the running kernel: its files come from our driver, what is written stays in RAM.

For a kernel that has no driver for the root and must stay, and for a live look at a broken machine.  The tree is
served through FUSE by a daemon that outlives us (daemon.py) and is the lower layer of an overlay whose upper layer is
a tmpfs; or, with poolboot.switch-root=copy, it is copied into a tmpfs.  Then PID 1 becomes the init of the root.
docs/internals/switch-root.md tells the order of things and why.
"""

from __future__ import annotations

import errno
import os
import stat as _stat
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from fsdrivers.errors import FsError
from fsdrivers.filesystem import Filesystem
from init.config import BootConfig
from init.entries.entry import BootEntry
from init.entries.fstab import Line
from init.handover import branches, fstab, layers, program, running
from init.machine import modules, syscalls
from init.machine.syscalls import MS_MOVE
from init.refused import Refused

ROOT = f"{layers.HOME}/root"
MOVED = ("/dev", "/proc", "/sys", "/run")
STATE = "/run/poolboot"
COPY_DRIVERS = {"tmpfs": "CONFIG_TMPFS"}
SERVE_DRIVERS = {"fuse": "CONFIG_FUSE_FS", "overlay": "CONFIG_OVERLAY_FS", **COPY_DRIVERS}
FSTAB, CRYPTTAB = "/etc/fstab", "/etc/crypttab"
RAMFS = ("rootfs", "tmpfs", "ramfs")


class Ready(NamedTuple):
    """What stage() prepared and go() needs."""

    init: str
    cmdline: str
    files: dict[str, str]  # path in the root -> the text that replaces it
    mounts: dict[str, str]  # path in the root -> where what belongs there is mounted so far
    say: Callable[[str], None]


_ready: Ready | None = None


def stage(entry: BootEntry, config: BootConfig, say: Callable[[str], None]) -> None:
    """Mount ``entry``'s root on ROOT, ready to be switched to.

    Raises Refused with advice, TooLarge when it does not fit into memory, or the driver's FsError.
    """
    global _ready
    check_place()
    filesystem = entry.place.filesystem
    init = preflight(entry)
    copying = config.switch_root == "copy"
    known = load_drivers(COPY_DRIVERS if copying else SERVE_DRIVERS)
    mounted = branches.find(read_table(filesystem, FSTAB, say) or "", entry.place, lambda text: say(f"warning: {text}"))
    trees = [layers.Tree(filesystem, entry.place.where, ROOT)]
    for number, branch in enumerate(mounted):
        trees.append(layers.Tree(branch.filesystem, branch.name, f"{STATE}/branch{number}", branch.flags))
    tables = filter_tables(filesystem, known, [branch.line for branch in mounted], say)
    targets = [tree.target for tree in trees]
    layers.undo(targets)
    _ready = None
    try:
        (layers.copy if copying else layers.serve)(trees, say)
    except FsError:
        layers.undo(targets)
        raise
    except OSError as error:
        layers.undo(targets)
        raise Refused(f"mounting the root: {_describe(error)}") from error
    places = {branch.line.where: tree.target for branch, tree in zip(mounted, trees[1:], strict=True)}
    _ready = Ready(init, entry.cmdline, tables, places, say)


def preflight(entry: BootEntry, machine: str | None = None) -> str:
    """The init of ``entry``'s root, which this ``machine`` (as uname(2) has it) can execute.  Raises Refused."""
    init = program.find(entry.place.filesystem, entry.cmdline)
    program.check(entry.place.filesystem, init, machine)
    return init


def go() -> NoReturn:
    """Become the init of the root.  Raises Refused if that cannot be started."""
    if _ready is None:
        raise Refused("nothing is staged")
    old = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for where in MOVED:
            real_directory(ROOT + where)
            syscalls.mount(where, ROOT + where, "", MS_MOVE)
        os.chdir(ROOT)
        syscalls.mount(".", "/", "", MS_MOVE)
        os.chroot(".")
        os.chdir("/")
    except OSError as error:
        raise Refused(f"moving to the new root: {_describe(error)}") from error
    _furnish(_ready, old)
    empty(old)
    os.close(old)
    usual = {"HOME": "/", "TERM": os.environ.get("TERM", "linux")}
    start(_ready.init, program.arguments(_ready.init, _ready.cmdline), program.environment(_ready.cmdline, usual))


# --- before the point of no return ------------------------------------------------------------


def check_place(mounts: str = "/proc/self/mounts") -> None:
    """Raise Refused unless we are PID 1 of a machine that runs from an initramfs: the rest would harm any other."""
    if os.getpid() != 1:
        raise Refused("switch_root: only PID 1 can do this")
    with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
        types = [words[2] for line in file if (words := line.split())[1] == "/"]
    if not types or types[-1] not in RAMFS:
        raise Refused("switch_root: poolboot does not run from an initramfs here")


def load_drivers(drivers: dict[str, str]) -> frozenset[str]:
    """Get the filesystem types in ``drivers`` into the kernel; returns all that it has.

    The values are the options that build them in.  Raises Refused when one is missing.
    """
    loader = modules.Modules(modules.read())
    for name in drivers:
        loader.load(name)
    known = filesystems()
    missing = [name for name in drivers if name not in known]
    if missing:
        options = " and ".join(drivers[name] for name in missing)
        why = "".join(f"; {problem}" for problem in loader.problems)
        raise Refused(
            f"switch_root: the running kernel has no {' and no '.join(missing)}: it needs {options}, or the modules "
            f"in the initramfs{why}"
        )
    return known


def filesystems(path: str = "/proc/filesystems") -> frozenset[str]:
    """The types that the kernel can mount."""
    with open(path, encoding="ascii", errors="replace") as file:
        return frozenset(line.split()[-1] for line in file if line.strip())


def filter_tables(
    filesystem: Filesystem, known: frozenset[str], mounted: Sequence[Line], say: Callable[[str], None]
) -> dict[str, str]:
    """What FSTAB and CRYPTTAB become; what is left out and not ``mounted`` by us is told to ``say``."""
    found = {}
    for path in (FSTAB, CRYPTTAB):
        text = read_table(filesystem, path, say)
        if text is None:
            continue
        outcome = fstab.filter_fstab(text, known) if path == FSTAB else fstab.filter_crypttab(text)
        lines = [line for line in outcome.left_out if line.where != "/" and line not in mounted]
        if lines:
            say(f"left out of {path}: {', '.join(str(line) for line in lines)}")
        if outcome.left_out:
            found[path] = outcome.text
    return found


def read_table(filesystem: Filesystem, path: str, say: Callable[[str], None]) -> str | None:
    """The text of a table in the root, None when there is none or (with a warning) it cannot be read."""
    try:
        return filesystem.read_file(path, fstab.MAX_SIZE).decode("utf-8", "surrogateescape")
    except FsError as error:
        if filesystem.exists(path):
            say(f"warning: {path} stays as it is: {error}")
        return None


# --- behind it: nothing here may fail for good --------------------------------------------------


def real_directory(path: str) -> None:
    """Make sure that ``path`` is a directory: a symlink in its place would lead out of the new root."""
    try:
        if _stat.S_ISDIR(os.lstat(path).st_mode):
            return
        os.unlink(path)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    os.mkdir(path, 0o755)


def _furnish(ready: Ready, old: int) -> None:
    """Put into the root what it lacks to run under this kernel; ``old`` is the initramfs.  Failures are told."""
    for path, text in ready.files.items():
        try:
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
        except OSError as error:
            ready.say(f"warning: {path} stays as it is: {_describe(error)}")
    for path, where in ready.mounts.items():
        try:
            os.makedirs(path, exist_ok=True)
            syscalls.mount(where, path, "", MS_MOVE)
        except OSError as error:
            ready.say(f"warning: {path} is not mounted: {_describe(error)}")
    try:
        running.bring(old, os.uname().release, ready.say)
    except OSError as error:
        ready.say(f"warning: the modules of the running kernel are not in the root: {_describe(error)}")
    try:
        show_cmdline(ready.cmdline)
    except OSError as error:
        ready.say(f"warning: /proc/cmdline stays as it is: {_describe(error)}")


def show_cmdline(cmdline: str) -> None:
    """Let /proc/cmdline be what the root's system expects to be started with, not what poolboot was started with."""
    os.makedirs(STATE, 0o755, exist_ok=True)
    path = f"{STATE}/cmdline"
    with open(path, "wb") as file:
        file.write(os.fsencode(cmdline) + b"\n")
    syscalls.mount(path, "/proc/cmdline", "", syscalls.MS_BIND)


def empty(old: int) -> None:
    """Delete all that lies on the file system of the directory ``old``, for its memory."""
    _empty(old, os.fstat(old).st_dev)


def _empty(directory: int, device: int) -> None:
    for name in os.listdir(directory):
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if status.st_dev != device:
                continue
            if not _stat.S_ISDIR(status.st_mode):
                os.unlink(name, dir_fd=directory)
                continue
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                _empty(below, device)
            finally:
                os.close(below)
            os.rmdir(name, dir_fd=directory)
        except OSError:  # some memory stays occupied
            continue


def start(path: str, argv: list[str], environment: dict[str, str]) -> NoReturn:
    """Execute the init with the streams, signals and environment that the kernel gives to an init."""
    import signal

    try:
        console = os.open("/dev/console", os.O_RDWR | os.O_NOCTTY)
        for number in (0, 1, 2):
            os.dup2(console, number)
        if console > 2:
            os.close(console)
    except OSError:  # it will find its terminals by itself
        pass
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(path, argv, environment)
    except OSError as error:
        raise Refused(f"execve of {path}: {_describe(error)}") from error


def _describe(error: OSError) -> str:
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    return f"{name}: {error.strerror}" + (f" ({error.filename})" if error.filename else "")
