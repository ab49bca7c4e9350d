"""btrfs after power cuts: what the log holds is shown as the kernel shows it after replay, and nothing is written."""

from __future__ import annotations

import pytest
from btrfs_crash_recipes import NAMES, crash
from test_btrfs import Overlay

from fsdrivers import pools
from fsdrivers.block import BlockDevice, FileDevice
from fsdrivers.btrfs import layout, log
from fsdrivers.btrfs.pool import BtrfsPool
from fsdrivers.btrfs.tree import Tree
from fsdrivers.damage import Totals
from fsdrivers.desk import cli
from fsdrivers.desk.walk import record
from fsdrivers.errors import FsError
from fsdrivers.filesystem import Filesystem
from fsdrivers.traverse import walk
from qemu import manifest

pytestmark = pytest.mark.images


def pool(name: str) -> BtrfsPool:
    return assemble(FileDevice(str(crash(name).disk), "disk"))


def assemble(disk: BlockDevice) -> BtrfsPool:
    complaints: list[FsError] = []
    (found,) = pools.assemble([disk], complaints.append)
    assert not complaints
    assert isinstance(found, BtrfsPool)
    return found


def differences(filesystem: Filesystem, wanted: dict[str, manifest.Record]) -> list[object]:
    """Objects that are not as the kernel saw them, the times of directories aside.

    The kernel sets those when it takes a name away during replay, to the time of the replay.
    """
    found = {}
    for item in walk(filesystem):
        assert item.error is None, item
        found[item.path] = record(filesystem, item, sha256=True)
    wrong: list[object] = []
    for path in sorted(set(found) | set(wanted)):
        ours, theirs = found.get(path, {}), wanted[path].fields() if path in wanted else {}
        ours.pop("xattrs", None)
        if ours.get("type") == theirs.get("type") == "directory":
            ours, theirs = ({k: v for k, v in side.items() if k != "mtime"} for side in (ours, theirs))
        if ours != theirs:
            wrong.append((path, ours, theirs))
    assert len(found) > 100
    return wrong


@pytest.mark.parametrize("name", NAMES)
def test_replayed(name: str) -> None:
    there = pool(name)
    filesystem = there.open("/")
    assert not differences(filesystem, crash(name).replayed)
    assert there.health.report() == []


@pytest.mark.parametrize("name", NAMES)
def test_link_counts_and_attributes(name: str) -> None:
    filesystem = pool(name).open("/")
    links, xattrs = {}, {}
    for item in walk(filesystem):
        assert item.stat is not None
        links[item.path] = item.stat.nlink
        if item.stat.type in ("file", "directory") and (found := filesystem.xattrs(item.node)):
            xattrs[item.path] = found
    assert links == crash(name).links
    assert xattrs == crash(name).xattrs


@pytest.mark.parametrize("name", NAMES)
def test_without_the_log(name: str) -> None:
    there = pool(name)
    there.use_log = False
    assert not differences(there.open("/"), crash(name).committed)
    assert "not unmounted" in there.health.report()[0]


def test_the_log_makes_a_difference() -> None:
    """Every image has something in its log that the committed tree has not."""
    for name in NAMES:
        assert crash(name).replayed != crash(name).committed


@pytest.mark.parametrize("name", NAMES)
def test_verify_goes_through_the_log(name: str) -> None:
    """Nothing is wrong, replayed or not; and each node of the log, and what it has checksums of, is missed."""
    for replayed in (True, False):
        there = pool(name)
        there.use_log = replayed
        assert list(there.verify(True, Totals())) == []
    store = there._opened()
    volume, size = store.volume, store.superblock.nodesize
    top = log.top(store.superblock)
    (item, *_) = Tree(store.nodes, top).of(layout.TREE_LOG, layout.ROOT_ITEM)
    bottom = log.pointer(item, "")
    places = [(top.bytenr, size), (bottom.bytenr, size)]
    sums = Tree(store.nodes, bottom).of(layout.EXTENT_CSUM_ID, layout.EXTENT_CSUM)
    places += [(one.offset, volume.sectorsize) for one in sums][:1]
    for address, length in places:
        (segment,) = volume.segments(address, length)
        damaged = {copy.offset + 200: b"damaged" for copy in segment.copies}
        rotten = assemble(Overlay(FileDevice(str(crash(name).disk), "disk"), damaged))
        found = [damage for damage in rotten.verify(True, Totals()) if damage.lost]
        assert {damage.offset for damage in found} == {copy.offset for copy in segment.copies}


def test_lookups_agree_with_listings() -> None:
    """The two indexes of a directory stay of one mind under replay."""
    for name in NAMES:
        filesystem = pool(name).open("/")
        for item in walk(filesystem):
            assert filesystem.resolve(item.path, follow=False) == item.node


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    disk = str(crash("contents").disk)
    assert cli.main(["-a", disk, "cat", "/d1/inline"]) == 0
    assert capsys.readouterr().out == "inline\n"
    assert cli.main(["-a", disk, "--no-log", "ls", "/d1"]) == 0
    listed, notes = capsys.readouterr()
    assert "inline" in listed.split()
    assert "new" not in listed.split()
    assert "in its log and not shown" in notes
