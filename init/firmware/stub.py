"""Path B: what the EFI file that started us left behind, knobs for it, and the report to the system's bootctl.

Source: systemd's documentation "The Boot Loader Interface"; src/boot/stub.c:export_stub_variables and
src/shared/efi-loader.c, v257.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fsdrivers import fat, partitions
from fsdrivers.block import BlockDevice
from fsdrivers.errors import FsError, NotFound
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

# Nobody has signed the knobs: with Secure Boot on, only those count that cannot change what is booted with what.
HARMLESS = frozenset(
    ("timeout", "entry", "tries", "wait", "degraded", "on_error", "debug", "handover", "esp", "boot_order")
)  # fmt: skip
_FOREIGN = ("root", "rootflags", "rootdelay")

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
    """The partition that the EFI file lies on, None when no disk has it (yet)."""
    for device in devices:
        try:
            for partition in partitions.partitions(device):
                if came.partuuid and partition.uuid.lower() == came.partuuid:
                    return partition
        except FsError:  # not our disk then
            continue
    return None


def read_conf(came: Origin, partition: partitions.Partition) -> str:
    """The text of poolboot.conf beside the EFI file, "" without one.  Raises FsError when it cannot be read."""
    directory = came.path.rpartition("/")[0]
    try:
        file = fat.open(partition).open(f"{directory}/{CONF}")
    except NotFound:
        return ""
    return file.read(0, MAX_CONF).decode("utf-8", "replace").removeprefix("\ufeff")


def read_variable(variables: Variables) -> str:
    """The text of our EFI variable, "" without one."""
    value = variables.get(KNOBS, POOLBOOT)
    return value.data[:MAX_CONF].decode("utf-8", "replace").rstrip("\0") if value else ""


def knobs(text: str, source: str, secure: bool) -> tuple[list[str], list[str]]:
    """The knobs in ``text`` as words of a command line, and warnings about what does not count.

    One or more on a line, with or without ``poolboot.`` in front; ``#`` begins a comment.
    """
    words: list[str] = []
    warnings: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        for word in config.split(line):
            name = word.partition("=")[0]
            if name not in _FOREIGN and not name.startswith(config.PREFIX):
                word, name = config.PREFIX + word, config.PREFIX + name
            key = name.removeprefix(config.PREFIX).replace("-", "_")
            if secure and key not in HARMLESS:
                warnings.append(f"{source}: {name} does not count while Secure Boot is on: nobody has signed it")
                continue
            words.append(word)
    return words, warnings


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
    names = "".join(f"{identifier(entry)}\0" for entry in entries)
    features = FEATURE_ENTRY_DEFAULT | FEATURE_ENTRY_ONESHOT
    for name, data in (
        ("LoaderInfo", ucs2(f"poolboot {VERSION}")),
        ("LoaderFeatures", features.to_bytes(8, "little")),
        ("LoaderEntries", names.encode("utf-16-le")),
        ("LoaderEntrySelected", ucs2(identifier(selected))),
    ):
        variables.set(name, LOADER, data)


REPORTED = ("LoaderInfo", "LoaderFeatures", "LoaderEntries", "LoaderEntrySelected")
