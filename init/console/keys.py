"""Keys out of the bytes that a terminal sends: escape sequences whole or in pieces, UTF-8, answers to our questions.

A key is the character itself, or one of the names in NAMES' values; "answer:ROWS;COLUMNS" is a terminal's reply to
"where is the cursor".  Sources: ECMA-48 5.4, xterm's ctlseqs, drivers/tty/vt/keyboard.c:applkey and k_fn, v6.12.
"""

from __future__ import annotations

import codecs

ESCAPE = 0x1B
MAX_SEQUENCE = 32  # bytes; longer than anything that a keyboard sends
ANSWER = "answer:"

# What keys of a line editor do, by the control character: names as in readline(3).
_CONTROLS = {
    0x01: "home", 0x02: "left", 0x03: "interrupt", 0x04: "eof", 0x05: "end", 0x06: "right", 0x08: "backspace",
    0x09: "tab", 0x0A: "enter", 0x0B: "kill-end", 0x0C: "redraw", 0x0D: "enter", 0x0E: "down", 0x10: "up",
    0x15: "kill-start", 0x17: "kill-word", 0x18: "accept", 0x7F: "backspace",
}  # fmt: skip
# After ESC [ or ESC O: the final byte; for "~" the number in front of it.
_FINALS = {"A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end", "M": "enter"}
_NUMBERS = {
    "1": "home", "2": "", "3": "delete", "4": "end", "5": "page-up", "6": "page-down", "7": "home", "8": "end",
    "21": "accept",  # F10, as in boot loaders: boot with what was edited
}  # fmt: skip


class Decoder:
    """The state between two reads of one terminal."""

    def __init__(self) -> None:
        self._sequence = b""
        self._text = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._returned = False  # the last byte was a carriage return: its line feed is the same key

    @property
    def pending(self) -> bool:
        """Whether an escape sequence is begun; flush() when nothing follows in time."""
        return bool(self._sequence)

    def feed(self, data: bytes) -> list[str]:
        """The keys that ``data`` completes.  Sequences that mean nothing here vanish, as NUL does: noise of lines."""
        keys: list[str] = []
        for byte in data:
            if self._sequence:
                self._continue(byte, keys)
            else:
                self._byte(byte, keys)
        return keys

    def flush(self) -> list[str]:
        """What a begun sequence means when nothing follows: the Escape key itself."""
        alone = self._sequence == b"\x1b"
        self._sequence = b""
        return ["escape"] if alone else []

    def _byte(self, byte: int, keys: list[str]) -> None:
        returned, self._returned = self._returned, byte == 0x0D
        if byte == ESCAPE:
            self._sequence = b"\x1b"
        elif byte >= 0x20 and byte != 0x7F:
            keys += self._text.decode(bytes((byte,)))
        elif byte in _CONTROLS and not (returned and byte == 0x0A):
            keys.append(_CONTROLS[byte])

    def _continue(self, byte: int, keys: list[str]) -> None:
        sequence = self._sequence + bytes((byte,))
        if sequence in (b"\x1b[", b"\x1bO", b"\x1b[["):
            self._sequence = sequence
        elif len(sequence) == 2:
            # Escape and then another key, typed quickly: both.
            self._sequence = b""
            keys.append("escape")
            self._byte(byte, keys)
        elif 0x20 <= byte < 0x40 and len(sequence) < MAX_SEQUENCE:
            self._sequence = sequence  # parameters and intermediate bytes
        else:
            self._sequence = b""
            keys += _meaning(sequence.decode("latin-1"))


def _meaning(sequence: str) -> list[str]:
    """The key of a finished sequence, or nothing."""
    final, parameters = sequence[-1], sequence[2:-1]
    if final == "R" and ";" in parameters:
        return [ANSWER + parameters]
    if sequence[:3] == "\x1b[[":  # function keys of the Linux console
        return []
    name = _NUMBERS.get(parameters.partition(";")[0], "") if final == "~" else _FINALS.get(final, "")
    return [name] if name else []


def is_text(key: str) -> bool:
    """Whether ``key`` is a character to put into a line."""
    return len(key) == 1


def is_deliberate(key: str) -> bool:
    """Whether a person pressed ``key``, as far as one can tell: an answer or a damaged character is no wish."""
    if len(key) == 1:
        return key.isprintable()
    return key not in ("redraw", "resized") and not key.startswith(ANSWER)


def answer(key: str) -> tuple[int, int] | None:
    """Rows and columns of an "answer" key; None for other keys and for nonsense."""
    if not key.startswith(ANSWER):
        return None
    rows, _, columns = key.removeprefix(ANSWER).partition(";")
    if not (rows.isdecimal() and columns.isdecimal()):
        return None
    return int(rows), int(columns)
