"""What poolboot.conf, the EFI variable and a person may ask for while Secure Boot is on: nobody has signed it."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from bounded import bounded
from hypothesis import example, given
from hypothesis import strategies as st
from init_doubles import MemoryPool, TestConsole, system
from test_entries_stated import esp

from init import config
from init.config import BootConfig
from init.firmware import pathb, stub
from init.firmware.efivars import POOLBOOT, Variables
from init.machine.devices import Disks
from init.machine.modules import Modules
from init.survey import Survey

# Two lines of one harmless word each, which joined were five knobs.
TWO_LINES = (
    'timeout="3\nentry="x root=LABEL=evil poolboot.append-initrd=esp:/evil.cpio poolboot.cmdline=init=/bin/sh"\n'
)
EFFECTS = ("root", "rootflags", "kernel", "initrd", "cmdline", "append", "append_initrd", "entry", "handover", "esp",
           "boot_order", "degraded", "switch_root", "watchdog")  # fmt: skip

_names = st.sampled_from(
    [*config.names(), *(name.removeprefix(config.PREFIX) for name in config.names()), "--", "init"]
)
_blanks = st.sampled_from([" ", "\t", "\n", "\v", "\f", "\r", "\x1c", "\x85", "\u2028", "\0", ""])
_bits = st.one_of(_names, _blanks, st.sampled_from(['"', '""', "=", "#", "poolboot.", "-", "_", "UUID=1", "0"]),
                  st.text(max_size=4))  # fmt: skip
texts = st.lists(_bits, max_size=24).map("".join)


def harmless(name: str) -> bool:
    return name.startswith(config.PREFIX) and config.key(name) in stub.HARMLESS


@given(texts, texts)
@example(TWO_LINES, "")
@example('debug="', 'x="root=LABEL=evil')
def test_the_names_in_the_result_are_a_subset_of_the_list(conf: str, variable: str) -> None:
    words = [word for text in (conf, variable) for word in stub.knobs(text, "here", True)[0]]
    assert all(harmless(name) for name, _ in config.parse(" ".join(words)))
    found = config.read(" ".join(words))
    assert [getattr(found, name) for name in EFFECTS] == [getattr(BootConfig(), name) for name in EFFECTS]


@given(texts)
@example(TWO_LINES)
@example('append="a b"')
@example('""root root')
def test_words_that_count_mean_joined_what_they_mean_alone(text: str) -> None:
    words, _ = stub.knobs(text, "here", False)
    assert config.parse(" ".join(words)) == tuple(one for word in words for one in config.parse(word))
    assert len(config.parse(" ".join(words))) == len(words)


@given(texts, texts)
def test_the_whole_way_leaves_what_is_signed_as_it_is(conf: str, variable: str) -> None:
    base = config.read("console=ttyS0 poolboot.timeout=7 poolboot.on-error=reboot")
    merged = configure(base, conf, variable)
    assert (merged.timeout, merged.on_error) == (7, "reboot")
    assert [getattr(merged, name) for name in EFFECTS] == [getattr(base, name) for name in EFFECTS]


def configure(base: BootConfig, conf: str, variable: str = "", secure: bool = True) -> BootConfig:
    """What PathB makes of ``base`` and these texts."""

    class Texts(pathb.PathB):
        def _conf(self, disks: Disks, modules: Modules, console: object) -> str:
            return conf

    class Told(Variables):
        def get(self, name: str, vendor: str) -> None:
            return None

    came = stub.Origin("", "/EFI/BOOT/BOOTX64.EFI", secure)
    console = TestConsole()
    try:
        told = Told()
        path = Texts(told, came)
        read, stub.read_variable = stub.read_variable, lambda _: variable  # type: ignore[assignment]
        try:
            return path.configure(base, Disks(), Modules(""), console)
        finally:
            stub.read_variable = read
    finally:
        console.close()


def test_a_quote_that_does_not_end_is_no_knob() -> None:
    words, warnings = stub.knobs(TWO_LINES, "poolboot.conf", True)
    assert words == []
    assert warnings[0].startswith('poolboot.conf: timeout="3 does not count: it is no single knob')


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("text", ['lock="all', 'poolboot.lock-password="x', "lokc=all", "poolboot.lock_pasword=x",
    "LOCK=all", "Poolboot.Lock=all", "lock:all", "lock", "lock = all", "\ufffd\ufffd" + "\0".join("lock=all") + "\0",
                                  '"lock=all x', 'x="\n"poolboot.locks=menu" "'])  # fmt: skip
def test_a_lock_that_is_lost_in_quotes_or_misspelt_locks(text: str, secure: bool) -> None:
    words, _ = stub.knobs(text, "conf", secure)
    assert [lock.level for lock in config.read(" ".join(words)).locks] == ["all"]


def test_what_is_quoted_as_a_whole_is_one_knob() -> None:
    assert stub.knobs('"append=a b"', "conf", False)[0] == ['poolboot.append="a b"']


def test_a_text_that_is_too_long_may_have_held_a_lock(tmp_path: Path) -> None:
    variables = Variables(str(tmp_path))
    variables.set(stub.KNOBS, POOLBOOT, b"#" * stub.MAX_CONF + b"\nlock=all\n")
    words, _ = stub.knobs(stub.read_variable(variables), "variable", True)
    (lock,) = config.read(" ".join(words)).locks
    assert lock.level == "all"


@pytest.mark.parametrize(("root", "narrow"), [
    ("LABEL=one", "LABEL=one"), ("UUID=1-2", "UUID=1-2"), ("ZFS=pool/ROOT/old", ""), ("/dev/sdb", ""), ("nonsense", ""),
])  # fmt: skip
def test_an_unsigned_root_only_leaves_pools_out(root: str, narrow: str) -> None:
    merged = configure(config.read(""), f"root={root}\n")
    assert (merged.root, merged.narrow) == ("", narrow)
    assert configure(config.read("root=LABEL=signed"), f"root={root}\n").narrow == ""
    assert configure(config.read(""), f"root={root}\n", secure=False).root == root


def test_narrowing_leaves_out_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    pools = [MemoryPool({"@": system("6.1")}, name) for name in ("one", "two")]
    monkeypatch.setattr("init.survey.pools.assemble", lambda *given: pools)
    found = Survey([], BootConfig(narrow="LABEL=two"))
    assert [pool.name for pool in found.matching] == ["two"]
    assert found.wanted.key == ""  # nobody who is trusted asked for it
    assert str(found.sought) == "the pool with label two"


def test_what_a_variable_says_goes_before_the_file_and_hashes_are_not_shown() -> None:
    merged = configure(config.read(""), "timeout=5\nlock=menu\n", "timeout=9 lock=editor")
    assert merged.timeout == 9
    assert [lock.level for lock in merged.locks] == ["menu", "editor"]
    words, _ = stub.knobs("lock_password=grub.pbkdf2.sha512.1.aa.bb timeout=1", "conf", True)
    assert stub.shown(words) == "poolboot.lock_password=... poolboot.timeout=1"


def test_what_the_firmware_left_does_not_pile_up_from_one_try_to_the_next() -> None:
    base = config.read("poolboot.lock=editor")
    once = configure(base, "lock=menu")
    assert [lock.level for lock in once.locks] == ["editor", "menu"]
    assert base.locks == config.read("poolboot.lock=editor").locks


@pytest.mark.parametrize(("first", "second", "locked"), [
    ("lock=all\n", "timeout=3\n", True), ("timeout=3\n", "poolboot.lokc=all\n", True), ("timeout=3\n", "", False),
    ("lock=all\n", None, False),
])  # fmt: skip
def test_a_copy_of_our_disk_lifts_no_lock(tmp_path: Path, first: str, second: str | None, locked: bool) -> None:
    """Which of two disks with one PARTUUID is ours nobody knows: a stick might be plugged in for that."""
    devices = []
    for number, conf in enumerate((first, second)):
        folder = tmp_path / str(number) / "EFI" / "BOOT"
        folder.mkdir(parents=True)
        if conf is not None:
            (folder / "poolboot.conf").write_text(conf)
            devices.append(esp(tmp_path / f"{number}.img", tmp_path / str(number)))
    came = stub.Origin(str(uuid.UUID(int=7)), "/EFI/BOOT/BOOTX64.EFI", False)
    assert stub.doubtful_lock(came, devices) == locked
    assert not stub.doubtful_lock(stub.Origin("", "", False), devices)


@pytest.mark.parametrize("word", ["ab", "l", "lock_passw", "lock_passwore", "poolboot.lokc=1", "x" * 4000])
def test_thousands_of_words_are_judged_in_no_time(word: str) -> None:
    """Each may be a lock that is misspelt, which takes a comparison with every knob."""
    text = "\n".join(f"{word}{number % 10}" for number in range(20_000))[: stub.MAX_CONF]
    bounded(lambda: stub.knobs(text, "poolboot.conf", True))
