"""How GRUB's scripts run: statements, functions, loops, variables, within bounds; grubcommands.py has the commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fsdrivers.errors import FsError
from fsdrivers.filesystem import Filesystem
from fsdrivers.notes import Notes
from init.entries import grubtest, grubwords
from init.entries.grubplaces import CannotKnow
from init.entries.grubscript import Allowed, Command, Function, If, Loop, ScriptError, Statement, Word, parse
from init.entries.item import Budget, read_text

MAX_STEPS = 50_000  # statements of the top level, sourced files included
MAX_MENU_STEPS = 5_000  # statements of one entry or submenu
CHARACTERS_PER_STEP = 64  # that long arguments count as more than one
MAX_DEPTH = 40  # calls, sourced files and blocks within each other
MAX_VALUE = 1 << 16  # characters of a variable
MAX_BLS = 4  # times that the entries of the Boot Loader Specification are taken in
MAX_SOURCED = 8 << 20  # characters of all files together


class _Return(Exception):
    """A function or sourced file is left early."""

    def __init__(self, status: bool) -> None:
        super().__init__()
        self.status = status


class _Jump(Exception):
    """``count`` loops are left, or the innermost of these goes on (``again``)."""

    def __init__(self, count: int, again: bool) -> None:
        super().__init__()
        self.count, self.again = count, again


class Shared:
    """What the top level and the bodies of all entries may take together."""

    def __init__(self) -> None:
        self.files, self.allowed, self.characters, self.bls = Budget(), Allowed(), MAX_SOURCED, MAX_BLS

    def look(self) -> None:
        """Count a file that is looked for.  Raises CannotKnow."""
        try:
            self.files.look()
        except FsError as error:
            raise CannotKnow(str(error)) from None


class Steps:
    """What one run may take."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def step(self, characters: int = 0) -> None:
        self.steps -= 1 + characters // CHARACTERS_PER_STEP
        if self.steps < 0:
            raise CannotKnow("the script takes too many steps")


class Runner:
    """What runs the statements of one context: the top level, a submenu, or an entry."""

    def __init__(self, filesystem: Filesystem) -> None:
        self.filesystem = filesystem
        self.variables = {"?": "0"}
        self.exported: set[str] = set()
        self.functions: dict[str, tuple[Statement, ...]] = {}
        self.notes = Notes()
        self.shared = Shared()
        self.entry = False  # whether this runs the body of an entry, or a condition: what cannot be known ends it
        self._steps, self._depth, self._loops = Steps(MAX_STEPS), 0, 0
        self._open: list[str] = []  # the files that are being run
        self._arguments: tuple[str, ...] | None = None  # outside of functions and entries there are none
        self._commands: dict[str, Callable[[list[str]], bool]] = {
            "set": self._set, "unset": self._unset, "export": self._export, "shift": self._shift, "read": self._read,
            "return": self._return, "break": self._jump, "continue": self._jump, "setparams": self._setparams,
        }  # fmt: skip

    def note(self, text: str) -> None:
        """Remember what was passed over."""
        self.notes.append(text)

    # --- running ------------------------------------------------------------------------------

    def source(self, path: str) -> bool:
        """Run the script at ``path`` of the tree; what is wrong with it is noted."""
        if path in self._open:
            self.note(f"{path} runs itself: passed over")
            return False
        self._open.append(path)
        try:
            return self._run_file(path)
        finally:
            self._open.pop()

    def _run_file(self, path: str) -> bool:
        try:
            text = read_text(self.filesystem, path)
            self.shared.characters -= len(text)
            if self.shared.characters < 0:
                raise CannotKnow(f"{path}: the files together are too large")
            self.run(parse(text, self.shared.allowed))
        except _Return as early:
            return early.status
        except (FsError, ScriptError, CannotKnow) as error:
            if self.entry:
                raise CannotKnow(str(error)) from error
            self.note(str(error))
            return False
        return True

    def run(self, statements: Sequence[Statement]) -> bool:
        """Run statements; whether the last one worked.  Raises CannotKnow in an entry or when the budget is used up."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._depth = 0
            raise CannotKnow(f"more than {MAX_DEPTH} calls or files within each other")
        status = True
        for statement in statements:
            self._steps.step()
            try:
                status = self._statement(statement)
            except CannotKnow as why:
                # At the top level one statement is lost, in an entry all of it.
                if self.entry or self._steps.steps < 0 or not self._depth:
                    raise
                self.note(f"line {statement.line}: passed over: {why}")
                status = False
            if not isinstance(statement, Function):
                self.variables["?"] = "0" if status else "1"
        self._depth = max(0, self._depth - 1)
        return status

    def _statement(self, statement: Statement) -> bool:
        if isinstance(statement, Command):
            return self._command(statement)
        if isinstance(statement, If):
            return self._if(statement)
        if isinstance(statement, Function):
            self.functions[statement.name] = statement.body
            return True
        return self._loop(statement)

    def _if(self, statement: If) -> bool:
        for condition, body in statement.branches:
            if not condition or self._condition(condition):
                return self.run(body)
        return True

    def _condition(self, condition: Sequence[Statement]) -> bool:
        """As run(), but a part that cannot be known makes all of it unknown."""
        before, self.entry = self.entry, True
        try:
            return self.run(condition)
        finally:
            self.entry = before

    def _loop(self, statement: Loop) -> bool:
        going, status = True, True
        if statement.variable:
            for value in self._expand(statement.words):
                self.variables[statement.variable] = value
                going, status = self._once(statement.body)
                if not going:
                    break
            return status
        while self._condition(statement.condition) != statement.until:
            going, status = self._once(statement.body)
            if not going:
                return status
        return statement.until  # the condition is what was run last

    def _once(self, body: Sequence[Statement]) -> tuple[bool, bool]:
        """Run the body of a loop; whether the loop goes on, and whether the last statement worked."""
        self._steps.step()  # neither the condition nor the body may have any statement
        depth, self._loops = self._depth, self._loops + 1
        try:
            return True, self.run(body)
        except _Jump as jump:
            self._depth = depth
            if jump.count > 1:
                raise _Jump(jump.count - 1, jump.again) from None
            return jump.again, True
        finally:
            self._loops -= 1

    def _command(self, command: Command) -> bool:
        words = self._expand(command.words)
        if not words:
            return True
        name = words[0]
        if command.block is not None:
            return self._block(words, command.block)
        known = self._commands.get(name)
        if known is not None:
            return known(words)
        if name in self.functions:
            return self._call(name, words)
        if "=" in name and name.partition("=")[0].isidentifier():
            return self._set(["set", name])
        return self._other(words)

    def _block(self, words: list[str], block: tuple[Statement, ...]) -> bool:
        """A command with a block behind it.  Raises CannotKnow."""
        raise CannotKnow(f"a block behind {words[0]}")

    def _other(self, words: list[str]) -> bool:
        """A command that has no method of its own.  Raises CannotKnow."""
        raise CannotKnow(f"the command {words[0][:40]!r} is not known")

    def _call(self, name: str, words: list[str]) -> bool:
        before, self._arguments = self._arguments, tuple(words[1:])
        depth, loops, self._loops = self._depth, self._loops, 0
        try:
            return self.run(self.functions[name])
        except _Return as early:
            return early.status
        finally:
            self._arguments, self._depth, self._loops = before, depth, loops

    def _return(self, words: list[str]) -> bool:
        raise _Return(grubtest.number((words[1:] or [self.variables["?"]])[0]) == 0)

    def _jump(self, words: list[str]) -> bool:
        """break [N] and continue [N]; outside of a loop they mean nothing."""
        count = min(grubtest.number(words[1]) if len(words) > 1 else 1, self._loops)
        if count > 0:
            raise _Jump(count, words[0] == "continue")
        return True

    def _setparams(self, words: list[str]) -> bool:
        if self._arguments is None:
            return False
        self._arguments = tuple(words[1:])
        return True

    # --- words and variables ------------------------------------------------------------------

    def _expand(self, words: Sequence[Word]) -> list[str]:
        """The arguments that ``words`` stand for now."""
        try:
            arguments = grubwords.expand(words, self.variables, self._arguments)
        except grubwords.TooLong:
            self._steps.step(grubwords.MAX_LENGTH)
            raise CannotKnow("a command that is too long") from None
        self._steps.step(sum(map(len, arguments)) + 16 * len(arguments))
        return arguments

    def _set(self, words: list[str]) -> bool:
        for word in words[1:2]:  # whatever follows counts for nothing
            name, equals, value = word.partition("=")
            if not equals or len(value) > MAX_VALUE:
                raise CannotKnow(f"set {word[:40]}: no assignment of a usable length")
            self.variables[name] = value
        return True

    def _unset(self, words: list[str]) -> bool:
        for name in words[1:]:
            self.variables.pop(name, None)
        return True

    def _export(self, words: list[str]) -> bool:
        for word in words[1:]:
            name, equals, value = word.partition("=")
            if equals:
                self.variables[name] = value
            self.exported.add(name)
        return True

    def _shift(self, words: list[str]) -> bool:
        if self._arguments is None:
            return True
        self._arguments = self._arguments[grubtest.number(words[1]) if len(words) > 1 else 1 :]
        return True

    def _read(self, words: list[str]) -> bool:
        if len(words) > 1:
            raise CannotKnow("read: what somebody types")
        return True
