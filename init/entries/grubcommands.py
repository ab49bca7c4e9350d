"""The commands of GRUB's scripts that matter for what is booted: files and devices, the menu, what an entry starts."""

from __future__ import annotations

import re
from typing import NamedTuple

from fsdrivers.errors import FsError
from fsdrivers.filesystem import DIRECTORY, FILE, Filesystem
from init.entries import bls, grubenv, grubplaces, grubtest
from init.entries.grubplaces import OWN, CannotKnow, Places
from init.entries.grubrun import MAX_BLS, MAX_MENU_STEPS, Runner, Steps
from init.entries.grubscript import Statement
from init.entries.item import MAX_INITRDS, MAX_OPTIONS, Item, read_text

MAX_TITLE = 1000  # characters of a line in the menu

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


class Menu(NamedTuple):
    """A line of the menu: an entry or submenu with its body, or an entry that came ready-made (``item``)."""

    title: str
    id: str
    submenu: bool
    body: tuple[Statement, ...]
    arguments: tuple[str, ...]
    item: Item | None = None


class Machine(Runner):
    """One context of GRUB: its variables, and what was put into the menu or is to be booted."""

    def __init__(self, filesystem: Filesystem, path: str, machine: str) -> None:
        directory = path.rpartition("/")[0]
        super().__init__(filesystem)
        self.variables |= dict.fromkeys(_FEATURES, "y") | {
            "root": OWN, "prefix": f"({OWN}){directory}", "config_directory": f"({OWN}){directory}",
            "config_file": f"({OWN}){path}", "grub_platform": "efi", "grub_cpu": _CPUS.get(machine, machine),
            "default": "0",
        }  # fmt: skip
        self.exported = {*_FEATURES, "root", "prefix", "grub_platform", "grub_cpu"}
        self.menu: list[Menu] = []
        self.linux: tuple[str, str] | None = None
        self.options = ""
        self.initrds: list[tuple[str, str]] = []
        self.devicetree = self.with_bls = False
        self.body = False  # whether this runs the body of an entry
        self._machine = machine
        self._places = Places(filesystem)
        self._commands |= {
            "load_env": self._load_env, **dict.fromkeys(("search", *grubplaces.SHORT), self._search),
            "source": self._source, ".": self._source, "configfile": self._source,
            "test": lambda words: self._test(words[1:]), "[": self._bracket,
            "linux": self._linux, "linuxefi": self._linux, "linux16": self._linux,
            "initrd": self._initrd, "initrdefi": self._initrd, "initrd16": self._initrd,
            "devicetree": self._devicetree, "blscfg": self._blscfg,
            "menuentry": self._menuentry, "submenu": self._menuentry,
        }  # fmt: skip

    def enter(self, line: Menu, submenu: bool) -> Machine:
        """A machine for the body of ``line``: a submenu sees exported variables only (grub_env_context_open)."""
        inner = Machine(self.filesystem, "", self._machine)
        kept = self.exported if submenu else self.variables.keys()
        inner.variables = {name: self.variables[name] for name in kept if name in self.variables}
        inner.variables |= {"chosen": line.title, "default": self.variables.get("default", "0"), "?": "0"}
        inner.exported, inner.functions = set(self.exported), dict(self.functions)
        inner.notes, inner._steps, inner._arguments = self.notes, Steps(MAX_MENU_STEPS), line.arguments
        inner.shared = self.shared
        inner.entry = inner.body = not submenu
        return inner

    @property
    def taken(self) -> int:
        """How many steps an entry or submenu has taken."""
        return MAX_MENU_STEPS - self._steps.steps

    def _block(self, words: list[str], block: tuple[Statement, ...]) -> bool:
        name = words[0]
        if name == "hiddenentry":
            return True  # openSUSE's: not in the menu, but behind a key of its own
        if name not in ("menuentry", "submenu"):
            return super()._block(words, block)
        self._add(words, block)
        return True

    def _other(self, words: list[str]) -> bool:
        name = words[0]
        if name in _IGNORED:
            return True
        if name in _NO_SYSTEM and (self.body or name != "fwsetup"):
            raise NoSystem(f"{name}: it starts no system")
        if name in _FAILING:
            return False
        if name in _OTHER_SYSTEMS:
            raise CannotKnow(f"{name}: it starts something else than a Linux kernel")
        return super()._other(words)

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
