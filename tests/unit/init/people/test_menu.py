"""The menu without a terminal: keys and time go in, and what a person would see on 80x25 comes out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from init_doubles import MemoryPool, TestConsole, place, system
from terminal_grid import Grid

from fsdrivers.errors import Corrupt, FsError
from init.entries.entry import BootEntry
from init.entries.snapshots import Snapshot
from init.people import chooser, menu, menuview
from init.people.menu import Menu
from init.people.menuview import Painter, Printer, compose
from init.roots import BootRoot

CMDLINE = "root=UUID=0f6c2a8e-1f7d-4c55-9a3e-5f0d8f8f2a11 ro rootflags=subvol=@ quiet console=ttyS0,115200"


def entry(number: int, title: str = "", **fields: object) -> BootEntry:
    base = BootEntry(
        id=f"tank:@/6.{number}",
        title=title or f"Debian GNU/Linux 12 (bookworm), kernel 6.{number}.0-28-amd64",
        source="/boot of tank:@",
        place=place(system(f"6.{number}")),
        kernel=f"/boot/vmlinuz-6.{number}.0-28-amd64",
        initrds=(f"/boot/initrd.img-6.{number}.0-28-amd64",),
        cmdline=CMDLINE,
        version=f"6.{number}.0-28-amd64",
    )
    return base._replace(**fields)  # type: ignore[arg-type]


ENTRIES = [entry(number) for number in range(1, 6)]
MANY = [entry(number) for number in range(1, 41)]


def press(shown: Menu, *keys: str) -> Menu:
    for key in keys:
        shown.key(key)
    return shown


def grid(shown: Menu, rows: int = 25, columns: int = 80, colour: bool = True) -> Grid:
    screen = Grid(rows, columns)
    screen.feed(Painter(rows, columns, colour).update(shown))
    return screen


class Snapshots:
    """A source of two snapshots of tank:@, the second of which cannot be read."""

    def __init__(self) -> None:
        self.pool = MemoryPool({"/": {}, "@": system("6.1"), "@/.snapshots/7/snapshot": system("6.1")})
        self.roots = self.pool.roots()

    def snapshots(self, entry: BootEntry) -> list[Snapshot]:
        one = Snapshot(self.pool, self.roots[2], "snapper", "7", 1_700_000_000 * 10**9, "before the upgrade")
        return [one, one._replace(number="8", description="damaged")]

    def inside(self, snapshot: Snapshot, like: BootEntry) -> list[BootEntry]:
        if snapshot.number == "8":
            raise Corrupt("vda", "root item", 4096)
        root = BootRoot(self.pool, snapshot.root, self.pool.open(snapshot.root.name))
        return [like._replace(title=f"{like.title}, {snapshot.title}", place=root, snapshot=snapshot)]


# --- what keys do -----------------------------------------------------------------------------


def test_time_boots_the_default_and_any_key_stops_it() -> None:
    shown = Menu(ENTRIES, 2, 5.0)
    shown.pass_time(4.9)
    assert shown.outcome is None
    shown.pass_time(0.2)
    assert shown.outcome == menu.Outcome(ENTRIES[2])
    shown = press(Menu(ENTRIES, 2, 5.0), "x")
    shown.pass_time(1000)
    assert shown.outcome is None


@pytest.mark.parametrize(
    ("keys", "selected"),
    [
        (["down"], 2), (["up"], 0), (["up", "up", "up"], 0), (["j", "j", "k"], 2), (["end"], 4), (["end", "down"], 4),
        (["home"], 0), (["page-down"], 4), (["page-up"], 0), (["5"], 4), (["1"], 0), (["9"], 1), (["0"], 1),
        (["3", "4"], 3),
    ],
)  # fmt: skip
def test_selecting(keys: list[str], selected: int) -> None:
    shown = press(Menu(ENTRIES, 1, 5.0), *keys)
    assert shown.level.selected == selected
    assert press(shown, "enter").outcome == menu.Outcome(ENTRIES[selected])


@pytest.mark.parametrize(
    ("keys", "number"), [("12", 12), ("3", 3), ("40", 40), ("41", 1), ("99", 9), ("123", 3), ("04", 4)]
)
def test_numbers_of_several_digits(keys: str, number: int) -> None:
    assert press(Menu(MANY), *keys).level.selected == number - 1


def test_a_number_begins_anew_after_another_key() -> None:
    assert press(Menu(MANY), "1", "down", "2").level.selected == 1


def test_a_missing_number_is_told() -> None:
    assert "there is no entry 9" in str(grid(press(Menu(ENTRIES), "9")))


def test_editing_counts_for_this_boot_only() -> None:
    shown = press(Menu(ENTRIES), "e", *" single")
    assert shown.outcome is None
    press(shown, "enter")
    assert shown.outcome == menu.Outcome(ENTRIES[0]._replace(cmdline=f"{CMDLINE} single"))
    assert ENTRIES[0].cmdline == CMDLINE
    shown = press(Menu(ENTRIES), "e", "kill-start", "escape", "e", "accept")
    assert shown.outcome == menu.Outcome(ENTRIES[0])


def test_letters_are_text_while_editing() -> None:
    shown = press(Menu(ENTRIES), "e", "kill-start", *"reds1?")
    assert shown.line.text == "reds1?"
    assert shown.outcome is None


def test_details_and_back() -> None:
    shown = press(Menu(ENTRIES), "down", "d")
    text = str(grid(shown))
    for fact in (
        "/boot/vmlinuz-6.2.0-28-amd64",
        "/boot/initrd.img-6.2",
        "btrfs tank:@",
        "/boot of tank:@",
        "tank:@/6.2",
    ):
        assert fact in text
    assert press(shown, "escape").page == menu.LIST
    assert press(shown, "d", "e").page == menu.EDIT


def test_warnings_are_seen_in_the_list_and_in_full_with_the_details() -> None:
    long = "the modules for this kernel are not in the same root, so that the system may come up without its network"
    shown = Menu([entry(1), entry(2, notes=(long,))])
    assert "modules" not in str(grid(shown))
    text = str(grid(press(shown, "down")))
    assert "! the modules for this kernel" in text
    assert "tank:@ !" in text
    assert "".join(long.split()) in "".join(str(grid(press(shown, "d"))).split())


def test_a_read_only_root_and_used_up_tries_are_told() -> None:
    root = place(system("6.1"))
    frozen = BootRoot(root.pool, root.root._replace(readonly=True), root.filesystem)
    text = str(grid(Menu([entry(1, place=frozen), entry(2, tries_left=2)])))
    assert "tank:@ read-only" in text
    assert "2 tries left" in text


def test_rescue() -> None:
    assert press(Menu(ENTRIES, left=3), "r").outcome == menu.Outcome(None)
    assert press(Menu(ENTRIES), "d", "r").outcome == menu.Outcome(None)


def test_help_tells_every_key() -> None:
    text = str(grid(press(Menu(ENTRIES), "?")))
    for line in menu.HELP_LINES:
        assert line in text


def test_snapshots() -> None:
    shown = press(Menu(ENTRIES, source=Snapshots()), "s")
    text = str(grid(shown))
    assert "Snapshots of tank:@" in text
    assert "2023-11-14 22:13, snapshot 7, before the upgrade" in text
    assert "made by" in menu.details(shown.level.item)[1]
    press(shown, "down", "enter")
    assert "corrupt root item" in str(grid(shown))
    press(shown, "s")
    assert "snapshots already" in shown.message
    press(shown, "up", "enter")
    assert "In 2023-11-14" in str(grid(shown))
    press(shown, "escape", "escape")
    assert shown.level.heading == "What can be booted"
    press(shown, "s", "enter", "e", *" x", "enter")
    assert shown.outcome
    assert shown.outcome.entry
    assert shown.outcome.entry.place.where == "tank:@/.snapshots/7/snapshot"
    assert shown.outcome.entry.cmdline == f"{CMDLINE} x"


def test_a_root_without_snapshots_says_so() -> None:
    assert "tank:@ has no snapshots" in str(grid(press(Menu(ENTRIES), "s")))


# --- how it looks -----------------------------------------------------------------------------


def test_the_screen_fits_80x25_and_says_what_happens() -> None:
    screen = grid(Menu(ENTRIES, 1, 4.2))
    text = screen.lines
    assert text[0].startswith(" poolboot ")
    assert text[0].endswith("2 of 5")
    assert text[2].startswith("  1  Debian GNU/Linux 12 (bookworm), kernel 6.1.0-28-amd64")
    assert text[3].startswith("> 2  Debian")
    assert text[3].endswith("tank:@")
    assert "root=UUID=0f6c2a8e" in screen.lines[20] + screen.lines[21]
    assert text[23] == "Booting entry 2 in 5 s; any key stops this."
    assert text[24].startswith("Enter boots  e edit")
    assert screen.scrolled == 0
    assert not screen.cursor_shown


def test_colours_only_where_there_are_any() -> None:
    assert "44" in grid(Menu(ENTRIES)).styles[0][0]
    plain = grid(Menu([entry(1, notes=("note",))]), colour=False)
    assert {style for row in plain.styles for style in row} <= {"", "1", "7"}


def test_a_countdown_sends_only_its_own_row() -> None:
    shown, painter, screen = Menu(ENTRIES, 0, 5.0), Painter(25, 80, True), Grid()
    screen.feed(painter.update(shown))
    shown.pass_time(1.0)
    change = painter.update(shown)
    assert len(change) < 90
    screen.feed(change)
    assert screen.lines[23] == "Booting entry 1 in 4 s; any key stops this."
    assert painter.update(shown) == ""


def test_long_lists_scroll_and_say_that_there_is_more() -> None:
    shown = Menu(MANY, 20)
    rows = [line for line in grid(shown).lines if "Debian" in line]
    assert len(rows) == 17
    assert rows[0].startswith("^")
    assert rows[-1].startswith("v")
    assert any(row.startswith("> 21 ") for row in rows)
    assert grid(press(shown, "home")).lines[2].startswith(">  1 ")
    assert grid(press(shown, "end")).lines[18].startswith("> 40 ")


def test_long_lines_are_edited_over_several_rows_with_the_cursor_where_it_is() -> None:
    shown = press(Menu([entry(1, cmdline="x" * 200)]), "e")
    screen = grid(shown)
    assert screen.lines[3:6] == ["x" * 79, "x" * 79, "x" * 42]
    assert (screen.row, screen.column, screen.cursor_shown) == (5, 42, True)
    screen = grid(press(shown, "home", "right", "|"))
    assert screen.lines[3].startswith("x|x")
    assert (screen.row, screen.column) == (3, 2)


def test_what_is_on_the_disk_does_not_drive_the_terminal() -> None:
    evil = "\x1b[2J\x07 日本語 e\u0301 \x9b31m \ud800"
    assert menuview.narrow("日本e\u0301") == "??e"
    shown = Menu([entry(1, evil, cmdline=evil, notes=(evil,), source=evil)])
    for keys in ((), ("d",), ("escape", "e")):
        text = str(grid(press(shown, *keys)))
        assert "\x1b" not in text
    for keys in ((), ("d",), ("escape", "e")):
        Grid().feed(Printer(80).update(press(shown, "escape", *keys)))


KEYS = st.sampled_from(
    ["up", "down", "left", "right", "home", "end", "page-up", "page-down", "enter", "escape", "tab", "backspace",
     "delete", "e", "d", "s", "r", "?", "q", "1", "2", "9", "0", "x", " ", "kill-end", "kill-word", "interrupt",
     "\udcff", "é"]
)  # fmt: skip


@given(keys=st.lists(KEYS, max_size=30), rows=st.integers(10, 60), columns=st.integers(40, 200))
def test_whatever_is_pressed_fits_on_the_screen_and_agrees_with_a_fresh_one(
    keys: list[str], rows: int, columns: int
) -> None:
    shown, painter, screen = Menu(MANY, 3, 9.0, Snapshots()), Painter(rows, columns, True), Grid(rows, columns)
    printer, paper = Printer(columns), Grid(rows, columns)
    for key in keys:
        screen.feed(painter.update(shown))
        paper.feed(printer.update(shown))
        shown.key(key)
        if shown.outcome:
            return
    screen.feed(painter.update(shown))
    assert screen.lines == grid(shown, rows, columns).lines
    assert screen.scrolled == 0
    assert len(compose(shown, rows, columns).rows) == rows


# --- line by line -----------------------------------------------------------------------------


def test_a_dumb_line_gets_a_list_once_and_then_only_what_changes() -> None:
    shown, printer = Menu(ENTRIES, 0, 3.0), Printer(80)
    first = printer.update(shown)
    assert "\x1b" not in first
    assert first.startswith(
        "What can be booted:\n> 1. Debian GNU/Linux 12 (bookworm), kernel 6.1.0-28-amd64  [tank:@]\n"
    )
    assert first.endswith("Booting entry 1 in 3 s; any key stops this.")
    shown.pass_time(1.0)
    assert printer.update(shown) == " 2"
    assert printer.update(shown) == ""
    assert (
        printer.update(press(shown, "4")) == "\n> 4. Debian GNU/Linux 12 (bookworm), kernel 6.4.0-28-amd64  [tank:@]\n"
    )
    text = printer.update(press(shown, "d"))
    assert "  kernel    /boot/vmlinuz-6.4.0-28-amd64" in text
    text = printer.update(press(shown, "escape", "e"))
    assert "\ncmdline> " in text
    assert text.endswith(CMDLINE[-30:])
    assert printer.update(press(shown, "X")) == "X"
    assert printer.finish(press(shown, "enter")) == "\n"


def test_a_stopped_countdown_is_told_on_its_row() -> None:
    shown, printer = Menu(ENTRIES, 0, 3.0), Printer(80)
    printer.update(shown)
    assert printer.update(press(shown, "x")) == " stopped\n"


def test_long_countdowns_do_not_fill_the_log() -> None:
    shown, printer = Menu(ENTRIES, 0, 300.0), Printer(80)
    printer.update(shown)
    told = 0
    for _ in range(299):
        shown.pass_time(1.0)
        told += bool(printer.update(shown))
    assert told < 45


def test_a_dumb_line_shows_a_part_of_a_long_list() -> None:
    text = Printer(80).update(Menu(MANY, 30))
    assert text.count("Debian") == menuview.PLAIN_ROWS
    assert "> 31. " in text
    assert "of 40; Up, Down or a number shows others" in text


# --- on a console -----------------------------------------------------------------------------


def run(typed: str, shown: Menu) -> tuple[menu.Outcome, str]:
    console = TestConsole(typed)
    ticks = itertools.count(0.0, 0.5)
    outcome = chooser.run(console, shown, lambda: next(ticks))
    return outcome, console.output()


def test_typed_keys_choose() -> None:
    outcome, output = run("3e console=tty0\r", Menu(ENTRIES, 0, 60.0))
    assert outcome.entry
    assert outcome.entry.cmdline == f"{CMDLINE} console=tty0"
    assert "> 3. Debian" in output


def test_arrow_keys_in_pieces_and_a_lone_escape() -> None:
    assert run("\x1b[B\x1bOB\x1b[A\r", Menu(ENTRIES))[0].entry == ENTRIES[1]


def test_the_countdown_runs_out_on_a_silent_console() -> None:
    import os

    source, sink = os.pipe()
    console = TestConsole()
    console.terminals[-1].source = source
    assert chooser.run(console, Menu(ENTRIES, 1, 0.05)).entry == ENTRIES[1]
    assert not chooser.countdown(console, "x", 0.05)
    os.write(sink, b"\x00\xff")  # noise is nobody's wish
    assert not chooser.countdown(console, "x", 0.05)
    os.write(sink, b" ")
    assert chooser.countdown(console, "x", 5)


def test_nobody_to_listen_to_is_no_reason_to_stay() -> None:
    assert run("", Menu(ENTRIES, 1, 60.0))[0].entry == ENTRIES[1]


def test_an_entry_becomes_the_default() -> None:
    asked: list[str] = []

    def prefer(one: BootEntry) -> str:
        asked.append(one.id)
        if len(asked) > 1:
            raise FsError("the store is full")
        return "it is wanted for all boots"

    shown = press(Menu(ENTRIES, prefer=prefer), "down", "m")
    assert asked == [ENTRIES[1].id]
    assert "it is wanted for all boots" in str(grid(shown))
    assert "not the default: the store is full" in str(grid(press(shown, "d", "m")))
    assert "there is no memory" in str(grid(press(Menu(ENTRIES), "m")))


def test_a_number_begins_anew_after_a_while() -> None:
    shown = press(Menu(MANY), "1")
    shown.pass_time(1)
    assert press(shown, "2").level.selected == 11
    shown.pass_time(menu.DIGIT_PATIENCE + 1)
    assert press(shown, "3").level.selected == 2


@pytest.mark.parametrize("size", [(4, 80), (11, 80), (25, 20), (25, 39), (12, 40), (25, 80)])
def test_a_screen_is_used_only_where_all_of_it_fits(size: tuple[int, int]) -> None:
    """What does not fit scrolls, and then every row is somewhere else."""
    titles = ["x" * 300, "\x1b[31mred", "bad\udcff\udc9b31m", "中文字" * 40, "tab\there\nline\rcr", "e\u0301" * 90, ""]
    entries = [entry(number, title) for number, title in enumerate(titles * 9, 1)]
    for keys in ("", "d", "e", "?", "s", "s\r", "e\x1b[31m中"):
        shown = press(Menu(entries, 40, 5.0, Snapshots()), *("enter" if key == "\r" else key for key in keys))
        screen = compose(shown, *size)
        fits = len(screen.rows) == size[0] and all(len(row.text) < size[1] for row in screen.rows)
        assert fits or not menuview.has_room(*size)
        assert all(row.text.isprintable() for row in screen.rows)


def test_long_titles_do_not_fill_a_plain_line_with_rows() -> None:
    entries = [entry(number, f"{number} {'x' * 300}\x1b[2J\n") for number in range(1, 61)]
    lines = Printer(80).update(Menu(entries, 0)).splitlines()
    assert all(len(line) < 160 for line in lines)
    assert lines[1] == f"> 1. 1 {'x' * 139}...  [tank:@]"
    assert "60 " in Printer(40).update(Menu(entries, 59))


def test_the_number_that_is_missing_is_told_as_it_was_typed() -> None:
    assert press(Menu(MANY), "4", "1").message == ""  # 41 is none, but 1 is
    assert press(Menu(ENTRIES), "5", "0").message == "there is no entry 50"
