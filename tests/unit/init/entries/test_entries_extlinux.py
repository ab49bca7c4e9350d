"""extlinux.conf and syslinux.cfg beyond the golden tree."""

from __future__ import annotations

import pytest
from entrytrees import Tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from init.entries import extlinux
from init.entries.item import Listing

SYSLINUX = """
UI menu.c32
PROMPT 0
MENU TITLE Boot Menu
TIMEOUT 50
DEFAULT arch
APPEND shared=1

LABEL arch
    MENU LABEL ^Arch Linux
    LINUX ../vmlinuz-linux
    APPEND root=UUID=1 rw
    INITRD ../ucode.img,../initramfs-linux.img

label old
    kernel /boot/vmlinuz-linux
    append initrd=/boot/initramfs-linux.img root=UUID=1
label none
    linux /boot/vmlinuz-linux
    append -
label shared
    linux /boot/vmlinuz-linux
LABEL hdt
    MENU LABEL HDT (Hardware Detection Tool)
    COM32 hdt.c32
LABEL chain
    KERNEL chain.c32
LABEL local
    LOCALBOOT 0
label gone
    linux /boot/gone
INCLUDE more.cfg
MENU INCLUDE syslinux.cfg
"""


def listing(config: str, more: str = "") -> Listing:
    boot: dict[str, object] = {
        "syslinux": {"syslinux.cfg": config.encode("utf-8", "surrogateescape"), "more.cfg": more.encode()},
        "vmlinuz-linux": b"k", "initramfs-linux.img": b"i", "ucode.img": b"u",
    }  # fmt: skip
    return extlinux.entries(Tree({"boot": boot}))


def test_syslinux() -> None:
    found = listing(SYSLINUX, "label more\nlinux /vmlinuz-linux\nmenu default\n")
    items = {item.id: item for item in found.items}
    assert set(items) == {"arch", "old", "none", "shared", "more"}
    arch = items["arch"]
    assert (arch.title, arch.options) == ("Arch Linux", "root=UUID=1 rw")
    assert arch.kernel.endswith("vmlinuz-linux")
    assert len(arch.initrds) == 2
    assert items["old"].initrds == ("/boot/initramfs-linux.img",)
    assert items["old"].options == "root=UUID=1"
    assert items["none"].options == ""
    assert items["shared"].options == "shared=1"
    assert items["more"].kernel == "/boot/vmlinuz-linux"
    assert found.default is not None
    assert found.items[found.default].id == "more"
    for name in ("hdt", "chain", "local", "gone", "syslinux.cfg"):
        assert any(name in note for note in found.notes), (name, found.notes)


@pytest.mark.parametrize(
    ("config", "default"),
    [("default b\nlabel a\nlinux /vmlinuz-linux\nlabel b\nlinux /vmlinuz-linux", 1),
     ("label a\nlinux /vmlinuz-linux", 0), ("default x\nlabel a\nlinux /vmlinuz-linux", None), ("", None)],
)  # fmt: skip
def test_default(config: str, default: int | None) -> None:
    assert listing(config).default == default


def test_hostile() -> None:
    assert len(listing("label x\nlinux /vmlinuz-linux\n" * 3000).items) <= 512
    assert listing("x\n" * 200_000).notes
    assert not listing("label a\nlinux /vmlinuz-linux\nappend " + "x" * 70_000).items
    assert extlinux.entries(Tree({"extlinux.conf": "extlinux.conf"})).notes
    assert not extlinux.entries(Tree({"extlinux.conf": {}})).items


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["label", "LINUX", "kernel", "append", "initrd", "menu", "include", "default", "fdt", ""]),
            st.one_of(
                st.sampled_from(
                    ["a", "/vmlinuz-linux", "label x", "default", "syslinux.cfg", "more.cfg", "-", "../.."]
                ),
                st.text(max_size=20),
            ),
        ),
        max_size=12,
    )
)
def test_any_file_ends(lines: list[tuple[str, str]]) -> None:
    found = listing("\n".join(f"{key} {value}" for key, value in lines), "include more.cfg\nlabel z\n")
    assert isinstance(found, Listing)


def test_what_only_u_boot_knows_is_left_out() -> None:
    config = b"label a\nlinux ../k\nappend ${cbootargs} root=/dev/x ${bootargs} quiet\n"
    found = extlinux.entries(Tree({"boot": {"extlinux": {"extlinux.conf": config}, "k": b"k"}}, "btrfs"))
    assert found.items[0].options == "root=/dev/x quiet"
    assert found.items[0].kernel == "/boot/k"
    assert "U-Boot" in found.items[0].remarks[0]


def test_dots_behind_a_link_stay() -> None:
    config = b"label a\nlinux link/../k\n"
    tree: dict[str, object] = {
        "boot": {"extlinux": {"extlinux.conf": config, "link": "/other/place", "k": b"wrong"}},
        "other": {"place": {}, "k": b"right"},
    }
    filesystem = Tree(tree, "btrfs")
    found = extlinux.entries(filesystem)
    assert filesystem.read_file(found.items[0].kernel, 9) == b"right"


SUFFIXES = ["vmlinuz-6.1.0", "linux.bin", "image.img", "sector.bs", "vmlinuz.efi", "menu.c32"]


@pytest.mark.parametrize("name", SUFFIXES)
def test_a_suffix_counts_behind_kernel_alone_and_for_syslinux_alone(name: str) -> None:
    """doc/syslinux.txt, 6.03: KERNEL judges by the name, LINUX never; to U-Boot's pxe_utils.c they are one."""

    def ids(text: str) -> list[str]:
        tree = Tree({"extlinux": {"extlinux.conf": text.encode()}, name: b"k"})
        return [item.id for item in extlinux.entries(tree).items]

    assert ids(f"label a\nlinux /{name}\n") == ["a"]
    assert ids(f"label a\nkernel /{name}\n") == []
    assert ids(f"label a\nkernel /{name}\nfdtdir /dtbs\n") == ["a"]
    assert ids(f"label a\nlinux /other\nkernel /{name}\nlinux /{name}\n") == ["a"]
