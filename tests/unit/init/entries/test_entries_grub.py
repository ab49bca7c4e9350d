"""grub.cfg: what the interpreter understands, what it refuses to guess, and that nothing hangs or breaks it."""

from __future__ import annotations

import contextlib
import time

import pytest
from entrytrees import CASES, DATA, Tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsdrivers.errors import Corrupt, TooLarge
from fsdrivers.filesystem import File, Node, Stat
from init.entries import grub, grubenv, grubscript, grubtest
from init.entries.item import Item, Listing

UUID = "5f0e1b7c-8f5a-4d0b-9a53-0c6f1de2a001"


def listing(config: str, extra: dict[str, object] | None = None, root_name: str = "@", kind: str = "btrfs") -> Listing:
    boot: dict[str, object] = {
        "grub": {"grub.cfg": config.encode("utf-8", "surrogateescape"), **(extra or {})},
        "vmlinuz-6.1": b"kernel", "initrd.img-6.1": b"initrd", "ucode.img": b"u",
    }  # fmt: skip
    return grub.entries(Tree({"boot": boot}, kind, root_name, UUID))


def only(config: str, extra: dict[str, object] | None = None) -> Item:
    found = listing(config, extra)
    assert len(found.items) == 1, found.notes
    return found.items[0]


ENTRY = "menuentry 'A' {{ linux /@/boot/vmlinuz-6.1 {} \n initrd /boot/initrd.img-6.1 }}"


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("set a=1; set b='x y'", '$a ${a} "$b" $b'),
        ("a=1", "${a}2"),
    ],
)
def test_variables(script: str, options: str) -> None:
    wanted = {'$a ${a} "$b" $b': '1 1 "x y" x y', "${a}2": "12"}[options]
    assert only(script + "\n" + ENTRY.format(options)).options == wanted


def test_quoting() -> None:
    entry = only(ENTRY.format(r"""'a'\''b' "c\"d" e\ f "" g\\h 'dyndbg=file x +p' #comment"""))
    assert entry.options == r"""a\'b c\"d "e f"  g\\h "dyndbg=file x +p\""""[:-2] + '"'


def test_unset_variables_vanish() -> None:
    assert only(ENTRY.format("a $nothing b ${nothing} c=$nothing")).options == "a b c="


def test_functions_and_arguments() -> None:
    script = """
function pick {
  if [ "${1}" = "keep" ]; then set mode=vt.handoff=7; else set mode=; fi
  return
  set mode=never
}
pick keep
for x in a b c; do set all="$all$x"; done
n=x
while [ "$n" != "xxx" ]; do n=x$n; done
"""
    assert only(script + ENTRY.format("$mode $all $n")).options == "vt.handoff=7 abc xxx"


def test_an_entry_sees_the_variables_as_they_are_when_it_is_chosen() -> None:
    assert only(ENTRY.format("$late $chosen") + "\nset late=yes").options == "yes A"


def test_a_submenu_sees_exported_variables_only() -> None:
    script = "set a=1; set b=2; export b\nsubmenu 'S' { " + ENTRY.format("$a $b x") + " }"
    assert only(script).options == "2 x"
    assert only(script).menu == ("S",)


@pytest.mark.parametrize(
    ("wanted", "index"),
    [("0", 0), ("1>1", 2), ("Sub>C", 2), ("idb", 1), ("Sub>idb", 1), ("9", None), ("nope", None), ("1", None),
     ("E >> F", 3), ("", 0)],
)  # fmt: skip
def test_default(wanted: str, index: int | None) -> None:
    script = (
        f"set default='{wanted}'\n"
        + """
menuentry A { linux /boot/vmlinuz-6.1 }
submenu Sub { menuentry B --id idb { linux /boot/vmlinuz-6.1 }
 menuentry C { linux /boot/vmlinuz-6.1 } }
menuentry 'E > F' { linux /boot/vmlinuz-6.1 }
"""
    )
    if wanted == "idb":
        wanted, index = "Sub", None
    assert listing(script.replace("default='idb'", "default='Sub'")).default == index


def test_environment_block() -> None:
    block = grubenv.SIGNATURE + "saved_entry=B\nkernelopts=root=UUID=1 \\\\x\n" + "#" * 900
    script = (
        "load_env\nset default=$saved_entry\n"
        + ENTRY.format("$kernelopts")
        + "\nmenuentry B { linux /boot/vmlinuz-6.1 }"
    )
    found = listing(script, {"grubenv": block.encode()})
    assert found.default == 1
    assert found.items[0].options == "root=UUID=1 \\\\x"


def test_prefixes() -> None:
    for path in ("/@/boot/vmlinuz-6.1", "/boot/vmlinuz-6.1", "($root)/@/boot/vmlinuz-6.1", "/vmlinuz-6.1"):
        assert only(f"menuentry A {{ linux {path} }}").kernel == "/boot/vmlinuz-6.1"
    other = only("menuentry A { linux /@/.snapshots/3/snapshot/boot/vmlinuz }".replace("/@/", "/@snap/"))
    assert (other.device, other.kernel) == ("top", "/@snap/.snapshots/3/snapshot/boot/vmlinuz")
    assert not listing("menuentry A { linux /@/boot/vmlinuz-gone }").items


def test_other_file_systems() -> None:
    entry = only("menuentry A { search --no-floppy --fs-uuid --set=root 1234-ABCD\n linux /vmlinuz-6.1\ninitrd /i }")
    assert (entry.device, entry.kernel, entry.initrds) == ("UUID=1234-ABCD", "/vmlinuz-6.1", ("/i",))
    entry = only(f"menuentry A {{ search.fs_uuid {UUID.upper()} root hd0,gpt1\n linux /@/boot/vmlinuz-6.1 }}")
    assert (entry.device, entry.kernel) == ("", "/boot/vmlinuz-6.1")
    entry = only(f"menuentry A {{ search --fs-uuid --set root {UUID}\n linux /@/boot/vmlinuz-6.1 }}")
    assert entry.device == ""
    assert only("menuentry A { search --label --set=root BOOT\n linux /x }").device == "LABEL=BOOT"
    assert only("menuentry A { search -f /@/boot/vmlinuz-6.1 -s\n linux /boot/vmlinuz-6.1 }").device == ""


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("set root='hd0,gpt2'\nlinux /boot/vmlinuz-6.1", "hd0,gpt2"),
        ("mystery --command\nlinux /boot/vmlinuz-6.1", "mystery"),
        ("chainloader /EFI/x.efi", "chainloader"),
        ("linux /boot/vmlinuz-6.1\ninitrd /boot/gone", "/boot/gone"),
        ("linux /boot/grub", "/boot/grub"),
        ("true", "no Linux kernel"),
        ("if mystery; then linux /boot/vmlinuz-6.1; fi", "mystery"),
        ("if [ -e (hd1)/x ]; then true; fi; linux /boot/vmlinuz-6.1", "hd1"),
        ("if [ a -xx b ]; then true; fi; linux /boot/vmlinuz-6.1", "test"),
        ("search --file --set=root /absent\nlinux /boot/vmlinuz-6.1", "/absent"),
        ("multiboot /boot/xen.gz\nmodule /boot/vmlinuz-6.1", "multiboot"),
        ("while true; do set a=$a; done\nlinux /boot/vmlinuz-6.1", "steps"),
        ("while do done\nlinux /boot/vmlinuz-6.1", "steps"),
        ("until false; do continue; done\nlinux /boot/vmlinuz-6.1", "steps"),
        ('set a=x; while true; do true "$a"; set a="$a$a"; done\nlinux /boot/vmlinuz-6.1', "too "),
        ("while true; do setparams $@ $@ x; done\nlinux /boot/vmlinuz-6.1", "too "),
        ("set a=xxxxxxxxxxxx\nfor i in 1 2 3 4 5 6 7 8 9 a; do set a=$a$a$a; done\nlinux /boot/vmlinuz-6.1", "long"),
    ],
)  # fmt: skip
def test_what_is_not_guessed(body: str, why: str) -> None:
    found = listing(f"menuentry Bad {{\n{body}\n}}\nmenuentry Good {{ linux /boot/vmlinuz-6.1 }}")
    assert [item.title for item in found.items] == ["Good"]
    assert any("Bad" in note and why in note for note in found.notes), found.notes


def test_an_undecidable_if_costs_what_is_in_it_only() -> None:
    script = (
        "if mystery; then\n" + ENTRY.format("in") + "\nelse\n" + ENTRY.format("out") + "\nfi\n" + ENTRY.format("behind")
    )
    found = listing(script)
    assert [item.options for item in found.items] == ["behind"]
    assert any("mystery" in note for note in found.notes)


def test_sourced_files_and_circles() -> None:
    found = listing(
        "source $prefix/a.cfg\nconfigfile ${config_directory}/b.cfg\nsource /gone",
        {"a.cfg": ENTRY.format("a").encode(), "b.cfg": b"source $prefix/b.cfg\nsource /boot/grub/grub.cfg\nset x=1"},
    )
    assert {item.options for item in found.items} == {"a"}
    assert found.notes
    link = Tree({"boot": {"grub": {"grub.cfg": "grub.cfg"}}})
    assert "grub.cfg" not in str(grub.entries(link).items)


@pytest.mark.parametrize(
    "text",
    ["menuentry 'x", "menuentry x {", "if true; then", "}", "fi", "{ }", "a | b", "function {", "for x y; do done",
     "menuentry { }", "if true; fi", "\"", "${", "[", "$", "\\", "menuentry x { " * 100, "if true; then\n" * 100],
)  # fmt: skip
def test_broken_scripts_are_noted(text: str) -> None:
    found = listing(text)
    assert not found.items
    assert found.notes or text in ("$", "\\")


class Huge(Tree):
    """A grub.cfg of 100 MB that must not even be read."""

    def stat(self, node: Node) -> Stat:
        status = super().stat(node)
        return status._replace(size=100 << 20) if status.type == "file" else status


def test_a_huge_file_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(File, "read", lambda *_: pytest.fail("it was read"))
    found = grub.entries(Huge({"boot": {"grub": {"grub.cfg": b"x"}}}))
    assert "too large" in found.notes[0]


def test_damage_is_a_note() -> None:
    from memoryfs import Damaged

    for error in (Corrupt("d0", "extent", 1), TooLarge("x", 2, 1)):
        assert grub.entries(Tree({"boot": {"grub": {"grub.cfg": Damaged(error)}}})).notes


@pytest.mark.parametrize(
    ("expression", "result"),
    [("a = a", True), ("a != a", False), ("-n x", True), ("-z x", False), ("3 -lt 10", True), ("! a = b", True),
     ("a = b -o c = c", True), ("a = b -a c = c", False), ("( a = b -o c = c ) -a d", True), ("x", True), ("", True),
     ("6.9 -plt 6.12", True), ("-f /x", False), ("a a = b", False), ("! x", False)],
)  # fmt: skip
def test_tests(expression: str, result: bool) -> None:
    assert grubtest.evaluate(expression.split(), lambda operator, path: False) is result


# --- fuzz -----------------------------------------------------------------------------------------

_SCRIPT = """if then else elif fi menuentry submenu { } ; [ ] test $a ${b} 'q' set a=$a$a b=1 linux
/boot/vmlinuz-6.1 initrd while until do done for in function f source $prefix/grub.cfg search --set=root
--fs-uuid load_env blscfg ! = -o -a ( ) -f export unset return configfile true false x # \\ $1"""
_WORDS = st.sampled_from([*_SCRIPT.split(), "\n", '"d $a"', UUID])  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_WORDS, max_size=60).map(" ".join))
def test_any_sentence_ends(script: str) -> None:
    started = time.monotonic()
    found = listing(script)
    assert isinstance(found, Listing)
    assert time.monotonic() - started < 20


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(max_size=300))
def test_any_text_ends(text: str) -> None:
    with contextlib.suppress(grubscript.ScriptError):
        grubscript.parse(text)
    grubenv.parse(text)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    case=st.sampled_from([case for case in CASES if (DATA / case / "tree/boot/grub/grub.cfg").exists()]),
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 30), st.text("{}$'\";\n\\ #[]xif", max_size=8)), max_size=6
    ),
)
def test_damaged_real_files(case: str, edits: list[tuple[float, int, str]]) -> None:
    text = (DATA / case / "tree/boot/grub/grub.cfg").read_text()
    for place, removed, added in edits:
        at = int(place * len(text))
        text = text[:at] + added + text[at + removed :]
    started = time.monotonic()
    listing(text)
    assert time.monotonic() - started < 20


def test_what_somebody_types_is_not_known() -> None:
    text = (
        b"menuentry A { read\n linux /k }\nmenuentry B { read x\n linux /k $x }\nhiddenentry C --hotkey t { linux /k }"
    )
    found = grub.entries(Tree({"boot": {"grub": {"grub.cfg": text}}, "k": b"k"}))
    assert [item.title for item in found.items] == ["A"]
    assert len(found.notes) == 1
    assert "types" in found.notes[0]


def test_escaped_characters_for_the_kernel() -> None:
    r"""\x20 is for udev's names of labels, and goes to the kernel as it stands in a script of Fedora's kind."""
    item = only(ENTRY.format(r"a=hd:LABEL=CentOS\x207 b=\x2 c='\x20 d' e=\\f '\g'"))
    assert item.options == r"""a=hd:LABEL=CentOS\x207 b=x2 "c=\x20 d" e=\\f \\g"""


def test_a_wish_for_one_boot_is_not_followed_as_it_could_not_be_taken_back() -> None:
    script = (
        'load_env\nif [ "${next_entry}" ]; then set default="${next_entry}"; else set default="${saved_entry}"; fi\n'
    )
    script += "\n".join(f"menuentry {name} --id {name} {{ linux /boot/vmlinuz-6.1 }}" for name in "abc")
    block = b"# GRUB Environment Block\nsaved_entry=b\nnext_entry=c\n###"
    found = listing(script, {"grubenv": block})
    assert found.default == 1
    assert "next_entry=c" in found.notes[0]
    assert not listing(script, {"grubenv": block.replace(b"=c", b"=")}).notes
    older = block.replace(b"next_entry=c", b"prev_saved_entry=c")
    assert listing(script, {"grubenv": older}).default == 2  # what is wanted again afterwards


def test_many_entries_that_do_not_end_are_not_all_run() -> None:
    started = time.monotonic()
    found = listing("menuentry A { while true; do true; done }\n" * 10_000)
    assert not found.items
    assert any("no further entries" in note for note in found.notes)
    assert time.monotonic() - started < 60


def test_entries_that_start_nothing_are_no_loss_to_be_told() -> None:
    config = "menuentry F { fwsetup --is-supported\n if [ $? = 0 ]; then fwsetup; else read; fi }\n"
    config += "menuentry R { reboot }\nmenuentry H { halt }\nmenuentry C { chainloader /x.efi }\n"
    config += "if fwsetup --is-supported; then menuentry Z { fwsetup }; fi\n" + ENTRY.format("quiet")
    found = listing(config)
    assert [item.title for item in found.items] == ["A"]
    assert [note for note in found.notes if "default" not in note] == [
        "/boot/grub/grub.cfg: entry 'C' is passed over: chainloader: it starts something else than a Linux kernel"
    ]
