"""Keys, lines and terminals: bytes of a serial line or a pseudo-terminal in, keys and text out."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import time
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from terminal_grid import Grid

from fsdrivers.shown import printable
from init.console import console, keys, lineedit, opening, terminal
from init.console.console import Console, Enough
from init.console.keys import Decoder
from init.console.lineedit import Line, View
from init.console.terminal import Terminal

SEQUENCES = {
    b"\x1b[A": "up", b"\x1bOA": "up", b"\x1b[1;5A": "up", b"\x1b[B": "down", b"\x1b[C": "right", b"\x1b[D": "left",
    b"\x1b[H": "home", b"\x1b[1~": "home", b"\x1b[7~": "home", b"\x1b[F": "end", b"\x1b[4~": "end", b"\x1b[8~": "end",
    b"\x1b[3~": "delete", b"\x1b[5~": "page-up", b"\x1b[6~": "page-down", b"\x1b[21~": "accept", b"\x7f": "backspace",
    b"\x08": "backspace", b"\r": "enter", b"\n": "enter", b"\r\n": "enter", b"\x01": "home", b"\x05": "end",
    b"\x15": "kill-start", b"\x0b": "kill-end", b"\x17": "kill-word", b"\t": "tab", b"\x03": "interrupt",
    b"\x04": "eof", b"a": "a", "é".encode(): "é", "日".encode(): "日", b"\x1b[24;80R": "answer:24;80",
}  # fmt: skip


@pytest.mark.parametrize("data", SEQUENCES, ids=repr)
def test_keys_whole_and_byte_by_byte(data: bytes) -> None:
    assert Decoder().feed(data) == [SEQUENCES[data]]
    decoder = Decoder()
    assert [key for byte in data for key in decoder.feed(bytes((byte,)))] == [SEQUENCES[data]]
    assert not decoder.pending


@given(st.lists(st.sampled_from(sorted(SEQUENCES)), max_size=20), st.lists(st.integers(1, 5), max_size=60))
def test_keys_however_they_are_cut(sequence: list[bytes], cuts: list[int]) -> None:
    # "\r" before "\n" is one key by intent.
    data = b"".join(sequence).replace(b"\r", b"\n").replace(b"\n\n", b"\n")
    whole = Decoder().feed(data)
    decoder, found = Decoder(), []
    for size in [*cuts, len(data)]:
        found += decoder.feed(data[:size])
        data = data[size:]
    assert found == whole


@given(st.binary(max_size=200))
def test_noise_makes_only_keys_with_names(data: bytes) -> None:
    decoder = Decoder()
    for key in [*decoder.feed(data), *decoder.flush()]:
        assert len(key) == 1 or key.isascii()
    assert len(decoder._sequence) <= keys.MAX_SEQUENCE


@pytest.mark.parametrize("data", [b"\x1b[15~", b"\x1b[[A", b"\x1b[99~", b"\x00", b"\x1b[200~", b"\x1b[?6c"])
def test_what_means_nothing_vanishes(data: bytes) -> None:
    assert Decoder().feed(data + b"x") == ["x"]


def test_escape_alone_and_before_another_key() -> None:
    decoder = Decoder()
    assert decoder.feed(b"\x1b") == []
    assert decoder.pending
    assert decoder.flush() == ["escape"]
    assert decoder.feed(b"\x1bx") == ["escape", "x"]
    assert keys.answer("answer:;") is None


# --- lines ------------------------------------------------------------------------------------


def typed(*names: str, text: str = "", history: tuple[str, ...] = (), complete: object = None) -> Line:
    line = Line(text, history, complete)  # type: ignore[arg-type]
    for name in names:
        line.key(name)
    return line


@pytest.mark.parametrize(
    ("names", "text", "cursor"),
    [
        ([*"abc"], "abc", 3), ([*"abc", "left", "X"], "abXc", 3), ([*"abc", "home", "X"], "Xabc", 1),
        ([*"abc", "backspace"], "ab", 2), ([*"abc", "home", "backspace", "delete"], "bc", 0),
        ([*"root=/dev/vda ro", "kill-word"], "root=/dev/vda ", 14),
        ([*"root=/dev/vda", "kill-word"], "root=/dev/", 10),
        ([*"abc", "left", "kill-end"], "ab", 2), ([*"abc", "left", "kill-start"], "c", 0),
        ([*"abc", "home", "left", "end", "right"], "abc", 3), ([*"abc", "page-up"], "abc", 3),
    ],
)  # fmt: skip
def test_editing(names: list[str], text: str, cursor: int) -> None:
    line = typed(*names)
    assert (line.text, line.cursor) == (text, cursor)


def test_history_keeps_what_was_being_typed() -> None:
    line = typed(*"new", "up", history=("one", "two"))
    assert line.text == "two"
    line.key("!")
    assert typed("up", "up", "up", history=("one", "two")).text == "one"
    line.key("down")
    assert line.text == "new"
    line.key("up")
    assert line.text == "two!"
    lines: list[str] = []
    for text in ("a", "a", " ", "b"):
        lineedit.remember(lines, text)
    assert lines == ["a", "b"]


def words(text: str) -> tuple[int, list[str]]:
    start = text.rfind(" ") + 1
    return start, [word for word in ("pools", "poweroff", "ls") if word.startswith(text[start:])]


def test_completion() -> None:
    assert typed("l", "tab", complete=words).text == "ls"
    line = typed("p", "tab", complete=words)
    assert line.text == "po"
    line.key("tab")
    assert line.offered == ("pools", "poweroff")
    assert typed("x", "tab", complete=words).text == "x"
    assert typed("x", "tab").text == "x"
    assert lineedit.columns(["b", "a", "c"], 6) == ["a  c", "b"]
    assert lineedit.columns([], 80) == []


KEYS = st.sampled_from([*"ab é", "left", "right", "home", "end", "backspace", "delete", "kill-word", "up", "down"])


@given(st.lists(KEYS, max_size=80), st.integers(20, 60))
def test_every_terminal_shows_the_line_with_backspaces_alone(pressed: list[str], width: int) -> None:
    line, view, screen = Line("root=UUID=1", ("an older line " * 9,)), View("cmdline> ", width), Grid(3, width)
    screen.feed(view.draw(line))
    for key in pressed:
        line.key(key)
        screen.feed(view.update(line))
        assert screen.row == 0
        shown = screen.lines[0][9:].rstrip()
        assert shown in line.text
        assert line.text[: line.cursor].endswith("".join(screen.cells[0][9 : screen.column]))


def test_a_line_is_bounded() -> None:
    assert len(typed(*"x" * (lineedit.MAX_LINE + 5)).text) == lineedit.MAX_LINE


# --- terminals --------------------------------------------------------------------------------


class Pty:
    """A pseudo-terminal: ours is the end that a kernel console would be."""

    def __init__(self, rows: int = 0, columns: int = 0) -> None:
        self.person, ours = pty.openpty()
        self.path = os.ttyname(ours)
        if rows:
            fcntl.ioctl(ours, 0x5414, struct.pack("4H", rows, columns, 0, 0))  # TIOCSWINSZ
        os.set_blocking(ours, False)
        self.ours = ours
        self.terminal = Terminal(ours, ours)
        self.console = Console(terminals=[self.terminal])
        self.console.raw()

    def type(self, text: str) -> None:
        os.write(self.person, text.encode())

    def seen(self) -> str:
        os.set_blocking(self.person, False)
        data = b""
        try:
            while True:
                data += os.read(self.person, 65536)
        except BlockingIOError:
            return data.decode()


def test_raw_mode_shows_nothing_twice_and_is_undone() -> None:
    line = Pty(30, 100)
    assert (line.terminal.rows, line.terminal.columns) == (30, 100)
    before = line.terminal._saved
    line.type("ab\x7fc\x01X\r")
    assert line.console.readline("> ") == "Xac"
    shown = Grid()
    shown.feed(line.seen())
    assert shown.lines[0] == "> Xac"
    line.console.restore()
    assert fcntl.ioctl(line.ours, terminal.TCGETS, bytes(36)) == before


def test_a_line_that_is_held_up_does_not_hold_us_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "STUCK", 0.05)
    line = Pty()
    began = time.monotonic()
    for _ in range(2000):
        line.console.write("x" * 200)
    line.console.drain()
    assert time.monotonic() - began < 5
    line.seen()
    line.console.write("there again")
    assert "there again" in line.seen()


def test_a_terminal_that_answers_has_a_screen() -> None:
    line = Pty()
    assert not line.terminal.full
    line.terminal.ask()
    assert "\x1b[6n" in line.seen()
    line.type("\x1b[43;132R")
    assert line.console.key(1) == "resized"
    assert line.terminal.full
    assert (line.terminal.rows, line.terminal.columns) == (43, 132)
    line.terminal.ask()
    assert line.seen() == terminal.WRAP  # and no question


def test_nonsense_answers_do_not_count() -> None:
    line = Pty()
    line.type("\x1b[0;99999Rx")
    while line.console.key(1) != "x":
        pass
    assert not line.terminal.full


def test_a_lone_escape_is_a_key_after_a_moment() -> None:
    line = Pty()
    line.type("\x1b")
    assert line.console.key(3) == "escape"


def test_completion_offers_in_columns_and_shows_the_line_again() -> None:
    line = Pty()
    line.type("po\t")
    line.type("ol\t\r")
    assert line.console.readline("poolboot> ", complete=words) == "pools"
    screen = Grid()
    screen.feed(line.seen())
    assert screen.lines[:3] == ["poolboot> po", "pools     poweroff", "poolboot> pools"]


def test_no_more_completions_are_offered_than_anybody_reads() -> None:
    line = Pty()
    line.type("\t\t\r")
    assert line.console.readline("> ", complete=lambda text: (0, [f"file{i:05}" for i in range(20000)])) == "file"
    text = line.seen()
    assert "file00099" in text
    assert "file00100" not in text
    assert "... and 19900 more\r\n" in text


def paged() -> Pty:
    """A screen of ten rows that stops after each page."""
    line = Pty(10, 80)
    line.terminal.full = True
    line.console.pages(True)
    return line


def test_pages_stop_where_a_screen_is_full() -> None:
    line = paged()
    line.type(" \rq")
    with pytest.raises(Enough):
        deque(line.console.write(f"line {number}") for number in range(100))
    text = line.seen()
    assert "line 8\r\n" in text
    assert "line 18" in text
    assert "line 30" not in text
    line.console.pages(False)
    for _ in range(100):
        line.console.write("on")


def test_a_lost_console_comes_back(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """The other end hangs up; ours is opened again by its path when there is something there."""
    first, second = Pty(), Pty()
    path = f"{tmp_path}/ttyX"
    os.symlink(first.path, path)
    opened = opening.terminal(path)
    assert opened is not None
    os.close(first.ours)
    screen = Console(terminals=[opened])
    os.close(first.person)
    assert screen.key(0.1) is None
    screen.say("nobody hears this")
    os.unlink(path)
    os.symlink(second.path, path)
    monkeypatch.setattr(console, "REOPEN", 0.0)
    screen._reopen_at = 0.0
    assert screen.key(1) == "resized"
    screen.say("back")
    assert "poolboot: back" in second.seen()


def test_output_goes_to_all_and_input_comes_from_each() -> None:
    one, other = Pty(), Pty()
    both = Console(terminals=[one.terminal, other.terminal])
    one.type("he")
    assert both.readline("", timeout=0.1) is None
    other.type("llo\r")
    assert both.readline("") == "hello"
    assert "llo" in one.seen()
    assert "llo" in other.seen()


def test_a_menu_over_a_serial_line_with_a_terminal_at_its_end() -> None:
    """The terminal answers while the menu asks; what a person sees at the end is one screen, drawn once."""
    from test_menu import ENTRIES

    from init.people import chooser
    from init.people.menu import Menu

    line = Pty()
    line.type("\x1b[25;80Rj\x1b[B\x1b[A")
    line.type("\r")
    assert chooser.run(line.console, Menu(ENTRIES, 0, 30.0)).entry == ENTRIES[1]
    shown = Grid()
    text = line.seen()
    shown.feed(text.replace("\r\n", "\n"))
    assert text.count("\x1b[2J") == 1
    assert any(row.startswith("> 2  Debian") for row in shown.lines)
    assert shown.cursor_shown
    line.console.say("x" * 100)
    shown.wraps = False  # as SeaBIOS leaves it
    shown.feed((text + line.seen()).replace("\r\n", "\n"))
    assert "".join(shown.lines[-4:]).endswith("poolboot: " + "x" * 100)


def test_what_is_said_without_a_disk_fits_into_a_row() -> None:
    """Where the terminal does not go on in the next row, and nobody asked it."""
    from init import report
    from init.people import menu, menuview, rescue

    plain = Grid()
    plain.wraps = False
    plain.feed(rescue.HELP)
    assert "\n".join(plain.lines).rstrip() == rescue.HELP
    texts = (*rescue.HELP.split("\n"), *menu.HELP_LINES, menuview.KEYS, menuview.SNAPSHOT_KEYS, menuview.EDIT_KEYS,
             menuview.DETAILS_KEYS, console.MORE, report.versions())  # fmt: skip
    assert max(map(len, texts)) < 80


def test_a_terminal_that_answers_is_told_to_go_on_in_the_next_row_once() -> None:
    line = Pty()
    line.terminal.answered(25, 80)
    line.terminal.answered(30, 80)
    assert line.seen() == terminal.WRAP


# --- what is on the disks, and long outputs ---------------------------------------------------


def test_no_name_drives_a_terminal_or_forges_a_line() -> None:
    name = "a\x1b[2J\x9b31m\udcff\u202e\r\nb\tc"
    assert printable(name) == "a\\x1b[2J\\x9b31m\\xff\\x202e\\x0d\nb\tc"
    line = Pty()
    line.console.say(f"entry 1 {name}")
    assert line.seen() == "poolboot: entry 1 a\\x1b[2J\\x9b31m\\xff\\x202e\\x0d\\x0ab\\x09c\r\n"
    from init.people import chooser

    assert not chooser.countdown(line.console, name, 0.01)
    assert line.seen().startswith("poolboot: booting a\\x1b[2J\\x9b31m\\xff\\x202e\\x0d\\x0ab\\x09c in 1 s; any key")
    line.type("c\t\r")
    assert line.console.readline("> ", complete=lambda text: (0, ["c\x1b[2Jx", "c\x1b[3\ny"])) == "c\x1b["
    assert "\x1b" not in line.seen()


def test_a_long_text_is_shown_by_pages_too() -> None:
    line = paged()
    line.type(" \rq")
    with pytest.raises(Enough):
        line.console.write("\n".join(f"line {number}" for number in range(100)))
    text = line.seen()
    assert text.index("line 8\r\n") < text.index("-- more") < text.index("line 9\r\n")
    assert "line 18\r\n" in text
    assert "line 19" not in text
    line.console.pages(True)
    line.type("q")
    with pytest.raises(Enough):
        line.console.write("x" * 4000)
    assert 400 <= line.seen().count("x") <= 9 * 80


def test_a_long_text_on_a_line_is_stopped_by_an_interrupt() -> None:
    line = Pty()
    line.console.pages(True)
    line.console.write("x" * 1000 + "\n\nlast")
    assert line.seen() == "x" * 1000 + "\r\n\r\nlast\r\n"
    line.type("early\x03")
    with pytest.raises(Enough):
        line.console.write("one\ntwo")
    assert "two" not in line.seen()
    line.type("next\r")
    assert line.console.readline("") == "next"


def test_a_console_that_comes_back_is_still_a_dumb_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Pty(), Pty()
    path = tmp_path / "ttyX"
    path.symlink_to(first.path)
    opened = opening.terminal(str(path), "dumb")
    assert opened is not None
    screen = Console(terminals=[opened])
    screen._lose(opened)
    path.unlink()
    path.symlink_to(second.path)
    screen._reopen_at = 0.0
    assert screen.key(1) == "resized"
    assert [(one.term, one.asked) for one in screen.terminals] == [("dumb", True)]


def test_each_character_of_a_line_has_one_cell() -> None:
    text = "e\u0301 中文 \x1b[31m é"
    assert lineedit.cells(text) == "e? ?? ?[31m é"
    line = Line(text)
    assert lineedit.View("> ").draw(line) == "> e? ?? ?[31m é"


def test_without_a_console_the_kernel_log_gets_all_of_it(tmp_path: Path) -> None:
    """Records of more than 1024 bytes are refused there, and so is the eleventh within five seconds."""
    limit = tmp_path / "printk_devkmsg"
    limit.write_text("ratelimit\n")
    source, sink = os.pipe2(os.O_DIRECT)  # each write stays one
    log = terminal.KernelLog(sink, str(limit))
    assert limit.read_text() == "on\n"
    Console(terminals=[log]).say("x" * 2000)
    Console(terminals=[log]).say("中" * 300)
    os.close(sink)
    records = []
    while record := os.read(source, 65536):
        records.append(record)
    os.close(source)
    assert all(len(record) <= 1000 for record in records)
    assert b"".join(records).decode() == "poolboot: " + "x" * 2000 + "poolboot: " + "中" * 300
    terminal.KernelLog(os.open("/dev/null", os.O_WRONLY), str(tmp_path / "nowhere" / "printk")).write("fine\n")
