"""The machine's own screen and keyboard: the menu is on them and on the serial line at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from init import locks
from qemu import layouts
from qemu.machine import Machine, MachineError
from qemu.qmp import Panel

pytestmark = pytest.mark.boot

Machines = Callable[..., Machine]
# Text mode: pairs of character (code page 437) and attribute, 25 rows of 80; where in the 32 KiB a screen begins moves
# with what scrolls.  drivers/video/console/vgacon.c, v6.1
VGA, VGA_SIZE, WIDTH = 0xB8000, 32768, 80
WHITE_ON_BLUE, REVERSED = 0x1F, 0x70
LARGE, SMALL = "6.1.0-2-large", "6.1.0-1-test"


class Desk:
    """What a person in front of the machine sees and presses, through QEMU's control panel."""

    def __init__(self, panel: Panel, scratch: Path) -> None:
        self._panel, self._scratch = panel, scratch / "vga"
        self.press = panel.type

    def rows(self) -> Iterator[tuple[str, int]]:
        """Text and first attribute of each row of the menu's screen, nothing while there is none."""
        data = self._dump()
        rows = [data[start : start + 2 * WIDTH] for start in range(0, VGA_SIZE - 2 * WIDTH + 1, 2 * WIDTH)]
        texts = [row[::2].decode("cp437") for row in rows]
        tops = [number for number, text in enumerate(texts) if text.startswith(" poolboot ")]
        for number in range(tops[-1], min(tops[-1] + 25, len(rows))) if tops else ():
            yield texts[number].rstrip(), rows[number][1]

    def memory(self) -> str:
        """All text that is in the screen's memory, also what scrolled away."""
        return self._dump()[::2].decode("cp437")

    def _dump(self) -> bytes:
        self._panel.ask("pmemsave", val=VGA, size=VGA_SIZE, filename=str(self._scratch))
        return self._scratch.read_bytes()

    def wait_for(self, what: Callable[[list[tuple[str, int]]], bool], seconds: float = 30) -> list[tuple[str, int]]:
        """The rows as soon as they are ``what`` was waited for."""
        deadline = time.monotonic() + seconds
        while True:
            rows = list(self.rows())
            if len(rows) == 25 and what(rows):
                return rows
            if time.monotonic() > deadline:
                raise MachineError("not on the screen; what is:\n" + "\n".join(text for text, _ in rows))
            time.sleep(0.3)


def test_the_lock_is_on_the_screen_as_on_the_line(machine: Machines, tmp_path: Path) -> None:
    """The editor is asked for at the keyboard, and so is the password; neither console shows it."""
    panel = Panel(tmp_path / "qmp")
    options = ["-device", "VGA", *panel.options]
    disk = layouts.menu().disks[0]
    lock = f"poolboot.lock=editor poolboot.lock-password={locks.make_hash('sesame', 500)}"
    with machine([disk], f"console=tty0 poolboot.timeout=300 {lock}", options=options) as guest:
        guest.expect("What can be booted:$", 90)
        desk = Desk(panel, tmp_path)
        desk.wait_for(lambda rows: any("Booting entry 1 in " in text for text, _ in rows))
        desk.press("down")
        desk.wait_for(lambda rows: rows[3][0].startswith("> 2"))
        desk.press("e")
        guest.expect("Password: ")
        desk.press("n", "o", "ret")
        guest.expect("poolboot: wrong password; the next try is in 1 s")
        guest.expect("Password: ")
        desk.press(*"sesame")
        assert "sesame" not in desk.memory()
        desk.press("ret")
        guest.expect("cmdline> ", 60)
        desk.wait_for(lambda rows: any("Command line of the kernel" in text for text, _ in rows))
        desk.press("spc", "a", "t", "minus", "d", "e", "s", "k", "ret")
        booting = guest.expect(r"poolboot: booting .* cmdline=(.*)")[1]
        assert booting.strip().endswith(" at-desk")
        assert "sesame" not in desk.memory() + guest.console


def test_the_menu_on_the_screen_and_on_the_line_at_once(machine: Machines, tmp_path: Path) -> None:
    """A key of either console moves both; the command line is edited at the keyboard."""
    panel = Panel(tmp_path / "qmp")
    options = ["-device", "VGA", *panel.options]
    disk = layouts.menu().disks[0]
    with machine([disk], "console=tty0 poolboot.timeout=300", options=options) as guest:
        guest.expect("What can be booted:$", 90)
        desk = Desk(panel, tmp_path)
        # The countdown is drawn last but one: by then the rest is there.
        rows = desk.wait_for(lambda rows: any("Booting entry 1 in " in text for text, _ in rows))
        assert rows[0][1] == WHITE_ON_BLUE
        assert rows[2][0].startswith("> 1")
        assert LARGE in rows[2][0]
        assert rows[2][1] == REVERSED

        desk.press("down")
        guest.expect(rf"^> 2\. .*{SMALL}")
        desk.wait_for(lambda rows: rows[3][0].startswith("> 2") and rows[3][1] == REVERSED)
        desk.wait_for(lambda rows: not any("Booting entry" in text for text, _ in rows))
        guest.send("k")
        desk.wait_for(lambda rows: rows[2][0].startswith("> 1"))

        guest.send("2")
        desk.wait_for(lambda rows: rows[3][0].startswith("> 2"))
        desk.press("d")
        guest.expect(rf"^  kernel +/boot/vmlinuz-{SMALL}")
        desk.wait_for(lambda rows: any(text.startswith("  kernel") for text, _ in rows))
        desk.press("e")
        guest.expect("cmdline> ")
        desk.press("spc", "a", "t", "minus", "d", "e", "s", "k", "x", "backspace", "ret")
        booting = guest.expect(r"poolboot: booting .* cmdline=(.*)")[1]
        assert booting.strip().endswith(" at-desk")
        # The booted system's own console is the screen then, as the last one on its command line.
        assert guest.expect(r"poolboot: cmdline (.*)\n", 120)[1].strip() == booting.strip()
