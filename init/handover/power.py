"""Handing the machine back: restart and power off."""

from __future__ import annotations

import os

from init.machine import syscalls


def reboot() -> None:
    """Restart through the firmware."""
    os.sync()
    syscalls.reboot(syscalls.LINUX_REBOOT_CMD_RESTART)


def poweroff() -> None:
    """Switch the machine off."""
    os.sync()
    syscalls.reboot(syscalls.LINUX_REBOOT_CMD_POWER_OFF)


def signal_ctrl_alt_del() -> None:
    """Let Ctrl-Alt-Del be a signal (SIGINT to PID 1) instead of a restart in the middle of anything."""
    syscalls.reboot(syscalls.LINUX_REBOOT_CMD_CAD_OFF)
