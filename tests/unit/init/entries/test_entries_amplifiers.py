"""The worst texts of boot loaders within the bytes that are read of them: what they may cost before a note says so."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from bounded import bounded
from entrytrees import Tree
from hypothesis import given, settings
from hypothesis import strategies as st
from init_doubles import UUID, MemoryPool, system
from peimages import pe

from fsdrivers import pools
from init import config, entries
from init.entries import bls, blsrules, extlinux, fstab, grub, grubenv, shellvars, snapshots, uki, version
from init.entries.item import MAX_ITEMS, MAX_OPTIONS, Listing
from init.entries.policy import globs
from init.kernel import pe as pe_file
from init.roots import BootRoot
from init.survey import MAX_ENTRIES, Survey

K = b"kernel"
ENV = grubenv.SIGNATURE.encode() + b"a=" + b"x" * 60_000 + b"\n"
BLANK_LINE = b"options" + b" " * 65_000 + b"x"

Parser = Callable[[Tree], Listing]


def tree(**boot: object) -> Tree:
    return Tree({"boot": {"vmlinuz": K, "i": K, "d": {}, **boot}})


def bls_tree(entry: bytes, count: int = MAX_ITEMS, conf: bytes = b"", env: bytes = ENV, **more: object) -> Tree:
    files = {f"{number}.conf": entry for number in range(count)}
    return tree(loader={"entries": files, "loader.conf": conf}, grub2={"grubenv": env}, **more)


def ext_tree(text: bytes) -> Tree:
    return tree(extlinux={"extlinux.conf": text})


def grub_tree(text: bytes, **more: object) -> Tree:
    return tree(grub={"grub.cfg": text, "grubenv": ENV}, **more)


def image(number: int, size: int) -> bytes:
    parts = ((b".uname", b"%d" % number), (b".osrel", b"ID=x\n"), (b".cmdline", b"a " * (size // 2)))
    return pe([(b".linux", K), *parts])


def uki_tree(images: int, size: int, addons: int, addon: int, profiles: int = 0) -> Tree:
    found = {f"{number}.efi": image(number, size) for number in range(images)}
    if profiles:
        long = [(b".profile", b"ID=%d\n" % number + b"x" * size) for number in range(profiles)]
        found = {name: pe([(b".linux", K), (b".osrel", b"A=b\n" * (size // 4)), *long]) for name in found}
    extra = {
        f"{number}.addon.efi": pe([(b".cmdline", b"b " * (addon // 2)), (b".initrd", K)]) for number in range(addons)
    }
    beside = {f"{name}.extra.d": extra for name in found}
    return Tree({"EFI": {"Linux": {**found, **beside}}, "loader": {"addons": extra}})


def beside(entry: bytes, count: int) -> Tree:
    """Images beside which there is the same large directory each time; as entries of type 1 if there are any."""
    linux, names = pe([(b".linux", K)]), {f"{number}.cred": b"" for number in range(8000)}
    images: dict[str, object] = {f"{number}.efi": linux for number in range(0 if count else MAX_ITEMS)}
    images |= {f"{name}.extra.d": "/many" for name in images}
    entries = {f"{number}.conf": entry for number in range(count)}
    start = {"x.efi": linux, "x.efi.extra.d": "/many", "many": names}
    return Tree({**start, "EFI": {"Linux": images}, "loader": {"entries": entries}})


def maze() -> dict[str, object]:
    return {f"l{i}": "d/../" * 680 + f"l{i + 1}" for i in range(39)} | {"l39": "vmlinuz"}


TEXTS: dict[str, tuple[Parser, Tree]] = {
    "a line of blanks": (bls.entries, bls_tree(b"linux /vmlinuz\n" + BLANK_LINE)),
    "a key of blanks": (bls.entries, bls_tree(b" " * 65_000 + b"\nlinux /vmlinuz")),
    "variables": (bls.entries, bls_tree(b"linux /vmlinuz\noptions " + b"$a" * 32_000)),
    "variables, each on its line": (bls.entries, bls_tree(b"linux /vmlinuz\n" + b"options $a\n" * 5000)),
    "unknown variables": (bls.entries, bls_tree(b"linux /vmlinuz\noptions " + b"$b" * 32_000)),
    "a kernel of variables": (bls.entries, bls_tree(b"linux " + b"$a" * 32_000)),
    "a default of brackets": (bls.entries, bls_tree(b"linux /vmlinuz\n", conf=b"default " + b"[" * 60_000)),
    "a default of stars": (bls.entries, bls_tree(b"linux /vmlinuz\n", conf=b"default " + b"*a" * 128 + b"b")),
    "titles": (bls.entries, bls_tree("linux /vmlinuz\ntitle \U0001f600".encode() + b"x" * 65_000)),
    "versions": (bls.entries, bls_tree(b"linux /vmlinuz\nsort-key a\nversion " + b"-" * 60_000)),
    "versions of words": (bls.entries, bls_tree(b"linux /vmlinuz\nsort-key a\nversion " + b"a.1" * 100)),
    "short lines": (bls.entries, bls_tree(b"linux /vmlinuz\n" + b"a b\n" * 16_000)),
    "initrds": (bls.entries, bls_tree(b"linux /vmlinuz\n" + b"initrd /i\n" * 6000)),
    "initrds that are all there": (bls.entries, bls_tree(b"linux /vmlinuz\n" + b"initrd /i\n" * 32)),
    "initrds through a maze": (bls.entries, bls_tree(b"linux /vmlinuz\n" + b"initrd /l0\n" * 32, **maze())),
    "paths of dots": (bls.entries, bls_tree(b"linux /vmlinuz\n" + (b"initrd /" + b"d/../" * 180 + b"i\n") * 32)),
    "entries that all start one image": (
        bls.entries,
        bls_tree(b"efi /x.efi\n", **{"x.efi": pe([(b".linux", K), (b".cmdline", b"a " * 8000)])}),
    ),
    "a million labels": (extlinux.entries, ext_tree(b"label\n" * 170_000)),
    "one append for all": (
        extlinux.entries,
        ext_tree(b"append " + b"${" * 500_000 + b"\n" + b"label a\nlinux /vmlinuz\n" * MAX_ITEMS),
    ),
    "an append of the longest": (
        extlinux.entries,
        ext_tree(b"append " + b"${" * 8000 + b"\n" + b"label a\nlinux /vmlinuz\n" * MAX_ITEMS),
    ),
    "an append of one brace": (
        extlinux.entries,
        ext_tree(b"append " + b"${" + b"x" * 16_000 + b"\n" + b"label a\nlinux /vmlinuz\n" * MAX_ITEMS),
    ),
    "initrds, by commas": (
        extlinux.entries,
        ext_tree(b"initrd " + b"/i," * 300_000 + b"\n" + b"label a\nlinux /vmlinuz\n" * MAX_ITEMS),
    ),
    "one initrd for all, of a long name": (
        extlinux.entries,
        ext_tree(b"initrd " + b"a/" * 500_000 + b"\n" + b"label a\nlinux /vmlinuz\n" * MAX_ITEMS),
    ),
    "a kernel of a long name": (extlinux.entries, ext_tree(b"label a\nlinux " + b"a/" * 500_000)),
    "early initrds": (
        bls.entries,
        bls_tree(b"linux /vmlinuz\n", env=grubenv.SIGNATURE.encode() + b"early_initrd=" + b"a " * 32_000 + b"\n"),
    ),
    "variables for all entries": (
        grub.entries,
        grub_tree(
            b"".join(b"v%d=a\n" % number for number in range(49_000))
            + b"menuentry a {\nlinux /vmlinuz\n}\n" * MAX_ITEMS
        ),
    ),
    "functions for all entries": (
        grub.entries,
        grub_tree(
            b"".join(b"function v%d { a; }\n" % number for number in range(15_000))
            + b"menuentry a {\nlinux /vmlinuz\n}\n" * MAX_ITEMS
        ),
    ),
    "includes": (
        extlinux.entries,
        tree(extlinux={"extlinux.conf": b"include a\n" * 9000, "a": b"include b\n" * 9000, "b": b"x y\n" * 90_000}),
    ),
    "menu lines": (extlinux.entries, ext_tree(b"menu " * 200_000)),
    "images with the longest lines": (uki.entries, uki_tree(MAX_ITEMS, 65_000, 0, 0)),
    "addons for all": (uki.entries, uki_tree(64, 10, 32, 65_000)),
    "short addons for all": (uki.entries, uki_tree(MAX_ITEMS, 10, 32, 400)),
    "one directory beside all": (uki.entries, beside(b"", 0)),
    "one directory beside all entries": (bls.entries, beside(b"efi /x.efi\n", MAX_ITEMS)),
    "profiles": (uki.entries, uki_tree(16, 30_000, 2, 10, profiles=24)),
    "file tests in a maze": (grub.entries, grub_tree(b"if [ -e /boot/l0 ]; then x=1; fi\n" * 50_000, **maze())),
    "file tests in one line": (
        grub.entries,
        grub_tree(b"while test " + b"-e /boot/l0 -a " * 1000 + b"-e /boot/l1; do x=1; done\n", **maze()),
    ),
    "searches in a maze": (grub.entries, grub_tree(b"search --file --set=a /boot/l0\n" * 20_000, **maze())),
    "file tests of other names": (
        grub.entries,
        grub_tree(b"".join(b"if [ -f /boot/d/../%d ]; then x=1; fi\n" % number for number in range(50_000))),
    ),
    "entries through a maze": (
        grub.entries,
        grub_tree((b"menuentry a {\nlinux /boot/l0\ninitrd" + b" /boot/l0" * 60 + b"\n}\n") * 600, **maze()),
    ),
    "commands that nobody knows": (grub.entries, grub_tree(b"".join(b"a%d\n" % number for number in range(60_000)))),
    "a string": (grub.entries, grub_tree(b'a="' + b"x" * (4 << 20 - 10) + b'"\n')),
    "a quote that does not end": (grub.entries, grub_tree(b'"' + b"\\x" * (1 << 20))),
    "blanks": (grub.entries, grub_tree(b" \\\n" * (1 << 20))),
    "a word of parts": (grub.entries, grub_tree(b"\\a" * (1 << 20))),
    "a string of variables": (grub.entries, grub_tree(b'a="' + b"$a" * (1 << 20) + b'"\n')),
    "blocks in blocks": (grub.entries, grub_tree(b"if a; then\n" * 60_000)),
    "menus in menus": (grub.entries, grub_tree(b"submenu a {\n" * 47 + b"}\n" * 47)),
    "functions": (grub.entries, grub_tree(b"function a { b; b; }\n" * 60_000)),
    "a function that calls itself": (grub.entries, grub_tree(b"function a { a; a; }\na\n")),
    "doubling": (grub.entries, grub_tree(b"a=xxxxxxxxxxxxxxxx\n" + b"a=$a$a\n" * 60_000)),
    "doubling over all variables": (
        grub.entries,
        grub_tree(b"load_env\n" + b"".join(b"b%d=$a\n" % number for number in range(40_000))),
    ),
    "entries of long lines": (
        grub.entries,
        grub_tree(b"load_env\nexport a\n" + b"menuentry x {\nlinux /boot/vmlinuz $a\n}\n" * 600),
    ),
    "comparing versions": (
        grub.entries,
        grub_tree(b"while [ " + b"-" * 250 + b" -pgt " + b"a.1" * 80 + b" ]; do b=1; done\n" * 3),
    ),
    "a loop for ever": (grub.entries, grub_tree(b"while true; do a=1; done\n")),
    "a loop over loops": (
        grub.entries,
        grub_tree(b"for a in 1 2 3 4 5 6 7 8 9; do\n" * 20 + b"b=1\n" + b"done\n" * 20),
    ),
    "parameters": (grub.entries, grub_tree(b"function f { f $@ $@; }\nf 1 2 3 4 5 6 7 8\n")),
    "titles of menus": (
        grub.entries,
        grub_tree(b'load_env\nexport a\n' + b'submenu "$a" {\n' * 4 + b"menuentry x {\nlinux /k\n}\n" * 600 + b"}" * 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_texts(name: str) -> None:
    parser, where = TEXTS[name]

    def sizes() -> list[int]:
        found = parser(where)
        assert all(len(item.options) <= MAX_OPTIONS for item in found.items)
        return [len(found.items), len(found.notes), sum(map(len, found.notes))]

    items, notes, characters = bounded(sizes).value  # type: ignore[misc]
    assert items <= MAX_ITEMS
    assert notes <= 110
    assert characters < 60_000


@pytest.mark.parametrize(
    "text",
    [
        "a=1 " * 65_536,
        "a=1;" * 65_536,
        "a=" + "x" * 30_000 + "\nb=" + "$a" * 17_000 + "\n",
        "a=" + "x" * 65_000 + "\n" + "".join(f"b{number}=$a.\n" for number in range(15_000)),
        "a=x\\\n" * 50_000 + "a=$(\n",
        "a=x\n" + "a+=$a\n" * 40_000,
        "a=`\n" * 60_000,
        'a="' * 80_000,
        "export " * 30_000,
        " " * 250_000,
        "export" + " " * 250_000,
        "{\n" * 100_000,
        "a=1 b\n" * 40_000,
    ],
)
def test_shell_variables(text: str) -> None:
    def sizes() -> list[int]:
        values, notes = shellvars.parse(text[: 1 << 18])
        return [sum(map(len, values.values())), len(notes)]

    characters, notes = bounded(sizes).value  # type: ignore[misc]
    assert characters <= shellvars.MAX_TOTAL
    assert notes <= 101


def find(where: dict[str, object]) -> Callable[[], object]:
    def count() -> list[object]:
        pool, notes = MemoryPool({"@": where}), []
        place = BootRoot(pool, pool.roots()[0], pool.open("@"))
        found = entries.find(place, config.read(""), notes.append)
        return [len(found), len(notes)]

    return count


BOMB = b"a=" + b"x" * 60_000 + b"\n" + b"".join(b"b%d=$a.\n" % number for number in range(15_000))
LONG = b"a=1 " * 65_000


@pytest.mark.parametrize(
    ("etc", "kernels"),
    [
        ({"os-release": BOMB[:65_536], "default": {"grub": BOMB}}, 200),
        ({"os-release": LONG[:65_536], "default": {"grub": LONG}}, 512),
        ({"default": {"grub": LONG, "grub.d": {f"{number}.cfg": LONG for number in range(100)}}}, 20),
        ({"cmdline.d": {f"{number}.conf": b"x " * 131_000 for number in range(100)}}, 20),
        ({"kernel": {"cmdline": b'a"b ' * 65_000}}, 512),
        ({"fstab": b"a / c d\n" * 32_000}, 512),
        ({"fstab": b"\\\\040" * 50_000 + b" / btrfs " + b"a," * 30_000}, 200),
    ],
)
def test_settings_of_a_root_with_many_kernels(etc: dict[str, object], kernels: int) -> None:
    where = system(*(f"6.1.{number}" for number in range(kernels)))
    where["etc"] |= etc  # type: ignore[operator]
    assert bounded(find(where)).value


def test_kernels_that_are_links_into_a_maze() -> None:
    where = system("6.1")
    where["boot"] |= {**maze(), "d": {}, **{f"vmlinuz-{number}": "l0" for number in range(4000)}}  # type: ignore[operator]
    assert bounded(find(where)).value


def test_an_entry_for_each_of_hundreds_of_snapshots() -> None:
    """Who is asked about every entry has to know at once: grub-btrfs writes as many entries as there are snapshots."""
    where = system("6.1")
    files = {
        f"{number}.conf": f"linux /boot/vmlinuz-6.1\noptions root=UUID={UUID} "
        f"rootflags=subvol=@/.snapshots/{number}/snapshot {'x' * 500}\n".encode()
        for number in range(500)
    }
    where["boot"]["loader"] = {"entries": files}  # type: ignore[index]
    old = {f"@/.snapshots/{number}/snapshot": {} for number in range(500)}
    pool = MemoryPool({"@": where, **old}, readonly=tuple(old))  # type: ignore[arg-type]

    def left_out() -> list[str]:
        notes: list[str] = []
        root = next(root for root in pool.roots() if root.name == "@")
        found = entries.find(BootRoot(pool, root, pool.open("@")), config.read(""), notes.append)
        return [str(len(found)), *notes]

    found = bounded(left_out).value
    assert isinstance(found, list)
    assert found[0] == "1"
    assert any("500 entries for its snapshots are left out" in note for note in found)


@given(st.text("-._~+ rcoldbak0123456789aRC", max_size=40), st.text("-._~+ rcoldbak0123456789aRC", max_size=40))
def test_version_keys_are_as_they_were(one: str, other: str) -> None:
    """The pattern that ends in bounded time finds what the plain one finds."""
    plain = r"(?i)[-._~+]*(?<![A-Za-z])(rc(?=\.?[0-9])|old(?![A-Za-z0-9])|bak(?![A-Za-z0-9]))"
    for text in (one, other, one + other):
        assert re.sub(version._EARLIER, r"~\1", text) == re.sub(plain, r"~\1", text)


@given(st.text(" \t\r#ab\"'\u00a0", max_size=30))
def test_lines_are_read_as_they_were(line: str) -> None:
    found = re.match(r"[ \t]*([^ \t#][^ \t]*)[ \t]+(.*?)[ \t\r]*$", line)
    fields = blsrules.parse(line)
    if found is None or not found[2]:
        assert not fields
    else:
        value = found[2]
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        assert fields == {found[1].lower(): [value[1:-1] if quoted else value]}


@given(st.text('ab= \t\n"-', max_size=40))
def test_command_lines_are_split_as_they_were(text: str) -> None:
    words, word, quoted = [], "", False
    for char in text:
        quoted ^= char == '"'
        if char in " \t\n\v\f\r" and not quoted:
            words += [word] if word else []
            word = ""
        else:
            word += char
    assert config.split(text) == words + ([word] if word else [])


@pytest.mark.parametrize("pattern", ["[" * 256, "*a" * 128, "?" * 256, "[!]-a]" * 40, "*" * 256, "[" * 100_000])
def test_patterns(pattern: str) -> None:
    assert bounded(lambda: [globs.matches("a" * 255, pattern) for _ in range(512)])


@pytest.mark.parametrize(
    "text",
    ['"comments":"' * 5461, '"comments":"' + "\\a" * 32_000, '"comments"' + " " * 65_000,
     ('"comments"' + " " * 500) * 128, "<date>" * 10_000, "<description>" + "&#" * 30_000 + "</description>",
     ".snapshots/" * 6000, "a/" * 30_000, ".snapshots/" + "1" * 60_000,
     (".snapshots/" + "1" * 50 + "/") * 1000, "2024-05-01 12:00:00" * 3000],
)  # fmt: skip
def test_what_tools_noted_about_snapshots(text: str) -> None:
    def use() -> list[object]:
        found = [re.findall(pattern, text) for pattern in (snapshots._XML, snapshots._JSON)]
        paths = [re.fullmatch(pattern, text) for pattern in (snapshots._SNAPPER, snapshots._TIMESHIFT)]
        return [len(found), len(paths), snapshots._date(text), len(snapshots._clean(snapshots._entities(text)))]

    assert bounded(use, seconds=0.3).value


def test_versions() -> None:
    for text in ("-" * 256, "a1" * 128, "rc" * 128, "-rc" * 85, "~+" * 128):
        assert bounded(lambda text=text: [version.key(text * 300) for _ in range(1000)])  # type: ignore[misc]


@given(st.text(max_size=60))
def test_no_line_of_an_fstab_is_too_much(line: str) -> None:
    assert fstab.parse(line) is None or line.split()


SHAPES = st.recursive(
    st.sampled_from(["x=1", "linux /boot/vmlinuz $a", "initrd /boot/i", "[ -e /boot/d ]", "true", "f 1 $@"]),
    lambda inner: st.lists(inner, max_size=3).map("\n".join).flatmap(
        lambda body: st.sampled_from([
            f"menuentry a {{\n{body}\n}}", f"submenu b {{\n{body}\n}}", f"if {body}\nthen\n{body}\nfi",
            f"while {body}\ndo\n{body}\ndone", f"function f {{\n{body}\n}}", f"for a in 1 2 $a; do\n{body}\ndone", body,
        ])
    ),
    max_leaves=14,
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(SHAPES)
def test_scripts_of_any_shape(text: str) -> None:
    def sizes() -> int:
        return len(grub.entries(grub_tree(f"a=b\nexport a\n{text}\n".encode())).items)

    assert bounded(sizes).value in range(MAX_ITEMS + 1)


WORDS = st.sampled_from(
    ["/vmlinuz", "/i", "/boot/d/../i", "/l", "$a", "$b", "x" * 300, "root=UUID=1", '"', "\\", "", "é", "+3"]
)
KEYS = st.sampled_from(
    ["linux", "initrd", "options", "efi", "uki", "profile", "title", "version", "sort-key", "#", "", "a b"]
)
LINES = st.tuples(KEYS, st.lists(WORDS, max_size=5).map(" ".join)).map(" ".join)
FILES = st.lists(LINES, max_size=12).map(lambda lines: "\n".join(lines).encode())
IMAGES = st.lists(
    st.tuples(st.sampled_from([b".linux", b".profile", b".uname", b".cmdline"]), st.binary(max_size=40)), max_size=6
)
NAMES = st.sampled_from(
    ["a.conf", "b+3.conf", "b+0-2.conf", ".conf", "x+1+1.conf", "auto-x.conf", "d", "é.conf", "A.CONF"]
)
NODES = FILES | IMAGES.map(pe) | st.sampled_from(["/l", "a.conf", "..", "../../vmlinuz"]) | st.just({"n": b""})


@settings(max_examples=120, deadline=None)
@given(st.dictionaries(NAMES, NODES, max_size=6), st.dictionaries(NAMES | st.just("x.efi"), NODES, max_size=4), FILES)
def test_trees_of_any_shape(files: dict[str, object], images: dict[str, object], conf: bytes) -> None:
    """Whatever lies where entries are looked for: all that comes out can be opened, and all that is said be printed."""
    where = tree(
        loader={"entries": files, "loader.conf": conf}, EFI={"Linux": images}, l="l", grub2={"grubenv": ENV[:300]}
    )
    for listing in (bls.entries(where), uki.entries(where), extlinux.entries(where)):
        for item in listing.items:
            assert pe_file.open_file(where, item.kernel).size >= 0
            assert all(pe_file.open_file(where, initrd) for initrd in item.initrds)
            assert "\n" not in item.options
        assert listing.default is None or 0 <= listing.default < len(listing.items)


def test_many_roots_with_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clones of one root cost a disk nothing."""
    tree = system("6.1")
    one = f"root=UUID={UUID} ro n="
    menu = "".join(f"menuentry 'a' {{\nlinux /boot/vmlinuz-6.1 {one}{number}\n}}\n" for number in range(MAX_ITEMS))
    files = {f"{number}.conf": f"linux /boot/vmlinuz-6.1\noptions {one}b{number}\n".encode() for number in range(400)}
    tree["boot"] |= {"grub": {"grub.cfg": menu.encode()}, "loader": {"entries": files}}  # type: ignore[operator]
    pool = MemoryPool({f"@{number}": tree for number in range(33)})
    monkeypatch.setattr(pools, "assemble", lambda *given: [pool])

    def sizes() -> tuple[int, int]:
        found = Survey([], config.read(""))
        return len(found.entries()), len(found.notes)

    entries, notes = bounded(sizes).value  # type: ignore[misc]
    assert MAX_ITEMS < entries < 2 * MAX_ENTRIES
    assert notes
