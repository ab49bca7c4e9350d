"""Boot Loader Specification type 1 beyond the golden trees: the grammar's corners, hostile files, fuzz."""

from __future__ import annotations

import pytest
from entrytrees import DATA, Tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from init.entries import bls, blsrules
from init.entries.item import Item, Listing


def listing(files: dict[str, str], where: str = "loader", extra: dict[str, object] | None = None) -> Listing:
    entries: dict[str, object] = {name: text.encode("utf-8", "surrogateescape") for name, text in files.items()}
    tree: dict[str, object] = {where: {"entries": entries}, "k": b"kernel", "i": b"initrd", "j": b"more"}
    return bls.entries(Tree(tree | (extra or {}), "fat"))


def only(text: str, name: str = "x.conf") -> Item:
    found = listing({name: text})
    assert len(found.items) == 1, found.notes
    return found.items[0]


def test_blanks_comments_and_repeated_keys() -> None:
    item = only(
        "# comment\n\ttitle\t  A  system \r\n  linux\t/k\n\ninitrd /i\ninitrd\t \t/j\noptions a=1  b\n"
        "options c\nnonsense\n"
        'version "6.1"\nunknown-key value\nmachine-id 123\nsort-key s'
    )
    assert (item.title, item.kernel, item.initrds, item.options) == ("A  system", "/k", ("/i", "/j"), "a=1 b c")
    assert (item.version, item.machine_id, item.sort_key) == ("6.1", "123", "s")


def test_quotes_in_options_stay_as_they_are() -> None:
    assert only('linux /k\noptions a "b=c  d" e').options == 'a "b=c  d" e'


def test_variables_come_from_the_environment_block() -> None:
    block = b"# GRUB Environment Block\nkernelopts=root=X ro\n####"
    tree: dict[str, object] = {
        "boot": {
            "grub2": {"grubenv": block},
            "loader": {"entries": {"a.conf": b"linux /k\noptions $kernelopts ${tuned_params} $gone"}},
            "k": b"kernel",
        }
    }
    found = bls.entries(Tree(tree, "btrfs", "@"))
    assert found.items[0].options == "root=X ro"
    assert found.items[0].kernel == "/boot/k"
    assert any("$gone" in note for note in found.notes)
    assert not any("tuned_params" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("a+3-0", ("a", 3, 0)), ("a+0-3", ("a", 0, 3)), ("a+5", ("a", 5, 0)), ("a", ("a", None, 0)),
     ("+3", ("+3", None, 0)), ("6.12+deb13", ("6.12+deb13", None, 0)),
     ("6.12+deb13+2-1", ("6.12+deb13", 2, 1)), ("a+", ("a+", None, 0))],
)  # fmt: skip
def test_counters(name: str, wanted: tuple[str, int | None, int]) -> None:
    assert blsrules.counter(name) == wanted


def test_order() -> None:
    """The specification's: sort-key, machine-id, falling version; then names; what ran out of tries is last."""
    files = {
        "z-6.9.conf": "linux /k\nsort-key b\nversion 6.9",
        "a-6.12.conf": "linux /k\nsort-key b\nversion 6.12",
        "c.conf": "linux /k\nsort-key a\nmachine-id 2\nversion 1",
        "d.conf": "linux /k\nsort-key a\nmachine-id 1\nversion 1",
        "plain-6.9.conf": "linux /k",
        "plain-6.12.conf": "linux /k",
        "new+0-3.conf": "linux /k\nsort-key a\nversion 99",
    }
    assert [item.id for item in listing(files).items] == [
        "d", "c", "a-6.12", "z-6.9", "plain-6.12", "plain-6.9", "new",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [("title x", "no kernel"), ("linux /gone", "/gone"), ("linux /k\ninitrd /gone", "/gone"),
     ("linux /loader", "/loader"), ("linux /k\narchitecture aa64", "aa64"), ("efi /shell.efi", "shell"),
     ("", "no kernel"), ("uki-url http://x/y.efi", "network"), ("linux /k\nuki /k", "several"),
     ("uki /k", "PE"), ("efi /k", "PE"),
     ("linux /../../etc/shadow", "shadow"),
     ("linux /k\noptions " + "x" * 65537, "too"), ("linux /k\n" + "initrd /i\n" * 65, "more than 32 initrds")],
)  # fmt: skip
def test_what_cannot_be_started_is_noted(text: str, why: str) -> None:
    found = listing({"x.conf": text})
    assert not found.items
    assert why in found.notes[0]


def test_architecture_that_fits() -> None:
    assert only("linux /k\narchitecture X64").kernel == "/k"


def test_default_of_loader_conf() -> None:
    files = {"deb-6.1.conf": "linux /k", "deb-6.9.conf": "linux /k"}
    for default, index in (("deb-6.1.conf", 1), ("DEB-6.1*", 1), ("gone", 0), ("@saved", 0), ("", 0)):
        loader: dict[str, object] = {"loader.conf": f"timeout 3\ndefault {default}\n".encode()}
        loader["entries"] = {name: text.encode() for name, text in files.items()}
        assert bls.entries(Tree({"loader": loader, "k": b"x"}, "fat")).default == index


def test_loader_conf_may_prefer_an_entry_as_long_as_it_has_tries() -> None:
    files = {"deb-6.1+1-2.conf": b"linux /k", "deb-6.2+0-3.conf": b"linux /k", "deb-6.9.conf": b"linux /k"}
    for preferred, wanted in (("deb-6.1.conf", "deb-6.1"), ("deb-6.2*", "deb-6.9")):
        conf = f"preferred {preferred}\ndefault deb-6.9.conf".encode()
        tree: dict[str, object] = {"loader": {"loader.conf": conf, "entries": dict(files)}, "k": b"x"}
        found = bls.entries(Tree(tree, "fat"))
        assert found.default is not None
        assert found.items[found.default].id == wanted
        assert found.named


def test_saved_is_known_to_the_loader_alone() -> None:
    loader: dict[str, object] = {"loader.conf": b"default @saved", "entries": {"a.conf": b"linux /k"}}
    found = bls.entries(Tree({"loader": loader, "k": b"x"}, "fat"))
    assert (found.default, found.named) == (0, False)
    assert "@saved" in found.notes[0]


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert only("\ufefflinux /k\ntitle T").title == "T"


def test_file_names_that_are_no_entries() -> None:
    names = ("a.conf", "B.CONF", ".hidden.conf", "auto-reboot.conf", "x.conf.bak", "conf")
    assert [item.id for item in listing(dict.fromkeys(names, "linux /k")).items] == ["a", "B"]


def test_fedoras_grub_has_options_and_initrds_for_all_entries() -> None:
    """grub-core/commands/blscfg.c:create_entry: where options are missing, and in front of an entry's initrds."""
    tree: dict[str, object] = {
        "loader": {"entries": {"a.conf": b"linux /d/k\ninitrd /d/i", "b.conf": b"linux /d/k\noptions own"}},
        "d": {"k": b"k", "i": b"i", "early.img": b"e"},
    }
    variables = {"default_kernelopts": "root=X ro", "early_initrd": "early.img"}
    found = {item.id: item for item in bls.entries(Tree(tree, "ext4"), "x86_64", variables).items}
    assert (found["a"].options, found["a"].initrds) == ("root=X ro", ("/d/early.img", "/d/i"))
    assert (found["b"].options, found["b"].initrds) == ("own", ("/d/early.img",))


UKI = (DATA / "systemd-257-type2" / "tree" / "EFI" / "Linux" / "debian-6.9.12-amd64.efi").read_bytes()


@pytest.mark.parametrize("key", ["uki", "efi", "linux"])
def test_unified_images_in_entries(key: str) -> None:
    """The image's own initrd and command line count, as its stub has it; options in their place, profiles by number."""
    images: dict[str, object] = {"EFI": {"Linux": {"x.efi": UKI}}}
    files = {
        "plain.conf": f"{key} /EFI/Linux/x.efi",
        "stated.conf": f"{key} /EFI/Linux/x.efi\noptions mine\ninitrd /i\ntitle T\nversion 9",
        "profile.conf": f"{key} /EFI/Linux/x.efi\nprofile 1",
        "gone.conf": f"{key} /EFI/Linux/x.efi\nprofile 7",
    }
    found = listing(files, extra=images)
    items = {item.id: item for item in found.items}
    assert items["plain"].kernel == "/EFI/Linux/x.efi#.linux"
    assert items["plain"].initrds == ("/EFI/Linux/x.efi#.initrd",)
    assert items["plain"].options.startswith("root=")
    assert items["plain"].version
    assert items["stated"].initrds == ("/EFI/Linux/x.efi#.initrd", "/i")
    assert (items["stated"].options, items["stated"].title, items["stated"].version) == ("mine", "T", "9")
    assert items["profile"].kernel == "/EFI/Linux/x.efi#.linux@1"
    assert items["profile"].options != items["plain"].options
    assert "profile 7" in found.notes[0]


def test_kernels_whose_name_ends_like_an_image() -> None:
    """NixOS calls all of them so, on an EFI system partition."""
    kernels: dict[str, object] = {"gz-Image.efi": b"\x1f\x8b" + bytes(100), "bzImage.efi": b"MZ" + bytes(100)}
    for name in kernels:
        (item,) = listing({"nixos-generation-1.conf": f"linux /{name}\ninitrd /i"}, extra=kernels).items
        assert (item.kernel, item.initrds) == (f"/{name}", ("/i",))


def test_hostile_directories() -> None:
    many: dict[str, object] = {f"{number}.conf": b"linux /k" for number in range(2000)}
    assert len(bls.entries(Tree({"loader": {"entries": many}, "k": b"x"}, "fat")).items) <= 512
    assert not bls.entries(Tree({"loader": "loader"}, "fat")).items
    assert bls.entries(Tree({"loader": {"entries": {"a.conf": b"x" * 100_000}}}, "fat")).notes
    loop = bls.entries(Tree({"loader": {"entries": {"a.conf": "a.conf"}}}, "fat"))
    assert (loop.items, len(loop.notes)) == ((), 1)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["title", "linux", "initrd", "options", "version", "sort-key", "architecture", "efi", "x",
                             "uki", "profile"]),
            st.sampled_from([" ", "\t", "", "  \t", "="]),
            st.one_of(st.sampled_from(["/k", "/i", "/u.efi", "1", "$a", "${", '"']), st.text(max_size=20)),
        ),
        max_size=8,
    ),
    st.text(max_size=10),
)  # fmt: skip
def test_any_file_ends(lines: list[tuple[str, str, str]], name: str) -> None:
    text = "\n".join(map("".join, lines))
    found = listing({name.replace("/", "").replace("\0", "") + ".conf": text}, extra={"u.efi": UKI})
    assert all(item.kernel in ("/k", "/i", "/j") or item.kernel.startswith("/u.efi#.linux") for item in found.items)
    blsrules.parse(name)
