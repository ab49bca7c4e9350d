"""Whom a machine trusts: the order of pools, what needs a person, which of two that claim to be the same is meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from init_doubles import MemoryPool, TestConsole, system

from fsdrivers import pools
from fsdrivers.block import BlockDevice
from fsdrivers.errors import FsError
from fsdrivers.pool import Member, Pool, Slot
from init import config, waiting
from init.entries import policy
from init.machine.devices import About, Disks, about
from init.machine.modules import Modules
from init.survey import Survey
from init.trust import PLUGGED, Trust

OWN, FOREIGN = "0f6c2a8e-1f7d-4c55-9a3e-000000000001", "0f6c2a8e-1f7d-4c55-9a3e-000000000002"
FIXED, OTHER, STICK = "/dev/nvme0n1", "/dev/sda", "/dev/sdb"
DISKS = {
    FIXED: About(500 << 30, "Samsung SSD 980"), OTHER: About(4 << 40, "WDC"),
    STICK: About(16 << 30, "SanDisk Ultra", True, "usb"),
}  # fmt: skip


class Disk(BlockDevice):
    """A disk of zeros."""

    def __init__(self, name: str) -> None:
        self.name, self.size = name, 1 << 20

    def read_into(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = bytes(len(buffer))


def pool(name: str, uuid: str, disk: str, version: str = "6.1", member: str = "") -> MemoryPool:
    made = MemoryPool({"@": system(version)}, name, uuid)
    made.devices = (Disk(disk),)
    made.slots = (Slot(1, member or f"{uuid}-{disk}", disk, "online"),)
    return made


def survey(
    monkeypatch: pytest.MonkeyPatch, there: Sequence[Pool], knobs: str = "", origin: str = "", **known: frozenset[str]
) -> Survey:
    monkeypatch.setattr(pools, "assemble", lambda *given: list(there))
    devices = [device for one in there for device in one.devices]
    before = {uuid.replace("_", "-"): members for uuid, members in known.items()}
    return Survey(devices, config.read(knobs), Trust(DISKS, origin, before))


def order(found: Survey, *wishes: policy.Wish) -> list[str]:
    return [entry.id for entry in policy.choose(found.entries(), wishes).order]


def rivals(*claims: Pool) -> list[Pool]:
    for one in claims:
        one.rivals = tuple(other for other in claims if other is not one)
    return list(claims)


# --- one pool beside another ------------------------------------------------------------------


def test_a_stick_with_a_name_that_sorts_first_is_listed_and_never_started_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = survey(monkeypatch, [pool("!", FOREIGN, STICK, "9.9"), pool("debian", OWN, FIXED)])
    assert [entry.id for entry in found.entries()] == ["debian:@/6.1", "!:@/9.9"]
    assert order(found) == ["debian:@/6.1"]
    foreign = found.entries()[1]
    assert foreign.disk == "sdb 16.0 GiB SanDisk Ultra usb"
    assert foreign.ask == "sdb 16.0 GiB SanDisk Ultra usb can be unplugged, and was not booted from before"
    assert f"only a person starts this: {foreign.ask}" in foreign.notes
    assert found.entries()[0].ask == ""


def test_a_wish_from_memory_does_not_start_it_and_one_of_the_command_line_does(monkeypatch: pytest.MonkeyPatch) -> None:
    found = survey(monkeypatch, [pool("!", FOREIGN, STICK), pool("debian", OWN, FIXED)])
    assert order(found, policy.Wish("!:@/6.1", "remembered")) == ["debian:@/6.1"]
    assert order(found, policy.Wish("!:@/6.1", "asked", person=True)) == ["!:@/6.1", "debian:@/6.1"]


@pytest.mark.parametrize("asked", ["debian", "@/6.1", "2", "3", "Linux, kernel 6.1", "Linux, kernel 9.9", "9.9"])
def test_what_the_command_line_calls_an_entry_is_no_name_that_a_stick_can_take(
    monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """Neither is an own entry less meant because a stick has one of that title, nor a number."""
    found = survey(monkeypatch, [pool("debian", OWN, FIXED), pool("sub", FOREIGN, STICK, "9.9")])
    own, foreign = found.entries()
    for title in (asked, foreign.title):
        there = [own, foreign._replace(title=title)]
        choice = policy.choose(there, [policy.Wish(asked, "poolboot.entry= asks for it", person=True, loud=True)])
        assert [entry.id for entry in choice.order] == ["debian:@/6.1"]
    meant = policy.choose([own, foreign], [policy.Wish("sub:@", "asked", person=True)])
    assert meant.order[0] is foreign


def test_the_only_one_boots_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found = survey(monkeypatch, [pool("live", FOREIGN, STICK)])
    choice = policy.choose(found.entries())
    assert [entry.id for entry in choice.order] == ["live:@/6.1"]
    assert "is all there is to boot: sdb 16.0 GiB SanDisk Ultra usb can be unplugged" in choice.warning


def test_a_stick_of_the_same_name_and_a_newer_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    found = survey(monkeypatch, [pool("debian", FOREIGN, STICK, "9.9"), pool("debian", OWN, FIXED)])
    assert [(entry.id, entry.place.pool.uuid) for entry in found.entries()] == [
        ("debian:@/6.1", OWN), ("debian:@/9.9", FOREIGN),
    ]  # fmt: skip
    assert order(found) == ["debian:@/6.1"]


@pytest.mark.parametrize("origin", [STICK, FIXED])
def test_the_disk_that_the_efi_file_came_from_goes_first(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    found = survey(monkeypatch, [pool("a", OWN, FIXED), pool("z", FOREIGN, STICK)], origin=origin)
    assert order(found)[0] == ("z:@/6.1" if origin == STICK else "a:@/6.1")


def test_of_two_fixed_disks_the_first_goes_first_whatever_the_other_calls_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, other = pool("tank", OWN, FIXED), pool("!", FOREIGN, OTHER)
    monkeypatch.setattr(pools, "assemble", lambda *given: [other, own])  # by name
    found = Survey([*own.devices, *other.devices], config.read(""), Trust(DISKS))
    assert order(found) == ["tank:@/6.1", "!:@/6.1"]


def test_what_was_booted_before_goes_before_another_fixed_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [pool("a", FOREIGN, OTHER), pool("z", OWN, FIXED, member="m1")]
    assert order(survey(monkeypatch, there))[0] == "a:@/6.1"
    known = {OWN.replace("-", "_"): frozenset({"m1"})}
    assert order(survey(monkeypatch, there, **known))[0] == "z:@/6.1"
    known = {OWN.replace("-", "_"): frozenset({"another"})}  # it only calls itself so
    assert order(survey(monkeypatch, there, **known))[0] == "a:@/6.1"


def test_a_stick_that_root_pins_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [pool("a", OWN, FIXED), pool("z", FOREIGN, STICK)]
    found = survey(monkeypatch, there, f"root=UUID={FOREIGN}")
    assert order(found) == ["z:@/6.1"]
    assert found.entries()[0].ask == ""


def test_a_stick_lends_nothing_to_a_root_that_is_not_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the file of poolboot.append-initrd=esp:, which is on the first boot partition that has it."""
    there = [pool("a", FOREIGN, STICK), pool("b", OWN, FIXED), pool("c", OTHER, OTHER)]
    found = survey(monkeypatch, there)
    lenders = {entry.place.pool.name: [one.name for one in found.lenders(entry)] for entry in found.entries()}
    assert lenders == {"a": [STICK, FIXED, OTHER], "b": [FIXED, OTHER], "c": [OTHER, FIXED]}
    came = survey(monkeypatch, there, origin=STICK)
    assert [one.name for one in came.lenders(came.entries()[1])] == [STICK, FIXED, OTHER]


def test_an_unsigned_root_does_not_make_a_stick_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [pool("a", OWN, FIXED), pool("z", FOREIGN, STICK)]
    monkeypatch.setattr(pools, "assemble", lambda *given: list(there))
    devices = [device for one in there for device in one.devices]
    narrow = config.read("")._replace(narrow=f"UUID={FOREIGN}", secure=True)
    found = Survey(devices, narrow, Trust(DISKS))
    assert [entry.id for entry in found.entries()] == ["z:@/6.1"]
    assert order(found) == []
    assert order(Survey(devices, narrow._replace(narrow=f"UUID={OWN}"), Trust(DISKS))) == ["a:@/6.1"]
    assert order(Survey(devices, narrow, Trust(DISKS, STICK))) == ["z:@/6.1"]


# --- two that claim to be the same ------------------------------------------------------------


@pytest.mark.parametrize("knobs", ["", f"root=UUID={OWN}", "root=LABEL=debian"])
def test_of_two_with_one_uuid_the_fixed_one_wins_and_the_countdown_stops(
    monkeypatch: pytest.MonkeyPatch, knobs: str
) -> None:
    found = survey(
        monkeypatch, rivals(pool("debian", OWN, STICK, "9.9"), pool("debian", OWN, FIXED, member="m1")), knobs
    )
    assert order(found) == ["debian:@/6.1"]
    assert not found.undecided
    (doubt,) = found.doubts
    assert doubt == (
        "btrfs pool debian is on nvme0n1 500 GiB Samsung SSD 980 and on sdb 16.0 GiB SanDisk Ultra usb: "
        "nvme0n1 500 GiB Samsung SSD 980 is trusted more; detach one"
    )
    assert [entry.disk for entry in found.entries()] == [
        "nvme0n1 500 GiB Samsung SSD 980", "sdb 16.0 GiB SanDisk Ultra usb",
    ]  # fmt: skip


def test_of_two_fixed_ones_only_a_person_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    there = rivals(pool("debian", OWN, OTHER, "9.9", "m2"), pool("debian", OWN, FIXED, member="m1"))
    found = survey(monkeypatch, there)
    assert found.undecided
    assert "which one is meant, only you know" in found.doubts[0]
    assert all(entry.ask for entry in found.entries())
    known = {OWN.replace("-", "_"): frozenset({"m1"})}
    found = survey(monkeypatch, there, **known)
    assert not found.undecided
    assert order(found) == ["debian:@/6.1"]


class Driver:
    """A driver whose labels are the devices that a pool has, all in all, and how new that is."""

    KIND = "double"
    labels: dict[str, tuple[int, tuple[str, ...]]]

    def probe(self, device: BlockDevice) -> Member | None:
        return Member(device, self.KIND, "u", self.labels[device.name]) if device.name in self.labels else None

    def assemble(self, members: list[Member]) -> Pool:
        return Doubled(members)


class Doubled(MemoryPool):
    """Its newest label says who belongs to it."""

    def __init__(self, members: list[Member]) -> None:
        super().__init__({"@": system("6.1")})
        self.uuid = "u"
        present = [member.device.name for member in members]
        newest = max(members, key=lambda member: member.label[0]).label  # type: ignore[index]
        self.slots = tuple(
            Slot(number, name, name if name in present else None, "online" if name in present else "missing")
            for number, name in enumerate(newest[1])  # type: ignore[index]
        )


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setattr(pools, "DRIVERS", (made,))
    return made


def claims(there: Sequence[str], heard: list[FsError] | None = None) -> list[list[str | None]]:
    trust = Trust(DISKS)
    found = pools.assemble([Disk(name) for name in there], (heard or []).append, trust.rank_of)
    return [[slot.device for slot in one.slots] for one in found]


def test_a_complete_pool_takes_no_member_that_is_trusted_less(double: Driver) -> None:
    """A newer generation, and it says that our disk belongs to it: whoever read the uuids of ours can say that."""
    double.labels = {FIXED: (7, (FIXED,)), STICK: (1007, (FIXED, STICK))}
    heard: list[FsError] = []
    assert sorted(claims([STICK, FIXED], heard), key=str) == [["/dev/nvme0n1"], [None, "/dev/sdb"]]


def test_an_incomplete_one_does(double: Driver) -> None:
    """A mirror half of which is in a USB case, and our half missed writes."""
    double.labels = {FIXED: (7, (FIXED, STICK)), STICK: (9, (FIXED, STICK))}
    assert claims([STICK, FIXED]) == [["/dev/nvme0n1", "/dev/sdb"]]


# --- the wait ---------------------------------------------------------------------------------


class Time(waiting.Clock):
    def __init__(self) -> None:
        self.seconds = 0.0
        self.now = lambda: self.seconds  # type: ignore[method-assign, assignment]
        self.sleep = self._sleep  # type: ignore[method-assign, assignment]

    def _sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Appearing(Disks):
    """Disks that come one after the other: (second, pool)."""

    def __init__(self, clock: Time, there: Sequence[tuple[float, Pool]], monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__("/nonexistent")
        self._clock, self._there, self._count = clock, there, -1
        monkeypatch.setattr(pools, "assemble", lambda *given: self.current)

    @property
    def current(self) -> list[Pool]:
        return [one for second, one in self._there if second <= self._clock.seconds]

    @property
    def devices(self) -> list[BlockDevice]:
        return [device for one in self.current for device in one.devices]

    def scan(self) -> bool:
        before, self._count = self._count, len(self.current)
        return before != self._count


def gathered(
    monkeypatch: pytest.MonkeyPatch, there: Sequence[tuple[float, Pool]], trust: Trust
) -> tuple[Survey, float]:
    clock = Time()
    disks = Appearing(clock, there, monkeypatch)
    found = waiting.gather(disks, Modules(""), config.read(""), TestConsole(), clock, lambda: trust)
    return found, clock.seconds


def test_a_quick_stick_does_not_end_the_wait_for_a_slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [(0.0, pool("!", FOREIGN, STICK)), (4.0, pool("debian", OWN, FIXED))]
    found, seconds = gathered(monkeypatch, there, Trust(DISKS))
    assert order(found) == ["debian:@/6.1"]
    assert 4 <= seconds < 5


def test_a_quick_foreign_disk_does_not_when_the_own_one_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [(0.0, pool("!", FOREIGN, OTHER)), (4.0, pool("debian", OWN, FIXED, member="m1"))]
    found, seconds = gathered(monkeypatch, there, Trust(DISKS, known={OWN: frozenset({"m1"})}))
    assert order(found)[0] == "debian:@/6.1"
    assert 4 <= seconds < 5


def test_a_stick_that_repeats_the_uuids_of_a_slow_disk_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are on each clone and in each backup; where a pool was is remembered as well."""
    clone, own = pool("debian", OWN, STICK, "9.9", member="m1"), pool("debian", OWN, FIXED, member="m1")
    found, seconds = gathered(monkeypatch, [(0.0, clone), (4.0, own)], Trust(DISKS, known={OWN: frozenset({"m1"})}))
    assert order(found)[0] == "debian:@/6.1"
    assert 4 <= seconds < 5
    other = pool("other", FOREIGN, OTHER)
    found = survey(monkeypatch, [clone, other], **{OWN.replace("-", "_"): frozenset({"m1"})})
    assert order(found) == ["other:@/6.1"]
    found = survey(monkeypatch, [clone, other], **{OWN.replace("-", "_"): frozenset({"m1", PLUGGED})})
    assert order(found)[0] == "debian:@/9.9"


def test_a_live_stick_boots_when_the_wait_is_over_and_at_once_when_it_is_where_we_came_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, seconds = gathered(monkeypatch, [(0.0, pool("live", FOREIGN, STICK))], Trust(DISKS))
    assert order(found) == ["live:@/6.1"]
    assert 10 <= seconds < 11
    found, seconds = gathered(monkeypatch, [(0.0, pool("live", FOREIGN, STICK))], Trust(DISKS, STICK))
    assert order(found) == ["live:@/6.1"]
    assert seconds == 0


# --- what sysfs says --------------------------------------------------------------------------


def sysfs(top: Path, name: str, place: str, **files: str) -> None:
    directory = top / "devices" / place / "block" / name
    (directory / "device").mkdir(parents=True)
    (directory / "slaves").mkdir()
    (directory / "size").write_text("2048\n")
    for path, text in files.items():
        (directory / path.replace("__", "/")).write_text(text)
    (top / "class" / "block").mkdir(parents=True, exist_ok=True)
    (top / "class" / "block" / name).symlink_to(directory)


def test_what_is_known_of_disks(tmp_path: Path) -> None:
    sysfs(tmp_path, "sda", "pci0/ata1/host0", device__vendor="ATA     \n", device__model="Samsung  SSD\x1b[2J\n")
    sysfs(tmp_path, "sdb", "pci0/usb1/1-2/host1", device__vendor="SanDisk\n", device__model="Ultra\n", removable="0\n")
    sysfs(tmp_path, "mmcblk0", "pci0/mmc0", device__type="MMC\n")
    sysfs(tmp_path, "mmcblk1", "pci0/mmc1", device__type="SD\n")
    sysfs(tmp_path, "sr0", "pci0/ata2", removable="1\n")
    sysfs(tmp_path, "vda", "pci0/virtio0", device__vendor="0x1af4\n")
    sysfs(tmp_path, "dm-0", "virtual")
    (tmp_path / "class" / "block" / "dm-0" / "slaves" / "sdb").mkdir()
    for place, says in (("pci0/0", "fixed"), ("pci0/1", "unknown"), ("pci0/2", "removable")):  # behind Thunderbolt
        sysfs(tmp_path, f"nvme{place[-1]}n1", f"{place}/0/nvme", removable="0\n")
        (tmp_path / "devices" / place / "removable").write_text(f"{says}\n")
    names = ("sda", "sdb", "mmcblk0", "mmcblk1", "sr0", "vda", "dm-0", "nvme0n1", "nvme1n1", "nvme2n1")
    known = {name: about(name, str(tmp_path)) for name in names}
    assert [name for name, one in known.items() if one.removable] == ["sdb", "mmcblk1", "sr0", "dm-0", "nvme2n1"]
    assert known["nvme2n1"].bus == "external"
    assert known["sda"] == About(1 << 20, "Samsung SSD[2J", False, "")
    assert known["sdb"] == About(1 << 20, "SanDisk Ultra", True, "usb")
    assert known["vda"].model == ""
    assert about("gone", str(tmp_path)) == About()
