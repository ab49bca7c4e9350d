"""The command line for the root's own kernel: the distro's settings, completed with what was found."""

from __future__ import annotations

from collections.abc import Callable

from fsdrivers.errors import FsError, NotADirectory, NotFound
from fsdrivers.filesystem import File
from fsdrivers.notes import Notes
from init import config as _config
from init.config import BootConfig
from init.entries import mounts, shellvars
from init.roots import TOP_LEVEL, BootRoot, absent

MAX_FILE = 1 << 18  # bytes of a configuration file
MAX_FILES = 1 << 19  # of all of them together
MAX_DROP_INS = 64
MAX_INITRDS = 32  # of one root that are looked into to see who made them
MAX_TEMPLATE = 4096  # characters of the settings: twice what most kernels keep

KERNEL_CMDLINE = ("/etc/kernel/cmdline", "/usr/lib/kernel/cmdline")
CMDLINE_PARTS, MKINITCPIO = "/etc/cmdline.d", "/etc/mkinitcpio.conf"
# Of mount(8), not of the file system: the kernel takes rootflags= as the latter.
_VFS_OPTIONS = frozenset((
    "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "ro", "rw", "exec", "noexec",
    "suid", "nosuid", "dev", "nodev", "sync", "async", "dirsync", "atime", "noatime", "diratime", "nodiratime",
    "relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime", "mand", "nomand", "iversion",
    "noiversion", "remount", "bind", "rbind",
))  # fmt: skip
GRUB_DEFAULT, GRUB_DROP_INS = "/etc/default/grub", "/etc/default/grub.d"


class Settings:
    """What the system in ``place`` wants on the command line of its kernels, read once, and notes for a person.

    The template is poolboot.cmdline=, else the boot environment's org.zfsbootmenu:commandline, else
    /etc/kernel/cmdline (or its vendor's default), else /etc/cmdline.d, else GRUB's variables, else "ro" and what
    /etc/fstab mounts the root with.
    root= and rootflags= always name the tree that the kernel was read from.
    """

    def __init__(self, place: BootRoot, config: BootConfig) -> None:
        self.notes = Notes()
        self._place, self._config = place, config
        template = config.cmdline or _Reader(place, self.notes).template()
        self._words = _config.split(template)
        self._whole = bool(config.cmdline) and any(name == "root" for name, _ in _config.parse(template))
        self._text = ""
        self._looks = MAX_INITRDS

    def line(self, initrd: Callable[[], File | None]) -> str:
        """The complete command line for a kernel, whose ``initrd`` may show how it is told its root.

        Raises Unwritable when the root has a name that no command line can carry.
        """
        if self._whole:
            return _finish(self._words, self._config)
        # On btrfs all kernels are told it alike, and so are the last ones of very many on ZFS.
        if not self._text or (self._place.pool.kind == "zfs" and self._looks > 0):
            self._looks -= 1
            self._text = _finish(_with_root(self._words, self._place, initrd()), self._config)
        return self._text


def compute(place: BootRoot, config: BootConfig, initrd: File | None = None) -> tuple[str, list[str]]:
    """The complete command line for one kernel in ``place``, and notes: see Settings.  Raises Unwritable."""
    settings = Settings(place, config)
    return settings.line(lambda: initrd), settings.notes


def stated(options: str, place: BootRoot, config: BootConfig, own: bool, initrd: File | None = None) -> str:
    """The complete command line of an entry whose configuration states ``options``.

    ``own``: it is for ``place``, which root= and rootflags= then name whatever they said before.
    """
    words = _config.split(options)
    return _finish(_with_root(words, place, initrd) if own else words, config)


class _Reader:
    """Reads the settings of the system in one tree."""

    def __init__(self, place: BootRoot, notes: list[str]) -> None:
        self._place, self._filesystem, self._notes = place, place.filesystem, notes
        self._left = MAX_FILES

    def template(self) -> str:
        """The settings as a command line without its root."""
        environment = self._place.environment
        text = environment.commandline if environment and environment.commandline else self._stated()
        if len(text) > MAX_TEMPLATE:
            self._notes.append(f"its settings make a command line of {len(text)} characters: passed over")
            return "ro"
        return text

    def _stated(self) -> str:
        parts = [f"{CMDLINE_PARTS}/{name}" for name in self._drop_ins(CMDLINE_PARTS, ".conf")]
        groups = [[path] for path in KERNEL_CMDLINE]
        # mkinitcpio asks the parts first; nobody else who reads them makes entries from them.
        groups.insert(0 if parts and self._place.has(MKINITCPIO) else len(groups), parts)
        for group in groups:
            texts = [text for path in group if (text := self._read(path)) is not None]
            if texts:
                lines = [line for text in texts for line in text.splitlines()]
                return " ".join(line for line in lines if not line.lstrip().startswith("#"))
        from_grub = self._grub_default()
        if from_grub is not None:
            return f"ro {from_grub}"
        flags = self._fstab_options()
        named = flags and self._place.pool.kind == "btrfs"
        return " ".join(["ro", *([_config.quote("rootflags", flags)] if named else [])])

    def _fstab_options(self) -> str:
        """What /etc/fstab wants the root to be mounted with, as far as the file system itself takes it."""
        text = self._read(mounts.FSTAB) or ""
        options = next((line.options for line in mounts.parse(text) if line.where == "/"), "")
        kept = [one for one in options.split(",") if one and one not in _VFS_OPTIONS]
        return ",".join(one for one in kept if not one.startswith(("x-", "_")) and _writable(one))

    def _grub_default(self) -> str | None:
        """What grub-mkconfig would put behind "root=... ro", or None when there is no /etc/default/grub.

        Source: util/grub-mkconfig.in and util/grub.d/10_linux.in of GRUB 2.12; Debian's grub-mkconfig also sources
        /etc/default/grub.d/*.cfg.
        """
        text = self._read(GRUB_DEFAULT)
        if text is None:
            return None
        values, passed_over = shellvars.parse(text)
        for name in self._drop_ins(GRUB_DROP_INS, ".cfg"):
            values, more = shellvars.parse(self._read(f"{GRUB_DROP_INS}/{name}") or "", values)
            passed_over += more
        self._notes += [f"{GRUB_DEFAULT}: {line}" for line in passed_over if "CMDLINE" in line]
        parts = (values.get("GRUB_CMDLINE_LINUX", ""), values.get("GRUB_CMDLINE_LINUX_DEFAULT", ""))
        return " ".join(part for part in parts if part)

    def _drop_ins(self, directory: str, suffix: str) -> list[str]:
        try:
            names = [entry.name for entry in self._filesystem.listdir(directory, lambda name: name.endswith(suffix))]
        except (NotFound, NotADirectory):
            return []
        except FsError as error:
            self._notes.append(str(error))
            return []
        return names[:MAX_DROP_INS]

    def _read(self, path: str) -> str | None:
        """The text of a configuration file, or None when it is absent or (with a note) cannot be read."""
        try:
            data = self._filesystem.read_file(path, min(MAX_FILE, self._left))
        except (NotFound, NotADirectory):
            return None
        except FsError as error:
            self._notes.append(str(error))
            return None
        self._left -= len(data)
        return data.decode("utf-8", "surrogateescape")


def _with_root(words: list[str], place: BootRoot, initrd: File | None) -> list[str]:
    """``words`` with root= and rootflags= that name ``place``."""
    if place.pool.kind == "zfs":
        from init.entries import dialect  # not before it is needed

        own, rest = dialect.words(place, words, initrd)
        return own + rest
    rest, options = [], []
    for word in words:
        ((name, value),) = _config.parse(word) or ((word, None),)
        if name == "rootflags":
            options += [option for option in (value or "").split(",") if option and _writable(option)]
        elif name != "root":
            rest.append(word)
    return [*_root_words(place, options), *rest]


def _writable(option: str) -> bool:
    """Whether a command line can carry it: an fstab has quotes around contexts of SELinux, say."""
    try:
        return bool(_config.quote("rootflags", option))
    except _config.Unwritable:
        return False


def _root_words(place: BootRoot, options: list[str]) -> list[str]:
    """root= and rootflags= for ``place`` on btrfs; ``options`` are mount options that the distro wants besides."""
    words = [f"root=UUID={place.filesystem.uuid}"]
    own = ("subvol=", "subvolid=")
    options = [option for option in options if not option.startswith(own) and option != "degraded"]
    if place.root.id != TOP_LEVEL or not place.root.default:
        options.insert(0, _subvol(place))
    if absent(place.pool):
        options.append("degraded")
    return words + ([_config.quote("rootflags", ",".join(options))] if options else [])


def _subvol(place: BootRoot) -> str:
    """The mount option for the subvolume: by name, or by id when the command line could not carry the name."""
    name = place.root.name.strip("/")
    if place.root.id == TOP_LEVEL:
        return "subvol=/"
    odd = any(char in ',"' or char.isspace() for char in name) or not name.isprintable()
    if odd or name.startswith("id:"):  # the latter is what a subvolume without a path is called
        return f"subvolid={place.root.id}"
    return f"subvol={name}"


def _finish(words: list[str], config: BootConfig) -> str:
    """The words as text, with our consoles when they name none, and what poolboot.append= adds."""
    if not any(word.startswith("console=") for word in words):
        words = words + [f"console={value}" for value in config.consoles]
    return " ".join([*words, *_config.split(config.append)])
