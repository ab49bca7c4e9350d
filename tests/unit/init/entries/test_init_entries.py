"""Kernels of /boot with their initrds, the command lines for them, and which one is booted."""

from __future__ import annotations

import json

import places
import pytest
from hypothesis import given
from hypothesis import strategies as st
from init_doubles import UUID, MemoryPool, bzimage, initrd, place, system
from memoryfs import Damaged

from fsdrivers.errors import Corrupt
from init import config, entries, roots
from init.entries import BootEntry, cmdline, kernels, policy
from init.roots import BootRoot

DATA = places.DATA / "init"


def find(where: BootRoot, knobs: str = "") -> tuple[list[BootEntry], list[str]]:
    notes: list[str] = []
    return policy.arrange(entries.find(where, config.read(knobs), notes.append)), notes


# --- pairing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("distro", sorted(path.stem for path in (DATA / "boot").glob("*.json")))
def test_pairing_as_each_distro_names_things(distro: str) -> None:
    golden = json.loads((DATA / "boot" / f"{distro}.json").read_text())
    pairs = [[pair.version, pair.kernel, list(pair.initrds)] for pair in kernels.pair(golden["names"], "/boot")]
    assert sorted(pairs) == sorted(golden["pairs"])


@given(
    st.lists(
        st.sampled_from(["vmlinuz-", "initrd.img-", ".img", "6.1", "vmlinuz", "old", "~", "{", "}", "%s"]).map(str),
        max_size=30,
    ),
    st.text(max_size=8),
)
def test_no_name_in_boot_stops_pairing(names: list[str], odd: str) -> None:
    joined = ["".join(names[i : i + 3]) + odd for i in range(0, len(names), 3)]
    for pair in kernels.pair(joined, "/boot"):
        assert pair.kernel.removeprefix("/boot/") in joined
        assert all(path.removeprefix("/boot/") in joined for path in pair.initrds)


def test_the_newest_version_comes_first_not_the_largest_string() -> None:
    found, notes = find(place(system("6.9.7", "6.12.1", "6.1.0-28", "6.1.0-9")))
    assert [entry.version for entry in found] == ["6.12.1", "6.9.7", "6.1.0-28", "6.1.0-9"]
    assert found[0].title == "Test Linux 1, kernel 6.12.1"
    assert found[0].id == "tank:@/6.12.1"
    assert found[0].source == "/boot of tank:@"
    assert notes == []


def test_a_kernel_without_its_initrd_comes_after_those_that_have_one() -> None:
    tree = system("6.1.0-9", "6.12.1")
    del tree["boot"]["initrd.img-6.12.1"]  # type: ignore[attr-defined]
    found, _ = find(place(tree))
    assert [entry.version for entry in found] == ["6.1.0-9", "6.12.1"]
    assert found[1].notes == ("no initrd: only a kernel with the root's driver built in can start this",)


def test_a_link_to_a_kernel_is_no_second_kernel() -> None:
    tree = system("6.8.0-49-generic")
    tree["boot"] |= {"vmlinuz": "vmlinuz-6.8.0-49-generic", "initrd.img": "initrd.img-6.8.0-49-generic",
                     "vmlinuz-gone": "nowhere", "vmlinuz-dir": {"x": b"xx"}}  # type: ignore[operator]  # fmt: skip
    found, notes = find(place(tree))
    assert [entry.kernel for entry in found] == ["/boot/vmlinuz-6.8.0-49-generic"]
    assert notes == ["kernel passed over: /boot/vmlinuz-gone: no such file or directory"]


def test_an_initrd_for_what_a_link_leads_to() -> None:
    """Slackware: /boot/initrd.gz goes with /boot/vmlinuz, whichever kernel that is."""
    tree = system()
    tree["boot"] = {"vmlinuz-generic-5.15.19": bzimage("5.15.19"), "vmlinuz": "vmlinuz-generic-5.15.19",
                    "vmlinuz-huge-5.15.19": bzimage("5.15.19"), "initrd.gz": b"i"}  # fmt: skip
    found, _ = find(place(tree))
    assert [(entry.kernel, entry.initrds) for entry in found] == [
        ("/boot/vmlinuz", ("/boot/initrd.gz",)), ("/boot/vmlinuz-huge-5.15.19", ()),
    ]  # fmt: skip


def test_a_kernel_whose_name_has_no_version_tells_it_itself() -> None:
    tree = system()
    tree["boot"] = {"vmlinuz-linux": bzimage("6.12.1-arch1-1"), "initramfs-linux.img": initrd("arch")}
    tree["etc"] = {"os-release": (DATA / "os-release" / "arch").read_bytes()}
    (entry,), _ = find(place(tree))
    assert (entry.id, entry.version) == ("tank:@/linux", "6.12.1-arch1-1")
    assert entry.title == "Arch Linux, kernel 6.12.1-arch1-1"
    assert entry.notes == ("no /lib/modules/6.12.1-arch1-1 in this root",)


def test_kernels_in_the_top_directory_when_boot_has_none() -> None:
    tree = system()
    tree |= {"vmlinuz": bzimage("5.10.0-1-amd64"), "initrd.img": initrd("5.10")}
    (entry,), _ = find(place(tree))
    assert (entry.kernel, entry.initrds, entry.source) == ("/vmlinuz", ("/initrd.img",), "/ of tank:@")


def test_a_damaged_boot_directory_is_told() -> None:
    tree = system("6.1.0-9")
    tree["etc"]["os-release"] = Damaged(Corrupt("vda", "extent", 4096))  # type: ignore[index]
    (entry,), _ = find(place(tree))
    assert entry.title == "Linux, kernel 6.1.0-9"


def test_kernel_and_initrd_by_knob() -> None:
    where = place(system("6.1.0-9", "6.12.1"))
    (entry,), _ = find(where, "poolboot.kernel=boot/vmlinuz-6.1.0-9 poolboot.initrd=/boot/initrd.img-6.12.1,/x")
    assert (entry.kernel, entry.initrds) == ("/boot/vmlinuz-6.1.0-9", ("/boot/initrd.img-6.12.1", "/x"))
    assert find(where, "poolboot.kernel=/gone")[1] == ["tank:@: poolboot.kernel=: /gone: no such file or directory"]
    both, _ = find(where, "poolboot.initrd=/x")
    assert [entry.initrds for entry in both] == [("/x",), ("/x",)]


# --- command line -----------------------------------------------------------------------------

ROOT = f"root=UUID={UUID} rootflags=subvol=@"


def grub(name: str, *drop_ins: str) -> dict[str, object]:
    return {
        "default": {
            "grub": (DATA / "grub" / name).read_bytes(),
            "grub.d": {file.partition(".d-")[2]: (DATA / "grub" / file).read_bytes() for file in drop_ins},
        }
    }


@pytest.mark.parametrize(
    ("etc", "knobs", "wanted"),
    [
        ({}, "", f"{ROOT} ro"),
        ({}, "console=tty0 console=ttyS0,115200", f"{ROOT} ro console=tty0 console=ttyS0,115200"),
        (grub("debian-12"), "console=ttyS0", f"{ROOT} ro quiet console=ttyS0"),
        (grub("ubuntu-24.04"), "", f"{ROOT} ro quiet splash"),
        (grub("ubuntu-24.04", "ubuntu-24.04.d-50-cloudimg-settings.cfg", "ubuntu-24.04.d-kdump-tools.cfg"),
         "console=hvc0",
         f"{ROOT} ro console=tty1 console=ttyS0 crashkernel=2G-4G:320M,4G-32G:512M"),
        (grub("fedora-40"), "", f"{ROOT} ro rhgb quiet"),
        ({"kernel": {"cmdline": b"root=/dev/sda2 rootflags=compress=zstd:1,subvol=/old,degraded rw\nquiet \n"},
          **grub("debian-12")}, "",
         f"root=UUID={UUID} rootflags=subvol=@,compress=zstd:1 rw quiet"),
        ({"kernel": {"cmdline": b'dyndbg="file a.c +p" ro\n'}}, "poolboot.append=single",
         f'{ROOT} dyndbg="file a.c +p" ro single'),
        ({"cmdline.d": {"root.conf": b"rw\n# old\n", "x.conf": b"quiet\n", "x.bak": b"no"}, **grub("debian-12")}, "",
         f"{ROOT} rw quiet"),
        ({"cmdline.d": {"root.conf": b"rw"}, "kernel": {"cmdline": b"ro verbose"}}, "", f"{ROOT} ro verbose"),
        ({"cmdline.d": {"root.conf": b"rw"}, "kernel": {"cmdline": b"ro"}, "mkinitcpio.conf": b""}, "", f"{ROOT} rw"),
        ({"fstab": b"LABEL=x / btrfs noatime,x-systemd.growfs,compress=zstd:1,subvol=/old,defaults 0 0\n"}, "",
         f"{ROOT},compress=zstd:1 ro"),
        ({"fstab": b"LABEL=x / btrfs compress=zstd 0 0\n", **grub("debian-12")}, "", f"{ROOT} ro quiet"),
        (grub("debian-12"), 'poolboot.cmdline="rw single"', f"{ROOT} rw single"),
        (grub("debian-12"), 'poolboot.cmdline="root=/dev/vda ro"', "root=/dev/vda ro"),
    ],
)  # fmt: skip
def test_command_line(etc: dict[str, object], knobs: str, wanted: str) -> None:
    assert cmdline.compute(place(system(**etc)), config.read(knobs)) == (wanted, [])


def test_our_own_knobs_do_not_travel() -> None:
    text, _ = cmdline.compute(place(system()), config.read("poolboot.wait=3 rootdelay=2 quiet root=LABEL=tank"))
    assert text == f"{ROOT} ro"


def test_missing_members_make_the_mount_degraded() -> None:
    etc = {"kernel": {"cmdline": b"ro"}}
    assert cmdline.compute(place(system(**etc), missing=1), config.read(""))[0] == (
        f"root=UUID={UUID} rootflags=subvol=@,degraded ro"
    )


def test_the_top_level_needs_no_subvolume_when_it_is_the_default() -> None:
    pool = MemoryPool({"/": system()})
    where = BootRoot(pool, pool.roots()[0], pool.open("/"))
    assert cmdline.compute(where, config.read(""))[0] == f"root=UUID={UUID} ro"


@pytest.mark.parametrize("name", ["with space", "with,comma", 'with"quote', "with\nline"])
def test_a_name_that_no_command_line_can_carry_goes_by_id(name: str) -> None:
    assert cmdline.compute(place(system(), name), config.read(""))[0] == f"root=UUID={UUID} rootflags=subvolid=257 ro"


def test_a_damaged_configuration_is_told_and_the_next_source_taken() -> None:
    etc = {"kernel": {"cmdline": Damaged(Corrupt("vda", "extent", 4096))}, **grub("debian-12")}
    text, notes = cmdline.compute(place(system(**etc)), config.read(""))
    assert text == f"{ROOT} ro quiet"
    assert notes == ["vda: corrupt extent at offset 0x1000"]


def test_a_huge_configuration_is_not_read() -> None:
    text, notes = cmdline.compute(place(system(default={"grub": b"#" * (cmdline.MAX_FILE + 1)})), config.read(""))
    assert text == f"{ROOT} ro"
    assert "too large" in notes[0]


# --- roots ------------------------------------------------------------------------------------


def names(pool: MemoryPool, knobs: str = "") -> tuple[list[str], list[str]]:
    notes: list[str] = []
    return [found.root.name for found in roots.candidates(pool, config.read(knobs), notes.append)], notes


def test_the_default_first_then_what_looks_like_a_system() -> None:
    home: dict[str, object] = {"user": {}}
    pool = MemoryPool({"/": {}, "data": home, "zeta": system("1"), "@": system("1"), "@home": home})
    assert names(pool) == (["/", "@", "zeta"], [])


def test_snapshots_containers_and_read_only_trees_are_not_booted_unasked() -> None:
    trees = {"/": {}, "@": system(), "@/.snapshots/1/snapshot": system(), "timeshift-btrfs/x": system(),
             "@/var/lib/machines/c1": system(), "frozen": system()}  # fmt: skip
    pool = MemoryPool(dict(trees), readonly=("frozen",))
    assert names(pool) == (["/", "@"], [])
    assert "frozen" not in pool.opened
    assert names(pool, "rootflags=subvol=@/.snapshots/1/snapshot") == (["@/.snapshots/1/snapshot"], [])
    assert names(pool, "rootflags=subvolid=261") == (["frozen"], [])
    assert names(pool, "rootflags=subvol=/") == (["/"], [])


def test_a_subvolume_that_is_not_there_is_told() -> None:
    assert names(MemoryPool({"/": {}}), "rootflags=subvol=gone") == (
        [], ["btrfs tank: has no tree that root= and rootflags= ask for"],
    )  # fmt: skip


def test_thousands_of_subvolumes_are_not_all_opened() -> None:
    pool = MemoryPool({"/": {}, **{f"s{i:04}": {} for i in range(3000)}})
    _, notes = names(pool)
    assert len(pool.opened) == roots.MAX_CANDIDATES + 1
    assert notes == ["btrfs tank: looks at 32 of 3000 trees"]


def test_damage_in_one_tree_leaves_the_others() -> None:
    found, notes = names(MemoryPool({"/": {}, "@": Corrupt("vda", "node", 8192), "root": system()}))
    assert found == ["/", "root"]
    assert notes == ["btrfs tank: @ cannot be opened: vda: corrupt node at offset 0x2000"]
    found, notes = names(MemoryPool({"/": {}}, trouble=Corrupt("vda", "chunk tree", 4096)))
    assert (found, notes) == ([], ["btrfs tank: cannot list its trees: vda: corrupt chunk tree at offset 0x1000"])


@pytest.mark.parametrize(
    ("root", "matches", "text"),
    [
        ("", True, "a btrfs filesystem or ZFS pool"),
        (f"UUID={UUID.upper()}", True, f"the pool with uuid {UUID.upper()}"),
        ("UUID=1234-5678", False, "the pool with uuid 1234-5678"),
        ("LABEL=tank", True, "the pool with label tank"),
        ("LABEL=Tank", False, "the pool with label Tank"),
        (f"/dev/disk/by-uuid/{UUID}", True, f"the pool with uuid {UUID}"),
        ("/dev/disk/by-label/tank", True, "the pool with label tank"),
        ("/dev/vda", True, "the pool with device /dev/vda"),
        ("/dev/vdz", False, "the pool with device /dev/vdz"),
        ("ZFS=tank/ROOT/debian", False, "zfs pool tank"),
        ("zfs:AUTO", False, "any zfs pool"),
        ("PARTUUID=1-2", True, "a btrfs filesystem or ZFS pool"),
    ],
)
def test_root_knob(root: str, matches: bool, text: str) -> None:
    wanted = roots.wanted(root)
    assert (wanted.matches(MemoryPool({"/": {}})), str(wanted)) == (matches, text)
    assert bool(wanted.problem) == root.startswith("PARTUUID")


# --- policy -----------------------------------------------------------------------------------


def several() -> list[BootEntry]:
    notes: list[str] = []
    pool = MemoryPool({"@": system("6.1", "6.12"), "old": system("6.13")})
    found: list[BootEntry] = []
    for where in roots.candidates(pool, config.read(""), notes.append):
        found += entries.find(where, config.read(""), notes.append)
    return policy.arrange(found)


def wish(asked: str) -> policy.Wish:
    return policy.Wish(asked, f"poolboot.entry={asked} asks for it", loud=True)


def ids(choice: policy.Choice) -> list[str]:
    return [entry.id.removeprefix("tank:") for entry in choice.order]


def test_default_is_the_newest_of_the_first_root_then_its_others_then_other_roots() -> None:
    choice = policy.choose(several())
    assert ids(choice) == ["@/6.12", "@/6.1", "old/6.13"]
    assert choice.reasons == ("it is the newest kernel with an initrd on the first bootable root",)


@pytest.mark.parametrize("asked", ["3", "tank:old/6.13", "Test Linux 1, kernel 6.13", "6.13", "6.13.conf", "OLD/"])
def test_entry_by_number_id_title_or_a_part(asked: str) -> None:
    choice = policy.choose(several(), [wish(asked)])
    assert ids(choice) == ["old/6.13", "@/6.12", "@/6.1"]
    assert choice.warning == ""


@pytest.mark.parametrize(
    ("asked", "why"),
    [("0", "there is no such entry"), ("4", "there is no such entry"), ("nothing", "there is no such entry"),
     ("6.", "that may be 3 of the entries")],
)  # fmt: skip
def test_an_entry_that_is_not_there_or_not_the_only_one_warns(asked: str, why: str) -> None:
    choice = policy.choose(several(), [wish(asked)])
    assert ids(choice)[0] == "@/6.12"
    assert choice.warning == f"poolboot.entry={asked}: {why}; taking the default"


def test_a_whole_version_is_no_part_of_another_one() -> None:
    assert ids(policy.choose(several(), [wish("6.1")]))[0] == "@/6.1"


def test_entries_that_are_called_the_same_are_told_apart() -> None:
    found = [entry._replace(id="tank:@/same") for entry in several()]
    assert [entry.id for entry in policy.arrange(found)] == ["tank:@/same", "tank:@/same~2", "tank:@/same~3"]


def test_nothing_to_choose_from() -> None:
    assert policy.choose([], [wish("1")]).order == ()


def test_mount_options_that_no_command_line_can_carry_are_left_out() -> None:
    """Those of an fstab, and those that somebody states: the root boots without them."""
    fstab = b'UUID=1 / btrfs compress=zstd,context="system_u:object_r:x",ssd 0 0\n'
    where = place(system(fstab=fstab))
    assert "rootflags=subvol=@,compress=zstd,ssd ro" in cmdline.compute(where, config.read(""))[0]
    text = cmdline.stated('root=UUID=1 rootflags=a,context="b,c",d', where, config.read(""), own=True)
    assert '"' not in text
    assert "rootflags=subvol=@,a" in text
