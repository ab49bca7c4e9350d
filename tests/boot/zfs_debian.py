"""What the boots of a whole Debian from ZFS have in common."""

from __future__ import annotations

from qemu import images
from qemu.machine import Machine

# On a busy host udev may take longer to find the serial line than systemd waits for it to start a login there.
PATIENT = "poolboot.wait=3 poolboot.append=systemd.default_timeout_start_sec=300"
_BOOT_SECONDS = 400


def log_in(guest: Machine, line: str) -> None:
    """Wait until Debian runs with the command line ``line``, then for its login, and use it."""
    guest.expect(images.MARKER, _BOOT_SECONDS)
    assert "poolboot: error" not in guest.console
    assert guest.expect("booted with: (.*)")[1].strip() == line.strip()
    images.log_in(guest, 120)
