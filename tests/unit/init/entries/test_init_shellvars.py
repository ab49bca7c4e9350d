"""Shell assignments, read without a shell; a real shell is the judge."""

from __future__ import annotations

import string
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from init.entries import shellvars

CASES = [
    "A=plain",
    "A='single $B `no`'",
    'A="double \\" \\$ \\\\ \\x"',
    "A=un\\ quoted\\#",
    "A=a\"b c\"'d e'f",
    "A=x # comment",
    "A=x#no",
    'A="#"#x',
    "A=1; B=2",
    "A=1\nexport B=$A-2\nA=3",
    'A=x\nA="${A} y"\nA="$A z"',
    "A=one\nA+=two\nA+=' three'",
    'A="two\nlines"',
    "A=long\\\ner",
    "  A=indented",
    "# A=comment\nB=2",
    "A=",
    "A=$UNSET-x",
    "A=a$",
    "A='' B=2",
]


def by_shell(text: str) -> dict[str, str]:
    """A and B as bash leaves them."""
    script = text + '\nprintf \'%s\\0%s\\0\' "${A-UNSET}" "${B-UNSET}"'
    out = subprocess.run(["bash", "-c", script], capture_output=True, check=True, env={}).stdout.decode()
    a, b, _ = out.split("\0")
    return {name: value for name, value in (("A", a), ("B", b)) if value != "UNSET"}


@pytest.mark.parametrize("text", CASES)
def test_as_bash_does(text: str) -> None:
    assert shellvars.parse(text) == (by_shell(text), [])


@settings(max_examples=60, deadline=None)
@given(st.text(string.ascii_letters + " #'\"\\$-,.=/\n", max_size=40))
def test_any_text_in_quotes_as_bash_does(text: str) -> None:
    line = 'A="' + "".join("\\" + char if char in '$`"\\' else char for char in text) + '"'
    assert shellvars.parse(line) == (by_shell(line), [])


@pytest.mark.parametrize(
    "value",
    ["`id`", '"$(id)"', "$(id)", "${B:-x}", '"${B%x}"', "$((1+1))", "(1 2)", "a && reboot", '"open', "'open"],
)
def test_what_only_a_shell_knows_is_passed_over_with_a_note(value: str) -> None:
    values, notes = shellvars.parse(f"A={value}\n")
    assert values == {} or value == "a && reboot"
    assert "A" not in values
    if value != "a && reboot":
        assert notes[0].startswith("A: ")


def test_a_bad_value_leaves_the_others_alone() -> None:
    assert shellvars.parse("A=$(id)\nB=2\n")[0] == {"B": "2"}


@pytest.mark.parametrize(
    "block",
    [
        "if true; then\n  A=1\nfi",
        "if a; then\n if b; then\n A=1\n fi\n A=2\nfi",
        "case $x in\n a)\n A=1 ;;\nesac",
        "for i in 1; do\nA=$i\ndone",
        "f() {\nA=1\n}",
        "if true; then A=1; fi",
    ],
)
def test_nothing_inside_of_a_compound_command_is_believed(block: str) -> None:
    assert shellvars.parse(f"{block}\nB=2\n")[0] == {"B": "2"}


def test_expansion_is_bounded() -> None:
    text = "A=xxxxxxxx\n" + "A=$A$A\n" * 64
    assert len(shellvars.parse(text)[0]["A"]) == shellvars.MAX_VALUE


@given(st.text())
def test_no_file_stops_the_boot(text: str) -> None:
    shellvars.parse(text)
    shellvars.parse("A=" + text)
