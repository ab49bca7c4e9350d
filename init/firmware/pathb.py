"""Path B in the course of a boot: knobs from the firmware's side before it, the report for bootctl at its end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from fsdrivers.block import BlockDevice
from fsdrivers.bounds import disk_of
from fsdrivers.errors import FsError
from fsdrivers.partitions import Partition
from init import config as _config
from init.config import BootConfig
from init.console.console import Console
from init.entries.entry import BootEntry
from init.firmware import stub
from init.firmware.efivars import FirmwareError, Variables
from init.machine import namespace
from init.machine.devices import Disks
from init.machine.modules import Modules

PATIENCE = 5.0  # seconds until the disk that firmware started us from appears: USB takes its time
MUTE = 1.0  # seconds of waiting without a word
POLL = 0.05
TOLD = 20  # warnings about knobs


class PathB:
    """A boot that the firmware began with our EFI file."""

    def __init__(self, variables: Variables, came: stub.Origin) -> None:
        self._variables, self._came = variables, came

    def configure(self, base: BootConfig, disks: Disks, modules: Modules, console: Console) -> BootConfig:
        """``base`` (from the command line inside the EFI file) with the knobs of poolboot.conf, and then those of our
        EFI variable, on top."""
        base = base._replace(secure=base.secure or self._came.secure)
        if base.secure:
            console.say("Secure Boot is on: kexec takes only kernels that are signed with a key the firmware knows")
        merged, warnings = base, []
        for source, text in (
            (stub.CONF, self._conf(disks, modules, console)),
            (f"EFI variable {stub.KNOBS}", stub.read_variable(self._variables)),
        ):
            if base.secure:
                merged, words, complaints = stub.unsigned(merged, base, text, source)
            else:
                words, complaints = stub.knobs(text, source, False)
                merged = _config.adding(merged, _config.parse(" ".join(words)))
            warnings += complaints
            if words:
                console.say(f"knobs from {source}: {stub.shown(words)}")
        if stub.doubtful_lock(self._came, disks.devices):
            warnings.append(f"several disks have PARTUUID={self._came.partuuid}, and a lock: everything is locked")
            merged = _config.adding(merged, (("poolboot.lock", "of-several-disks"),))
        warnings += [one for one in merged.warnings if one not in base.warnings]
        for warning in warnings[:TOLD]:
            console.say(f"warning: {warning}")
        if len(warnings) > TOLD:
            console.say(f"warning: {len(warnings) - TOLD} more of that kind")
        if not any(name == "poolboot.timeout" for name, _ in merged.parameters):
            merged = merged._replace(timeout=stub.TIMEOUT)
        console.verbose = merged.debug
        return merged

    def disk(self, devices: Iterable[BlockDevice]) -> str:
        """The device of the disk that the EFI file came from, "" when none or more than one says so."""
        try:
            found = stub.own_partition(self._came, devices)
        except FsError:
            return ""
        return disk_of(found) if found else ""

    def report(self, entries: Sequence[BootEntry], selected: BootEntry, console: Console) -> None:
        """Leave word for bootctl; a full variable store spoils no boot."""
        try:
            stub.report(self._variables, entries, selected)
        except FirmwareError as error:
            console.once(f"warning: {error}")

    def _conf(self, disks: Disks, modules: Modules, console: Console) -> str:
        if not self._came.partuuid:
            return ""
        try:
            partition = self._own_partition(disks, modules, console)
            if partition is None:
                console.say(f"warning: the disk with {self._came.path} (PARTUUID={self._came.partuuid}) did not appear")
                return ""
            return stub.read_conf(self._came, partition)
        except FsError as error:
            console.say(f"warning: {stub.CONF} cannot be read: {error}")
            return ""

    def _own_partition(self, disks: Disks, modules: Modules, console: Console) -> Partition | None:
        deadline = time.monotonic() + PATIENCE
        while True:
            if deadline - time.monotonic() < PATIENCE - MUTE:
                console.once(f"waiting up to {PATIENCE - MUTE:.0f} s more for the disk that the EFI file lies on")
            modules.coldplug()
            if disks.scan() and (found := stub.own_partition(self._came, disks.devices)):
                return found
            if time.monotonic() >= deadline:
                return stub.own_partition(self._came, disks.devices)
            time.sleep(POLL)


def detect(modules: Modules) -> PathB | None:
    """The PathB that this boot on a machine with UEFI firmware is, None for another one."""
    variables = Variables()
    if not variables.available:
        modules.load("efivarfs")  # a module in Debian's kernels, so that the early mounts came too soon for it
        namespace.mount_all(tuple(one for one in namespace.MOUNTS if one.fstype == "efivarfs"))
    came = stub.origin(variables)
    return PathB(variables, came) if came else None
