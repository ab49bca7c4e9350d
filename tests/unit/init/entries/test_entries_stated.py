"""Entries of boot loaders' configurations, tied to roots: command lines, other trees, EFI system partitions."""

from __future__ import annotations

import random
import re
import struct
import subprocess
import uuid
import zlib
from pathlib import Path

import pytest
from entrytrees import DATA, Tree, load
from init_doubles import UUID, MemoryPool, bzimage, place, system
from memoryfs import MemoryFilesystem

from fsdrivers import fat
from fsdrivers.block import FileDevice
from fsdrivers.filesystem import Filesystem
from fsdrivers.partitions import partition_name, partitions
from init import config, entries, roots
from init.entries import BootEntry, cmdline, policy, stated, whose
from init.entries.mounts import Found, Mounted
from init.roots import BootRoot

CFG = """
set default={default}
menuentry 'Usual' --id usual {{ linux /@/boot/vmlinuz-6.12.1 {options}
 initrd /@/boot/initrd.img-6.12.1 }}
menuentry 'Older' --id older {{ linux /@/boot/vmlinuz-6.9.7 {options}
 initrd /@/boot/initrd.img-6.9.7 }}
menuentry 'Recovery' --id recovery {{ linux /@/boot/vmlinuz-6.12.1 {options} single
 initrd /@/boot/initrd.img-6.12.1 }}
"""


class Pool(MemoryPool):
    """Its trees pass for btrfs."""

    def open(self, root: str | None = None) -> Filesystem:
        filesystem = super().open(root)
        filesystem.kind = "btrfs"
        return filesystem


def where(
    options: str = f"root=UUID={UUID} ro rootflags=subvol=@ quiet", default: str = "0", missing: int = 0
) -> BootRoot:
    tree = system("6.12.1", "6.9.7", "6.1.0-9")
    tree["boot"]["grub"] = {"grub.cfg": CFG.format(options=options, default=default).encode()}  # type: ignore[index]
    pool = Pool({"/": {}, "@": tree}, missing=missing)
    return BootRoot(pool, pool.roots()[1], pool.open("@"))


def find(at: BootRoot, knobs: str = "") -> tuple[list[BootEntry], list[str]]:
    notes: list[str] = []
    return policy.arrange(entries.find(at, config.read(knobs), notes.append)), notes


def test_stated_entries_stand_for_their_kernels_and_the_rest_is_found_by_name() -> None:
    found, notes = find(where())
    assert notes == []
    assert [entry.title for entry in found] == ["Usual", "Older", "Test Linux 1, kernel 6.1.0-9", "Recovery"]
    assert found[0].id == "tank:@/usual"
    assert found[0].cmdline == f"root=UUID={UUID} rootflags=subvol=@ ro quiet"
    assert (found[0].kernel, found[0].initrds) == ("/boot/vmlinuz-6.12.1", ("/boot/initrd.img-6.12.1",))
    assert found[3].rescue
    assert not found[0].notes


@pytest.mark.parametrize(("default", "title"), [("0", "Usual"), ("older", "Older"), ("9", "Usual"), ("Older", "Older")])
def test_the_boot_loaders_default_is_ours(default: str, title: str) -> None:
    choice = policy.choose(find(where(default=default))[0])
    assert choice.order[0].title == title
    assert ("boot loader" in choice.reasons[0]) == (default != "9")
    assert policy.choose(find(where(default=default))[0], [policy.Wish("2", "asked")]).order[0].title == "Older"


@pytest.mark.parametrize(
    ("options", "missing", "wanted", "own"),
    [
        ("root=/dev/sda3 ro", 0, f"root=UUID={UUID} rootflags=subvol=@ ro", True),
        ("ro quiet", 0, f"root=UUID={UUID} rootflags=subvol=@ ro quiet", True),
        (f"root=UUID={UUID} ro", 1, f"root=UUID={UUID} rootflags=subvol=@,degraded ro", True),
        (f"root=UUID={UUID} rootflags=noatime,subvol=@", 0, f"root=UUID={UUID} rootflags=subvol=@,noatime", True),
        (f"root=UUID={UUID} rootflags=subvol=@/.snapshots/1/snapshot", 0, None, False),
        ("root=UUID=11111111-2222-3333-4444-555555555555 ro", 0, None, False),
        ("root=PARTUUID=1234-01 ro", 0, None, False),
        (f"root=UUID={UUID} ro console=ttyS1", 0, f"root=UUID={UUID} rootflags=subvol=@ ro console=ttyS1", True),
    ],
)
def test_command_lines(options: str, missing: int, wanted: str | None, own: bool) -> None:
    found, _ = find(where(options, missing=missing))
    usual = next(entry for entry in found if entry.title == "Usual")
    assert usual.cmdline == (wanted or options)
    assert ("its command line names another root" in " ".join(usual.notes)) == (not own)


def test_knobs_reach_stated_entries() -> None:
    found, _ = find(where(), "console=ttyS0 poolboot.append=debug poolboot.initrd=/boot/other")
    assert found[0].cmdline == f"root=UUID={UUID} rootflags=subvol=@ ro quiet console=ttyS0 debug"
    assert found[0].initrds == ("/boot/other",)
    found, _ = find(where(), 'poolboot.cmdline="init=/x"')
    assert found[0].cmdline == f"root=UUID={UUID} rootflags=subvol=@ init=/x"


def test_a_kernel_in_another_subvolume() -> None:
    tree = system()
    tree["boot"] = {"grub": {"grub.cfg": b"menuentry A { linux /@boot/vmlinuz-6.12.1\n initrd /@boot/i }\n"
                                         b"menuentry B { linux /@gone/vmlinuz }"}}  # fmt: skip
    boot: dict[str, object] = {"vmlinuz-6.12.1": bzimage("6.12.1"), "i": b"initrd"}
    pool = Pool({"/": {}, "@": tree, "@boot": boot})
    found, notes = find(BootRoot(pool, pool.roots()[1], pool.open("@")))
    assert [entry.kernel for entry in found] == ["/vmlinuz-6.12.1"]
    assert found[0].open_kernel().read() == bzimage("6.12.1")
    assert found[0].open(found[0].initrds[0]).read() == b"initrd"
    assert "'B'" in notes[0]


def test_kernels_without_a_version_in_their_name_tell_it() -> None:
    tree = system()
    script = b"menuentry A { linux /@/boot/vmlinuz-linux\n initrd /boot/initramfs-linux.img }"
    names = {"vmlinuz-linux": bzimage("6.12.1-arch1"), "initramfs-linux.img": b"i"}
    tree["boot"] = names | {"grub": {"grub.cfg": script}}
    pool = Pool({"/": {}, "@": tree})
    found, _ = find(BootRoot(pool, pool.roots()[1], pool.open("@")))
    assert [(entry.version, entry.title) for entry in found] == [("6.12.1-arch1", "A")]


def test_fedoras_entries_are_there_once_with_grubs_variables() -> None:
    tree = system() | {"boot": load(DATA / "fedora-31-btrfs" / "tree")}
    tree["boot"]["loader"]["entries"]["x.conf"] = b"linux /vmlinuz-5.3.7-301.fc31.x86_64\noptions $kernelopts"  # type: ignore[index]
    pool = Pool({"root": tree}, uuid="5f0e1b7c-8f5a-4d0b-9a53-0c6f1de2a001")
    found, notes = find(BootRoot(pool, pool.roots()[0], pool.open("root")))
    assert len([entry for entry in found if "root=UUID=5f0e1b7c" in entry.cmdline]) == len(found) == 4
    assert sum(entry.kernel == "/boot/vmlinuz-5.8.18-100.fc31.x86_64" for entry in found) == 1
    assert all("rhgb" in entry.cmdline for entry in found)
    assert not any("kernelopts" in note for note in notes)


def test_entries_for_snapshots_are_left_out_as_these_are_listed_of_themselves() -> None:
    """grub-btrfs makes one for each kernel in each snapshot, all with the same id."""
    tree = system() | load(DATA / "debian-12-grub-btrfs" / "tree")
    versions = {"1": ("6.1.0-37-amd64",), "2": ("6.1.0-37-amd64", "6.1.0-38-amd64")}
    earlier = {f"@snapshots/{number}/snapshot": system(*versions[number]) for number in versions}
    uuid = "5f0e1b7c-8f5a-4d0b-9a53-0c6f1de2a001"
    pool = Pool({"/": {}, "@": tree, "@snapshots": {}, **earlier}, readonly=tuple(earlier), uuid=uuid)
    found, notes = find(BootRoot(pool, pool.roots()[1], pool.open("@")))
    assert [entry.id.partition("/")[2].removesuffix(f"-{uuid}") for entry in found] == [
        "gnulinux-simple", "gnulinux-6.1.0-38-amd64-recovery",
    ]  # fmt: skip
    assert "3 entries for its snapshots" in notes[-1]
    pool = Pool({"/": {}, "@": tree, **earlier}, uuid=uuid, origins=dict.fromkeys(earlier, "/"))
    found, notes = find(BootRoot(pool, pool.roots()[1], pool.open("@")))
    assert len(found) == 5  # these were made from something else
    assert not any("its snapshots" in note for note in notes)


def test_spent_tries_come_last() -> None:
    tree = system("6.9.7")
    text = f"linux /boot/vmlinuz-6.9.7\ninitrd /boot/initrd.img-6.9.7\noptions root=UUID={UUID} rootflags=subvol=@ x="
    tree["boot"]["loader"] = {"entries": {  # type: ignore[index]
        "new+0-3.conf": (text + "1\nversion 6.12").encode(), "old.conf": (text + "2\nversion 6.9.7").encode(),
    }}  # fmt: skip
    found, _ = find(place(tree))
    assert [(entry.id, entry.tries_left) for entry in found] == [("tank:@/old", None), ("tank:@/new", 0)]
    assert policy.choose(found).order[0].id == "tank:@/old"


# --- EFI system partitions ------------------------------------------------------------------------


def esp(path: Path, files: Path, second: str = "") -> FileDevice:
    """A disk with a GPT whose first partition is an ESP that mkfs.fat and mtools made; ``second`` is the type of
    another one, of a few sectors."""
    sectors, start = 40_000, 2048
    disk = bytearray(sectors * 512)
    entry = uuid.UUID(fat.ESP).bytes_le + uuid.UUID(int=7).bytes_le + struct.pack("<QQQ", start, sectors - 100, 0)
    table = entry.ljust(128, b"\0")
    if second:
        table += uuid.UUID(second).bytes_le + uuid.UUID(int=8).bytes_le + struct.pack("<QQQ", 1000, 1020, 0)
    table = table.ljust(128 * 128, b"\0")
    head = struct.pack(
        "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, 1, sectors - 1, 34, sectors - 34, bytes(16), 2, 128, 128,
        zlib.crc32(table),
    )  # fmt: skip
    head = head[:16] + struct.pack("<I", zlib.crc32(head)) + head[20:]
    disk[0x1BE : 0x1BE + 16] = struct.pack("<BBBBBBBBII", 0, 0, 2, 0, 0xEE, 0xFF, 0xFF, 0xFF, 1, sectors - 1)
    disk[510:512] = b"\x55\xaa"
    disk[512 : 512 + len(head)] = head
    disk[1024 : 1024 + len(table)] = table
    path.write_bytes(disk)
    part = path.with_suffix(".fat")
    part.write_bytes(bytes((sectors - 100 - start + 1) * 512))
    subprocess.run(["/usr/sbin/mkfs.fat", part], check=True, capture_output=True)
    subprocess.run(["mcopy", "-s", "-i", part, *files.iterdir(), "::"], check=True, capture_output=True)
    with path.open("r+b") as image:
        image.seek(start * 512)
        image.write(part.read_bytes())
    return FileDevice(str(path))


def on_esp(tmp_path: Path, case: str) -> tuple[list[BootEntry], list[str]]:
    device = esp(tmp_path / "disk.img", DATA / case / "tree")
    notes: list[str] = []
    pool = Pool({"@": system()}, uuid="5f0e1b7c-8f5a-4d0b-9a53-0c6f1de2a001")
    places = [BootRoot(pool, root, pool.open(root.name)) for root in pool.roots()]
    return list(stated.on_partitions([device], places, config.read(""), notes.append)), notes


def test_type_1_on_an_esp(tmp_path: Path) -> None:
    found, notes = on_esp(tmp_path, "systemd-257-type1")
    assert [entry.version for entry in found] == ["6.12.41+deb13-amd64", "6.12.38+deb13-amd64", "6.9.12-amd64"]
    assert found[0].tries_left == 3
    assert found[0].open(found[0].kernel).read() == b"kernel-6.12.41+deb13-amd64\n"
    assert found[0].cmdline.startswith("root=UUID=5f0e1b7c-8f5a-4d0b-9a53-0c6f1de2a001 rootflags=subvol=@ rw quiet")
    assert notes == []


def test_type_2_on_an_esp(tmp_path: Path) -> None:
    found, notes = on_esp(tmp_path, "systemd-257-type2")
    assert [entry.id.rpartition("/")[2] for entry in found] == [
        "debian-6.12.41+deb13-amd64.efi", "debian-6.9.12-amd64.efi",
    ]  # fmt: skip
    assert found[0].open_kernel().read() == b"the kernel of the image\n"
    assert found[0].open(found[0].initrds[0]).read() == b"microcode\n"
    assert any("Factory reset" in note and "root" in note for note in notes)
    # Ids are remembered from boot to boot: they must not hold a name that another disk may get.
    assert all(re.match("[0-9A-F]{4}-[0-9A-F]{4}/debian", entry.id) for entry in found)


@pytest.mark.parametrize(("conf", "default"), [("default old.conf", "old"), ("default new.efi", "new.efi"), ("", None),
                                               ("default @saved", None)])  # fmt: skip
@pytest.mark.parametrize("own", [False, True])
def test_the_default_of_loader_conf_on_an_esp(tmp_path: Path, conf: str, default: str | None, own: bool) -> None:
    """It may be of either type, and counts when somebody wrote it down and the root's own loader has no other."""
    root = "5f0e1b7c-8f5a-4d0b-9a53-0c6f1de2a001"
    files = tmp_path / "files"
    (files / "loader" / "entries").mkdir(parents=True)
    (files / "EFI" / "Linux").mkdir(parents=True)
    (files / "loader" / "loader.conf").write_text(conf)
    (files / "k").write_text("kernel")
    for name in ("old", "older"):
        text = f"linux /k\nversion {name}\noptions root=UUID={root} rootflags=subvol=@ {name}\n"
        (files / "loader" / "entries" / f"{name}.conf").write_text(text)
    image = DATA / "systemd-257-type2" / "tree" / "EFI" / "Linux" / "debian-6.9.12-amd64.efi"
    (files / "EFI" / "Linux" / "new.efi").write_bytes(image.read_bytes())
    device = esp(tmp_path / "disk.img", files)
    pool = Pool({"@": system("6.1.0-9")}, uuid=root)
    place = BootRoot(pool, pool.roots()[0], pool.open("@"))
    known = [entry._replace(default=own) for entry in find(place)[0]]
    found = list(stated.on_partitions([device], [place], config.read(""), lambda note: None, known))
    assert len(found) == 3
    assert [entry.id.rpartition("/")[2] for entry in found if entry.default] == (
        [default] if default and not own else []
    )


def test_entries_of_sdbootutil_for_a_root_and_its_snapshots(tmp_path: Path) -> None:
    """openSUSE without GRUB: a version has the snapshot's number in front, every snapshot its own entries."""
    root = "5f0e1b7c-8f5a-4d0b-9a53-0c6f1de2a001"
    tree, names = system(), [f"@/.snapshots/{number}/snapshot" for number in (1, 2, 3)]
    tree["boot"], tree["lib"] = {}, {"modules": {"6.10.5-1-default": {}, "6.10.4-1-default": {}}}
    pool = Pool(dict.fromkeys(names, tree), uuid=root, readonly=tuple(names[1:]), origins={names[1]: names[0]})
    device = esp(tmp_path / "disk.img", DATA / "opensuse-tumbleweed-sdbootutil" / "tree")
    notes: list[str] = []
    place = BootRoot(pool, pool.roots()[0], pool.open(names[0]))
    found = list(stated.on_partitions([device], [place], config.read(""), notes.append))
    assert [(entry.version, entry.notes) for entry in found] == [("6.10.5-1-default", ()), ("6.10.4-1-default", ())]
    assert found[0].title == "openSUSE Tumbleweed 20240815"
    assert len(notes) == 1
    assert "1 entries for snapshots" in notes[0]
    newest, older = entries.snapshots_of(found[0], notes.append)
    (own,) = entries.of_snapshot(older, found[0], config.read(""), notes.append, [device])
    assert own.version == "6.10.4-1-default"
    assert own.cmdline.split()[1] == "rootflags=subvol=@/.snapshots/2/snapshot"
    assert own.snapshot == older
    (like,) = entries.of_snapshot(newest, found[0], config.read(""), notes.append, [device])
    assert like.version == "6.10.5-1-default"  # nothing is stated for this one
    assert like.cmdline.split()[1] == "rootflags=subvol=@/.snapshots/3/snapshot"


def nixos(uuid: str) -> Pool:
    """Its root has links into a store that is in a subvolume of its own, and no init."""
    etc: dict[str, object] = {"NIXOS": b"", "os-release": "/etc/static/os-release", "static": "/nix/store/x"}
    tree: dict[str, object] = {"etc": etc, "nix": {}, "bin": {"sh": "/nix/store/y/sh"}, "usr": {"bin": {}}}
    return Pool({"/": {}, "root": tree, "nix": {"store": {}}}, uuid=uuid)


def test_nixos_with_a_store_of_its_own(tmp_path: Path) -> None:
    """On an EFI system partition its entries name no root: the init that they ask for tells whose they are."""
    pool = nixos(UUID)
    places = list(roots.candidates(pool, config.read(""), lambda note: None))
    assert [place.root.name for place in places] == ["/", "root"]
    (tmp_path / "loader" / "entries").mkdir(parents=True)
    text = "linux /k.efi\noptions init=/nix/store/x/init loglevel=4\nversion 6.6.30\n"
    (tmp_path / "loader" / "entries" / "nixos-generation-1.conf").write_text(text)
    (tmp_path / "k.efi").write_bytes(bzimage("6.6.30"))
    device = esp(tmp_path.with_suffix(".img"), tmp_path)
    for others, count in ((1, 1), (2, 0)):
        here = places + [BootRoot(nixos("x"), place.root, place.filesystem) for place in places[1:others]]
        found = list(stated.on_partitions([device], here, config.read(""), lambda note: None))
        assert [entry.cmdline for entry in found] == [
            f"root=UUID={UUID} rootflags=subvol=root init=/nix/store/x/init loglevel=4"
        ] * count
        assert not any(entry.notes[1:] for entry in found)


ON_ZFS = """
menuentry 'Ubuntu' {{ search --no-floppy --fs-uuid --set=root {boot:016x}
 linux "/BOOT/ubuntu@/vmlinuz-6.8" root=ZFS="rpool/ROOT/ubuntu" ro quiet
 initrd "/BOOT/ubuntu@/initrd.img-6.8" }}
menuentry 'In the root' {{ search --no-floppy --fs-uuid --set=root {root:016x}
 linux "/ROOT/ubuntu@/vmlinuz-6.5" root=ZFS="rpool/ROOT/ubuntu" ro }}
menuentry 'Gone' {{ search --no-floppy --fs-uuid --set=root {boot:016x}
 linux "/BOOT/ubuntu@/vmlinuz-6.9" root=ZFS="rpool/ROOT/ubuntu" ro }}
menuentry 'Elsewhere' {{ search --no-floppy --fs-uuid --set=root 1234-ABCD
 linux /vmlinuz-6.8 root=ZFS=rpool/ROOT/ubuntu }}
"""


def test_grubs_configuration_on_an_esp_with_kernels_in_a_pool(tmp_path: Path) -> None:
    """As Ubuntu's installer has it with the root on ZFS."""
    rpool, bpool = 0xF000_0000_0000_0001, 2
    files = tmp_path / "files"
    (files / "grub").mkdir(parents=True)
    (files / "grub/grub.cfg").write_text(ON_ZFS.format(root=rpool, boot=bpool))
    pool = MemoryPool({"rpool/ROOT/ubuntu": {}}, "rpool", str(rpool), kind="zfs")
    tree = Tree(system() | {"vmlinuz-6.5": bzimage("6.5")}, "zfs", "rpool/ROOT/ubuntu", str(rpool))
    boot = Tree({"vmlinuz-6.8": bzimage("6.8"), "initrd.img-6.8": b"initrd"}, "zfs", "bpool/BOOT/ubuntu", str(bpool))
    place = BootRoot(pool, pool.roots()[0], tree, boot=Mounted(tree, Found(boot, "bpool")))
    notes: list[str] = []
    device = esp(tmp_path / "disk.img", files)
    first, second = stated.on_partitions([device], [place], config.read(""), notes.append)
    assert (first.title, first.kernel, first.initrds) == ("Ubuntu", "/boot/vmlinuz-6.8", ("/boot/initrd.img-6.8",))
    assert first.cmdline == "root=ZFS=rpool/ROOT/ubuntu ro quiet"
    assert first.open(first.initrds[0]).read() == b"initrd"
    assert (second.title, second.kernel) == ("In the root", "/vmlinuz-6.5")
    assert [note.partition(": ")[2] for note in notes] == [
        f"entry 'Gone' is passed over: its kernel is on UUID={bpool:016x}",
        "entry 'Elsewhere' is passed over: its kernel is on UUID=1234-ABCD",
    ]


@pytest.mark.parametrize(("root", "second", "count"), [
    ("", stated.ROOTS["x86_64"], 1), ("root=gpt-auto ", stated.ROOTS["x86_64"], 1), ("", fat.XBOOTLDR, 0),
    ("root=/dev/vda2 ", stated.ROOTS["x86_64"], 0), ("root=fstab ", stated.ROOTS["x86_64"], 0),
    ("init=/sbin/init ", fat.XBOOTLDR, 0),
])  # fmt: skip
def test_an_entry_without_a_root_means_the_root_partition_beside_it(
    tmp_path: Path, root: str, second: str, count: int
) -> None:
    """As systemd-gpt-auto-generator(8) has it: the same disk, its type, the default subvolume."""
    (tmp_path / "loader" / "entries").mkdir(parents=True)
    (tmp_path / "loader" / "entries" / "a.conf").write_text(f"linux /k\noptions {root}quiet\nversion 1\n")
    (tmp_path / "k").write_bytes(bzimage("6.6.30"))
    device = esp(tmp_path.with_suffix(".img"), tmp_path, second)
    pool = Pool({"@": system(), "other": system()})
    pool.slots = tuple(
        slot._replace(device=partition_name(device.name, 2) if slot.id == 1 else slot.device) for slot in pool.slots
    )
    elsewhere = Pool({"@": system()}, uuid="x")
    places = [BootRoot(one, found, one.open(found.name)) for one in (elsewhere, pool) for found in one.roots()]
    assert [part.name for part in partitions(device)] == [
        partition_name(device.name, 1),
        partition_name(device.name, 2),
    ]
    found = list(stated.on_partitions([device], places, config.read(""), lambda note: None))
    assert [entry.cmdline for entry in found] == [f"root=UUID={UUID} rootflags=subvol=@ quiet"] * count


def test_an_esp_that_is_damaged_or_none_is_a_note(tmp_path: Path) -> None:
    device = esp(tmp_path / "disk.img", DATA / "systemd-257-type1" / "tree")
    noise = random.Random(1).randbytes(4096)
    with (tmp_path / "disk.img").open("r+b") as image:
        image.seek(2048 * 512)
        image.write(noise)
    notes: list[str] = []
    assert list(stated.on_partitions([device], [], config.read(""), notes.append)) == []
    assert len(notes) == 1


def test_names() -> None:
    pool = Pool({"/": {}, "@": {}, "@home": {}})
    by_name = {root.name: BootRoot(pool, root, MemoryFilesystem({})) for root in pool.roots()}
    for options, name in (
        (f"root=UUID={UUID} rootflags=subvol=@", "@"),
        (f"root=UUID={UUID.upper()} rootflags=subvol=/@home", "@home"),
        (f"root=UUID={UUID} rootflags=subvolid=257", "@"),
        (f"root=UUID={UUID}", "/"),
        ("root=LABEL=tank rootflags=subvol=/", "/"),
        ("root=/dev/vda rootflags=subvol=@", None),
        ("", None),
    ):
        assert [key for key, value in by_name.items() if whose.names(options, value)] == ([name] if name else [])
    assert load(DATA / "u-boot-menu-13" / "tree")
    assert cmdline.stated("a b", by_name["@"], config.read(""), False) == "a b"
    assert roots.TOP_LEVEL == 5
