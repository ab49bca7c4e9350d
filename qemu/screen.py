"""What a machine shows on its screen, read as text: QEMU's picture of it, cut into characters of the kernel's font."""

from __future__ import annotations

import json
import re
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from artefacts import kernel_build

WIDTH, HEIGHT = 8, 16  # of a character, in pixels
_SPACE = bytes(HEIGHT)
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"
_SECONDS = 30


class Screen:
    """The screen of a Machine that is given ``options``; ``control`` is where the socket for QEMU's control goes."""

    def __init__(self, control: Path) -> None:
        self._control = control
        self.options = ("-device", "VGA", "-qmp", f"unix:{control},server=on,wait=off")

    def lines(self) -> list[str]:
        """The lines of text on it, without blanks at their ends; a cell that is no character of the font is U+FFFD."""
        with tempfile.NamedTemporaryFile(suffix=".ppm") as picture:
            self._ask("screendump", filename=picture.name)
            return read(Path(picture.name).read_bytes(), font())

    def _ask(self, command: str, **arguments: object) -> None:
        """One command of QEMU's machine protocol (docs/interop/qmp-spec.txt, 7.2).  Raises OSError."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(_SECONDS)
            link.connect(str(self._control))
            with link.makefile("rw") as stream:
                json.loads(stream.readline())  # the greeting
                for name, details in (("qmp_capabilities", {}), (command, arguments)):
                    stream.write(json.dumps({"execute": name, "arguments": details}) + "\n")
                    stream.flush()
                    answer = _answer(stream)
                    if "error" in answer:
                        raise OSError(f"{name}: {answer['error']}")


def _answer(stream: Any) -> dict[str, Any]:
    """The next message that is no event."""
    while True:
        message: dict[str, Any] = json.loads(stream.readline())
        if "event" not in message:
            return message


def font() -> dict[bytes, str]:
    """Glyphs of the kernel's console font that are printable ASCII: a byte a row -> the character.

    Source: lib/fonts/font_8x16.c of the kernel that build.py builds, v6.1.
    """
    text = (kernel_build.fetch("bookworm").tree / "lib/fonts/font_8x16.c").read_text()
    rows = bytes(int(row, 16) for row in re.findall(r"^\s*(0x[0-9a-f]{2}),\s*/\* [01]{8} \*/", text, re.MULTILINE))
    return {rows[code * HEIGHT : (code + 1) * HEIGHT]: chr(code) for code in range(0x20, 0x7F)}


def read(picture: bytes, glyphs: dict[bytes, str]) -> list[str]:
    """The text in a binary PPM (P6, 8 bits a channel); whatever is not black is ink.  Raises ValueError."""
    header = re.match(rb"P6\s+(\d+)\s+(\d+)\s+255\s", picture)
    if not header:
        raise ValueError("no binary PPM")
    width, height = int(header[1]), int(header[2])
    pixels = picture[header.end() :]
    ink = bytes(1 if any(pixels[at : at + 3]) else 0 for at in range(0, width * height * 3, 3))
    return [_line(ink, width, top, glyphs) for top in range(0, height - HEIGHT + 1, HEIGHT)]


def _line(ink: bytes, width: int, top: int, glyphs: dict[bytes, str]) -> str:
    rows = [ink[(top + row) * width : (top + row + 1) * width] for row in range(HEIGHT)]
    return "".join(_character(rows, left, glyphs) for left in range(0, width - WIDTH + 1, WIDTH)).rstrip()


def _character(rows: Sequence[bytes], left: int, glyphs: dict[bytes, str]) -> str:
    cell = bytes(int("".join(map(str, row[left : left + WIDTH])), 2) for row in rows)
    return " " if cell == _SPACE else glyphs.get(cell, _UNKNOWN)
