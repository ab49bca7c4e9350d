"""Machines that switch to the root on their disks, and what to ask of the system there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from qemu import images, run
from qemu.machine import Disk, Machine

BOOT_SECONDS = 400
_PROMPT = r"^ready:\d+# "

Machines = Callable[..., Machine]


def machine(kernel: Path, initrd: Path, log: Path) -> Machines:
    """Makes a Machine that is told to switch root; ``make(..., kernel=)`` takes another kernel."""
    usual = kernel

    def make(disks: Sequence[Path | Disk], append: str = "", kernel: Path | None = None, **options: Any) -> Machine:
        cmdline = f"{run.CMDLINE} poolboot.handover=switch_root poolboot.wait=3 {append}".strip()
        return Machine(kernel or usual, initrd, cmdline, disks, log=log, **options)

    return make


def log_in(guest: Machine) -> None:
    images.log_in(guest, BOOT_SECONDS)
    guest.send("PS1='ready:\\## '; bind 'set enable-bracketed-paste off'; stty -echo cols 200\n")
    guest.expect(_PROMPT, 60)


def ask(guest: Machine, command: str, timeout: float = 120) -> str:
    """What ``command`` prints, without blanks around it; it has to succeed."""
    guest.send(f"{command}; printf '\\nstatus-%d-\\n' $?\n")  # on a line of its own when nothing else is printed
    found = guest.expect(r"(?s)(.*?)^status-(\d+)-$", timeout)
    guest.expect(_PROMPT, 60)
    assert found[2] == "0", found[1]
    return found[1].strip()


def mounts(guest: Machine) -> list[list[str]]:
    """Mount point, source and type of every mount."""
    return [line.split() for line in ask(guest, "findmnt -lno TARGET,SOURCE,FSTYPE").splitlines()]


def check_health(guest: Machine, failed: Sequence[str] = ()) -> None:
    """Nothing but ``failed`` failed, much of the root can be listed and read, and nobody complained about that."""
    state = ask(guest, "systemctl is-system-running --wait || true", 300)
    units = ask(guest, "systemctl --failed --no-legend --plain | cut -d' ' -f1").split()
    assert (state, units) == ("degraded" if failed else "running", list(failed))
    assert int(ask(guest, "ls -lR /etc | wc -l", 300)) > 300
    ask(guest, "cat /boot/* >/dev/null 2>&1 || test $? = 1", 300)  # one is a directory
    assert ask(guest, "dmesg | grep -i -E 'poolboot: |i/o error|fuse.*(err|fail)' || true") == ""


def daemons(guest: Machine) -> list[str]:
    """The processes that shutdown spares."""
    return ask(guest, "cd /proc; for p in [0-9]*; do grep -q ^@ $p/cmdline 2>/dev/null && echo $p; done; cd").split()


def leave(guest: Machine, command: str, last: str) -> None:
    """Shut down, cleanly, to the kernel's ``last`` word."""
    guest.send(f"systemctl {command}\n")
    guest.expect(f"reboot: {last}", 240)
    assert guest.wait_exit(60) == 0
    assert "Failed unmounting" not in guest.console
