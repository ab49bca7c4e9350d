"""The kernel command line: the kernel's quoting, our knobs, and what is done with wrong ones."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import PROJECT

from init import config
from init.entries import policy


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("quiet ro", (("quiet", None), ("ro", None))),
        ("root=UUID=abc", (("root", "UUID=abc"),)),
        ('dyndbg="file a.c +p" x', (("dyndbg", "file a.c +p"), ("x", None))),
        ('"dyndbg=file a.c +p" x', (("dyndbg", "file a.c +p"), ("x", None))),
        ('"one word"', (("one word", None),)),
        ("a= b", (("a", ""), ("b", None))),
        ("=a", (("=a", None),)),
        ('a=b"c d"e', (("a", 'b"c d"e'),)),
        ("  a\t\tb\n", (("a", None), ("b", None))),
        ('a="never ends', (("a", "never ends"),)),
        ("a -- poolboot.debug", (("a", None),)),
        ("", ()),
    ],
)
def test_quoting_is_the_kernels(text: str, wanted: config.Parameters) -> None:
    assert config.parse(text) == wanted


NAMES = st.text("abcdefghijklmnop._-0123456789", min_size=1).filter(lambda name: name != "--")
VALUES = st.none() | st.text(
    st.characters(codec="utf-8", exclude_characters='"\0', exclude_categories=("Cs", "Zs", "Cc")) | st.just(" ")
)


@given(st.lists(st.tuples(NAMES, VALUES)))
def test_what_is_quoted_parses_back(parameters: list[tuple[str, str | None]]) -> None:
    text = " ".join(config.quote(name, value) for name, value in parameters)
    assert config.parse(text) == tuple(parameters)


@pytest.mark.parametrize("value", ['a"b c"d', 'a"b', '"', 'x" init=/bin/sh "', "a\nb", "a\tb", "a\x7f", "a\x1b[2J"])
def test_what_no_command_line_can_carry_is_refused(value: str) -> None:
    """Nothing escapes a quote, and many who read a command line know none."""
    with pytest.raises(config.Unwritable, match="no command line can carry this"):
        config.quote("root", value)


@given(st.text(max_size=20) | st.text(' "ab=', max_size=12))
def test_a_quoted_value_is_read_back_or_refused(value: str) -> None:
    try:
        word = config.quote("root", value)
    except config.Unwritable:
        return
    assert config.parse(f"a {word} b") == (("a", None), ("root", value), ("b", None))
    assert "\n" not in word


@pytest.mark.parametrize("knob", ["tries", "timeout", "wait", "watchdog", "entry", "initrd", "debug", "x" * 9000])
@pytest.mark.parametrize("value", ["0" * 9000, "9" * 9000, "1e999", "nan", "\u0663" * 30, "", ",", "-1"])
def test_no_value_of_a_knob_is_too_much(knob: str, value: str) -> None:
    read = config.read(f"poolboot.{knob}={value} rootdelay={value} rootflags=subvolid={value}")
    assert 0 <= read.timeout <= config.MAX_SECONDS
    assert read.tries is None or 0 <= read.tries <= config.MAX_TRIES
    assert read.subvolid is None or read.subvolid < 10**config.MAX_DIGITS


def test_knobs() -> None:
    read = config.read(
        "root=LABEL=tank rootflags=compress=zstd,subvol=/@root console=tty0 console=ttyS0,115200 "
        "poolboot.handover=kexec poolboot.entry=2 poolboot.kernel=/boot/k poolboot.initrd=/a,/b "
        'poolboot.cmdline="ro single" poolboot.append=debug poolboot.timeout=3 poolboot.wait=1.5 '
        "poolboot.degraded=never poolboot.on-error=reboot poolboot.debug"
    )
    assert read.warnings == ()
    assert read._replace(parameters=()) == config.BootConfig(
        root="LABEL=tank",
        rootflags="compress=zstd,subvol=/@root",
        handover="kexec",
        entry="2",
        kernel="/boot/k",
        initrd=("/a", "/b"),
        cmdline="ro single",
        append="debug",
        timeout=3.0,
        wait=1.5,
        degraded="never",
        on_error="reboot",
        debug=True,
    )
    assert (read.subvol, read.subvolid, read.consoles) == ("@root", None, ("tty0", "ttyS0,115200"))
    assert config.read("poolboot.on_error=poweroff").on_error == "poweroff"
    assert config.read("rootflags=subvolid=257").subvolid == 257
    assert config.read("rootflags=subvol=/").subvol == ""
    assert config.read("poolboot.debug=0").debug is False


def test_defaults_without_any_knob() -> None:
    assert config.read("console=ttyS0")._replace(parameters=()) == config.BootConfig()


def test_rootdelay_prolongs_the_wait() -> None:
    assert config.read("rootdelay=30").wait == 30
    assert config.read("rootdelay=2").wait == config.BootConfig().wait


@pytest.mark.parametrize(
    ("text", "field", "warning"),
    [
        ("poolboot.wait=soon", "wait", "poolboot.wait=soon: wants seconds"),
        ("poolboot.wait=-1", "wait", "poolboot.wait=-1: wants seconds"),
        ("poolboot.wait=nan", "wait", "poolboot.wait=nan: wants seconds"),
        ("poolboot.wait=inf", "wait", "poolboot.wait=inf: wants seconds"),
        ("poolboot.timeout", "timeout", "poolboot.timeout=: wants seconds"),
        ("poolboot.handover=kecex", "handover", "wants one of auto, kexec"),
        ("poolboot.degraded", "degraded", "wants one of auto, ask, never"),
        ("poolboot.on-error=explode", "on_error", "wants one of rescue, reboot, poweroff"),
    ],
)
def test_a_bad_value_warns_and_keeps_the_default(text: str, field: str, warning: str) -> None:
    read = config.read(text)
    assert getattr(read, field) == getattr(config.BootConfig(), field)
    assert len(read.warnings) == 1
    assert warning in read.warnings[0]


@pytest.mark.parametrize(
    ("knob", "hint"),
    [("wiat", "poolboot.wait"), ("on-eror", "poolboot.on-error"), ("initrds", "poolboot.initrd"), ("colour", None)],
)
def test_an_unknown_knob_is_named_with_the_nearest(knob: str, hint: str | None) -> None:
    (warning,) = config.read(f"poolboot.{knob}=1").warnings
    assert warning == f"unknown knob poolboot.{knob}" + (f"; did you mean {hint}?" if hint else "")


@given(st.text())
def test_no_command_line_stops_the_boot(text: str) -> None:
    read = config.read(text)
    assert read.handover in config.HANDOVERS
    assert 0 <= read.wait <= config.MAX_SECONDS


def test_numbers_that_are_none() -> None:
    """Python refuses to read more than 4300 digits, with an exception that nobody expects."""
    endless = "9" * 5000
    assert config.read(f"rootflags=subvolid={endless}").subvolid is None
    assert config.number("257") == 257
    assert config.number(endless) is config.number("") is config.number(None) is config.number("-1") is None
    assert policy.find([], endless) is None


def test_every_knob_is_documented_and_none_that_is_not_there() -> None:
    rows = re.findall(r"^\| (`[^|]*)", (PROJECT / "docs" / "knobs.md").read_text(), re.M)
    told = set(re.findall(r"`([a-z][a-z_.-]*)", " ".join(rows)))
    assert told == set(config.names())


def _edits(one: str, other: str) -> int:
    """Levenshtein's edit distance, as it is defined."""
    if not one or not other:
        return len(one) + len(other)
    rest = _edits(one[1:], other[1:])
    return rest if one[0] == other[0] else 1 + min(rest, _edits(one[1:], other), _edits(one, other[1:]))


@given(st.text("abc", max_size=5), st.lists(st.text("abc", min_size=1, max_size=5), max_size=4))
def test_the_nearest_name_is_the_first_that_is_fewest_edits_away(word: str, known: list[str]) -> None:
    best = min(known, key=lambda name: _edits(word, name), default="")
    near = bool(known) and _edits(word, best) <= max(2, len(best) // 3)
    assert config.nearest(word, known) == (best if near else None)
