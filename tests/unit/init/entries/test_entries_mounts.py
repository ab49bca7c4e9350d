"""A /boot of its own: another subvolume, dataset or FAT partition, found through fstab and mount points."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from entrytrees import DATA, load
from hypothesis import given
from hypothesis import strategies as st
from init_doubles import UUID, MemoryPool, bzimage, initrd, system
from test_entries_stated import Pool, esp

from fsdrivers import pools
from fsdrivers.block import BlockDevice, FileDevice
from fsdrivers.filesystem import Filesystem
from fsdrivers.pool import Slot
from init import config, entries
from init.entries import BootEntry, mounts
from init.entries.mounts import Found, Line, Mounted
from init.machine.devices import About
from init.roots import BootRoot
from init.survey import Survey
from init.trust import Trust

KERNEL = {"vmlinuz-6.12.1": bzimage("6.12.1"), "initrd.img-6.12.1": initrd("6.12.1")}
STATED = f"""
set root='hd0,gpt2'
search --no-floppy --fs-uuid --set=root {UUID}
menuentry 'Stated' {{
 linux PREFIX/vmlinuz-6.12.1 root=UUID={UUID} rootflags=subvol=@ ro stated
 initrd PREFIX/initrd.img-6.12.1
}}
"""


def stated(prefix: str) -> str:
    return STATED.replace("PREFIX", prefix)


def root(fstab: str) -> dict[str, object]:
    tree = system(fstab=fstab.encode())
    tree["lib"]["modules"]["6.12.1"] = {}  # type: ignore[index]
    tree["boot"] = {}
    return tree


def survey(
    monkeypatch: pytest.MonkeyPatch,
    *there: MemoryPool,
    devices: tuple[BlockDevice, ...] = (),
    knobs: str = "",
    trust: Trust | None = None,
) -> tuple[list[BootEntry], list[str]]:
    monkeypatch.setattr(pools, "assemble", lambda *given: list(there))
    found = Survey(devices, config.read(knobs), trust)
    return found.entries(), found.notes


def test_fstab_lines() -> None:
    text = (
        '# x\nUUID="1-2" /my\\040boot/ vfat umask=0077 0 2\n\nLABEL=a\\040b none swap\nbroken line\n/dev/sda1 / auto\n'
    )
    assert mounts.parse(text) == [
        Line("UUID=1-2", "/my boot", "vfat", "umask=0077"), Line("LABEL=a b", "none", "swap", "defaults"),
        Line("/dev/sda1", "/", "auto", "defaults"),
    ]  # fmt: skip


@given(
    st.text(max_size=300)
    | st.lists(st.sampled_from(["UUID=", "/boot", " ", "\t", "vfat", "\n", "\\040", "#"])).map("".join)
)
def test_no_fstab_stops_us(text: str) -> None:
    pool = MemoryPool({"@": root(text)})
    place = BootRoot(pool, pool.roots()[0], pool.open("@"))
    assert mounts.mount(place, [pool], [], lambda note: None).filesystem is place.filesystem


# --- another subvolume ------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["subvol=@boot", "noatime,subvol=/@boot", "subvolid=258"])
def test_kernels_in_another_subvolume(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    pool = Pool({"/": {}, "@": root(f"UUID={UUID} /boot btrfs {option} 0 0"), "@boot": dict(KERNEL)})
    (entry,), notes = survey(monkeypatch, pool)
    assert (entry.id, entry.kernel, entry.initrds) == (
        "tank:@/6.12.1", "/boot/vmlinuz-6.12.1", ("/boot/initrd.img-6.12.1",),
    )  # fmt: skip
    assert entry.open(entry.initrds[0]).read() == initrd("6.12.1")
    assert entry.cmdline == f"root=UUID={UUID} rootflags=subvol=@ ro"
    assert entry.notes == ()  # the modules are in the root
    assert "tank:@: its /boot is tank:@boot" in notes


@pytest.mark.parametrize("prefix", ["/@boot", "", "/boot"])
def test_grub_in_another_subvolume(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    boot: dict[str, object] = {**KERNEL, "grub": {"grub.cfg": stated(prefix).encode()}}
    pool = Pool({"/": {}, "@": root(f"UUID={UUID} /boot btrfs subvol=@boot 0 0"), "@boot": boot})
    (entry,), _ = survey(monkeypatch, pool)
    assert (entry.title, entry.kernel) == ("Stated", "/boot/vmlinuz-6.12.1")
    assert entry.cmdline.endswith("ro stated")


def test_a_boot_pool_of_btrfs_is_searched_for_by_its_own_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    text = stated("").replace(f"--set=root {UUID}", "--set=root 99-99")
    boot = Pool({"/": {**KERNEL, "grub": {"grub.cfg": text.encode()}}}, "boot", "99-99")
    pool = Pool({"/": {}, "@": root("LABEL=boot /boot btrfs defaults 0 0")})
    found, _ = survey(monkeypatch, pool, boot)
    assert ("Stated", "/boot/vmlinuz-6.12.1") in [(one.title, one.kernel) for one in found]


def test_a_subvolume_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool({"/": {}, "@": root(f"UUID={UUID} /boot btrfs subvol=@gone")})
    assert survey(monkeypatch, pool) == (
        [], ["tank:@: its /boot: subvolume @gone of tank: no such file or directory"],
    )  # fmt: skip


# --- datasets ---------------------------------------------------------------------------------


class ZfsPool(MemoryPool):
    """Datasets in memory, some of which mount at /boot."""

    def __init__(self, trees: dict[str, Any], name: str, *on_boot: str, **more: Any) -> None:
        super().__init__(trees, name, f"7{len(name)}", kind="zfs", **more)
        self.on_boot = list(on_boot)
        self.noauto: list[str] = []

    def mounted(self, *canmount: str) -> list[tuple[str, str]]:
        if canmount == ("noauto",):
            return [(name, "/boot") for name in self.noauto]
        return [(self.name, f"/{self.name}"), *((name, "/boot") for name in self.on_boot)]

    def open(self, root: str | None = None) -> Filesystem:
        filesystem = super().open(root)
        filesystem.kind, filesystem.uuid = "zfs", self.uuid
        return filesystem


CFG = (
    "search --fs-uuid --set=root 000000000000004b\n"
    "menuentry 'bpool' {{\nlinux /BOOT/{0}@/vmlinuz-6.12.1 root=ZFS=rpool/ROOT/{0} ro\n"
    "initrd /BOOT/{0}@/initrd.img-6.12.1\n}}\n"
)


def bpool(*names: str) -> ZfsPool:
    trees: dict[str, Any] = {"bpool": {}}
    for name in names:
        trees[f"bpool/BOOT/{name}"] = {**KERNEL, "grub": {"grub.cfg": CFG.format(name).encode()}}
    return ZfsPool(trees, "bpool", *list(trees)[1:])


@pytest.mark.parametrize("fstab", ["", "bpool/BOOT/one /boot zfs nodev,relatime 0 0"])
def test_a_dataset_of_the_boot_pool(monkeypatch: pytest.MonkeyPatch, fstab: str) -> None:
    rpool = ZfsPool({"rpool/ROOT/one": root(fstab)}, "rpool")
    found, notes = survey(monkeypatch, rpool, bpool("other", "one"))
    assert "rpool:rpool/ROOT/one: its /boot is bpool:bpool/BOOT/one" in notes
    assert found[0].title == "bpool"
    assert found[0].open(found[0].initrds[0]).read() == initrd("6.12.1")
    assert found[0].cmdline.split()[0] == "root=ZFS=rpool/ROOT/one"


def test_which_dataset_it_is_must_be_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    rpool = ZfsPool({"rpool/ROOT/x": root("")}, "rpool")
    assert survey(monkeypatch, rpool, bpool("one", "two"))[0] == []
    assert survey(monkeypatch, rpool, bpool("one"))[0] != []
    filled = root("")
    filled["boot"] = dict(KERNEL)
    found, notes = survey(monkeypatch, ZfsPool({"rpool/ROOT/x": filled}, "rpool"), bpool("one"))
    assert (len(found), notes) == (1, [])


def test_a_dataset_of_a_stick_that_mounts_at_boot_lends_no_kernel_by_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Any pool may say so, with a name that fits better than that of the own one."""
    disks = []
    for name in ("disk", "stick"):
        (tmp_path / name).write_bytes(bytes(4096))
        disks.append(FileDevice(str(tmp_path / name)))
    trust = Trust({disks[1].name: About(removable=True)})
    rpool, own, stick = ZfsPool({"rpool/ROOT/one": root("")}, "rpool"), bpool("one"), bpool("one")
    stick.on_boot, stick.uuid = ["rpool/ROOT/one/boot"], "666"
    stick.trees = {"rpool/ROOT/one/boot": stick.trees["bpool/BOOT/one"]}
    stick.name = "rpool"
    for pool, disk in ((rpool, disks[0]), (own, disks[0]), (stick, disks[1])):
        pool.devices, pool.slots = (disk,), (Slot(1, pool.uuid, disk.name, "online"),)
    found, _ = survey(monkeypatch, rpool, own, stick, devices=tuple(disks), trust=trust)
    boots = [mounts.at_boot(entry.place.boot) for entry in found if entry.place.pool is rpool]
    assert boots
    assert all(boot and boot.pool is own for boot in boots)
    assert not any(entry.ask for entry in found if entry.place.pool is rpool)
    found, _ = survey(monkeypatch, rpool, stick, devices=tuple(disks), trust=trust)
    lent = [entry for entry in found if entry.place.pool is rpool]
    assert lent
    assert all(entry.ask.startswith("its /boot is on ") and entry.plugged for entry in lent)


def test_a_boot_environment_has_its_own_boot_though_another_one_is_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    boot = bpool("one", "two")
    boot.on_boot, boot.noauto = ["bpool/BOOT/one"], ["bpool/BOOT/two"]
    for name, wanted in {"one": "one", "two": "two", "x": "one"}.items():
        notes = survey(monkeypatch, ZfsPool({f"rpool/ROOT/{name}": root("")}, "rpool"), boot)[1]
        assert f"rpool:rpool/ROOT/{name}: its /boot is bpool:bpool/BOOT/{wanted}" in notes


def test_of_two_boot_environments_the_one_that_the_boot_loader_starts_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trees = {"rpool": {}, "rpool/ROOT/before": root(""), "rpool/ROOT/one": root("")}
    found, notes = survey(monkeypatch, ZfsPool(trees, "rpool"), bpool("one"))
    assert [(one.title, one.cmdline.split()[0]) for one in found] == [
        ("bpool", "root=ZFS=rpool/ROOT/one"), ("Test Linux 1, kernel 6.12.1", "root=ZFS=rpool/ROOT/before"),
    ]  # fmt: skip
    assert "rpool:rpool/ROOT/before: entry 'bpool' is passed over: it is for rpool/ROOT/one" in notes
    # Unless the pool itself has another wish.
    trees = {"rpool/ROOT/before": root(""), "rpool/ROOT/one": root("")}
    found, _ = survey(monkeypatch, ZfsPool(trees, "rpool"), bpool("one"))
    assert found[0].cmdline.split()[0] == "root=ZFS=rpool/ROOT/before"


def test_ubuntus_history_is_left_out_for_the_snapshots_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    name, tree = "ROOT/ubuntu_8bk3x2", load(DATA / "ubuntu-22.04-zfs-bpool" / "tree" / "boot")
    earlier = [f"rpool/{name}@{snapshot}" for snapshot in ("autozsys_k56fr6", "before-upgrade")]
    rpool = ZfsPool({one: root("") for one in (f"rpool/{name}", *earlier)}, "rpool", readonly=tuple(earlier))
    boot = ZfsPool({"bpool": {}, "bpool/BOOT/ubuntu_8bk3x2": tree}, "bpool", "bpool/BOOT/ubuntu_8bk3x2")
    boot.uuid = "7556890201003380076"
    found, notes = survey(monkeypatch, rpool, boot)
    assert [one.title for one in found if not one.rescue] == [
        "Ubuntu 22.04 LTS", "Ubuntu 22.04 LTS, with Linux 5.15.0-89-generic",
    ]  # fmt: skip
    assert found[0].cmdline == f"root=ZFS=rpool/{name} ro quiet splash vt.handoff=1"
    assert notes[1:] == [
        f"rpool:rpool/{name}: 8 entries for its snapshots are left out: these are listed of themselves"
    ]


def test_a_snapshot_goes_with_the_snapshot_of_its_boot() -> None:
    rpool = ZfsPool({"rpool/ROOT/one@s": root("")}, "rpool", readonly=("rpool/ROOT/one@s",))
    boot = bpool("one")
    boot.trees["bpool/BOOT/one@s"] = {"vmlinuz-old": b"old"}
    place = BootRoot(rpool, rpool.roots()[0], rpool.open("rpool/ROOT/one@s"))
    notes: list[str] = []
    assert mounts.mount(place, [rpool, boot], [], notes.append).files.exists("/boot/vmlinuz-old")
    assert notes == ["rpool:rpool/ROOT/one@s: its /boot is bpool:bpool/BOOT/one@s"]


def test_a_snapshot_boots_the_kernels_of_the_snapshot_of_its_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    rpool = ZfsPool(
        {"rpool/ROOT/one": root(""), "rpool/ROOT/one@s": root(""), "rpool/ROOT/one@alone": root("")}, "rpool",
        readonly=("rpool/ROOT/one@s", "rpool/ROOT/one@alone"),
    )  # fmt: skip
    boot = bpool("one")
    boot.trees["bpool/BOOT/one@s"] = {"vmlinuz-6.12.0": KERNEL["vmlinuz-6.12.1"], "initrd.img-6.12.0": b"old"}
    found, _ = survey(monkeypatch, rpool, boot, knobs="poolboot.entry=rpool/ROOT/one@s")
    (entry,) = [one for one in found if one.snapshot]
    assert (entry.kernel, entry.open(entry.initrds[0]).read()) == ("/boot/vmlinuz-6.12.0", b"old")
    assert entry.cmdline.split()[0] == "root=ZFS=rpool/ROOT/one@s"
    # Without one, those of the root as it is now.
    found, _ = survey(monkeypatch, rpool, boot, knobs="poolboot.entry=rpool/ROOT/one@alone")
    (entry,) = [one for one in found if one.snapshot]
    assert (entry.kernel, entry.open(entry.initrds[0]).read()) == ("/boot/vmlinuz-6.12.1", initrd("6.12.1"))
    assert entry.cmdline.split()[0] == "root=ZFS=rpool/ROOT/one@alone"


# --- partitions -------------------------------------------------------------------------------


@pytest.fixture
def kernels(tmp_path: Path) -> Path:
    files = tmp_path / "files"
    files.mkdir()
    for name, data in KERNEL.items():
        (files / name).write_bytes(data)
    return files


@pytest.mark.parametrize(
    "what", ["UUID={serial}", "/dev/disk/by-uuid/{serial}", "PARTUUID={partuuid}", "LABEL=NO NAME", "{name}"]
)
def test_kernels_on_a_fat_partition(monkeypatch: pytest.MonkeyPatch, kernels: Path, tmp_path: Path, what: str) -> None:
    from fsdrivers import fat
    from fsdrivers.partitions import partitions

    device = esp(tmp_path / "disk.img", kernels)
    (part,) = partitions(device)
    filesystem = fat.open(part)
    if what.startswith("LABEL"):
        what = f"LABEL={filesystem.label.strip()}".replace(" ", "\\040")
    line = what.format(serial=filesystem.uuid, partuuid=part.uuid.upper(), name=part.name)
    pool = Pool({"/": {}, "@": root(f"{line} /boot vfat umask=0077 0 2")})
    (entry,), notes = survey(monkeypatch, pool, devices=(device,))
    assert entry.id == "tank:@/6.12.1"
    assert entry.open(entry.initrds[0]).read() == initrd("6.12.1")
    assert notes == [f"tank:@: its /boot is {part.name}"]


@pytest.mark.parametrize("what", ["UUID={serial}", "PARTUUID={partuuid}"])
def test_of_two_partitions_with_one_id_the_one_beside_the_root_is_meant(
    monkeypatch: pytest.MonkeyPatch, kernels: Path, tmp_path: Path, what: str
) -> None:
    from fsdrivers import fat
    from fsdrivers.partitions import partitions

    foreign = esp(tmp_path / "foreign.img", kernels)
    own = FileDevice(str(shutil.copy(tmp_path / "foreign.img", tmp_path / "own.img")))
    devices = foreign, own
    parts = [partitions(device)[0] for device in devices]
    line = what.format(serial=fat.open(parts[1]).uuid, partuuid=parts[1].uuid)
    pool = Pool({"/": {}, "@": root(f"{line} /boot vfat umask=0077 0 2")})
    found, notes = survey(monkeypatch, pool, devices=devices)
    assert found == []
    assert f"which is {parts[0].name}, {parts[1].name}: none of them is taken; detach others" in notes[0]
    stick = Trust({foreign.name: About(removable=True)})
    found, notes = survey(monkeypatch, pool, devices=devices, trust=stick)  # a copy that was plugged in stops nothing
    assert [(entry.ask, entry.plugged) for entry in found] == [("", False)]
    assert notes == [f"tank:@: its /boot is {parts[1].name}"]
    (lent,), _ = survey(monkeypatch, pool, devices=(foreign,), trust=stick)  # ends no wait for the own one
    assert lent.plugged
    assert not lent.never
    assert lent.ask.startswith("its /boot is on ")
    pool.devices = (devices[1],)
    found, notes = survey(monkeypatch, pool, devices=devices)
    assert len(found) == 1
    assert notes == [f"tank:@: its /boot is {parts[1].name}"]


def test_where_we_came_from_and_where_we_write_is_no_copy(
    monkeypatch: pytest.MonkeyPatch, kernels: Path, tmp_path: Path
) -> None:
    from fsdrivers.errors import Ambiguous
    from fsdrivers.partitions import partitions
    from init.firmware import esp as esps
    from init.firmware import stub
    from init.machine.devices import About
    from init.refused import Refused
    from init.trust import Trust

    devices = foreign, own = esp(tmp_path / "foreign.img", kernels), esp(tmp_path / "own.img", kernels)
    came = stub.Origin(partitions(own)[0].uuid, "/EFI/BOOT/BOOTX64.EFI", False)
    found = stub.own_partition(came, [own])
    assert found is not None
    assert found.parent is own
    with pytest.raises(Ambiguous, match=r"is on .*foreign.*own.*: none of them is taken"):
        stub.own_partition(came, devices)
    monkeypatch.setattr(esps, "fat_label", lambda partition: "poolboot")
    with pytest.raises(Refused, match="all answer to it"):
        esps.find(devices, "", Trust())
    assert esps.find(devices, "", Trust(origin=own.name)).parent is own
    plugged = Trust({foreign.name: About(removable=True, bus="usb")})
    assert esps.find(devices, "", plugged).parent is own
    with pytest.raises(Refused, match="there is none"):
        esps.find([foreign], "", plugged)


def test_counted_entries_on_a_partition_that_is_the_boot_of_a_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each once, and with the file that counts, as it is called on the partition."""
    device = esp(tmp_path / "disk.img", DATA / "systemd-257-type1" / "tree")
    uuid = "5f0e1b7c-8f5a-4d0b-9a53-0c6f1de2a001"
    pool = Pool({"@": root("PARTUUID=00000000-0000-0000-0000-000000000007 /boot vfat")}, uuid=uuid)
    found, _ = survey(monkeypatch, pool, devices=(device,))
    assert sorted(one.version for one in found) == ["6.12.38+deb13-amd64", "6.12.41+deb13-amd64", "6.9.12-amd64"]
    (counted,) = [one.counter for one in found if one.counter]
    assert counted.path == "/loader/entries/2f1c0d0e4b9c4a0c8a7d5e6f7a8b9c0d-6.12.41+deb13-amd64+3.conf"
    assert counted.counted_down().endswith("-6.12.41+deb13-amd64+2-1.conf")


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_what_cannot_be_read_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    pool = Pool({"/": {}, "@": root(f"UUID=1-2-3 /boot {kind} defaults 0 2")})
    assert survey(monkeypatch, pool) == (
        [],
        [f"tank:@: /etc/fstab has /boot on UUID=1-2-3, which is {kind}: that cannot be read here; "
         "move /boot into the root, or onto an EFI system partition"],
    )  # fmt: skip


def test_a_partition_that_is_not_here_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = root("PARTLABEL=boot /boot vfat")
    tree["boot"] = dict(KERNEL)  # what lies below the mount point serves then
    found, notes = survey(monkeypatch, Pool({"/": {}, "@": tree}))
    assert len(found) == 1
    assert notes == ["tank:@: /etc/fstab has /boot on PARTLABEL=boot, which is not here"]


def test_a_tree_with_another_one_in_it() -> None:
    pool = MemoryPool({"@": {"boot": {"below": b"1"}, "link": "/boot/in", "up": "boot/../link"}, "b": {"in": b"22"}})
    tree = Mounted(pool.open("@"), Found(pool.open("b"), "b"))
    assert tree.read_file("/link", 9) == tree.read_file("/up", 9) == b"22"
    assert [entry.name for entry in tree.listdir("/boot")] == ["in"]
    assert [entry.name for entry in tree.listdir("/")] == ["boot", "link", "up"]
    assert not tree.exists("/boot/below")
    assert tree.stat(tree.resolve("/")).inode != tree.stat(tree.resolve("/boot")).inode
    assert tree.xattrs(tree.root()) == {}
    assert entries.find(BootRoot(pool, pool.roots()[0], tree.below, boot=tree), config.read(""), print) == []
