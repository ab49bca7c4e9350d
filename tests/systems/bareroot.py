"""Roots of Debian in which nothing is installed: made by mmdebstrap, entered by chroot or in namespaces.

    with unpacked(bare("trixie"), store) as root:
        root.put_checkout()
        root.run(["./setup.sh"], log)

As root a root is entered by chroot; for everybody else in a user namespace, in which they are root and other owners are
their subordinate ids.  Either way the command has mounts and process numbers of its own: when it ends, nothing stays.
Every root that is unpacked is a fresh copy, thrown away at the end: what a run left in it can mislead no other.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from artefacts import cache, network
from artefacts.steps import BuildError, run, short
from qemu import images

PROJECT = Path(__file__).resolve().parent.parent.parent

CHECKOUT = "/poolboot"
_CACHE = "/var/cache/poolboot"

# What is downloaded once for all roots of a release, by its directory below Root.store.
_KEPT = {"poolboot": _CACHE, "apt": "/var/cache/apt/archives", "pip": "/root/.cache/pip"}
_BUNDLE = "/etc/poolboot-certificates.pem"

# The README: "apt install git make" first.
BARE = ("git", "make")

# Of the machine, not of what was made: never packed.
_TAKEN_ALONG = ("etc/apt/apt.conf.d/99network", "etc/apt/apt.conf.d/99mmdebstrap", _BUNDLE[1:])
_PSEUDO = ("dev", "proc", "sys")

_HINT = "apt install mmdebstrap uidmap util-linux"

_SCRIPT = "POOLBOOT_ENTER"

# unshare(1): who calls it is root, and /etc/subuid and /etc/subgid say who the others are.
_MAPPED = ("--map-root-user", "--map-auto")

# What a person may have set for poolboot itself.
_OWN_VARIABLES = ("POOLBOOT_ACCEL", "POOLBOOT_TIMEOUT_SCALE", "TERM")


def bare(suite: str) -> Path:
    """A root of Debian ``suite`` with what the README wants and nothing more: a zstd-compressed tar.

    Raises BuildError.
    """
    return images.root(f"bare-{suite}", suite, [f"--include={','.join(BARE)}"])


def files() -> list[Path]:
    """What a checkout consists of, as git sees it, relative to it: what is committed or could be, as it is on disk.

    In a fresh clone that is HEAD, on a desk what the next commit may hold.  Raises BuildError where there is no git.
    """
    command = ["git", "-C", str(PROJECT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise BuildError(
            f"{PROJECT} is not a git checkout", "clone the repository: git knows what belongs to it"
        ) from None
    found = [Path(name) for name in done.stdout.split("\0") if name]
    return sorted(path for path in set(found) if (PROJECT / path).is_symlink() or (PROJECT / path).is_file())


class Bind(NamedTuple):
    """A file or directory of the machine that is seen in a root."""

    source: Path
    target: str
    """Absolute, in the root."""
    readonly: bool = True


class Root:
    """An unpacked root.  ``store`` is a directory of this machine for what such roots keep: see _KEPT."""

    def __init__(self, directory: Path, store: Path) -> None:
        self.directory, self.store = directory, store
        self._network = network.settings(_BUNDLE)
        self.checkout = directory / CHECKOUT[1:]

    def put_checkout(self) -> None:
        """Copy files() to CHECKOUT."""
        for path in files():
            target = self.checkout / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / path, target, follow_symlinks=False)

    def take_along(self) -> None:
        """Put in what the machine's network needs."""
        for name in ("resolv.conf", "hosts"):
            with contextlib.suppress(FileNotFoundError):
                target = self.directory / "etc" / name
                target.unlink(missing_ok=True)
                target.write_bytes(Path("/etc", name).read_bytes())
        if self._network.certificates:
            (self.directory / _BUNDLE[1:]).write_bytes(self._network.certificates.read_bytes())
        (self.directory / _TAKEN_ALONG[0]).write_text("".join(f"{line}\n" for line in self._network.apt))

    def run(self, words: Sequence[str], log: Path) -> None:
        """Run a command in the root, in CHECKOUT, its output appended to ``log``.  Raises BuildError."""
        try:
            run(self.command(words), log=log, env=self._variables(), hint=f"see {short(log)}")
        except BuildError as error:
            raise BuildError(f"{shlex.join(words)} in the bare root: {error.message}", error.hint) from None

    def aloud(self, words: Sequence[str], log: Path) -> int:
        """Run a command like run(), but its output goes to stdout too; returns its status."""
        with log.open("ab") as sink:
            process = subprocess.Popen(
                self.command(words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._variables()},
            )
            assert process.stdout
            while block := os.read(process.stdout.fileno(), 65536):
                sink.write(block)
                sys.stdout.buffer.write(block)
                sys.stdout.buffer.flush()
        return process.wait()

    def output(self, words: Sequence[str]) -> str:
        """What a command in the root prints.  Raises BuildError."""
        done = subprocess.run(
            self.command(words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self._variables()},
        )
        if done.returncode:
            raise BuildError(f"{shlex.join(words)} ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
        return done.stdout

    def environment(self) -> dict[str, str]:
        """The variables of a command in the root."""
        own = {name: os.environ[name] for name in _OWN_VARIABLES if os.environ.get(name)}
        return {
            **own,
            **self._network.environment,
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LC_ALL": "C.UTF-8",
            "POOLBOOT_CACHE": _CACHE,
        }

    def command(self, words: Sequence[str]) -> list[str]:
        """The command of this machine that runs ``words`` in the root, given _variables()."""
        return [*_namespaces(), "sh", "-euc", f'eval "${_SCRIPT}"', "sh", *words]

    def _variables(self) -> dict[str, str]:
        """environment(), and the script that enters the root: logs shall show the command, not how it got there."""
        binds = [Bind(self.store / name, target, readonly=False) for name, target in _KEPT.items()]
        binds += [Bind(path, str(path)) for path in self._network.directories]
        inside = self.environment()
        return {**inside, _SCRIPT: enter_script(self.directory, binds, sorted(inside))}

    def pack(self, target: Path, log: Path) -> None:
        """Write the root without what is of this machine into a zstd-compressed tar.  Raises BuildError."""
        left_out = [*(f"{name}/*" for name in _PSEUDO), *_TAKEN_ALONG, "etc/resolv.conf", "etc/hosts", "tmp/*"]
        left_out += ["var/cache/apt/*.bin", "var/lib/apt/lists/*", *(f"{target[1:]}/*" for target in _KEPT.values())]
        words = ["tar", "--numeric-owner", "--xattrs", *(f"--exclude=./{name}" for name in left_out)]
        run([*_outside(), *words, "-I", "zstd -3 -T0", "-C", self.directory, "-cf", target, "."], log=log, hint=_HINT)


def enter_script(directory: Path, binds: Sequence[Bind], names: Sequence[str]) -> str:
    """A script for sh, in mounts of its own: mounts what a root needs and runs its arguments in CHECKOUT there.

    ``names`` are the variables that the command keeps.
    """
    # A container may not mount a fresh /proc where parts of its own are covered; it may show its own.
    lines = [
        f"cd {shlex.quote(str(directory))}",
        "mount -t proc proc proc 2>/dev/null || mount --rbind /proc proc",
        "mount --rbind /dev dev",
        "mount --rbind /sys sys",
    ]
    for bind in binds:
        source, target = shlex.quote(str(bind.source)), shlex.quote(f".{bind.target}")
        if bind.source.is_dir():
            lines.append(f"mkdir -p {target}")
        else:
            lines.append(f"mkdir -p {shlex.quote(f'.{os.path.dirname(bind.target)}')}; touch {target}")
        lines.append(f"mount --bind {source} {target}")
        if bind.readonly:
            # In a user namespace the flags of the machine's own mounts are locked.
            lines.append(f"mount -o remount,bind,ro {target} 2>/dev/null || :")
    kept = " ".join(f'{name}="${name}"' for name in names)
    # The shell stays: a boot program that finds itself to be process 1 would boot this machine.
    inner = f'cd {CHECKOUT} 2>/dev/null || cd /; "$@"; exit $?'
    lines.append(f'exec chroot . /usr/bin/env -i {kept} /bin/sh -c {shlex.quote(inner)} sh "$@"')
    return "\n".join(lines)


def _outside() -> list[str]:
    """What comes before a command that touches files of every owner in a root."""
    return [] if os.geteuid() == 0 else ["unshare", *_MAPPED, "--"]


def _namespaces() -> list[str]:
    """What comes before a command that mounts: namespaces of its own, which end with it."""
    mapped = [] if os.geteuid() == 0 else _MAPPED
    return ["unshare", *mapped, "--mount", "--pid", "--fork", "--kill-child", "--"]


@contextlib.contextmanager
def unpacked(tar: Path, store: Path) -> Iterator[Root]:
    """A fresh copy of the root in ``tar``, with what the machine's network needs; gone at the end.

    ``store`` is for what such roots keep: poolboot's cache, packages.  Raises BuildError.
    """
    shelf = cache.root() / "systems"
    for path in (shelf, *(store / name for name in _KEPT)):
        path.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        with cache.alone(shelf / ".roots.lock"):
            _sweep(shelf)
            directory = Path(tempfile.mkdtemp(prefix=".root-", dir=shelf))
            lock = held.enter_context((shelf / f"{directory.name}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            directory.chmod(0o755)
            left_out = [f"--exclude=./{name}/*" for name in _PSEUDO]
            words = ["tar", "--numeric-owner", "--xattrs", "--zstd", *left_out, "-C", directory, "-xpf", tar]
            run([*_outside(), *words], log=shelf / "unpack.log", hint=_HINT)
            root = Root(directory, store)
            root.take_along()
            yield root
        finally:
            _remove(directory)
            Path(lock.name).unlink(missing_ok=True)


def _sweep(shelf: Path) -> None:
    """Remove the roots of runs that were killed: those whose lock nobody holds."""
    for path in shelf.glob(".root-*.lock"):
        with contextlib.suppress(OSError), path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path.with_suffix(""))
            path.unlink(missing_ok=True)


def _remove(directory: Path) -> None:
    subprocess.run([*_outside(), "rm", "-rf", "--one-file-system", directory], check=False)


def own_suite() -> str:
    """The suite of this machine's Debian, or "" elsewhere."""
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return ""
    found = re.search(r"^VERSION_CODENAME=(\S+)$", text, re.MULTILINE)
    return found[1] if found and re.search(r"^ID=debian$", text, re.MULTILINE) else ""
