"""Path C: put the root's kernel and initrd onto an ESP, tell the firmware to start them once, and reboot.

For machines whose running kernel refuses kexec.  BootNext is one shot: when the staged kernel does not start, the
firmware goes on to BootOrder, which leads to us again.  A system that did start has written to its root: when the
same kernel was staged several times and the root is as it was, we give up this way instead of restarting for ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from fsdrivers.errors import Ambiguous, FsError
from fsdrivers.filesystem import File
from init.config import BootConfig, number
from init.console.progress import Progress
from init.entries.entry import BootEntry
from init.handover import power
from init.kernel import pe
from init.refused import Refused
from init.trust import Trust

if TYPE_CHECKING:
    from fsdrivers.block import BlockDevice
    from fsdrivers.partitions import Partition
    from init.firmware.bootvars import Partition as FirmwarePartition
    from init.firmware.efivars import Variables
    from init.firmware.esp import Content

OWN = "poolboot: "
"""Descriptions of our boot options begin with it."""
ATTEMPT = "attempt"
"""The file on the ESP that remembers what was staged last, the generation of its root, and how often."""
ATTEMPT_VARIABLE = "Attempt"
"""Our EFI variable that remembers the same of what was started where it lies."""
TRIES = 3
"""More than one: power cuts happen."""
MAX_CMDLINE = 2047  # bytes; arch/x86/include/asm/setup.h:COMMAND_LINE_SIZE less the NUL, v6.12


def stage(entry: BootEntry, config: BootConfig, say: Callable[[str], None]) -> None:
    """Write ``entry``'s files, make the boot option and set BootNext.

    A unified image that is to stay whole is written as it is, or started where it lies when the firmware can.

    Raises Refused, or the driver's FsError when the root cannot be read.
    """
    from init.firmware import esp
    from init.firmware.efivars import Variables, secure_boot
    from init.machine.devices import Disks
    from init.machine.modules import Modules
    from init.machine.modules import read as read_modules

    variables = Variables()
    if not variables.available:
        raise Refused("this machine has no EFI variables: it was not started by UEFI firmware")
    kernel = entry.open(entry.kernel)  # as it is: the firmware starts zboot programs and unified images itself
    preflight(kernel, os.uname().machine, secure_boot(variables))
    if entry.whole and entry.appended:
        raise Refused(f"{entry.kernel} is started whole: poolboot.append-initrd= would not be a part of it")
    if entry.whole and entry.whole.partition:
        _stage_in_place(entry, kernel, variables, config.boot_order, say)
        return
    disks, modules = Disks(), Modules(read_modules())
    try:
        for name in ("nls_cp437", "nls_ascii", "vfat"):
            modules.load(name)
        disks.scan()
        trust = Trust(disks.about(), config.origin)
        partition = staging_place(disks.devices, config, variables, trust)
        initrds = [] if entry.whole else entry.open_initrds()
        progress = Progress("reading kernel and initrd", sum(file.size for file in (kernel, *initrds)), say)
        contents = [esp.content("linux", ".efi", [kernel], progress)]
        if initrds:
            contents.append(esp.content("initrd", ".img", initrds, progress))
        options = profile_options(entry) if entry.whole else load_options([one.name for one in contents], entry.cmdline)
        with esp.mounted(partition) as root:
            directory = f"{root}/{esp.DIRECTORY}"
            attempt = Attempt(_identity(contents), entry.place.root.generation, 1)
            attempt = next_attempt(read_attempt(directory), attempt)
            esp.write(root, contents, referenced(variables), say)
            number = point_at(variables, partition, contents[0].name, options, entry.title, config.boot_order)
            esp.put(directory, ATTEMPT, [attempt.line()])
            esp.tidy(directory, {one.name for one in contents})
        say(f"the firmware starts Boot{number:04X} next: {esp.DIRECTORY}/{contents[0].name} on {partition.name}")
    except FsError:
        raise
    except OSError as error:
        raise Refused(f"staging on the EFI system partition: {esp.explain(error)}") from error
    finally:
        disks.close()


def staging_place(
    devices: Sequence[BlockDevice], config: BootConfig, variables: Variables, trust: Trust | None = None
) -> Partition:
    """The ESP to write to: what lies there the firmware reads again later, so a disk of somebody else's is none.

    The one that poolboot.esp= names, else one on the disk that our EFI file lies on.  Raises Refused.
    """
    from init.firmware import esp, stub

    came = stub.origin(variables)
    try:
        own = stub.own_partition(came, devices) if came else None
    except Ambiguous as error:
        raise Refused(str(error)) from error
    if own is not None and not config.esp:
        return esp.find([own.parent], "")
    if config.secure and not config.esp:
        raise Refused(
            "Secure Boot is on, and it is not known which disk is ours to write to: name a partition by poolboot.esp= "
            "on the signed command line"
        )
    return esp.find(devices, config.esp, trust)


def _stage_in_place(
    entry: BootEntry, kernel: File, variables: Variables, order: bool, say: Callable[[str], None]
) -> None:
    """Have the firmware start a unified image where it lies: its addons are there, and it judges all of them.

    Raises Refused and FirmwareError.
    """
    from init.firmware import esp
    from init.firmware.efivars import POOLBOOT

    assert entry.whole is not None
    partition, path = entry.whole
    assert partition is not None
    if entry.counter is not None and entry.tries_left:
        path = entry.counter.counted_down()  # its name by then: init/firmware/keeper.py
    content = esp.content("linux", ".efi", [kernel], Progress(f"reading {entry.kernel}", kernel.size, say))
    value = variables.get(ATTEMPT_VARIABLE, POOLBOOT)
    last = parse_attempt(value.data.decode("ascii", "replace")) if value else None
    attempt = next_attempt(last, Attempt(_identity([content]), entry.place.root.generation, 1))
    number = point_at_file(variables, partition, path, profile_options(entry), entry.title, order)
    variables.set(ATTEMPT_VARIABLE, POOLBOOT, attempt.line())
    say(f"the firmware starts Boot{number:04X} next: {path} on {partition.name}, whole")


def profile_options(entry: BootEntry) -> bytes:
    """What the stub in a unified image gets: which profile, and nothing else.  Source: systemd-stub(7), v257."""
    from init.firmware.efivars import ucs2

    return ucs2(entry.cmdline) if entry.cmdline else b""


def go() -> None:
    """Reboot into the firmware."""
    power.reboot()


def preflight(kernel: File, machine: str, secure: bool) -> None:
    """Raise Refused for a file that the firmware cannot start."""
    program = pe.identify(kernel.read(0, 4096))
    if program is None:
        raise Refused(f"{kernel.path} is no EFI program: the firmware starts only kernels with CONFIG_EFI_STUB")
    if program.machine != machine:
        raise Refused(f"{kernel.path} is an EFI program for {program.machine}, this machine is {machine}")
    if secure and not program.signed:
        raise Refused(f"{kernel.path} is not signed, and Secure Boot is on: sign it with an enrolled key")


def load_options(names: Sequence[str], cmdline: str) -> bytes:
    """What the kernel's EFI stub gets: the command line, with the initrd where the stub finds it.

    Source: Documentation/admin-guide/efi-stub.rst, v6.12.
    """
    from init.firmware.efivars import ucs2
    from init.firmware.esp import DIRECTORY

    folder = DIRECTORY.replace("/", "\\")
    words = [f"initrd=\\{folder}\\{name}" for name in names[1:]]
    text = " ".join([*words, cmdline]).strip()
    if len(os.fsencode(text)) > MAX_CMDLINE:
        raise Refused(f"the command line has {len(os.fsencode(text))} bytes with the initrd's path; {MAX_CMDLINE} fit")
    return ucs2(text)


class Attempt(NamedTuple):
    """What was staged: its files, the generation of the root then, and how many times with both of these."""

    identity: str
    generation: int
    tries: int

    def line(self) -> bytes:
        """As the file holds it."""
        return f"{self.identity} {self.generation} {self.tries}\n".encode()


def read_attempt(directory: str) -> Attempt | None:
    """The last attempt, None when there was none or the file is damaged."""
    try:
        with open(f"{directory}/{ATTEMPT}", encoding="ascii", errors="replace") as file:
            return parse_attempt(file.read(4096))
    except OSError:
        return None


def parse_attempt(text: str) -> Attempt | None:
    """The attempt that a line tells of, None when it is damaged."""
    words = text.split()
    generation, tries = map(number, words[1:]) if len(words) == 3 else (None, None)
    if generation is None or tries is None:
        return None
    return Attempt(words[0], generation, tries)


def next_attempt(last: Attempt | None, now: Attempt) -> Attempt:
    """``now`` with its number; raises Refused when there were enough."""
    if last is None or last[:2] != now[:2]:
        return now
    if last.tries >= TRIES:
        raise Refused(
            f"the firmware was told {last.tries} times to start this kernel, and nothing was written to its root since"
            ": the firmware refuses the kernel (Secure Boot?), or the system fails early"
        )
    return now._replace(tries=last.tries + 1)


def referenced(variables: Variables) -> list[str]:
    """The staged files that our boot option points at now: they stay until it points at new ones."""
    from init.firmware.bootvars import BootMenu

    names = []
    for option in BootMenu(variables).options():
        if option.description.startswith(OWN):
            text = option.data.decode("utf-16-le", "replace")
            paths = [
                option.file,
                *(word.removeprefix("initrd=") for word in text.split() if word.startswith("initrd=")),
            ]
            names += [path.replace("\\", "/").rpartition("/")[2] for path in paths]
    return names


def point_at(variables: Variables, partition: Partition, kernel: str, options: bytes, title: str, order: bool) -> int:
    """As point_at_file() for a staged kernel."""
    from init.firmware.esp import DIRECTORY

    return point_at_file(variables, partition, f"/{DIRECTORY}/{kernel}", options, title, order)


def point_at_file(
    variables: Variables, partition: Partition, file: str, options: bytes, title: str, order: bool
) -> int:
    """Make the boot option for ``file`` and set BootNext, and BootOrder when asked; returns its number."""
    from init.firmware.bootvars import BootMenu, device_path

    menu = BootMenu(variables)
    path = device_path(firmware_partition(partition, sector_size(partition)), file)
    number = menu.put(f"{OWN}{title}", path, options, OWN)
    if order:
        menu.set_order([number, *(other for other in menu.order() if other != number)])
    menu.set_next(number)
    return number


def firmware_partition(partition: Partition, sector: int) -> FirmwarePartition:
    """The partition as a device path has it; ``sector`` is the disk's logical sector size in bytes."""
    from init.firmware.bootvars import Partition as FirmwarePartition

    gpt = not partition.type.startswith("0x")  # of MBRs: init/firmware/esp.py:TYPES, init/entries/stated.py:MBR_TYPES
    if gpt:
        a, b, c, d, e = partition.uuid.split("-")
        signature = b"".join(bytes.fromhex(part)[::-1] for part in (a, b, c)) + bytes.fromhex(d + e)
    else:
        signature = bytes.fromhex(partition.uuid[:8])[::-1] + bytes(12)
    return FirmwarePartition(partition.number, partition.start // sector, partition.size // sector, signature, gpt)


def sector_size(partition: Partition, sys: str = "/sys") -> int:
    """The logical sector size in bytes of the partition's disk; 512 when the kernel does not say."""
    name = os.path.basename(partition.parent.name)
    try:
        with open(f"{sys}/class/block/{name}/queue/logical_block_size", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 512


def _identity(contents: Sequence[Content]) -> str:
    return "+".join(one.digest[:10].hex() for one in contents)
