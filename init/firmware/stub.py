"""Path B: what the EFI file that started us left behind, knobs for it, and the report to the system's bootctl.

Source: systemd's documentation "The Boot Loader Interface"; src/boot/stub.c:export_stub_variables and
src/shared/efi-loader.c, v257.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fsdrivers import fat, partitions
from fsdrivers.block import BlockDevice
from fsdrivers.bounds import around
from fsdrivers.errors import Ambiguous, FsError, NotFound
from init import VERSION, config
from init.entries.entry import BootEntry
from init.firmware.efivars import DEFAULT, LOADER, POOLBOOT, Variables, secure_boot, ucs2

TIMEOUT = 3.0
"""Seconds that a menu waits when nobody says otherwise: there is a person in front of a machine with an EFI file."""
CONF = "poolboot.conf"
"""Lies beside the EFI file."""
KNOBS = "Knobs"
"""Our EFI variable with the same content."""
MAX_CONF = 16384  # bytes

# Nobody has signed the knobs: with Secure Boot on, only those count that lead to nothing which would not be booted
# without them.  docs/internals/loader.md has the reason for each knob that is here, and for each that is not.
HARMLESS = frozenset(("timeout", "wait", "tries", "debug", "on_error", "require_uki", *config.LOCKING))
NARROWING = ("uuid", "label")  # forms of root=, as init/roots.py:wanted has them
NOT_UNDERSTOOD = f"{config.PREFIX}lock=not-understood"
"""Stands for what may have been meant to lock something."""
_FOREIGN = ("root", "rootflags", "rootdelay")

MAX_IDENTIFIER = 255  # characters of an entry's name; src/shared/bootspec.c takes file names, v257
MAX_REPORT = 4096  # characters of all of them: stores of 64 KiB are usual, and some firmware dies of a full one

# EFI_LOADER_FEATURE_*: LoaderEntryDefault and LoaderEntryOneShot are honoured.
FEATURE_ENTRY_DEFAULT, FEATURE_ENTRY_ONESHOT = 1 << 2, 1 << 3


class Origin(NamedTuple):
    """Where the EFI file that started us lies."""

    partuuid: str  # of its partition, "" when it has none (a CD, the network)
    path: str  # of the file, with slashes
    secure: bool  # Secure Boot is on


def origin(variables: Variables) -> Origin | None:
    """None when no EFI file of ours started this kernel, but QEMU, a boot loader or a network card."""
    if variables.get("StubInfo", LOADER) is None:
        return None
    device, image = (variables.get(name, LOADER) for name in ("LoaderDevicePartUUID", "LoaderImageIdentifier"))
    path = image.text.replace("\\", "/") if image else ""
    return Origin(device.text.lower() if device else "", path, secure_boot(variables))


def own_partition(came: Origin, devices: Iterable[BlockDevice]) -> partitions.Partition | None:
    """The partition that the EFI file lies on, None when no disk has it (yet).

    Raises Ambiguous when several have: a copy says the same of itself.
    """
    found = []
    for device in devices:
        try:
            found += [one for one in partitions.partitions(device) if came.partuuid == one.uuid.lower() != ""]
        except FsError:  # not our disk then
            continue
    if len(found) > 1:
        names = ", ".join(one.name for one in found)
        raise Ambiguous(f"PARTUUID={came.partuuid}, where {came.path} lies, is on {names}: none of them is taken")
    return found[0] if found else None


def doubtful_lock(came: Origin, devices: Iterable[BlockDevice]) -> bool:
    """Whether a lock may be lifted by a disk that says it is the one with the EFI file: several do, and one of them has
    a lock."""
    found = []
    for device in devices:
        try:
            found += [one for one in partitions.partitions(device) if came.partuuid == one.uuid.lower() != ""]
        except FsError:
            continue
    return len(found) > 1 and any(_locks(came, one) for one in found)


def _locks(came: Origin, partition: partitions.Partition) -> bool:
    try:
        words, _ = knobs(read_conf(came, partition), CONF, True)
    except FsError:
        return False
    return any(config.key(word.partition("=")[0]) in config.LOCKING for word in words)


def read_conf(came: Origin, partition: partitions.Partition) -> str:
    """The text of poolboot.conf beside the EFI file, "" without one.  Raises FsError when it cannot be read."""
    directory = came.path.rpartition("/")[0]
    with around(f"{partition.name}: {CONF}", [partition]):
        try:
            data = fat.open(partition).open(f"{directory}/{CONF}").read(0, MAX_CONF + 1)
        except NotFound:
            return ""
    return _text(data).removeprefix("\ufeff")


def read_variable(variables: Variables) -> str:
    """The text of our EFI variable, "" without one."""
    value = variables.get(KNOBS, POOLBOOT)
    return _text(value.data).rstrip("\0") if value else ""


def _text(data: bytes) -> str:
    """``data`` as text.  What is longer than MAX_CONF may have held a lock behind that."""
    text = data[:MAX_CONF].decode("utf-8", "replace")
    return text if len(data) <= MAX_CONF else f"{text}\nlock=longer-than-{MAX_CONF}-bytes\n"


def knobs(text: str, source: str, secure: bool) -> tuple[list[str], list[str]]:
    """The knobs in ``text`` as words of a command line, and warnings about what does not count.

    One or more on a line, with or without ``poolboot.`` in front; ``#`` begins a comment.  Each word holds one knob
    for itself: joined, they are parsed as the knobs that were judged here.
    """
    words: list[str] = []
    warnings: list[str] = []
    for line in text.splitlines():
        for word in config.split(line) if not line.lstrip().startswith("#") else ():
            knob = _understood(word)
            if knob is None:
                warnings.append(f"{source}: {word} does not count: it is no single knob (a quote that does not end?)")
                words += [NOT_UNDERSTOOD] if _mentions_lock(word) else []
            elif secure and (knob[0] in _FOREIGN or config.key(knob[0]) not in HARMLESS):
                counts = "only leaves out pools" if _narrows(knob) else "does not count"
                warnings.append(f"{source}: {knob[0]} {counts} while Secure Boot is on: nobody has signed it")
                words += [NOT_UNDERSTOOD] if config.may_lock(config.key(knob[0])) else []
            else:
                words.append(config.quote(*knob))
    return words, warnings


def _mentions_lock(word: str) -> bool:
    """Whether any of the names in what is no knob may be that of a lock."""
    parts = word.replace("\0", "").replace("\ufffd", "").split()  # a text in UTF-16 looks so
    names = (part.strip('"').partition("=")[0].removeprefix(config.PREFIX) for part in parts)
    return any(config.may_lock(name.replace("-", "_")) for name in names if name)


def _understood(word: str) -> tuple[str, str | None] | None:
    """The one knob that a word is, None for what would be parsed as something else when written down again."""
    found = config.parse(word)
    if word.count('"') % 2 or len(found) != 1:
        return None
    ((name, value),) = found
    if name not in _FOREIGN and not name.startswith(config.PREFIX):
        name = config.PREFIX + name
    if not all(char.isascii() and (char.isalnum() or char in "._-") for char in name):
        return None
    try:
        again = config.quote(name, value)
    except FsError:
        return None
    return (name, value) if again.count('"') % 2 == 0 and config.parse(again) == ((name, value),) else None


def narrowing(text: str) -> str | None:
    """The root= in ``text`` that may count although nobody has signed it, None without one: it leaves out pools."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found = [knob for line in lines for word in config.split(line) if (knob := _understood(word)) and _narrows(knob)]
    return (found[-1][1] or "") if found else None


def _narrows(knob: tuple[str, str | None]) -> bool:
    """Whether it names a pool and none of a pool's older states, or takes back one that does."""
    from init import roots  # most machines have no such knob

    return knob[0] == "root" and (not knob[1] or roots.wanted(knob[1]).key in NARROWING)


def unsigned(
    base: config.BootConfig, signed: config.BootConfig, text: str, source: str
) -> tuple[config.BootConfig, list[str], list[str]]:
    """``base`` with what counts of a text that nobody has signed: also the words that it has for that, and warnings
    about the others.  ``signed`` is the command line alone."""
    words, warnings = knobs(text, source, True)
    words, over = beside(words, signed, source)
    root = None if signed.root else narrowing(text)
    merged = config.adding(base, config.parse(" ".join(words)))
    return merged if root is None else merged._replace(narrow=root), words, warnings + over


def refused(signed: config.BootConfig, text: str, source: str) -> list[str]:
    """What of a text that nobody has signed does not count, in words."""
    words = config.split(text)
    counts = [not signed.root and (knob := _understood(word)) is not None and _narrows(knob) for word in words]
    rest = " ".join(word for word, fine in zip(words, counts, strict=True) if not fine)
    return unsigned(signed, signed, rest, source)[2]


def beside(words: Sequence[str], signed: config.BootConfig, source: str) -> tuple[list[str], list[str]]:
    """Those of ``words``, which nobody has signed, that say nothing of what the signed command line states; and
    warnings about the others.  Locks only add to locks."""
    stated = {config.key(name) for name, _ in signed.parameters}.difference(config.LOCKING)
    over = [word for word in words if config.key(word.partition("=")[0]) in stated]
    warnings = [f"{source}: {word} does not count: the signed command line states that" for word in over]
    return [word for word in words if word not in over], warnings


def shown(words: Sequence[str]) -> str:
    """Knobs for a console: hashes of passwords are for nobody to carry away."""
    secret = tuple(f"{config.PREFIX}lock{dash}password=" for dash in "-_")
    return " ".join(word.partition("=")[0] + "=..." if word.startswith(secret) else word for word in words)


def identifier(entry: BootEntry) -> str:
    """The entry's id in the alphabet of the boot loader interface.

    Source: src/shared/bootspec.c:efi_loader_entry_name_valid, v257.
    """
    return "".join(char if char.isascii() and (char.isalnum() or char in "+-_.") else "-" for char in entry.id)


def report(variables: Variables, entries: Sequence[BootEntry], selected: BootEntry) -> None:
    """Tell bootctl who we are, what there was and what is booted.  Raises FirmwareError.

    A boot loader before us sets the same variables as volatile ones, which an operating system cannot change: then
    nothing is reported.  Ours are non-volatile, as firmware takes no others from us.
    """
    info = variables.get("LoaderInfo", LOADER)
    if info is not None and info.attributes != DEFAULT:
        return
    names = _fitting([identifier(entry) for entry in entries])
    features = FEATURE_ENTRY_DEFAULT | FEATURE_ENTRY_ONESHOT
    for name, data in (
        ("LoaderInfo", ucs2(f"poolboot {VERSION}")),
        ("LoaderFeatures", features.to_bytes(8, "little")),
        ("LoaderEntries", names.encode("utf-16-le")),
        ("LoaderEntrySelected", ucs2(identifier(selected)[:MAX_IDENTIFIER])),
    ):
        variables.set(name, LOADER, data)


def _fitting(names: Sequence[str]) -> str:
    """As many of them, the first ones, as are worth a place in the firmware's store: a disk may give any number."""
    text = ""
    for name in names:
        if len(text) + len(name) >= MAX_REPORT:
            break
        text += f"{name}\0" if len(name) <= MAX_IDENTIFIER else ""
    return text


REPORTED = ("LoaderInfo", "LoaderFeatures", "LoaderEntries", "LoaderEntrySelected")
