"""Reading a picture of a text console."""

from __future__ import annotations

import pytest

from qemu import screen

BAR = bytes([0b00011000] * screen.HEIGHT)


def picture(cells: list[bytes], color: bytes = b"\xaa\xaa\xaa") -> bytes:
    """One line of text as a PPM."""
    rows = [
        b"".join(color if row & 0x80 >> bit else bytes(3) for row in column for bit in range(screen.WIDTH))
        for column in zip(*cells, strict=True)
    ]
    return b"P6\n%d %d\n255\n" % (len(cells) * screen.WIDTH, screen.HEIGHT) + b"".join(rows)


def test_cells_become_characters_whatever_their_color() -> None:
    blank = bytes(screen.HEIGHT)
    for color in (b"\xff\xff\xff", b"\0\0\x80"):
        assert screen.read(picture([BAR, blank, BAR, blank], color), {BAR: "|"}) == ["| |"]


def test_what_is_no_character_is_shown_as_unknown() -> None:
    assert screen.read(picture([bytes([0xFF] * screen.HEIGHT)]), {BAR: "|"}) == ["\N{REPLACEMENT CHARACTER}"]


def test_other_files_are_refused() -> None:
    with pytest.raises(ValueError, match="no binary PPM"):
        screen.read(b"P3\n1 1\n255\n", {})
