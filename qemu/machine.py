"""A virtual machine that a test can talk to.

    with Machine(kernel, initrd, "console=ttyS0", [disk0, disk1]) as machine:
        machine.expect("login:", timeout=120)
        machine.send("root\n")

The serial console goes to a log file and to expect(), which fails with the end of the console when its time is up,
when QEMU ends, and when the guest's kernel panics.  The machine is gone when the block ends, whatever happened, and
also when this process dies.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from artefacts import together
from qemu import accel

PANIC = re.compile(r"Kernel panic - not syncing[^\r\n]*")
_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>78cDEHMNOZ]|\][^\x07]*\x07)|\r")
_LONGEST_ESCAPE = 32  # characters; what is longer is no escape sequence
_TAIL_LINES = 40
_PAUSE = 0.05  # seconds between two looks at a console that talks all the time: the guest needs the CPU more
_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


class MachineError(AssertionError):
    """The machine did not do what was expected of it.  The message ends with the end of its console."""


class Disk(NamedTuple):
    """A raw image and how the guest sees it."""

    path: Path
    bus: str = "virtio"
    """One of BUSES."""
    snapshot: bool = True
    """What the guest writes is thrown away at the end: the image stays as it is."""
    readonly: bool = False
    serial: str = ""


class Firmware(NamedTuple):
    """UEFI firmware in two flash images."""

    code: Path
    variables: Path
    keep: bool = False
    """Write the guest's changes to ``variables``; else they are thrown away."""


# Bus -> the controller that QEMU needs once, and the device on it; {n} counts the disks of that bus.
BUSES = {
    "virtio": (None, "virtio-blk-pci"),
    "nvme": (None, "nvme"),
    "ahci": ("ahci,id=ahci", "ide-hd,bus=ahci.{n}"),
    "scsi": ("virtio-scsi-pci,id=scsi", "scsi-hd,bus=scsi.0"),
    "usb": ("qemu-xhci,id=usb", "usb-storage,bus=usb.0"),
}

# Boards, by architecture, that UEFI firmware is made for.
_MACHINES = {"x86_64": "q35", "arm64": "virt"}


class Machine:
    """A machine that runs inside a ``with`` block.

    ``kernel`` and ``initrd`` are loaded by QEMU; without a kernel, ``firmware`` (or the BIOS) starts what is on the
    disks.  ``memory`` is in MiB.  The console is written to ``log`` (default: a temporary file that the end of the
    block removes) and, as it comes, to ``echo``.  ``counted``: an emulated guest's clock counts its
    instructions, so that times in it do not depend on what else the host does.  $POOLBOOT_TIMEOUT_SCALE stretches all
    timeouts on slow machines.
    """

    def __init__(
        self,
        kernel: Path | None,
        initrd: Path | None = None,
        cmdline: str = "console=ttyS0",
        disks: Sequence[Path | Disk] = (),
        *,
        firmware: Firmware | None = None,
        memory: int = 1024,
        cpus: int = 1,
        architecture: str = "x86_64",
        log: Path | None = None,
        reboots: bool = False,
        echo: BinaryIO | None = None,
        counted: bool = False,
        options: Sequence[str] = (),
    ) -> None:
        self.kernel, self.initrd, self.cmdline, self.firmware = kernel, initrd, cmdline, firmware
        self.disks = [disk if isinstance(disk, Disk) else Disk(disk) for disk in disks]
        self.memory, self.cpus, self.reboots, self.options = memory, cpus, reboots, list(options)
        self.architecture, self.counted = architecture, counted
        self._given_log, self._echo = log, echo
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._scratch: Path | None = None
        self._console = ""
        self._position = 0
        self._ended = False
        self._news = threading.Condition()

    def command(self, serial: Sequence[str]) -> list[str]:
        """The whole command line of QEMU, with ``serial`` as the options for the console."""
        words = [accel.QEMU[self.architecture], *accel.arguments(self.kernel, self.architecture, self.counted)]
        words += ["-m", str(self.memory), "-smp", str(self.cpus)]
        words += ["-nodefaults", "-display", "none", "-nic", "none", *serial]
        if not self.reboots:
            words.append("-no-reboot")
        if self.firmware or self.architecture != "x86_64":
            words += ["-machine", _MACHINES[self.architecture]]
        if self.firmware:
            words += ["-drive", f"if=pflash,format=raw,readonly=on,file={_escape(self.firmware.code)}"]
            snapshot = "off" if self.firmware.keep else "on"
            words += ["-drive", f"if=pflash,format=raw,snapshot={snapshot},file={_escape(self.firmware.variables)}"]
        if self.kernel:
            words += ["-kernel", str(self.kernel), "-append", self.cmdline]
        if self.initrd:
            words += ["-initrd", str(self.initrd)]
        return words + _disk_options(self.disks) + self.options

    def __enter__(self) -> Self:
        serial = ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console", "-monitor", "none"]
        self._start(serial, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._reader = threading.Thread(target=self._read, name="console", daemon=True)
        self._reader.start()
        return self

    def interact(self) -> int:
        """Run the machine on this terminal until it is off, instead of a ``with`` block; returns QEMU's status."""
        log = f",logfile={_escape(self._given_log)}" if self._given_log else ""
        chardev = f"stdio,id=console,mux=on,signal=off{log}"
        try:
            process = self._start(["-chardev", chardev, "-serial", "chardev:console", "-mon", "chardev=console"])
            return process.wait()
        finally:
            self.kill()

    def _start(
        self, serial: Sequence[str], stdin: int | None = None, stdout: int | None = None, stderr: int | None = None
    ) -> subprocess.Popen[bytes]:
        self._scratch = Path(tempfile.mkdtemp(prefix="poolboot-qemu-"))
        self.log = self._given_log or self._scratch / "console.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = self.command(serial)
        prctl = ctypes.CDLL(None).prctl  # looked up before the fork: the child must not take locks
        try:
            self._process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, "TMPDIR": str(self._scratch)},  # of the snapshots
                preexec_fn=lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
                start_new_session=stdin is not None,  # Ctrl-C goes to us alone, unless the terminal is the guest's
            )
        except BaseException:
            self._clean()
            raise
        together.stoppable(self._process)
        return self._process

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End the machine as pulling the plug does."""
        if self._process:
            if self._reader and self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)  # it leads a session of its own
            self._process.kill()
            self._process.wait()
            if self._reader:
                self._reader.join(10)
        self._clean()

    def _clean(self) -> None:
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _read(self) -> None:
        stdout = self._running().stdout
        assert stdout
        descriptor = stdout.fileno()
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        with self.log.open("wb", buffering=0) as log:
            while block := os.read(descriptor, 65536):
                log.write(block)
                if self._echo:
                    self._echo.write(block)
                    self._echo.flush()
                plain, rest = _plain(rest + decoder.decode(block))
                with self._news:
                    self._console += plain
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _running(self) -> subprocess.Popen[bytes]:
        if not self._process:
            raise RuntimeError("a Machine runs inside a with block")
        return self._process

    @property
    def console(self) -> str:
        """All that the console has said, without carriage returns and escape sequences."""
        with self._news:
            return self._console

    def tail(self, lines: int = _TAIL_LINES) -> str:
        """The last lines of the console, indented."""
        return "\n".join("    " + line for line in self.console.splitlines()[-lines:])

    def expect(self, pattern: str, timeout: float = 60, *, panic: bool = False) -> re.Match[str]:
        """Wait until the console has said ``pattern`` (a regular expression) after the previous expect().

        A pattern that ends in ``.*`` or ``(.*)`` gets the rest of its line, in however many pieces it arrives.

        Raises MachineError after ``timeout`` seconds, when QEMU ends first, and when the kernel panics first (unless
        ``panic`` says that this is fine).
        """
        wanted = re.compile(pattern, re.MULTILINE)
        greedy = pattern.rstrip(")").endswith(".*")
        deadline = time.monotonic() + timeout * _scale()
        while True:
            with self._news:
                text = self._console
                found = wanted.search(text, self._position)
                if found and not (greedy and found.end() == len(text) and not self._ended):
                    self._position = found.end()
                    return found
                if not panic and (died := PANIC.search(text, self._position)):
                    trouble = f"the guest died ({died[0]})"
                elif self._ended:
                    trouble = f"QEMU ended with status {self._running().wait()}"
                elif (left := deadline - time.monotonic()) <= 0:
                    trouble = f"{timeout * _scale():.0f} seconds passed"
                else:
                    self._news.wait(min(left, 5))
                    trouble = ""
            if trouble:
                break
            time.sleep(_PAUSE)
        raise MachineError(f"{trouble} before the console said {pattern!r}; it ends with\n{self.tail()}")

    def send(self, text: str) -> None:
        """Type ``text`` on the console."""
        stdin = self._running().stdin
        assert stdin
        try:
            stdin.write(text.encode())
            stdin.flush()
        except BrokenPipeError:
            raise MachineError(f"QEMU ended before {text!r} was typed; its console ends with\n{self.tail()}") from None

    def wait_exit(self, timeout: float = 60) -> int:
        """Wait until the machine is off (a reboot counts unless ``reboots``); returns QEMU's exit status."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._running().wait(timeout * _scale())
        raise MachineError(f"still on after {timeout * _scale():.0f} seconds; the console ends with\n{self.tail()}")


def _disk_options(disks: Sequence[Disk]) -> list[str]:
    words: list[str] = []
    seen: dict[str, int] = {}
    for number, disk in enumerate(disks):
        controller, device = BUSES[disk.bus]
        count = seen.get(disk.bus, 0)
        if controller and not count:
            words += ["-device", controller]
        seen[disk.bus] = count + 1
        switches = ("on" if disk.snapshot else "off", "on" if disk.readonly else "off")
        words += [
            "-drive",
            f"if=none,id=disk{number},format=raw,snapshot={switches[0]},readonly={switches[1]},"
            f"discard=unmap,detect-zeroes=unmap,cache=unsafe,file={_escape(disk.path)}",
            "-device",
            f"{device.format(n=count)},drive=disk{number},serial={disk.serial or f'poolboot{number}'}",
        ]
    return words


def _escape(path: Path) -> str:
    return str(path.absolute()).replace(",", ",,")


def _plain(text: str) -> tuple[str, str]:
    """``text`` without escape sequences, and an unfinished one at its end."""
    start = text.rfind("\x1b", -_LONGEST_ESCAPE)
    if start >= 0 and not _ESCAPES.match(text, start):
        return _ESCAPES.sub("", text[:start]), text[start:]
    return _ESCAPES.sub("", text), ""


def _scale() -> float:
    return float(os.environ.get("POOLBOOT_TIMEOUT_SCALE") or 1)
