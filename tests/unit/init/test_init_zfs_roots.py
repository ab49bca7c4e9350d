"""Roots on ZFS: which file systems are offered, what their boot environments say, and the words that name them."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from init_doubles import MemoryPool, system
from memoryfs import Damaged

from artefacts import cpio
from fsdrivers.errors import Corrupt, FsError
from fsdrivers.filesystem import Filesystem
from fsdrivers.zfs.environments import Environment
from init import config, entries, roots
from init.entries import cmdline, dialect
from init.roots import BootRoot


class ZfsPool(MemoryPool):
    """A pool of datasets in memory with boot environments."""

    damage: FsError | None = None

    def __init__(self, trees: dict[str, Any], *marked: Environment, hostid: int = 0, **more: Any) -> None:
        super().__init__(trees, "tank", "1234", kind="zfs", **more)
        self.marked, self.hostid = list(marked), hostid

    def environments(self) -> list[Environment]:
        if self.damage:
            raise self.damage
        return self.marked

    def open(self, root: str | None = None) -> Filesystem:
        filesystem = super().open(root)
        filesystem.kind = "zfs"
        return filesystem


def environment(name: str, **more: Any) -> Environment:
    values: dict[str, Any] = {
        "mountpoint": "/", "canmount": "noauto", "active": True, "bootfs": False, "commandline": "", "kernel": "",
        "rootprefix": "", "locked": None,
    }  # fmt: skip
    return Environment(name, **(values | more))


def names(pool: MemoryPool, knobs: str = "") -> tuple[list[str], list[str]]:
    notes: list[str] = []
    return [found.root.name for found in roots.candidates(pool, config.read(knobs), notes.append)], notes


def at(pool: ZfsPool, name: str) -> BootRoot:
    return next(one for one in roots.candidates(pool, config.read(f"root=ZFS={name}"), lambda note: None))


def words(tree: dict[str, object], stated: str = "", **more: Any) -> str:
    pool = ZfsPool({"tank/ROOT/x": tree}, environment("tank/ROOT/x", **more), hostid=0xBEEF)
    return cmdline.stated(stated, at(pool, "tank/ROOT/x"), config.read(""), True)


def with_files(*paths: str, release: bytes = b"ID=unknown\n") -> dict[str, object]:
    tree: dict[str, object] = {"etc": {"os-release": release}, "sbin": {"init": b""}}
    for path in paths:
        here = tree
        *above, name = path.strip("/").split("/")
        for part in above:
            here = here.setdefault(part, {})  # type: ignore[assignment]
        here[name] = b"hook"
    return tree


# --- which ones -------------------------------------------------------------------------------


def test_boot_environments_are_offered_the_bootfs_first() -> None:
    trees: dict[str, Any] = {name: system("1") for name in ("tank", "tank/ROOT/a", "tank/ROOT/b", "tank/ROOT/off",
                                                            "tank/docker/0123", "tank/ROOT/b@x")}  # fmt: skip
    pool = ZfsPool(trees, environment("tank/ROOT/a"), environment("tank/ROOT/b", bootfs=True),
                   environment("tank/ROOT/off", canmount="off"), readonly=("tank/ROOT/b@x",))  # fmt: skip
    assert names(pool) == (["tank/ROOT/b", "tank/ROOT/a"], [])
    assert names(pool, "root=zfs:AUTO")[0] == ["tank/ROOT/b", "tank/ROOT/a"]
    assert names(pool, "root=ZFS=tank/ROOT/off")[0] == ["tank/ROOT/off"]
    assert names(pool, "root=zfs:tank/ROOT/b@x")[0] == ["tank/ROOT/b@x"]


def test_a_root_deep_in_the_pool_is_found_without_any_property() -> None:
    trees: dict[str, Any] = {"tank": {}, "tank/ROOT": {}, "tank/ROOT/debian": system("1"), "tank/home": {"user": {}},
                             "tank/var/lib/docker/01": system("2"), "tank/ROOT/debian@x": system("1")}  # fmt: skip
    assert names(ZfsPool(trees, readonly=("tank/ROOT/debian@x",))) == (["tank", "tank/ROOT/debian"], [])


def test_environments_that_cannot_be_listed_are_told() -> None:
    pool = ZfsPool({"tank": system("1")})
    pool.damage = Corrupt("vda", "ZAP", 512)
    assert names(pool) == (
        ["tank"],
        ["zfs tank: its boot environments cannot be listed: vda: corrupt ZAP at offset 0x200"],
    )


# --- the words --------------------------------------------------------------------------------

DEBIAN, DRACUT = "/usr/share/initramfs-tools/scripts/zfs", "/usr/lib/dracut/modules.d/90zfs"
ARCH = "/usr/lib/initcpio/hooks/zfs"


@pytest.mark.parametrize(
    ("tree", "wanted"),
    [
        (with_files(DEBIAN), "root=ZFS=tank/ROOT/x boot=zfs"),
        (with_files(DRACUT), "root=zfs:tank/ROOT/x"),
        (with_files(ARCH), "zfs=tank/ROOT/x"),
        (with_files(), "root=ZFS=tank/ROOT/x"),
        (with_files(release=b"ID=linuxmint\nID_LIKE='ubuntu debian'\n"), "root=ZFS=tank/ROOT/x boot=zfs"),
        (with_files(release=b"ID=arch\n"), "zfs=tank/ROOT/x"),
        (with_files(release=b"ID=void\n"), "root=zfs:tank/ROOT/x"),
        (with_files(DEBIAN, DRACUT, release=b"ID=ubuntu\n"), "root=ZFS=tank/ROOT/x boot=zfs"),
        (with_files(DRACUT, ARCH, release=b"ID=arch\n"), "zfs=tank/ROOT/x"),
        (with_files(DRACUT, release=b"ID=arch\n"), "root=zfs:tank/ROOT/x"),  # what is installed counts more
    ],
)
def test_each_distribution_is_told_in_its_own_words(tree: dict[str, object], wanted: str) -> None:
    assert words(tree) == f"{wanted} spl.spl_hostid=0x0000beef"


@pytest.mark.parametrize(
    ("stated", "wanted"),
    [
        ("root=ZFS=old/x boot=zfs quiet", "root=ZFS=tank/ROOT/x boot=zfs spl.spl_hostid=0x0000beef quiet"),
        ("root=zfs:AUTO ro", "root=zfs:tank/ROOT/x spl.spl_hostid=0x0000beef ro"),
        ("zfs=bootfs/x rw zfs.zfs_arc_max=1", "zfs=tank/ROOT/x spl.spl_hostid=0x0000beef rw zfs.zfs_arc_max=1"),
        ("root=ZFS=old/x spl_hostid=0x11", "root=ZFS=tank/ROOT/x spl_hostid=0x11"),
        ("rootfstype=zfs root=old/x", "root=zfs:tank/ROOT/x spl.spl_hostid=0x0000beef"),
    ],
)
def test_what_is_stated_already_keeps_its_form(stated: str, wanted: str) -> None:
    assert words(with_files(DRACUT), stated) == wanted


def test_the_root_prefix_of_the_environment_beats_all() -> None:
    assert words(with_files(DEBIAN), "root=ZFS=old", rootprefix="zfs=").split()[0] == "zfs=tank/ROOT/x"


def test_blanks_in_a_name() -> None:
    pool = ZfsPool({"tank/my root": with_files(DRACUT)})
    assert cmdline.compute(at(pool, "tank/my+root"), config.read(""))[0] == "root=zfs:tank/my+root ro"
    pool = ZfsPool({"tank/my root": with_files(DEBIAN)})
    assert cmdline.compute(at(pool, "tank/my+root"), config.read(""))[0] == 'root="ZFS=tank/my root" boot=zfs ro'


@pytest.mark.parametrize("name", ['tank/x" init=/bin/sh "', 'tank/"', "tank/a\x01b", "tank/\x7f"])
def test_a_name_that_brings_words_of_its_own_is_passed_over(name: str) -> None:
    pool, notes = ZfsPool({name: with_files(DEBIAN) | {"boot": {"vmlinuz-6.1": b"k"}}}), []
    with pytest.raises(config.Unwritable):
        cmdline.compute(at(pool, name), config.read(""))
    assert entries.find(at(pool, name), config.read(""), notes.append) == []
    assert "no command line can carry this" in notes[0]


def archive(*names: str) -> bytes:
    made = cpio.Archive()
    for name in names:
        made.file(name, b"x" * 5000)
    return made.pack()


EARLY = archive("kernel/x86/microcode/AuthenticAMD.bin") + bytes(512)
BOTH = with_files(DEBIAN, DRACUT, ARCH, release=b"ID=unknown\n")


@pytest.mark.parametrize(
    ("initrd", "wanted"),
    [
        (EARLY + gzip.compress(archive("usr/bin/sh", "usr/lib/dracut/hooks/cmdline/zfs.sh")), "root=zfs:"),
        (gzip.compress(archive("hooks/zfs", "init")), "zfs="),
        (EARLY + EARLY + archive("init", "scripts/zfs"), "root=ZFS="),
        (gzip.compress(archive("init"))[:-20], "root=ZFS="),  # broken, or none of them: the first of those installed
        (b"", "root=ZFS="),
        (EARLY[:100], "root=ZFS="),
    ],
    # Named, for gzip writes the time into its header: processes that collect the tests must agree on their names.
    ids=["dracut", "mkinitcpio", "initramfs-tools", "broken", "empty", "cut off"],
)
def test_the_initrd_tells_when_several_makers_are_installed(initrd: bytes, wanted: str) -> None:
    tree = BOTH | {"boot": {"vmlinuz-1": b"kernel", "initrd.img-1": initrd}}
    pool = ZfsPool({"tank/ROOT/x": tree})
    (entry,) = entries.find(at(pool, "tank/ROOT/x"), config.read(""), lambda note: None)
    assert entry.cmdline.startswith(f"{wanted}tank/ROOT/x ")


def test_a_damaged_initrd_does_not_stop_the_choice() -> None:
    tree = BOTH | {"boot": {"vmlinuz-1": b"kernel", "initrd.img-1": Damaged(Corrupt("vda", "block", 512))}}
    (entry,) = entries.find(at(ZfsPool({"tank/x": tree}), "tank/x"), config.read(""), lambda note: None)
    assert entry.cmdline.startswith("root=ZFS=tank/x ")


def test_all_makers_have_words() -> None:
    assert set(dialect._INSIDE.values()) | set(dialect._BY_ID.values()) | set(dialect._INSTALLED) <= set(
        dialect.PREFIXES
    )


# --- the other properties ---------------------------------------------------------------------


def test_the_environments_command_line_replaces_what_the_loader_states() -> None:
    tree = system("6.1", "6.2", default={"grub": b'GRUB_CMDLINE_LINUX="from grub"\n'})
    tree["boot"]["grub"] = {  # type: ignore[index]
        "grub.cfg": b"menuentry 'stated' {\nlinux /ROOT/x@/boot/vmlinuz-6.1 root=ZFS=tank/ROOT/x old\n}\n"
    }
    plain = ZfsPool({"tank/ROOT/x": tree}, environment("tank/ROOT/x"))
    assert "stated" in {one.title for one in entries.find(at(plain, "tank/ROOT/x"), config.read(""), lambda note: None)}
    pool = ZfsPool({"tank/ROOT/x": tree}, environment("tank/ROOT/x", commandline="quiet  loglevel=4", kernel="6.1"))
    found = entries.find(at(pool, "tank/ROOT/x"), config.read(""), lambda note: None)
    assert {one.cmdline for one in found} == {"root=ZFS=tank/ROOT/x quiet loglevel=4"}
    assert sorted((one.version, one.default) for one in found) == [("6.1", True), ("6.2", False)]


# --- entries that were written for another one ------------------------------------------------


GRUB = b"""
menuentry 'stated' {
	linux /ROOT/a@/boot/vmlinuz-6.1 root=ZFS=%s ro quiet
	initrd /ROOT/a@/boot/initrd.img-6.1
}
"""


def stated_by(root: bytes, in_root: str) -> tuple[list[entries.BootEntry], list[str]]:
    """What is found in the root ``in_root`` of a pool with the roots a and b, where grub.cfg names ``root``."""
    trees: dict[str, Any] = {}
    for name in ("tank/ROOT/a", "tank/ROOT/b"):
        trees[name] = system("6.1", default={"grub": b'GRUB_CMDLINE_LINUX="from grub"\n'})
        text = GRUB.replace(b"/a@", b"/" + name[-1:].encode() + b"@") % root
        trees[name]["boot"]["grub"] = {"grub.cfg": text}
    pool = ZfsPool(trees, environment("tank/ROOT/a"), environment("tank/ROOT/b"))
    notes: list[str] = []
    return entries.find(at(pool, in_root), config.read(""), notes.append), notes


@pytest.mark.parametrize("root", [b"tank/ROOT/a", b"/ROOT/a", b"/ROOT/a root=ZFS=tank/ROOT/a"])
def test_a_clone_is_not_booted_as_what_it_was_made_from(root: bytes) -> None:
    (entry,), notes = stated_by(root, "tank/ROOT/a")
    assert (entry.title, entry.cmdline, notes) == ("stated", "root=ZFS=tank/ROOT/a ro quiet", [])
    (entry,), notes = stated_by(root, "tank/ROOT/b")
    assert (entry.kernel, entry.cmdline) == ("/boot/vmlinuz-6.1", "root=ZFS=tank/ROOT/b ro from grub")
    assert notes == ["tank:tank/ROOT/b: entry 'stated' is passed over: it is for tank/ROOT/a"]


def test_a_root_in_a_pool_that_is_not_here_stays_as_it_is_stated() -> None:
    (entry,), _ = stated_by(b"other/ROOT/a", "tank/ROOT/a")
    assert entry.cmdline == "root=ZFS=other/ROOT/a ro quiet"
    assert entry.notes == ("its command line names another root than the one that it lies in",)
