"""A small terminal: what a person would see after the bytes that were sent, for tests of what draws screens."""

from __future__ import annotations

import re

_CSI = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])")
_SAVE = ("\x1b7", "\x1b8")  # where the cursor is; only around a question, which moves nothing for good


class Grid:
    """Cells of a terminal of ``rows`` x ``columns`` that knows what ours sends (ECMA-48: CUP, ED, EL, SGR)."""

    def __init__(self, rows: int = 25, columns: int = 80) -> None:
        self.rows, self.columns = rows, columns
        self.cells = [[" "] * columns for _ in range(rows)]
        self.styles = [[""] * columns for _ in range(rows)]
        self.row = self.column = 0
        self.style, self.cursor_shown = "", True
        self.wraps = True  # what is beyond the edge; else it all lands in the last cell
        self.scrolled = 0

    def feed(self, text: str) -> None:
        position = 0
        while position < len(text):
            found = _CSI.match(text, position)
            if found:
                self._control(found[1], found[2], found[3])
                position = found.end()
            elif text.startswith(_SAVE, position):
                position += 2
            else:
                assert text[position] != "\x1b", f"a sequence that is not known: {text[position : position + 8]!r}"
                self._character(text[position])
                position += 1

    def _control(self, private: str, parameters: str, final: str) -> None:
        if private:
            assert parameters in ("7", "25")
            if parameters == "7":
                self.wraps = final == "h"
            else:
                self.cursor_shown = final == "h"
        elif final == "n":
            assert parameters == "6"
        elif (final, parameters) == ("H", "999;999"):
            self.row = self.column = 0
        elif final == "H":
            row, _, column = parameters.partition(";")
            self.row, self.column = int(row or 1) - 1, int(column or 1) - 1
            assert 0 <= self.row < self.rows
            assert 0 <= self.column < self.columns
        elif final == "J":
            assert parameters == "2"
            self.cells = [[" "] * self.columns for _ in range(self.rows)]
        elif final == "K":
            self.cells[self.row][self.column :] = " " * (self.columns - self.column)
            self.styles[self.row][self.column :] = [""] * (self.columns - self.column)
        else:
            assert final == "m", final
            self.style = "" if parameters == "0" else parameters

    def _character(self, char: str) -> None:
        if char == "\n":
            self.column = 0
            self.row += 1
        elif char == "\r":
            self.column = 0
        elif char == "\b":
            self.column = max(0, self.column - 1)
        else:
            assert char.isprintable(), repr(char)
            if self.column == self.columns:
                self.column, self.row = (0, self.row + 1) if self.wraps else (self.columns - 1, self.row)
            self._scroll()
            self.cells[self.row][self.column], self.styles[self.row][self.column] = char, self.style
            self.column += 1
        self._scroll()

    def _scroll(self) -> None:
        while self.row >= self.rows:
            self.cells = [*self.cells[1:], [" "] * self.columns]
            self.row -= 1
            self.scrolled += 1

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.cells]

    def __str__(self) -> str:
        return "\n".join(self.lines)
