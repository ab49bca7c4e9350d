"""The kernel command line: its quoting rules, and the knobs that we take from it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from fsdrivers.errors import FsError
from init import locks as _locks
from init.locks import Lock

Parameters = tuple[tuple[str, str | None], ...]

SWITCH_ROOTS = ("serve", "copy")
HANDOVERS = ("auto", "kexec", "firmware", "switch_root", "none")
DEGRADED = ("auto", "ask", "never")
ON_ERROR = ("rescue", "reboot", "poweroff")

PREFIX = "poolboot."
MAX_SECONDS = 86400.0
MAX_TRIES = 99
MAX_DIGITS = 20  # of 64 bits
LONGEST = 2047  # bytes that the kernel keeps; arch/x86/include/asm/setup.h:COMMAND_LINE_SIZE less the NUL, v6.12


class BootConfig(NamedTuple):
    """What the kernel command line asks for.  docs/knobs.md explains each of them."""

    root: str = ""  # root=: UUID=, LABEL=, ZFS=, zfs:AUTO, /dev/...; "" for whatever boots
    rootflags: str = ""
    handover: str = "auto"
    switch_root: str = "serve"  # what handover=switch_root does with the root
    entry: str = ""  # number, id or title
    kernel: str = ""  # path in the root
    initrd: tuple[str, ...] = ()  # paths in the root
    cmdline: str = ""  # instead of the distro's own
    append: str = ""  # after it
    append_initrd: tuple[str, ...] = ()  # archives that follow whatever initrd is booted; see init/entries/appended.py
    timeout: float = 0.0  # seconds that a menu waits
    wait: float = 10.0  # seconds to wait for devices at most
    degraded: str = "auto"
    on_error: str = "rescue"
    esp: str = ""  # PARTUUID=, PARTLABEL=, LABEL= or /dev/... of the ESP that handover=firmware writes to
    boot_order: bool = False  # handover=firmware also becomes the firmware's default
    watchdog: str = "auto"  # "auto", "off", or its period in seconds
    tries: int | None = None  # starts in vain that an entry has; 0 for no end, None for what the root's unit says
    debug: bool = False
    require_uki: bool = False  # only unified kernel images are booted, and only whole
    locks: tuple[Lock, ...] = ()  # what people may not do without a password: one for each source, see init/locks.py
    secure: bool = False  # Secure Boot is on: set by whoever knows the firmware
    narrow: str = ""  # a root= that nobody signed: leaves pools out, and earns none of them trust
    origin: str = ""  # the device of the disk that the EFI file came from; no knob
    parameters: Parameters = ()  # the whole command line
    warnings: tuple[str, ...] = ()

    @property
    def subvol(self) -> str | None:
        """The subvolume path that rootflags= asks for, without slashes around it ("" is the top level)."""
        value = flag(self.rootflags, "subvol")
        return None if value is None else value.strip("/")

    @property
    def subvolid(self) -> int | None:
        """The subvolume id that rootflags= asks for."""
        return number(flag(self.rootflags, "subvolid"))

    @property
    def consoles(self) -> tuple[str, ...]:
        """The values of our own console= parameters, in order."""
        return tuple(value for key, value in self.parameters if key == "console" and value)

    @property
    def term(self) -> str:
        """What TERM= says of the serial lines, "" when it does not."""
        return next((value for key, value in reversed(self.parameters) if key == "TERM" and value), "")

    def has(self, name: str) -> bool:
        """Whether the command line has the parameter ``name``, with or without a value."""
        return any(key == name for key, _ in self.parameters)

    @property
    def whole(self) -> bool:
        """Whether unified kernel images are started as they were signed, or not at all."""
        return self.secure or self.require_uki


_WORD = r'(?:[^ \t\n\v\f\r"]+|"[^"]*(?:"|$))+'


class Unwritable(FsError):
    """A value that cannot be put on a command line so that it is read back as it was."""


def split(text: str) -> list[str]:
    """The parameters of a command line, quotes kept: double quotes keep blanks together, nothing escapes.

    Source: lib/cmdline.c:next_arg, v6.12.
    """
    return re.findall(_WORD, text)


def parse(text: str) -> Parameters:
    """The parameters of a command line as (name, value), the value None when there is no "=".

    A quote is removed where it opens the value or the whole parameter, with the one that ends it; any other
    stays.  What follows a lone "--" is for the init of the root and not looked at.  Source: as split().
    """
    parameters = []
    for word in split(text):
        if word == "--":
            break
        whole = word.startswith('"')
        word = word[whole:]
        equals = word.find("=")
        name, value = (word[:equals], word[equals + 1 :]) if equals > 0 else (word, None)
        if value is not None and value.startswith('"'):
            value = value[1:].removesuffix('"')
        elif whole and value is not None:
            value = value.removesuffix('"')
        elif whole:
            name = name.removesuffix('"')
        parameters.append((name, value))
    return tuple(parameters)


def quote(name: str, value: str | None) -> str:
    """One parameter as the kernel would parse it back: the inverse of parse().

    Raises Unwritable for what cannot be written, as a name on a disk with a quote in it: nothing escapes one.
    """
    words = [name] if value is None else [f"{name}={value}", f'{name}="{value}"']
    odd = any(char == '"' or ord(char) < 0x20 or ord(char) == 0x7F for char in f"{name}{value or ''}")
    for word in words if not odd else ():
        if parse(word) == ((name, value),):
            return word
    raise Unwritable(f"{name}={value or ''!r}: no command line can carry this")


def flag(options: str, name: str) -> str | None:
    """The value of ``name`` in a comma-separated list of mount options, the last one winning; None if absent."""
    found = None
    for option in options.split(","):
        key, equals, value = option.partition("=")
        if key == name and equals:
            found = value
    return found


def number(text: str | None) -> int | None:
    """The decimal number that ``text`` is; None for anything else, and for what is too long to be one."""
    return int(text) if text is not None and text.isdecimal() and len(text) <= MAX_DIGITS else None


def read(text: str) -> BootConfig:
    """The BootConfig that a kernel command line asks for; what is wrong with it goes into ``warnings``."""
    return of(parse(text))


def of(parameters: Parameters) -> BootConfig:
    """As read(), of a command line that is parsed."""
    values: dict[str, object] = {}
    warnings: list[str] = []
    rootdelay = 0.0
    locking: list[tuple[str, str | None]] = []
    for name, value in parameters:
        knob = key(name)
        if knob in ("root", "rootflags"):
            values[knob] = value or ""
        elif knob == "rootdelay":
            rootdelay = _seconds(name, value, rootdelay, warnings)
        elif name.startswith(PREFIX) and not _knob(name, knob, value, values, warnings):
            locking.append((knob, value))
        elif _shouted(name):
            locking.append((name, value))
    if locking:
        values["locks"] = (_locks.understand(locking),)
    config = BootConfig(parameters=parameters)._replace(**values)  # type: ignore[arg-type]
    return config._replace(wait=max(config.wait, rootdelay), warnings=tuple(warnings))


def key(name: str) -> str:
    """What a knob is called here: the kernel takes "-" and "_" in names of parameters for the same thing."""
    return name.removeprefix(PREFIX).replace("-", "_") if name.startswith(PREFIX) else name


def _shouted(name: str) -> bool:
    """Whether it is a lock but for large letters in front of the dot: nobody else has parameters of that name."""
    head, dot, rest = name.lower().partition(".")
    return not name.startswith(PREFIX) and head + dot == PREFIX and _like_lock(rest)


def more(config: BootConfig, text: str) -> BootConfig:
    """``config`` with the knobs in ``text`` on top of its own."""
    return adding(config, parse(text))


def adding(config: BootConfig, parameters: Parameters) -> BootConfig:
    """``config`` with more knobs on top of its own.  Locks come on top of locks: none is lifted."""
    merged = of((*config.parameters, *parameters))
    if not any(name == f"{PREFIX}timeout" for name, _ in merged.parameters):
        merged = merged._replace(timeout=config.timeout)  # it may have a default of its own: init/firmware/pathb.py
    locks = (*config.locks, *of(parameters).locks)
    return merged._replace(locks=locks, secure=config.secure, narrow=config.narrow)


def foreign(text: str) -> list[str]:
    """The words in ``text`` that are no knobs."""
    return [name for name, _ in parse(text) if name not in _KERNELS and not name.startswith(PREFIX)]


def names() -> list[str]:
    """All knobs, as they are written."""
    return [*_KERNELS, *(PREFIX + name.replace("_", "-") for name in sorted(_KNOBS))]


def own(path: str = "/proc/cmdline") -> str:
    """The command line that the running kernel got; "" without /proc."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _knob(name: str, key: str, value: str | None, values: dict[str, object], warnings: list[str]) -> bool:
    """Take one ``poolboot.*`` parameter into ``values``, or say in ``warnings`` why not.

    False for one that may be meant to lock something: init/locks.py understands those.
    """
    if key in _CHOICES:
        if value in _CHOICES[key]:
            values[key] = value
        else:
            warnings.append(f"{name}={value or ''}: wants one of {', '.join(_CHOICES[key])}; using the default")
    elif key in _SECONDS:
        default = BootConfig._field_defaults[key]
        values[key] = _seconds(name, value, default, warnings)
    elif key == "watchdog" and not (value in ("auto", "off") or (value or "").isdecimal()):
        warnings.append(f"{name}={value or ''}: wants auto, off or seconds; using auto")
    elif key in _TEXTS:
        values[key] = value or ""
    elif key == "tries":
        values[key] = _count(name, value, warnings)
    elif key in ("initrd", "append_initrd"):
        values[key] = tuple(path for path in (value or "").split(",") if path)
    elif key in _SWITCHES:
        values[key] = value not in ("0", "no", "off", "n", "false")
    elif key in LOCKING:
        return False
    else:
        near = nearest(key, _KNOBS)
        hint = f"; did you mean {PREFIX}{near.replace('_', '-')}?" if near else ""
        warnings.append(f"unknown knob {name}{hint}")
        return near not in LOCKING and not _like_lock(key)
    return True


def may_lock(key: str) -> bool:
    """Whether a knob is meant to lock something: one that is misspelt is a lock that is not understood."""
    return key in LOCKING or (key not in _KNOBS and (nearest(key, _KNOBS) in LOCKING or _like_lock(key)))


def _like_lock(key: str) -> bool:
    """Whether a name begins as a lock's does, in small letters or large ones: "LOCK", "lock:all"."""
    return key.lower().removeprefix(PREFIX).startswith("lock")


_KERNELS = ("root", "rootflags", "rootdelay")  # knobs of the kernel and of others' initrds that we take as well
_CHOICES = {"handover": HANDOVERS, "switch_root": SWITCH_ROOTS, "degraded": DEGRADED, "on_error": ON_ERROR}
_SECONDS = ("timeout", "wait")
_TEXTS = ("entry", "kernel", "cmdline", "append", "esp", "watchdog")
_SWITCHES = ("debug", "boot_order", "require_uki")
LOCKING = ("lock", "lock_password")
_KNOBS = (*_CHOICES, *_SECONDS, *_TEXTS, *_SWITCHES, *LOCKING, "initrd", "append_initrd", "tries")


def _seconds(name: str, value: str | None, default: float, warnings: list[str]) -> float:
    try:
        seconds = float(value or "")
    except ValueError:
        seconds = -1.0
    if 0 <= seconds <= MAX_SECONDS:  # false for nan, too
        return seconds
    warnings.append(f"{name}={value or ''}: wants seconds between 0 and {MAX_SECONDS:.0f}; using {default:g}")
    return default


def _count(name: str, value: str | None, warnings: list[str]) -> int | None:
    if value is not None and value.isascii() and (count := number(value)) is not None and count <= MAX_TRIES:
        return count
    warnings.append(f"{name}={value or ''}: wants a number between 0 and {MAX_TRIES}; using the default")
    return None


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that is fewest edits away from ``word``, None when all are far."""
    known = list(known)
    best, least = "", max(map(_near, known), default=0) + 1
    for name in known:
        distance = _distance(word, name, least)
        if distance < least:
            best, least = name, distance
    return best if best and least <= _near(best) else None


def _near(name: str) -> int:
    """How many edits away from ``name`` a word may be that means it."""
    return max(2, len(name) // 3)


def _distance(one: str, other: str, most: int) -> int:
    """Levenshtein's edit distance, or ``most`` when it is no less: a text may have thousands of words."""
    one = one[:64]
    if abs(len(one) - len(other)) >= most:
        return most
    row = list(range(len(other) + 1))
    for i, char in enumerate(one, 1):
        previous, row[0] = row[0], i
        for j, target in enumerate(other, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (char != target))
        if min(row) >= most:
            return most
    return min(row[-1], most)
