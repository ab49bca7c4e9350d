"""Fragments of kernel configurations: options with the reason for each, and the check that they came true.

A line is ``CONFIG_NAME=value  # reason``; ``=n`` switches an option off.  A reason that begins with ``since 6.9:`` or
``until 6.8:`` (inclusive) limits the line to such versions of the kernel: options get new names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from artefacts.steps import BuildError

_LINE = re.compile(r'(CONFIG_[A-Za-z0-9_]+)=("[^"]*"|[^\s#"]+)\s+#\s*(\S.*)')
_LIMIT = re.compile(r"(since|until) (\d+)\.(\d+): *(.*)")
_IN_FORCE = re.compile(r"(CONFIG_[A-Za-z0-9_]+)=(.*)")

Version = tuple[int, int]


class Option(NamedTuple):
    """One line of a fragment."""

    name: str
    """With its ``CONFIG_``."""
    value: str
    """As in a .config (strings with their quotes), or ``n``."""
    reason: str

    def line(self) -> str:
        """As a .config spells it."""
        return f"# {self.name} is not set" if self.value == "n" else f"{self.name}={self.value}"


def read(path: Path, version: Version) -> list[Option]:
    """The options of the fragment that apply to kernel ``version``.

    Raises BuildError for a line that is not understood, lacks its reason, or repeats an option.
    """
    options: dict[str, Option] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        where = f"{path.name}:{number}"
        if not (found := _LINE.fullmatch(line)):
            raise BuildError(f"{where}: wants CONFIG_NAME=value  # reason; has {line}")
        name, value, reason = found.groups()
        if limit := _LIMIT.fullmatch(reason):
            bound = (int(limit[2]), int(limit[3]))
            if (version < bound) if limit[1] == "since" else (version > bound):
                continue
            reason = limit[4]
        if not reason:
            raise BuildError(f"{where}: {name} has no reason")
        if name in options:
            raise BuildError(f"{where}: {name} was given before")
        options[name] = Option(name, value, reason)
    if not options:
        raise BuildError(f"{path} has no options")
    return list(options.values())


def in_force(text: str) -> dict[str, str]:
    """The options of a .config that are on, with their values."""
    return {found[1]: found[2] for line in text.splitlines() if (found := _IN_FORCE.fullmatch(line))}


def dropped(options: Iterable[Option], config: Mapping[str, str]) -> list[str]:
    """A line for each of ``options`` that has another value in ``config`` (of in_force()).

    Kconfig overrides in silence what dependencies forbid or demand.
    """
    lines = []
    for option in options:
        got = config.get(option.name, "n")
        if got != option.value:
            lines.append(f"{option.name}: wanted {option.value}, got {got} ({option.reason})")
    return lines


def check(options: Iterable[Option], config: Mapping[str, str], source: str) -> None:
    """Raise BuildError that names every option which did not come true."""
    if lost := dropped(options, config):
        listed = "".join(f"\n    {line}" for line in lost)
        raise BuildError(
            f"{source} does not take {len(lost)} option(s) of the fragment:{listed}",
            "look up what each depends on (grep its name in the Kconfig files) and add that to the fragment",
        )
