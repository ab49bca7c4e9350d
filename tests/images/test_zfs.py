"""ZFS as OpenZFS wrote it, with every tolerable set of members missing or rotten, against OpenZFS's own view."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import zfs_matrix
import zfs_recipes
import zfs_support

from fsdrivers import pools
from fsdrivers.block import BlockDevice, FileDevice
from fsdrivers.desk.walk import record
from fsdrivers.errors import Corrupt, FsError, Locked, MissingDevices, NotFound, ReadError, Unsupported
from fsdrivers.filesystem import File, Filesystem
from fsdrivers.traverse import walk
from fsdrivers.zfs import blkptr, label
from fsdrivers.zfs.blkptr import Blkptr, Dva
from fsdrivers.zfs.layout import DATA_END, DATA_START, LABEL_NVLIST, LABEL_SIZE
from fsdrivers.zfs.pool import ZfsPool
from fsdrivers.zfs.store import Store
from qemu import manifest

pytestmark = pytest.mark.images

# Pool -> how many of which members may be missing (the index of the first and the number of members of a group).
REDUNDANT = {
    "mirror": [((0, 1, 2), 2)],
    "raidz1": [((0, 1, 2), 1)],
    "raidz2": [((0, 1, 2, 3, 4), 2)],
    "raidz3": [((0, 1, 2, 3, 4, 5), 3)],
    "mixed": [((0, 1), 1), ((2, 3, 4), 1)],
    "version28": [((0, 1, 2), 1)],
    "gangz": [((0, 1, 2), 1)],
    "gang": [((0, 1), 1)],
    "draid": [((0, 1, 2, 3, 4, 5), 1)],
    "sectors": [((0, 1, 2), 1), ((3, 4), 1)],
    "destroyed": [((0, 1), 1)],
    "multihost": [((0, 1), 1)],
    "classes": [((0, 1, 2), 1), ((3, 4), 1)],
    "big2mirror": [((0, 1, 2), 2)],
    "big2raidz": [((0, 1, 2), 1)],
    "expanded": [((0, 1, 2, 3, 4, 5), 2)],
    "expanding": [((0, 1, 2, 3), 1)],
    "cloned": [((0, 1), 1)],
}
LOGGED = {"log": "tank/a", "log23": "tank/a", "claimed": "tank/a"}  # with the dataset that has the log
REPAIRED = ("replacing", "spare", "deferred", "draidspare")
WHOLE = sorted(set(zfs_recipes.POOLS) - {*LOGGED, *REPAIRED, *zfs_matrix.POOLS})


class Rotten(BlockDevice):
    """A member of which every sector between the labels has one byte flipped."""

    def __init__(self, parent: BlockDevice) -> None:
        self.parent, self.name, self.size = parent, parent.name, parent.size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.parent.read_into(offset, buffer)
        for at in range(-offset % 512, len(buffer), 512):
            if DATA_START <= offset + at < self.size - DATA_END:
                buffer[at] ^= 0xFF


class Dying(BlockDevice):
    """A member that answers for its labels only."""

    def __init__(self, parent: BlockDevice) -> None:
        self.parent, self.name, self.size = parent, parent.name, parent.size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        if DATA_START <= offset < self.size - DATA_END:
            raise ReadError(self.name, offset, len(buffer), "Input/output error")
        self.parent.read_into(offset, buffer)


@pytest.mark.parametrize("name", ["gang", "gangz"])
def test_there_are_gang_blocks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gang = Store._gang
    count = 0

    def counted(self: Store, pointer: Blkptr, dva: Dva, structure: str, depth: int) -> bytes:
        nonlocal count
        count += 1
        return gang(self, pointer, dva, structure, depth)

    monkeypatch.setattr(Store, "_gang", counted)
    check(name, assemble(members(name)))
    assert count


@cache
def unpacked(name: str) -> tuple[Path, list[Path]]:
    """The directory and the members of the committed pool ``name``."""
    directory = Path(_factory.mktemp(name))
    return directory, zfs_recipes.unpack(name, directory)


@pytest.fixture(scope="module", autouse=True)
def _scratch(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _factory
    _factory = tmp_path_factory


_factory: pytest.TempPathFactory


def members(name: str, without: Sequence[int] = ()) -> list[BlockDevice]:
    return [FileDevice(str(path), path.name) for number, path in enumerate(unpacked(name)[1]) if number not in without]


def assemble(devices: Sequence[BlockDevice]) -> ZfsPool:
    complaints: list[FsError] = []
    (pool,) = pools.assemble(devices, complaints.append)
    assert not complaints
    assert isinstance(pool, ZfsPool)
    return pool


def check(name: str, pool: ZfsPool) -> None:
    """Compare every dataset and snapshot with the manifests of the real driver."""
    trees = sorted((unpacked(name)[0] / "manifests").glob("*.find"))
    assert trees
    for tree in trees:
        dataset = tree.stem.replace("+", "/")
        compare(pool.open(dataset), manifest.read(tree.parent, tree.stem))


def compare(filesystem: Filesystem, wanted: dict[str, manifest.Record]) -> None:
    found = {item.path: record(filesystem, item, sha256=True) for item in walk(filesystem)}
    differences = [
        (path, found.get(path), wanted[path].fields() if path in wanted else None)
        for path in sorted(set(found) | set(wanted))
        if path not in wanted or found.get(path) != wanted[path].fields()
    ]
    assert not differences, differences[:5]


def subsets(limits: dict[str, list[tuple[tuple[int, ...], int]]]) -> list[object]:
    cases = []
    for name, groups in limits.items():
        for group, tolerated in groups:
            for count in range(1, tolerated + 1):
                for chosen in itertools.combinations(group, count):
                    cases.append(pytest.param(name, chosen, id=f"{name}-{'+'.join(map(str, chosen))}"))
    return cases


@pytest.mark.parametrize("name", WHOLE)
def test_healthy(name: str) -> None:
    pool = assemble(members(name))
    check(name, pool)
    assert pool.health.report() == []
    wanted = {tree.stem.replace("+", "/") for tree in (unpacked(name)[0] / "manifests").glob("*.find")}
    assert wanted <= {root.name for root in pool.roots()}


@pytest.mark.parametrize(("name", "missing"), subsets(REDUNDANT))
def test_missing(name: str, missing: tuple[int, ...]) -> None:
    pool = assemble(members(name, missing))
    assert pool.state == "degraded"
    assert len(pool.missing) == len(missing)
    check(name, pool)
    assert pool.health.report() == []


@pytest.mark.parametrize("sickness", [Rotten, Dying])
@pytest.mark.parametrize(("name", "sick"), subsets(REDUNDANT))
def test_sick(name: str, sick: tuple[int, ...], sickness: type[Rotten] | type[Dying]) -> None:
    devices = members(name)
    for number in sick:
        devices[number] = sickness(devices[number])
    pool = assemble(devices)
    check(name, pool)
    if sickness is Rotten:
        assert set(pool.health.damage) <= {devices[number].name for number in sick}


@pytest.mark.parametrize("name", ["mirror", "raidz1", "raidz2", "raidz3"])
def test_too_many_missing(name: str) -> None:
    ((group, tolerated),) = REDUNDANT[name]
    present = [group[0]] if tolerated + 1 < len(group) else []
    pool_members = members(name, [number for number in group if number not in present])
    if not pool_members:
        assert pools.assemble(pool_members) == []
        return
    # The copies of metadata may be in reach where those of data are not.
    with pytest.raises(MissingDevices) as caught:
        assemble(pool_members).open().read_file("/random", 1 << 20)
    assert len(caught.value.missing) == len(group) - 1


@pytest.mark.parametrize("name", ["raidz1", "raidz2"])
def test_one_more_than_tolerated_is_rotten(name: str) -> None:
    ((_, tolerated),) = REDUNDANT[name]
    devices = members(name)
    for number in range(tolerated + 1):
        devices[number] = Rotten(devices[number])
    pool = assemble(devices)
    with pytest.raises(Corrupt):
        pool.open().read_file("/random", 1 << 20)


@pytest.mark.parametrize("name", REPAIRED)
def test_in_the_middle_of_a_repair(name: str) -> None:
    check(name, assemble(members(name)))
    for number in range(len(unpacked(name)[1])):
        pool = assemble(members(name, [number]))
        check(name, pool)


@pytest.mark.parametrize("missing", [(), (0,), (1,)])
def test_the_intent_log_of_a_crash(missing: tuple[int, ...]) -> None:
    pool = assemble(members("log", missing))
    filesystem = pool.open("tank/a")
    directory, _ = unpacked("log")
    wanted = manifest.read(directory / "manifests", "tank+a")
    # A replay sets these times to its own: only what the log itself says of times is known.
    found = {item.path: {**record(filesystem, item, sha256=True), "mtime": 0} for item in walk(filesystem)}
    assert found == {path: {**entry.fields(), "mtime": 0} for path, entry in wanted.items()}
    assert filesystem.xattrs(filesystem.resolve("/b512")) == {"user.logged": b"yes"}
    assert any("replayed" in line for line in pool.health.report())


def test_without_the_intent_log() -> None:
    pool = assemble(members("log"))
    pool.use_log = False
    filesystem = pool.open("tank/a")
    assert filesystem.exists("/hundred")
    assert not filesystem.exists("/written")
    assert pool.health.report() == []


def test_default_root_and_properties() -> None:
    pool = assemble(members("datasets"))
    roots = {root.name: root for root in pool.roots()}
    assert pool.roots()[0].name == "tank/ROOT/debian"
    assert roots["tank/ROOT/debian"].default
    assert "tank/volume" not in roots
    assert roots["tank/ROOT/promoted@before"].readonly
    assert roots["tank/ROOT/clone"].parent == "tank/ROOT/promoted@before"
    assert roots["tank/ROOT/debian"].parent == "tank/ROOT/promoted@after"
    assert roots["tank/home/user"].parent == "tank/home"
    directories = {directory.name: directory for directory in pool.spa().root.walk()}
    assert directories["tank/home/user"].mountpoint() == "/home/user"
    assert directories["tank/ROOT/debian"].mountpoint() == "/"
    assert directories["tank/ROOT/debian"].canmount() == "noauto"
    assert directories["tank/ROOT/clone"].string("org.zfsbootmenu:commandline") == "quiet loglevel=4"
    assert directories["tank/home"].string("org.zfsbootmenu:commandline") is None
    with pytest.raises(NotFound):
        pool.open("tank/ROOT/none")
    with pytest.raises(NotFound):
        pool.open("tank/ROOT/debian@none")


def test_encrypted_is_locked_and_says_how() -> None:
    pool = assemble(members("encrypted"))
    for name, key in {"tank/pass": "passphrase", "tank/raw": "raw", "tank/raw/child": "raw"}.items():
        with pytest.raises(Locked, match=key):
            pool.open(name)


def test_names_regardless_of_case_and_form() -> None:
    pool = assemble(members("names"))
    for dataset, alike in {"insensitive": ["ReadMe", "DIR", "rEADME.TXT"], "formd": ["cafe\u0301", "\u00e9"]}.items():
        filesystem = pool.open(f"tank/{dataset}")
        for name in alike:
            assert filesystem.exists(f"/{name}"), name
    assert not pool.open("tank/mixed").exists("/ReadMe")
    large = pool.open("tank/large")
    nodes = {large.resolve(f"/links/{number}-{'long' * 12}") for number in range(1, 1501)}
    assert len(nodes) == 1500
    assert not large.exists("/links/1501-" + "long" * 12)


@pytest.mark.parametrize("kind", ["sa", "on"])
def test_extended_attributes(kind: str) -> None:
    directory, _ = unpacked("xattrs")
    filesystem = assemble(members("xattrs")).open(f"tank/{kind}")
    wanted: dict[str, dict[str, bytes]] = {}
    for paragraph in (directory / f"xattrs-{kind}.txt").read_text().split("\n\n"):
        lines = paragraph.strip().splitlines()
        if not lines:
            continue
        path = "/" + lines[0].removeprefix("# file: ").removeprefix("./").removeprefix(".")
        wanted[path] = {
            name: bytes.fromhex(value.removeprefix("0x"))
            for name, _, value in (line.partition("=") for line in lines[1:])
        }
    found = {}
    for item in walk(filesystem):
        attributes = filesystem.xattrs(item.node)
        if attributes:
            found[item.path] = {name: value for name, value in attributes.items() if not name.startswith("system.")}
    wanted = {path: {n: v for n, v in names.items() if not n.startswith("system.")} for path, names in wanted.items()}
    assert {path: names for path, names in found.items() if names} == {p: n for p, n in wanted.items() if n}


def test_holes_are_told() -> None:
    filesystem = assemble(members("single")).open("tank")
    node = filesystem.resolve("/tail")
    pieces = list(File(filesystem, node, "/tail", 900000).pieces())
    assert pieces[0].data is None
    assert sum(piece.length for piece in pieces) == 900000
    for before, after in itertools.pairwise(pieces):
        assert before.offset + before.length == after.offset


class Overlay(BlockDevice):
    """A device with ``patches`` (bytes by offset) over it, cut to ``size``."""

    def __init__(self, parent: BlockDevice, patches: dict[int, bytes], size: int | None = None) -> None:
        self.parent, self.patches, self.name = parent, patches, parent.name
        self.size = parent.size if size is None else size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check(offset, len(buffer))
        self.parent.read_into(offset, buffer)
        for start, data in self.patches.items():
            low, high = max(start, offset), min(start + len(data), offset + len(buffer))
            if low < high:
                buffer[low - offset : high - offset] = data[low - start : high - start]


def without_labels(device: BlockDevice, *numbers: int) -> Overlay:
    starts = label.offsets(device.size)
    return Overlay(device, {starts[number]: bytes(LABEL_SIZE) for number in numbers})


@pytest.mark.parametrize("left", range(4))
def test_one_label_is_enough(left: int) -> None:
    (device,) = members("single")
    check("single", assemble([without_labels(device, *({0, 1, 2, 3} - {left}))]))


def test_without_labels_it_is_no_member() -> None:
    (device,) = members("single")
    assert pools.assemble([without_labels(device, 0, 1, 2, 3)]) == []


def test_damaged_labels_are_told() -> None:
    (device,) = members("single")
    patches = {start + LABEL_NVLIST + 100: b"damaged" for start in label.offsets(device.size)}
    complaints: list[FsError] = []
    assert pools.assemble([Overlay(device, patches)], complaints.append) == []
    assert [type(error) for error in complaints] == [Corrupt]


def test_a_truncated_image() -> None:
    (device,) = members("single")
    pool = assemble([Overlay(device, {}, DATA_START + (100 << 10))])
    # What is left is the pool as it was made, before there was anything in it.
    with pytest.raises((ReadError, NotFound)):
        pool.open("tank@one").read_file("/random", 1 << 20)
    assert pool.health.report()


def test_the_state_before_the_newest_is_served_and_told() -> None:
    (device,) = members("single")
    newest = assemble([device]).spa()
    root = blkptr.parse(newest.uberblock.raw, 40, newest.uberblock.order)
    patches = {DATA_START + dva.offset: b"\xff" * root.psize for dva in root.dvas}
    pool = assemble([Overlay(device, patches)])
    older = pool.spa()
    assert older.txg < newest.txg
    assert any(str(newest.txg) in line and str(older.txg) in line for line in pool.health.report())


def test_two_paths_to_the_same_disk() -> None:
    first, second = members("single")[0], members("single")[0]
    second.name = "other path"
    pool = assemble([second, first])
    assert [(slot.device, slot.state) for slot in pool.slots] == [("d0.img", "online"), ("other path", "duplicate")]
    check("single", pool)


def test_labels_that_a_partition_table_has_outlived(tmp_path: Path) -> None:
    """The disk was a member once; now it has a GPT, which covers label 0 and not label 1."""
    (device,) = members("single")
    gpt = tmp_path / "gpt"
    with gpt.open("wb") as file:
        file.truncate(device.size)
    subprocess.run(["sfdisk", "-q", gpt], input=b"label: gpt\nstart=2048, size=20480\n", check=True)
    table = gpt.read_bytes()
    patches = {0: table[: LABEL_SIZE - 1], device.size - 17408: table[-17408:]}
    patched = Overlay(device, patches)
    assert label.read(patched) is not None
    assert pools.assemble([patched]) == []


def test_the_features_are_where_the_page_says() -> None:
    for name in sorted(set(zfs_support.SEEN.values())):
        spa = assemble(members(name)).spa()
        active = {*spa._active("features_for_read"), *spa._active("features_for_write")}
        assert {feature for feature, pool in zfs_support.SEEN.items() if pool == name} <= active


def test_a_redacted_dataset_is_refused_as_the_kernel_does() -> None:
    pool = assemble(members("features"))
    assert pool.open("tank/a").exists("/secret")
    for name in ("tank/redacted", "tank/redacted@one"):
        with pytest.raises(Unsupported, match="redacted_datasets"):
            pool.open(name)


def test_the_page_about_what_is_read_is_up_to_date() -> None:
    assert zfs_support.PAGE.read_text() == zfs_support.page()
    assert set(zfs_support.SHOWN) | set(zfs_matrix.POOLS) == set(zfs_recipes.POOLS)
