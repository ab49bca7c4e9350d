"""Snapshots of a root as snapper, timeshift, ZFS and bare hands make them; what can be booted from one."""

from __future__ import annotations

import pytest
from init_doubles import UUID, MemoryPool, system
from places import DATA

from fsdrivers import pools
from fsdrivers.errors import Corrupt
from init import config, entries, survey
from init.entries import policy, snapshots
from init.roots import BootRoot

INFO = b"""<?xml version="1.0"?>
<snapshot>
  <type>pre</type>
  <num>7</num>
  <date>2024-05-01 12:30:00</date>
  <description>zypp(zypper) &lt;kernel&gt; &amp; more</description>
</snapshot>
"""
JSON = b'{\n  "created" : "1714566600",\n  "comments" : "before the \\u00fcpgrade",\n  "live" : "false"\n}\n'


def at(pool: MemoryPool, name: str) -> BootRoot:
    root = next(root for root in pool.roots() if root.name == name)
    return BootRoot(pool, root, pool.open(name))


def listed(pool: MemoryPool, name: str) -> list[str]:
    notes: list[str] = []
    found = snapshots.of(at(pool, name), notes.append)
    assert notes == []
    return [one.root.name for one in found]


def opensuse(**more: object) -> MemoryPool:
    below: dict[str, object] = {"7": {"info.xml": INFO}, "8": {}}
    return MemoryPool(
        {"/": {}, "@": system("6.4.0-2"), "@/.snapshots": below, "@/.snapshots/7/snapshot": system("6.4.0-1"),
         "@/.snapshots/8/snapshot": {"etc": {}}, "@/home": {}, "@/home/.snapshots/1/snapshot": {}},
        readonly=("@/.snapshots/7/snapshot", "@/.snapshots/8/snapshot", "@/home/.snapshots/1/snapshot"),
        **more,
    )  # type: ignore[arg-type]  # fmt: skip


def test_snapper_below_its_root() -> None:
    pool = opensuse()
    assert listed(pool, "@") == ["@/.snapshots/8/snapshot", "@/.snapshots/7/snapshot"]
    assert pool.opened == ["@"]  # names cost nothing


def test_after_a_rollback_the_root_is_one_of_its_own_snapshots() -> None:
    pool = MemoryPool(
        {"@/.snapshots/9/snapshot": system("1"), "@/.snapshots/7/snapshot": {}, "@": {}, "@home": {}},
        readonly=("@/.snapshots/7/snapshot",),
        origins={"@/.snapshots/9/snapshot": "@/.snapshots/7/snapshot", "@/.snapshots/7/snapshot": "@"},
    )
    assert listed(pool, "@/.snapshots/9/snapshot") == ["@/.snapshots/7/snapshot"]
    pool.origins = {}  # the layout tells, too
    assert listed(pool, "@/.snapshots/9/snapshot") == ["@/.snapshots/7/snapshot"]


def test_snapper_beside_its_root_and_what_was_made_from_another_one() -> None:
    pool = MemoryPool(
        {"/": {}, "@": system("1"), "@home": {}, "@snapshots": {}, "@snapshots/1/snapshot": {},
         "@snapshots/2/snapshot": {}, "backup/old": {}, "backup/other": {}},
        readonly=("@snapshots/1/snapshot", "@snapshots/2/snapshot", "backup/old", "backup/other"),
        origins={"@snapshots/2/snapshot": "@home", "backup/old": "@", "backup/other": "@home"},
    )  # fmt: skip
    assert listed(pool, "@") == ["backup/old", "@snapshots/1/snapshot"]


def test_timeshift() -> None:
    date = "timeshift-btrfs/snapshots/2024-05-01_12-30-00"
    pool = MemoryPool({"/": {"timeshift-btrfs": {"snapshots": {"2024-05-01_12-30-00": {"info.json": JSON}}}},
                       "@": system("1"), "@home": {}, f"{date}/@": system("1"), f"{date}/@home": {}})  # fmt: skip
    assert listed(pool, "@") == [f"{date}/@"]
    (one,) = snapshots.described(snapshots.of(at(pool, "@"), lambda note: None))
    assert (one.when, one.readonly) == ("2024-05-01 12:30", False)
    assert one.title == "2024-05-01 12:30, snapshot 2024-05-01_12-30-00, before the üpgrade"


def test_what_the_real_timeshift_wrote() -> None:
    """data/timeshift/make is how; the second one took /home along."""
    days = ("2026-11-23_07-13-53", "2026-11-23_07-13-57")
    texts = {day: {"info.json": (DATA / "timeshift" / day / "info.json").read_bytes()} for day in days}
    older, newer = (f"timeshift-btrfs/snapshots/{day}" for day in days)
    pool = MemoryPool(
        {"/": {"timeshift-btrfs": {"snapshots": texts}}, "@": system("1"), "@home": {}, f"{older}/@": system("1"),
         f"{newer}/@": system("1"), f"{newer}/@home": {}},
        origins={f"{older}/@": "@", f"{newer}/@": "@", f"{newer}/@home": "@home"},
    )  # fmt: skip
    assert listed(pool, "@") == [f"{newer}/@", f"{older}/@"]
    found = snapshots.described(snapshots.of(at(pool, "@"), lambda note: None))
    assert [one.description for one in found] == ["", 'before the "upgrade", 100 % äöü\\']
    assert [one.created for one in found] == [1795418037 * 10**9, 1795418033 * 10**9]
    assert [one.tool for one in found] == ["timeshift", "timeshift"]


def test_after_timeshift_restored_one() -> None:
    """The root as it was becomes a snapshot, and the root is made from the one that was chosen."""
    before, chosen = (f"timeshift-btrfs/snapshots/2024-05-0{day}_12-00-00/@" for day in (2, 1))
    pool = MemoryPool(
        {"/": {}, "@": system("1"), "@home": {}, before: system("1"), chosen: system("1")},
        origins={"@": chosen, chosen: before},
    )
    assert sorted(listed(pool, "@")) == [chosen, before]


@pytest.mark.parametrize(
    ("created", "when"), [("1", "1970-01-01 00:00"), ("x", "2024-05-01 12:30"), ("9" * 40, "2024-05-01 12:30")]
)
def test_times_in_timeshifts_notes(created: str, when: str) -> None:
    day = "2024-05-01_12-30-00"
    json = f'{{"created" : "{created}"}}'.encode()
    pool = MemoryPool({"/": {"timeshift-btrfs": {"snapshots": {day: {"info.json": json}}}},
                       "@": system("1"), f"timeshift-btrfs/snapshots/{day}/@": system("1")})  # fmt: skip
    (one,) = snapshots.described(snapshots.of(at(pool, "@"), lambda note: None))
    assert one.when == when


@pytest.mark.parametrize(
    ("release", "note"),
    [
        (b"ID=ubuntu", "its initrd boots a clone of it, tank/ROOT/debian_before, made anew each time"),
        (b"ID=fedora", "its initrd may refuse it: a clone could be booted"),
    ],
)
def test_zfs(release: bytes, note: str) -> None:
    tree = {"os-release": release}
    pool = MemoryPool({"tank/ROOT/debian": system("1", **tree), "tank/ROOT/debian@before": system("1", **tree),
                       "tank/ROOT/old@x": {}}, readonly=("tank/ROOT/debian@before",), kind="zfs")  # fmt: skip
    assert listed(pool, "tank/ROOT/debian") == ["tank/ROOT/debian@before"]
    place = at(pool, "tank/ROOT/debian")
    (entry,) = entries.find(place, config.read(""), lambda note: None)
    (one,) = entries.snapshots_of(entry, lambda note: None)
    (booted,) = entries.of_snapshot(one, entry, config.read(""), lambda note: None)
    assert booted.cmdline.split()[0].endswith("tank/ROOT/debian@before")
    assert booted.notes == (note,)


def test_what_snapper_noted() -> None:
    pool = opensuse()
    (entry,) = entries.find(at(pool, "@"), config.read(""), lambda note: None)
    newer, older = entries.snapshots_of(entry, lambda note: None)
    assert older.title == "2024-05-01 12:30, snapshot 7, pre zypp(zypper) <kernel> & more, read-only"
    assert newer.title == f"{newer.when}, snapshot 8, read-only"
    assert (entry.snapshot, entry.root.name) == (None, "@")


def test_what_the_real_snapper_wrote() -> None:
    """data/snapper/make is how."""
    texts = {number: {"info.xml": (DATA / "snapper" / number / "info.xml").read_bytes()} for number in "1234"}
    names = [f"@/.snapshots/{number}/snapshot" for number in texts]
    trees: dict[str, object] = {"/": {}, "@": system("1"), "@/.snapshots": texts, **{name: {} for name in names}}
    pool = MemoryPool(trees, readonly=tuple(names))  # type: ignore[arg-type]
    found = snapshots.described(snapshots.of(at(pool, "@"), lambda note: None))
    assert sorted((one.number, one.description) for one in found) == [
        ("1", "before the upgrade"), ("2", 'ümläut & <tags> "quoted"'), ("3", "pre apt"), ("4", "post"),
    ]  # fmt: skip
    assert {one.when for one in found} == {"2026-11-23 04:31"}


@pytest.mark.parametrize(
    ("text", "plain"),
    [("&#xFC;&#252;", "üü"), ("&#x110000;&#9999999;", "??"), ("&amp;lt;", "&lt;"), ("&#;&#x;&nbsp;", "&#;&#x;&nbsp;")],
)
def test_references(text: str, plain: str) -> None:
    assert snapshots._entities(text) == plain


def test_a_snapshot_boots_its_own_kernel_with_its_own_tree() -> None:
    pool = opensuse()
    (entry,) = entries.find(at(pool, "@"), config.read(""), lambda note: None)
    _, older = entries.snapshots_of(entry, lambda note: None)
    (booted,) = entries.of_snapshot(older, entry, config.read(""), lambda note: None)
    assert (booted.snapshot, booted.root) == (older, older.root)
    assert booted.id == "tank:@/.snapshots/7/snapshot/6.4.0-1"
    assert booted.kernel == "/boot/vmlinuz-6.4.0-1"
    assert booted.cmdline == f"root=UUID={UUID} rootflags=subvol=@/.snapshots/7/snapshot ro"
    assert booted.notes == ("this snapshot is read-only: the system cannot write to its root",)
    assert booted.title.startswith("Test Linux 1, kernel 6.4.0-1, 2024-05-01 12:30, snapshot 7")


def test_a_snapshot_without_kernels_takes_the_one_outside_of_the_root_with_a_warning() -> None:
    pool = opensuse()
    (entry,) = entries.find(at(pool, "@"), config.read(""), lambda note: None)
    notes: list[str] = []
    newer, _ = entries.snapshots_of(entry, notes.append)
    assert entries.of_snapshot(newer, entry, config.read(""), notes.append) == []
    assert notes == ["tank:@/.snapshots/8/snapshot: no kernel in it"]
    outside = entry._replace(files=entry.place.filesystem, id="vda1/6.4.0-2", cmdline=f"{entry.cmdline} quiet")
    (booted,) = entries.of_snapshot(newer, outside, config.read("poolboot.append=x"), notes.append)
    assert booted.cmdline == f"root=UUID={UUID} rootflags=subvol=@/.snapshots/8/snapshot ro quiet"
    assert booted.id == "tank:@/.snapshots/8/snapshot/6.4.0-2"
    assert "no /lib/modules/6.4.0-2 in this root" in booted.notes


def test_damage_is_told() -> None:
    pool = opensuse()
    place = at(pool, "@")
    (entry,) = entries.find(place, config.read(""), lambda note: None)
    one = snapshots.of(place, lambda note: None)[0]
    pool.trees[one.root.name] = Corrupt("vda", "node", 8192)
    notes: list[str] = []
    assert entries.of_snapshot(one, entry, config.read(""), notes.append) == []
    pool.trouble = Corrupt("vda", "chunk tree", 4096)
    assert snapshots.of(place, notes.append) == []
    assert notes == [
        "tank:@/.snapshots/8/snapshot cannot be opened: vda: corrupt node at offset 0x2000",
        "tank:@: its snapshots cannot be listed: vda: corrupt chunk tree at offset 0x1000",
    ]


@pytest.mark.parametrize(
    "asked",
    ["tank:@/.snapshots/7/snapshot", "@/.snapshots/7/snapshot", "tank:@/.snapshots/7/snapshot/6.4.0-1", "uuid-3"],
)
def test_the_entry_knob_names_a_snapshot(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    pool = opensuse()
    monkeypatch.setattr(pools, "assemble", lambda *given: [pool])
    found = survey.Survey([], config.read(f"poolboot.entry={asked}"))
    assert [entry.id for entry in found.entries()] == ["tank:@/6.4.0-2", "tank:@/.snapshots/7/snapshot/6.4.0-1"]
    choice = policy.choose(found.entries(), [policy.Wish(asked, "asked")])
    assert choice.order[0].snapshot is not None
    assert not choice.warning
    assert choice.order[1].snapshot is None


def test_without_being_asked_no_snapshot_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = opensuse()
    monkeypatch.setattr(pools, "assemble", lambda *given: [pool])
    assert len(survey.Survey([], config.read("")).entries()) == 1
    assert not any("snapshot" in name for name in pool.opened)


def test_a_time_that_no_calendar_has_is_a_number() -> None:
    pool = MemoryPool({"@": system("1"), "@/.snapshots/7/snapshot": {}}, readonly=("@/.snapshots/7/snapshot",))
    root = next(root for root in pool.roots() if root.readonly)._replace(created=((1 << 64) - 1) * 10**9)
    one = snapshots.Snapshot(pool, root, snapshots.SNAPPER, "7", root.created)
    assert one.title == "18446744073709551615, snapshot 7, read-only"
