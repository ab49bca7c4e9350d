"""The menu on the consoles: draws it on each as that one can, and feeds it keys and time until it is over."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from fsdrivers.shown import printable
from init.console.console import Closed, Console
from init.console.keys import is_deliberate
from init.console.terminal import Terminal
from init.people.menu import LIST, Menu, Outcome
from init.people.menuview import Painter, Printer, Shown, has_room

ANSWER_PATIENCE = 0.25  # seconds for terminals to say that they have a screen; later answers count, too


def run(console: Console, menu: Menu, clock: Callable[[], float] = time.monotonic) -> Outcome:
    """Show ``menu`` until it has an outcome.  When nobody can be heard, it runs out or boots what is selected."""
    views: dict[Terminal, Shown] = {}
    _ask(console)
    last = clock()
    while menu.outcome is None:
        _draw(console, menu, views)
        try:
            key = console.key(_until_tick(menu.left))
        except Closed:
            return menu.abandoned()
        now = clock()
        menu.pass_time(now - last)
        last = now
        if key is None or menu.outcome is not None:
            continue
        if key == "resized":
            views = {one: view for one, view in views.items() if _has_screen(one) == isinstance(view, Painter)}
        elif key == "redraw" or (key == "l" and menu.page == LIST):
            views.clear()
            menu.left = None
        elif is_deliberate(key):
            menu.key(key)
            if menu.kept is not None:
                _finish(menu, views)
                try:
                    menu.let_in(menu.gate.ask(console, *menu.kept[1:]))
                except Closed:
                    return menu.abandoned()
                last = clock()
    _draw(console, menu, views)
    _finish(menu, views)
    return menu.outcome


def _finish(menu: Menu, views: dict[Terminal, Shown]) -> None:
    """Let plain lines follow the menu, which is drawn anew if it comes again."""
    for terminal, view in views.items():
        terminal.write(view.finish(menu))
    views.clear()


def countdown(
    console: Console,
    title: str,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    offer: str = "stops for the menu",
) -> bool:
    """Count down on one line before an entry is booted; whether somebody pressed a key to stop that, for what is on
    offer."""
    start = clock()
    row = f"poolboot: booting {printable(title, '')} in {math.ceil(seconds)} s; any key {offer}"
    for terminal in console.terminals:
        terminal.write(row)
    told = math.ceil(seconds)
    try:
        while (left := seconds - (clock() - start)) > 0:
            if math.ceil(left) < told and (math.ceil(left) % 10 == 0 or left < 10):
                told = math.ceil(left)
                for terminal in console.terminals:
                    terminal.write(f" {told}")
            key = console.key(_until_tick(left))
            if key is not None and is_deliberate(key):
                return True
        return False
    except Closed:
        return False
    finally:
        console.write("")


def _ask(console: Console) -> None:
    """Ask every serial line whether it has a screen, and give the answers a moment."""
    asked = [terminal for terminal in console.terminals if terminal.tty and not terminal.full and not terminal.asked]
    for terminal in asked:
        terminal.ask()
    deadline = time.monotonic() + ANSWER_PATIENCE
    while asked and time.monotonic() < deadline and not all(terminal.full for terminal in asked):
        if console.heard(deadline - time.monotonic()) is False:
            return


def _draw(console: Console, menu: Menu, views: dict[Terminal, Shown]) -> None:
    for terminal in console.terminals:
        if terminal not in views:
            painter = Painter(terminal.rows, terminal.columns, terminal.colour)
            views[terminal] = painter if _has_screen(terminal) else Printer(terminal.columns)
        terminal.write(views[terminal].update(menu))


def _has_screen(terminal: Terminal) -> bool:
    return terminal.full and has_room(terminal.rows, terminal.columns)


def _until_tick(left: float | None) -> float | None:
    """Seconds until the countdown shows another number."""
    if left is None:
        return None
    rest = left - math.floor(left)
    return max(0.01, rest or 1.0)
