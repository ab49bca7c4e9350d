"""The machine that runs GRUB's scripts: variables, functions, and the commands that matter for what is booted."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fsdrivers.errors import FsError
from fsdrivers.filesystem import DIRECTORY, FILE, Filesystem
from fsdrivers.notes import Notes
from init.entries import bls, grubenv, grubplaces, grubtest, grubwords
from init.entries.grubplaces import OWN, CannotKnow, Places
from init.entries.grubscript import Allowed, Command, Function, If, Loop, ScriptError, Statement, Word, parse
from init.entries.item import MAX_INITRDS, MAX_OPTIONS, Budget, Item, read_text

MAX_STEPS = 50_000  # statements of the top level, sourced files included
MAX_MENU_STEPS = 5_000  # statements of one entry or submenu
CHARACTERS_PER_STEP = 64  # that long arguments count as more than one
MAX_DEPTH = 40  # calls, sourced files and blocks within each other
MAX_VALUE = 1 << 16  # characters of a variable
MAX_TITLE = 1000  # characters of a line in the menu
MAX_BLS = 4  # times that the entries of the Boot Loader Specification are taken in
MAX_SOURCED = 8 << 20  # characters of all files together

# What grub-core/normal/main.c and kern/main.c, GRUB 2.12, set before any script runs.
_FEATURES = (
    "feature_chainloader_bpb", "feature_ntldr", "feature_platform_search_hint", "feature_default_font_path",
    "feature_all_video_module", "feature_menuentry_id", "feature_menuentry_options", "feature_200_final",
    "feature_nativedisk_cmd", "feature_timeout_style",
)  # fmt: skip
_CPUS = {"x86_64": "x86_64", "aarch64": "arm64"}

# What grub-reboot writes (util/grub-reboot.in), and, before GRUB 2.00, the default that it takes the place of.
_ONCE = frozenset(("next_entry", "prev_saved_entry"))

_TO_QUOTE = re.compile(r"""['"]|\\(?!x[0-9A-Fa-f]{2})""")

# Commands without a say in what is booted; they count as having worked.
_IGNORED = frozenset((
    "insmod", "rmmod", "load_video", "terminal_input", "terminal_output", "terminal", "serial", "loadfont", "play",
    "background_image", "background_color", "echo", "clear", "sleep", "save_env", "savedefault", "gfxmode", "color",
    "password", "password_pbkdf2", "authenticate", "videoinfo", "videomode", "badram", "cutmem", "lspci", "date",
    "increment", "decrement", "fallback", "probe_ok", "cpuid", "true", ":", "nativedisk", "hwmatch_done",
    "set_background_image", "loadenv", "keymap", "lsmod", "rmmod", "outb", "setpci", "acpi", "menu_auto_hide_check",
    "start_image", "cryptomount", "tpm", "bli", "module_ok", "boot", "btrfs-mount-subvol", "crypttab_entry",
))  # fmt: skip
# They answer "no": nobody holds a key, no firmware setup is offered.
_FAILING = frozenset(("false", "keystatus", "fwsetup", "smbios", "rdmsr"))
_OTHER_SYSTEMS = frozenset((
    "chainloader", "multiboot", "multiboot2", "module", "module2", "xen_hypervisor", "xen_module", "ntldr", "kfreebsd",
    "knetbsd", "kopenbsd", "plan9", "xnu_kernel", "xnu_kernel64", "appleloader", "efi_chainloader", "uki",
    "exit", "freedos", "truecrypt", "normal_exit",
))  # fmt: skip
# In an entry they start nothing at all.
_NO_SYSTEM = frozenset(("fwsetup", "reboot", "halt"))


class NoSystem(CannotKnow):
    """An entry is for the firmware's settings or for switching off: nobody misses it."""


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


class Menu(NamedTuple):
    """A line of the menu: an entry or submenu with its body, or an entry that came ready-made (``item``)."""

    title: str
    id: str
    submenu: bool
    body: tuple[Statement, ...]
    arguments: tuple[str, ...]
    item: Item | None = None


class _Shared:
    """What the top level and the bodies of all entries may take together."""

    def __init__(self) -> None:
        self.files, self.allowed, self.characters, self.bls = Budget(), Allowed(), MAX_SOURCED, MAX_BLS

    def look(self) -> None:
        """Count a file that is looked for.  Raises CannotKnow."""
        try:
            self.files.look()
        except FsError as error:
            raise CannotKnow(str(error)) from None


class _Budget:
    """What one run may take."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def step(self, characters: int = 0) -> None:
        self.steps -= 1 + characters // CHARACTERS_PER_STEP
        if self.steps < 0:
            raise CannotKnow("the script takes too many steps")


class Machine:
    """One context of GRUB: its variables, and what was put into the menu or is to be booted."""

    def __init__(self, filesystem: Filesystem, path: str, machine: str) -> None:
        directory = path.rpartition("/")[0]
        self.filesystem = filesystem
        self.variables = dict.fromkeys(_FEATURES, "y") | {
            "root": OWN, "prefix": f"({OWN}){directory}", "config_directory": f"({OWN}){directory}",
            "config_file": f"({OWN}){path}", "grub_platform": "efi", "grub_cpu": _CPUS.get(machine, machine),
            "default": "0", "?": "0",
        }  # fmt: skip
        self.exported = {*_FEATURES, "root", "prefix", "grub_platform", "grub_cpu"}
        self.functions: dict[str, tuple[Statement, ...]] = {}
        self.menu: list[Menu] = []
        self.notes = Notes()
        self.shared = _Shared()
        self.linux: tuple[str, str] | None = None
        self.options = ""
        self.initrds: list[tuple[str, str]] = []
        self.devicetree = self.with_bls = False
        self.entry = False  # whether this runs the body of an entry, or a condition: what cannot be known ends it
        self.body = False  # whether this runs the body of an entry
        self._machine, self._budget, self._depth, self._loops = machine, _Budget(MAX_STEPS), 0, 0
        self._places = Places(filesystem)
        self._open: list[str] = []  # the files that are being run
        self._arguments: tuple[str, ...] | None = None  # outside of functions and entries there are none
        self._commands: dict[str, Callable[[list[str]], bool]] = {
            "set": self._set, "unset": self._unset, "export": self._export, "load_env": self._load_env,
            **dict.fromkeys(("search", *grubplaces.SHORT), self._search),
            "source": self._source, ".": self._source, "configfile": self._source,
            "test": lambda words: self._test(words[1:]), "[": self._bracket,
            "linux": self._linux, "linuxefi": self._linux, "linux16": self._linux,
            "initrd": self._initrd, "initrdefi": self._initrd, "initrd16": self._initrd,
            "devicetree": self._devicetree, "return": self._return, "blscfg": self._blscfg,
            "menuentry": self._menuentry, "submenu": self._menuentry, "shift": self._shift,
            "read": self._read, "break": self._jump, "continue": self._jump, "setparams": self._setparams,
        }  # fmt: skip

    def enter(self, line: Menu, submenu: bool) -> Machine:
        """A machine for the body of ``line``: a submenu sees exported variables only (grub_env_context_open)."""
        inner = Machine(self.filesystem, "", self._machine)
        kept = self.exported if submenu else self.variables.keys()
        inner.variables = {name: self.variables[name] for name in kept if name in self.variables}
        inner.variables |= {"chosen": line.title, "default": self.variables.get("default", "0"), "?": "0"}
        inner.exported, inner.functions = set(self.exported), dict(self.functions)
        inner.notes, inner._budget, inner._arguments = self.notes, _Budget(MAX_MENU_STEPS), line.arguments
        inner.shared = self.shared
        inner.entry = inner.body = not submenu
        return inner

    @property
    def taken(self) -> int:
        """How many steps an entry or submenu has taken."""
        return MAX_MENU_STEPS - self._budget.steps

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
            self._budget.step()
            try:
                status = self._statement(statement)
            except CannotKnow as why:
                # At the top level one statement is lost, in an entry all of it.
                if self.entry or self._budget.steps < 0 or not self._depth:
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
        self._budget.step()  # neither the condition nor the body may have any statement
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
            if name == "hiddenentry":
                return True  # openSUSE's: not in the menu, but behind a key of its own
            if name not in ("menuentry", "submenu"):
                raise CannotKnow(f"a block behind {name}")
            self._add(words, command.block)
            return True
        known = self._commands.get(name)
        if known is not None:
            return known(words)
        if name in self.functions:
            return self._call(name, words)
        if "=" in name and name.partition("=")[0].isidentifier():
            return self._set(["set", name])
        if name in _IGNORED:
            return True
        if name in _NO_SYSTEM and (self.body or name != "fwsetup"):
            raise NoSystem(f"{name}: it starts no system")
        if name in _FAILING:
            return False
        if name in _OTHER_SYSTEMS:
            raise CannotKnow(f"{name}: it starts something else than a Linux kernel")
        raise CannotKnow(f"the command {name[:40]!r} is not known")

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
            self._budget.step(grubwords.MAX_LENGTH)
            raise CannotKnow("a command that is too long") from None
        self._budget.step(sum(map(len, arguments)) + 16 * len(arguments))
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

    # --- files and devices --------------------------------------------------------------------

    def _split(self, path: str) -> tuple[str, str]:
        return self._places.split(path, self.variables.get("root", ""))

    def _local(self, path: str) -> str:
        return self._places.local(path, self.variables.get("root", ""))

    def _file_test(self, operator: str, path: str) -> bool:
        if not path:
            return False
        try:
            self.shared.look()
            where = self._local(path)
            status = self.filesystem.stat(self.filesystem.resolve(where))
        except FsError:
            return False
        except CannotKnow as why:
            raise grubtest.BadTest(str(why)) from why
        if operator == "-d":
            return status.type == DIRECTORY
        return {"-e": True, "-f": status.type == FILE, "-s": status.size > 0}[operator]

    def _test(self, words: list[str]) -> bool:
        try:
            return grubtest.evaluate(words, self._file_test)
        except grubtest.BadTest as why:
            raise CannotKnow(str(why)) from why

    def _bracket(self, words: list[str]) -> bool:
        if words[-1] != "]":
            raise CannotKnow("[ without ]")
        return self._test(words[1:-1])

    def _source(self, words: list[str]) -> bool:
        if len(words) != 2:
            raise CannotKnow(f"{words[0]} wants one file")
        where = self._local(words[1])
        depth = self._depth
        try:
            return self.source(where)
        finally:
            self._depth = depth

    def _load_env(self, words: list[str]) -> bool:
        """load_env [-f FILE] [NAME...]; a block outside of our tree is as good as none."""
        path, names, rest = "$prefix", [], words[1:]
        while rest:
            word = rest.pop(0)
            if word in ("-f", "--file") and rest:
                path = rest.pop(0)
            elif word.startswith("--file="):
                path = word.partition("=")[2]
            elif not word.startswith("-"):
                names.append(word)
        if path == "$prefix":
            path = self.variables.get("prefix", "") + "/grubenv"
        try:
            self.shared.look()
            text = read_text(self.filesystem, self._local(path), grubenv.MAX_SIZE)
            values = grubenv.parse(self.shared.files.text(text))
        except (FsError, CannotKnow):
            return False
        if values and values.get("prev_saved_entry"):
            values["saved_entry"] = values["prev_saved_entry"]
        for name, value in (values or {}).items():
            if name in _ONCE:
                # GRUB clears it when it reads it.  Nobody does here: it would be for ever.
                if value:
                    self.note(f"{name}={value} in GRUB's environment is a wish for one boot: not followed")
            elif not names or name in names:
                self.variables[name] = value
        return values is not None

    def _search(self, words: list[str]) -> bool:
        self.shared.look()
        variable, device = self._places.search(words)
        self.variables[variable] = device
        return True

    # --- what is booted -----------------------------------------------------------------------

    def _linux(self, words: list[str]) -> bool:
        if len(words) < 2:
            raise CannotKnow("linux without a kernel")
        self.linux, self.initrds = self._split(words[1]), []
        self.options = " ".join(map(_quote, words[2:]))
        if len(self.options) > MAX_OPTIONS:
            raise CannotKnow("a command line that is too long")
        try:
            self.shared.files.text(self.options)
        except FsError as error:
            raise CannotKnow(str(error)) from None
        return True

    def _initrd(self, words: list[str]) -> bool:
        if len(words) > MAX_INITRDS + 1:
            raise CannotKnow(f"{len(words) - 1} initrds")
        self.initrds = [self._split(path.removeprefix("newc:")) for path in words[1:] if not path.startswith("--")]
        return True

    def _devicetree(self, words: list[str]) -> bool:
        self.devicetree = True
        return True

    def _menuentry(self, words: list[str]) -> bool:
        raise CannotKnow(f"{words[0]} without a block")

    def _add(self, words: list[str], block: tuple[Statement, ...]) -> None:
        """menuentry TITLE [--class C] [--users U] [--id ID] [--unrestricted] [--hotkey K] [ARGUMENT...] { ... }."""
        positional, identity, rest = [], "", words[1:]
        while rest:
            word = rest.pop(0)
            if word in ("--class", "--users", "--hotkey", "--source", "--id") and rest:
                value = rest.pop(0)
                identity = value if word == "--id" else identity
            elif word.startswith("--id="):
                identity = word.partition("=")[2]
            elif not word.startswith("--"):
                positional.append(word)
        if not positional:
            raise CannotKnow("an entry without a title")
        if max(sum(map(len, positional)), len(identity)) > MAX_TITLE:
            raise CannotKnow(f"a title of more than {MAX_TITLE} characters: {positional[0][:40]}")
        self.menu.append(Menu(positional[0], identity, words[0] == "submenu", block, tuple(positional)))

    def _blscfg(self, words: list[str]) -> bool:
        """Fedora's command: the entries of the Boot Loader Specification take this place in the menu."""
        self.shared.bls -= 1
        if self.shared.bls < 0:
            raise CannotKnow(f"{words[0]} more than {MAX_BLS} times")
        listing = bls.entries(self.filesystem, self._machine, self.variables)
        self.with_bls = True
        for text in listing.notes:
            self.note(text)
        for item in listing.items:
            self.menu.append(Menu(item.title, item.id, False, (), (), item))
        return bool(listing.items)


def _quote(word: str) -> str:
    """One argument as GRUB hands it to the kernel: grub-core/lib/cmdline.c:grub_create_loader_cmdline, GRUB 2.12; with
    "\\x20" and the like as they are, which is Fedora's."""
    word = _TO_QUOTE.sub(r"\\\g<0>", word)
    return f'"{word}"' if " " in word else word
