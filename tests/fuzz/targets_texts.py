"""Texts of roots, EFI partitions and command lines: what boot loaders, tools and people write."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from entrytrees import CASES, PARSERS, Tree, about, load
from entrytrees import DATA as TREES
from init_doubles import MemoryPool, system
from target import DATA, Target

from fsdrivers.errors import FsError
from init import config, locks, roots
from init.entries import grubenv, ledger, mounts, shellvars, snapshots, version
from init.firmware import stub
from init.handover import fstab
from init.handover.firmware import parse_attempt
from init.machine import modules
from init.roots import BootRoot

MORE = b"\n%%%%\n"
"""Divides an input into several files."""


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


# --- entries -----------------------------------------------------------------------------------------


def _put(tree: dict[str, object], path: str, data: bytes) -> None:
    *above, name = path.strip("/").split("/")
    for part in above:
        tree = tree.setdefault(part, {})  # type: ignore[assignment]
    tree[name] = data


def _case(name: str) -> dict[str, object]:
    """The files of a golden tree, kernels and initrds without content."""
    return load(TREES / name / "tree")


def _listing(parser: str, paths: tuple[str, ...], base: dict[str, object], data: bytes) -> int:
    """The items that ``parser`` finds in a tree like ``base`` in which ``paths`` have the parts of ``data``."""
    tree = _copy(base)
    for path, part in zip(paths, data.split(MORE), strict=False):
        _put(tree, path, bytes(bytearray(part + b"."))[:-1])
    found = PARSERS[parser](Tree(tree), "x86_64")
    assert found.default is None or 0 <= found.default < len(found.items), "a default that is none of the items"
    for item in found.items:
        # GRUB's quotes keep line ends, which divide words as blanks do.
        assert parser == "grub" or "\n" not in item.options, "a command line of several lines"
    if not found.items:
        raise FsError(" ".join(found.notes[:3]) or "nothing found")
    return len(found.items)


def _copy(tree: dict[str, object]) -> dict[str, object]:
    return {name: _copy(value) if isinstance(value, dict) else value for name, value in tree.items()}


def _grub_seeds() -> list[bytes]:
    files = []
    for case in CASES:
        if about(case)["parser"] == "grub":
            files += [path.read_bytes() for path in (TREES / case / "tree").rglob("grub.cfg")]
    return sorted(files, key=len)


GRUB_TREE = _case("debian-12-grub-btrfs")
BLS_TREE = _case("systemd-257-type1")
EXTLINUX_TREE = _case("u-boot-menu-13")
BLS_PATHS = (*(f"/loader/entries/{name}.conf" for name in ("a", "b", "c+2-1")), "/loader/loader.conf")


def _bls_seeds() -> list[bytes]:
    entries = sorted((TREES / "systemd-257-type1" / "tree" / "loader" / "entries").glob("*.conf"))
    loader = (TREES / "systemd-257-type1" / "tree" / "loader" / "loader.conf").read_bytes()
    fedora = sorted((TREES / "fedora-40-btrfs" / "tree" / "loader" / "entries").glob("*.conf"))
    return [MORE.join([*(path.read_bytes() for path in some[:3]), loader]) for some in (entries, fedora)]


# --- variables and tables ----------------------------------------------------------------------------


def _shell(data: bytes) -> int:
    found, _ = shellvars.parse(_text(data))
    assert sum(map(len, found.values())) <= 4 << 20
    if not found:
        raise FsError("nothing")
    return len(found)


def _grubenv(data: bytes) -> int:
    found = grubenv.parse(_text(data)[: grubenv.MAX_SIZE])
    if found is None:
        raise FsError("none")
    return len(found)


def _fstab(data: bytes) -> int:
    text = _text(data)
    found = mounts.parse(text)
    for outcome in (fstab.filter_fstab(text, ("ext4",)), fstab.filter_crypttab(text)):
        again = fstab.filter_fstab(outcome.text, ("ext4",)) if outcome.left_out else outcome
        assert len(again.text.splitlines()) >= len(text.splitlines()) or not text
    return len(found)


# --- what people and firmware say --------------------------------------------------------------------


def _knobs(data: bytes) -> int:
    """A command line; what is read from it can be written down and read again."""
    text = _text(data)
    found = config.read(text)
    for name, value in found.parameters:
        try:
            word = config.quote(name, value)
        except FsError:
            continue
        assert config.parse(word) == ((name, value),), f"{name} is read back as another knob"
    if found.root:
        roots.wanted(found.root)
    config.foreign(text)
    _ = found.subvol, found.subvolid, found.consoles, found.term, found.whole
    return len(found.parameters)


def _conf(data: bytes) -> int:
    """poolboot.conf: with Secure Boot only harmless knobs come through, however they are joined."""
    text = _text(data)
    for secure in (False, True):
        words, _ = stub.knobs(text, "poolboot.conf", secure)
        for name, _ in config.parse(" ".join(words)) if secure else ():
            assert config.key(name) in stub.HARMLESS, f"{name} came through"
    signed = config.read("root=UUID=1 poolboot.timeout=3")
    merged, _, _ = stub.unsigned(signed, signed, text, "poolboot.conf")
    assert (merged.root, merged.timeout) == (signed.root, signed.timeout), "the signed command line was overruled"
    stub.refused(signed, text, "poolboot.conf")
    return len(words)


def _lock(data: bytes) -> int:
    text = _text(data)
    found = locks.understand([("lock", "editor"), (locks.PASSWORD, text)])
    assert found.level == ("editor" if not found.problems else "all"), "what is not understood locks all"
    list(locks.told([found]))
    made = locks.parse_hash(text)
    assert locks.parse_hash(str(made)) == made
    return made.iterations


def _versions(data: bytes) -> int:
    one, _, two = _text(data).partition("\n")
    first, second = version.key(one), version.key(two)
    assert (first < second) + (second < first) + (first == second) == 1
    return len(first)


def _ledger(data: bytes) -> int:
    """What is remembered between boots, and what the firmware was told last."""
    text = _text(data)
    found = ledger.parse(text)
    assert ledger.parse(found.text()) == found or "\n" in text
    parse_attempt(text)
    return len(found.tries)


def _modules(data: bytes) -> int:
    """The index of modules, and a device that asks for one of them."""
    table = _text(data)
    loaded: list[str] = []
    found = modules.Modules(table, "/nowhere", loaded.append)
    for one in list(found.known.values())[:20]:
        found.load(one.name)
        for alias in one.aliases[:20]:
            modules.matches("pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00", alias)
    assert len(set(loaded)) == len(loaded), "a module that is loaded twice"
    return len(found.known)


def _snapshots(tool: str, data: bytes) -> int:
    """What snapper and timeshift note beside a snapshot."""
    date = "2024-05-01_12-30-00"
    if tool == "snapper":
        name, tree = "@/.snapshots/7/snapshot", {"/": {}, "@": system("1"), "@/.snapshots": {"7": {"info.xml": data}}}
    else:
        name = f"timeshift-btrfs/snapshots/{date}/@"
        tree = {"/": {"timeshift-btrfs": {"snapshots": {date: {"info.json": data}}}}, "@": system("1")}
    pool = MemoryPool({**tree, name: system("1")}, readonly=(name,))  # type: ignore[dict-item]
    root = next(one for one in pool.roots() if one.name == "@")
    notes: list[str] = []
    found = snapshots.described(snapshots.of(BootRoot(pool, root, pool.open("@")), notes.append))
    assert len(found) == 1
    for one in found:
        assert one.title.isprintable(), "a title that drives the terminal"
    if not found[0].description:
        raise FsError("no description")
    return 1


def _files(*paths: str) -> list[bytes]:
    return [path.read_bytes() for pattern in paths for path in sorted(DATA.glob(pattern))]


def _entry_target(name: str, parser: str, paths: tuple[str, ...], base: dict[str, object],
                  seeds: Callable[[], list[bytes]], room: int) -> Target:  # fmt: skip
    return Target(name, partial(_listing, parser, paths, base), seeds, room)


FSTAB = b"""# /etc/fstab
UUID=28b05cfc-9e35-4465-928d-74d53b6be68c / btrfs rw,subvol=@ 0 0
UUID=ABCD-1234 /boot/efi vfat umask=0077 0 1
/dev/disk/by-label/swap none swap sw 0 0
tmpfs /tmp tmpfs nosuid,size=50% 0 0
/srv\\040data /mnt none bind 0 0
"""
CONF = b"""# comment
timeout=5
poolboot.wait=3 root=UUID=28b05cfc-9e35-4465-928d-74d53b6be68c
entry="a b" poolboot.append=quiet
lock=editor
"""
HASH = b"grub.pbkdf2.sha512.210000." + b"AB" * 32 + b"." + b"CD" * 64
TABLE = (
    b"kernel/drivers/virtio.ko\t\tvirtio:d00000001v*\n"
    b"kernel/drivers/virtio_pci.ko.zst\tvirtio\tpci:v00001AF4d*sv*sd*bc*sc*i* x:[0-9]?\n"
)

TARGETS = (
    _entry_target("grub.cfg", "grub", ("/boot/grub/grub.cfg", "/boot/grub/grubenv"), GRUB_TREE, _grub_seeds, 16 << 10),
    _entry_target("bls", "bls", BLS_PATHS, BLS_TREE, _bls_seeds, 8192),
    _entry_target(
        "extlinux", "extlinux", ("/boot/extlinux/extlinux.conf",), EXTLINUX_TREE,
        lambda: _files("entries/u-boot-menu-13/tree/boot/extlinux/extlinux.conf"), 8192,
    ),
    Target("shell-variables", _shell, lambda: _files("init/grub/*", "init/os-release/*"), 8192),
    Target("grubenv", _grubenv, lambda: [b"# GRUB Environment Block\nsaved_entry=1\\\n2\nkernelopts=root=x ro\n###"]),
    Target("fstab", _fstab, lambda: [FSTAB]),
    Target("knobs", _knobs, lambda: [b'root=UUID=x rootflags=subvol=@,degraded poolboot.entry="a b" -- x', CONF]),
    Target("poolboot.conf", _conf, lambda: [CONF]),
    Target("lock", _lock, lambda: [HASH], 2048, (ValueError,)),
    Target("versions", _versions, lambda: [b"6.1.0-38-amd64\n6.12.41+deb13~rc1"], 512),
    Target("ledger", _ledger, lambda: [b"default a\nonce b\nbooting c\ntry 3 d e\n"]),
    Target("modules", _modules, lambda: [TABLE]),
    Target("snapper", partial(_snapshots, "snapper"), lambda: _files("snapper/*/info.xml")),
    Target("timeshift", partial(_snapshots, "timeshift"), lambda: _files("timeshift/*/info.json")),
)  # fmt: skip
