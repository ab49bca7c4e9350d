"""Words of GRUB's scripts as the arguments of commands.

Source: grub-core/script/argv.c and execute.c:grub_script_env_get, grub_script_arglist_to_argv, GRUB 2.12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from init.entries.grubscript import LITERAL, VARIABLE, Word

MAX_ARGUMENTS = 4096
MAX_LENGTH = 1 << 16  # characters of all of them


class TooLong(Exception):
    """The arguments of a command go beyond the bounds above."""


def expand(words: Sequence[Word], variables: Mapping[str, str], parameters: Sequence[str] | None) -> list[str]:
    """The arguments that ``words`` stand for; raises TooLong.

    An unquoted variable is divided at its blanks (those at its ends divide nothing), and gone when it is empty.
    ``parameters`` are $1, $2 ...; "$@" stands for each of them by itself.  None: there are none, nor a "$#".
    """
    arguments = _Arguments()
    for word in words:
        arguments.end()
        for kind, text in word:
            if kind == LITERAL:
                arguments.add(text)
                continue
            for index, value in enumerate(_values(text, kind == VARIABLE, variables, parameters)):
                if index:
                    arguments.end()
                if kind == VARIABLE:
                    arguments.divide(value)
                else:
                    arguments.add(value)
    arguments.end()
    return arguments.done


def _values(name: str, plain: bool, variables: Mapping[str, str], parameters: Sequence[str] | None) -> Sequence[str]:
    if parameters is None:
        return (variables[name],) if name in variables else ()
    if name in ("@", "*") and plain:
        return [piece for value in parameters for piece in value.split()]
    if name == "@":
        return parameters
    if name == "*":
        return (" ".join(parameters),)
    if name == "#":
        return (str(len(parameters)),)
    if name.isdecimal():
        index = int(name[:6])
        return parameters[index - 1 : index] if index else ()
    return (variables[name],) if name in variables else ()


class _Arguments:
    """Arguments as they grow."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self._current: str | None = None
        self._room = MAX_LENGTH

    def add(self, text: str) -> None:
        """Go on with the last argument, or begin one: also an empty one."""
        self._room -= len(text)
        if self._room < 0 or len(self.done) >= MAX_ARGUMENTS:
            raise TooLong
        self._current = (self._current or "") + text

    def divide(self, text: str) -> None:
        """As add(), with a new argument behind each stretch of blanks."""
        for index, piece in enumerate(text.split()):
            if index:
                self.end()
            self.add(piece)

    def end(self) -> None:
        """What comes next is another argument."""
        if self._current is not None:
            self.done.append(self._current)
        self._current = None
