"""The memory from boot to boot: counting, wishes, where it is kept, and the script that reports a good boot."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from init_doubles import MemoryPool, system
from places import PROJECT

from fsdrivers import pools
from fsdrivers.block import FileDevice
from fsdrivers.partitions import Partition
from fsdrivers.pool import Slot
from init import config
from init.entries import ledger
from init.entries.entry import Counter
from init.entries.ledger import Ledger
from init.firmware import esp, keeper, stub
from init.firmware.efivars import LOADER, POOLBOOT, Variables, ucs2
from init.firmware.keeper import InVariable, Keeper
from init.machine.devices import About
from init.refused import Refused
from init.survey import Survey
from init.trust import PLUGGED, Trust

SCRIPT = PROJECT / "contrib" / "systemd" / "poolboot-good"
NEW, OLD = "tank:@/6.12", "tank:@/6.1"


def found(monkeypatch: pytest.MonkeyPatch, knobs: str = "", good: bool = True) -> Survey:
    tree = system("6.12", "6.1")
    if good:
        tree["etc"] |= {"systemd": {"system": {"multi-user.target.wants": {  # type: ignore[operator]
            "poolboot-good.service": "/etc/systemd/system/poolboot-good.service"}}}}  # fmt: skip
    pool = MemoryPool({"@": tree})
    monkeypatch.setattr(pools, "assemble", lambda *given: [pool])
    return Survey([], config.read(knobs))


@pytest.fixture
def variables(tmp_path: Path) -> Variables:
    (tmp_path / "efivars").mkdir()
    (tmp_path / "efivars" / "Some-x").write_bytes(b"....x")
    return Variables(str(tmp_path / "efivars"))


def start(variables: Variables, there: Survey) -> tuple[str, str, list[str]]:
    """One boot up to the jump: (id of the entry, why, what was said)."""
    said: list[str] = []
    kept = Keeper([], there.config, variables)
    choice = kept.choose(there)
    kept.starting(choice.order[0], said.append)
    return choice.order[0].id, "; ".join([*choice.reasons, choice.warning]), said


def remembered(variables: Variables) -> str:
    """All but what is about pools: see test_pools_that_were_booted_from."""
    value = variables.get(keeper.VARIABLE, POOLBOOT)
    lines = value.data.decode().splitlines(True) if value else []
    return "".join(line for line in lines if not line.startswith(("pool ", "good ")))


# --- the text ---------------------------------------------------------------------------------


@pytest.mark.parametrize("identity", ["a\nonce evil", "a\rb", "a\0b", "x" * 5000])
def test_an_id_that_is_more_than_a_line_is_not_written_down(identity: str) -> None:
    """File names may hold line feeds, and ids are made of them."""
    written = Ledger("good", identity, identity, (("other", 2), (identity, 1)))
    assert ledger.parse(written.text()) == Ledger("good", "", "", (("other", 2),))


def test_a_ledger_as_text() -> None:
    one = Ledger(default="a b", once="c").started("tank:@/x y").started("z").started("tank:@/x y")
    assert one.text() == "default a b\nonce c\nbooting tank:@/x y\ntry 1 z\ntry 2 tank:@/x y\n"
    assert ledger.parse(one.text()) == one
    assert Ledger().text() == ""


def test_pools_that_were_booted_from() -> None:
    one = Ledger().on("u1", ["b", "a"])
    assert one.text() == "pool u1 a b\n"
    assert one.known() == {"u1": {"a", "b"}}
    assert one.started("x").known() == {}  # and nobody has reported it good
    two = one.on("u2", ["c"]).started("x")
    assert two.known() == {"u1": {"a", "b"}}
    two = ledger.parse(two.text())._replace(booting="")
    assert list(two.known().items()) == [("u1", {"a", "b"}), ("u2", {"c"})]
    assert list(two.on("u1", ["a"]).known().items()) == [("u2", {"c"}), ("u1", {"a"})]
    assert one.on("u1", ["a", "b"]).on("u1", ["a", "b"]) == one.on("u1", ["a", "b"])  # written twice at most
    many = Ledger()
    for number in range(20):
        many = many.on(f"u{number}", map(str, range(40)))
    assert len(many.known()) == ledger.MAX_POOLS + 1
    assert len(many.text()) < 512
    assert ledger.parse(many.text()) == many


@pytest.mark.parametrize("removable", [False, True])
def test_where_a_pool_was_is_remembered_too(
    monkeypatch: pytest.MonkeyPatch, variables: Variables, removable: bool
) -> None:
    there = found(monkeypatch)
    (pool,) = there.pools
    disk = FileDevice(str(PROJECT / "README.md"))
    pool.devices, pool.slots = (disk,), (Slot(1, "m1", disk.name, "online"),)
    trust = Trust({disk.name: About(removable=removable)})
    Keeper([], there.config, variables, trust=trust).starting(there.entries()[0], print)
    assert trust.removable(disk.name) == removable
    written = ledger.parse(InVariable(variables).read())
    assert written.pool == (pool.uuid, *([PLUGGED] if removable else []), "m1")
    assert Trust({disk.name: About(removable=removable)}, known=written._replace(booting="").known()).knows(pool)


@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from(["try", " ", "1", "x", "\n", "booting", "\0", "once"])).map("".join)
)
def test_no_text_stops_the_ledger(text: str) -> None:
    once = ledger.parse(text)
    assert ledger.parse(once.text()) == once


def test_a_long_ledger_is_cut() -> None:
    one = ledger.parse("".join(f"try 1 e{number}\n" for number in range(5000)))
    assert len(one.tries) == ledger.MAX_LINES
    for number in range(600):
        one = one.started(f"e{number}")
    assert len(one.tries) == ledger.MAX_LINES


# --- counting ---------------------------------------------------------------------------------


def test_after_three_starts_in_vain_the_next_entry_gets_its_turn(
    monkeypatch: pytest.MonkeyPatch, variables: Variables
) -> None:
    there = found(monkeypatch)
    for number in (1, 2, 3):
        entry, _, said = start(variables, there)
        assert entry == NEW
        assert said == [f"try {number} of 3 for Test Linux 1, kernel 6.12, as EFI variable Boots has it"]
    entry, why, _ = start(variables, there)
    assert entry == OLD
    assert why == (
        "those before it were started in vain; Test Linux 1, kernel 6.12 is passed over: "
        "it was started 3 times in vain: no good boot was reported"
    )
    assert remembered(variables) == f"booting {OLD}\ntry 3 {NEW}\ntry 1 {OLD}\n"


def test_when_all_are_over_their_order_counts_again(monkeypatch: pytest.MonkeyPatch, variables: Variables) -> None:
    variables.set(keeper.VARIABLE, POOLBOOT, f"try 9 {NEW}\ntry 3 {OLD}\n".encode())
    entry, why, _ = start(variables, found(monkeypatch))
    assert entry == NEW
    assert why.endswith("no entry has any tries left: taking them in their order")


def test_who_does_not_report_is_not_counted(monkeypatch: pytest.MonkeyPatch, variables: Variables) -> None:
    for _ in range(5):
        assert start(variables, found(monkeypatch, good=False))[0] == NEW
    assert remembered(variables) == ""
    assert start(variables, found(monkeypatch, "poolboot.tries=1", good=False))[0] == NEW
    assert start(variables, found(monkeypatch, "poolboot.tries=1", good=False))[0] == OLD
    assert start(variables, found(monkeypatch, "poolboot.tries=0"))[0] == NEW


def test_without_a_place_for_it_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = found(monkeypatch)
    _, _, said = start(Variables(str(tmp_path / "none")), there)
    assert said == [
        "warning: nobody counts the boots of Test Linux 1, kernel 6.12: an EFI system partition called poolboot: "
        "there is none; EFI system partitions here: none"
    ]


def test_a_counter_in_a_file_name_is_counted_down(
    monkeypatch: pytest.MonkeyPatch, variables: Variables, tmp_path: Path
) -> None:
    there = found(monkeypatch)
    directory = tmp_path / "mounted" / "loader" / "entries"
    directory.mkdir(parents=True)
    (directory / "x+3-1.conf").write_text("title x\n")
    counter = Counter(Partition(MemoryDevice(), 1, 0, 1, "", "", ""), "/loader/entries/x+3-1.conf", 3, 1)
    monkeypatch.setattr(esp, "mounted", lambda partition: contextlib.nullcontext(str(tmp_path / "mounted")))
    kept = Keeper([], there.config, variables)
    entry = there.entries()[0]._replace(counter=counter, tries_left=3)
    said: list[str] = []
    kept.starting(entry, said.append)
    assert [path.name for path in directory.iterdir()] == ["x+2-2.conf"]
    assert said == ["counted down: /loader/entries/x+2-2.conf on vda1"]
    path = variables.get("LoaderBootCountPath", LOADER)
    assert path is not None
    assert path.text == "\\loader\\entries\\x+2-2.conf"
    assert remembered(variables) == ""  # the name of the file is memory enough
    kept.starting(entry, said.append)  # the old name is gone
    assert "cannot be counted down: ENOENT" in said[-1]
    assert variables.get("LoaderBootCountPath", LOADER) is None


class MemoryDevice:
    name, size = "vda", 1 << 20


def test_a_counter_in_the_pool_is_counted_beside_it(monkeypatch: pytest.MonkeyPatch, variables: Variables) -> None:
    kept = Keeper([], config.read(""), variables)
    entry = found(monkeypatch, good=False).entries()[0]._replace(tries_left=2)
    assert kept.limit(entry) == 2
    for _ in range(2):
        assert kept.spent(entry) == ""
        kept.starting(entry, lambda text: None)
    assert kept.spent(entry).startswith("it was started 2 times in vain")


# --- wishes -----------------------------------------------------------------------------------


def test_wishes_in_their_order(monkeypatch: pytest.MonkeyPatch, variables: Variables) -> None:
    there = found(monkeypatch)
    name = stub.identifier(there.entries()[1])
    variables.set("LoaderEntryOneShot", LOADER, ucs2(name))
    assert start(variables, there)[:2] == (
        OLD, "the system asked for it, for this boot (LoaderEntryOneShot); ",
    )  # fmt: skip
    assert start(variables, there)[0] == NEW
    variables.set("LoaderEntryDefault", LOADER, ucs2(name))
    assert start(variables, there)[0] == OLD
    assert start(variables, found(monkeypatch, "poolboot.entry=1"))[0] == NEW
    variables.delete("LoaderEntryDefault", LOADER)
    variables.set(keeper.VARIABLE, POOLBOOT, f"default {OLD}\nonce {NEW}\ntry 7 {NEW}\n".encode())
    assert start(variables, there)[0] == NEW  # for this boot alone: how often it failed does not matter
    assert "once" not in remembered(variables)
    assert start(variables, there)[0] == OLD


def test_the_system_may_call_an_entry_as_its_own_boot_loader_does(
    monkeypatch: pytest.MonkeyPatch, variables: Variables
) -> None:
    variables.set("LoaderEntryDefault", LOADER, ucs2(f"{OLD.rpartition('/')[2].upper()}.conf"))
    assert start(variables, found(monkeypatch))[0] == OLD


@pytest.mark.parametrize(("pattern", "version"), [("6.[1].conf", OLD), ("6*.CONF", NEW), ("x*", NEW)])
def test_the_system_may_state_a_pattern(
    monkeypatch: pytest.MonkeyPatch, variables: Variables, pattern: str, version: str
) -> None:
    """bootctl(1), set-default; what fits nothing is a default of another boot loader."""
    variables.set("LoaderEntryDefault", LOADER, ucs2(pattern))
    assert start(variables, found(monkeypatch))[0] == version


def test_a_wish_for_another_boot_loader_is_forgotten_too(monkeypatch: pytest.MonkeyPatch, variables: Variables) -> None:
    variables.set("LoaderEntryOneShot", LOADER, ucs2("arch.conf"))
    assert start(variables, found(monkeypatch))[0] == NEW
    assert variables.get("LoaderEntryOneShot", LOADER) is None


def test_who_is_not_counted_does_not_report_the_one_before(
    monkeypatch: pytest.MonkeyPatch, variables: Variables
) -> None:
    start(variables, found(monkeypatch))
    start(variables, found(monkeypatch, "poolboot.entry=2 poolboot.tries=0"))
    assert remembered(variables) == f"try 1 {NEW}\n"


def test_a_wish_that_cannot_be_met_is_told(monkeypatch: pytest.MonkeyPatch, variables: Variables) -> None:
    variables.set(keeper.VARIABLE, POOLBOOT, b"default gone\n")
    entry, why, _ = start(variables, found(monkeypatch))
    assert entry == NEW
    assert why.endswith("it is the default in EFI variable Boots: there is no such entry; taking the default")


def test_a_wish_for_one_boot_that_cannot_be_forgotten_does_not_count(
    monkeypatch: pytest.MonkeyPatch, variables: Variables
) -> None:
    there = found(monkeypatch)
    variables.set("LoaderEntryOneShot", LOADER, ucs2(stub.identifier(there.entries()[1])))

    def refuse(name: str, vendor: str) -> bool:
        raise Refused(f"EFI variable {name} cannot be deleted")

    monkeypatch.setattr(variables, "delete", refuse)
    kept = Keeper([], there.config, variables)
    assert kept.choose(there).order[0].id == NEW
    assert kept.notes == ["EFI variable LoaderEntryOneShot cannot be deleted"]


# --- on a FAT partition -----------------------------------------------------------------------


@pytest.fixture
def partition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A FAT that the kernel's mount is played for by a directory."""
    top = tmp_path / "fat"
    top.mkdir()
    monkeypatch.setattr(esp, "mounted", lambda partition: contextlib.nullcontext(str(top)))
    return top


def test_a_file_on_the_partition(partition: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = keeper.OnPartition(Partition(MemoryDevice(), 1, 0, 1, "", "", ""), None)  # type: ignore[arg-type]
    monkeypatch.setattr(esp, "find", lambda devices, asked, trust: store._partition)
    monkeypatch.setattr(keeper.OnPartition, "read", lambda self: _text(partition))
    there = found(monkeypatch)
    kept = Keeper([], there.config)
    kept.starting(kept.choose(there).order[0], lambda text: None)
    assert _text(partition) == f"booting {NEW}\ntry 1 {NEW}\n"
    monkeypatch.setattr(esp, "put", _full)
    said: list[str] = []
    Keeper([], there.config).starting(there.entries()[0], said.append)
    assert said[0].startswith(
        "warning: nobody counts the boots of Test Linux 1, kernel 6.12: writing EFI/poolboot/boots"
    )


def _text(top: Path) -> str:
    path = top / "EFI" / "poolboot" / "boots"
    return path.read_text() if path.exists() else ""


def _full(*arguments: Any) -> None:
    raise OSError(28, "No space left on device")


# --- the booted system's side -----------------------------------------------------------------


def script(tmp_path: Path, text: bytes) -> bytes | None:
    """Run the script's part for an EFI variable that holds ``text``; what it holds then."""
    variable = tmp_path / "variable"
    variable.write_bytes(b"\7\0\0\0" + text)
    (tmp_path / "run").mkdir(exist_ok=True)
    lines = SCRIPT.read_text().replace("/run/", f"{tmp_path}/run/").splitlines()
    changed = [f"variable={variable}" if line.startswith("variable=") else line for line in lines]
    # An ordinary file has no guard, and not every file system the flag for it.
    changed.insert(1, "chattr() { :; }")
    subprocess.run(["sh", "-c", "\n".join(changed)], check=True, stdout=subprocess.PIPE)
    assert os.listdir(tmp_path / "run") == []
    if not variable.exists():
        return None
    data = variable.read_bytes()
    assert data[:4] == b"\7\0\0\0"
    return data[4:]


def test_the_script_forgets_what_was_started_last(tmp_path: Path) -> None:
    text = f"default a b\nbooting {NEW}\ntry 2 {NEW}\ntry 1 {NEW}-rt\ntry 3 {OLD}\n".encode()
    assert script(tmp_path, text) == f"default a b\ntry 1 {NEW}-rt\ntry 3 {OLD}\n".encode()
    assert script(tmp_path, f"booting {NEW}\ntry 2 {NEW}\n".encode()) is None
    assert script(tmp_path, b"try 3 x y\\n z\n") == b"try 3 x y\\n z\n"


def test_the_unit_is_what_the_init_looks_for() -> None:
    unit = SCRIPT.with_name("poolboot-good.service").read_text()
    assert f"ExecStart=/usr/local/sbin/{SCRIPT.name}" in unit
    assert "WantedBy=multi-user.target" in unit
    assert keeper.UNITS == ("/etc/systemd/system/multi-user.target.wants/poolboot-good.service",)
    assert POOLBOOT in SCRIPT.read_text()


def test_a_person_makes_an_entry_the_default_and_takes_it_back(
    monkeypatch: pytest.MonkeyPatch, variables: Variables
) -> None:
    """What the system had set goes: the later wish counts."""
    there = found(monkeypatch, good=False)
    new, old = there.entries()
    variables.set("LoaderEntryDefault", LOADER, ucs2(NEW))
    kept = Keeper([], there.config, variables)
    assert kept.toggle(old) == f"{OLD} is wanted for all boots, says EFI variable Boots"
    assert start(variables, there)[0] == OLD
    assert variables.get("LoaderEntryDefault", LOADER) is None
    assert "nothing is wanted for all boots any more" in Keeper([], there.config, variables).toggle(old)
    assert start(variables, there)[0] == NEW
    assert remembered(variables) == ""
    kept = Keeper([], there.config, variables)
    assert "is wanted for the next boot" in kept.remember(old, once=True)
    assert [start(variables, there)[0] for _ in range(2)] == [OLD, NEW]
    asking = Keeper([], config.read("poolboot.entry=1"), variables)
    assert asking.remember(new).endswith("; but poolboot.entry=1 goes before it")


def test_without_a_memory_nothing_can_be_wished(monkeypatch: pytest.MonkeyPatch) -> None:
    there = found(monkeypatch)
    with pytest.raises(Refused, match="no memory from boot to boot: an EFI system partition called poolboot"):
        Keeper([], there.config).remember(there.entries()[0])
