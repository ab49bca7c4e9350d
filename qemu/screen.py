"""What a machine shows on its screen, read as text: QEMU's picture of it, cut into characters of the kernel's font."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from artefacts import kernel_build
from qemu.qmp import Panel

WIDTH, HEIGHT = 8, 16  # of a character, in pixels
_SPACE = bytes(HEIGHT)
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"


class Screen:
    """The screen of a Machine that is given ``options``, by way of its control ``panel``."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self.options = ("-device", "VGA", *panel.options)

    def lines(self) -> list[str]:
        """The lines of text on it, without blanks at their ends; a cell that is no character of the font is U+FFFD."""
        with tempfile.NamedTemporaryFile(suffix=".ppm") as picture:
            self._panel.ask("screendump", filename=picture.name)
            return read(Path(picture.name).read_bytes(), font())


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
