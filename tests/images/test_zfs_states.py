"""ZFS pools in the states that they are found in: in use elsewhere, destroyed, half imported, half expanded."""

from __future__ import annotations

import struct

import pytest
import zfs_recipes
import zfs_scripts
from test_zfs import Rotten, _scratch, assemble, check, compare, members, unpacked  # noqa: F401

from fsdrivers.desk.walk import record
from fsdrivers.errors import Locked, MissingDevices
from fsdrivers.traverse import walk
from fsdrivers.zfs import features, zil
from fsdrivers.zfs.dmu import Objset
from fsdrivers.zfs.layout import BIG, MMP_MAGIC
from fsdrivers.zfs.pool import ZfsPool
from fsdrivers.zfs.raidzread import RaidZ
from fsdrivers.zfs.vdevs import Absent
from fsdrivers.zfs.zap import Zap
from qemu import manifest

pytestmark = pytest.mark.images


def test_a_destroyed_pool_tells_so_and_is_read() -> None:
    pool = assemble(members("destroyed"))
    assert pool.notes == ["pool tank was destroyed"]
    check("destroyed", pool)


def test_a_pool_in_use_by_another_host() -> None:
    """Nobody is asked: reading needs no import.  The host's number is what the target has to be told."""
    pool = assemble(members("multihost"))
    assert pool.hostid == 0x00BAB10C
    assert len(pool.notes) == 1
    assert "last used by" in pool.notes[0]
    assert "hostid 00bab10c" in pool.notes[0]
    uberblock = pool.spa().uberblock
    assert int.from_bytes(uberblock.raw[176:184], "little") == MMP_MAGIC
    assert pool.health.report() == []


def test_where_a_log_was_removed_is_a_hole() -> None:
    pool = assemble(members("classes"))
    vdevs = pool.spa().store.vdevs
    assert [isinstance(vdev, Absent) for vdev in vdevs] == [False, True, False, False, False]
    assert pool.missing == ()


def test_a_table_of_64_bit_keys() -> None:
    """The table of deduplicated blocks: each key is a checksum and sizes, as the pointers to the blocks have them."""
    pool = assemble(members("classes"))
    spa, filesystem = pool.spa(), pool.open()
    tables = {}
    for kind in (b"unique", b"duplicate"):
        (number,) = spa.directory.get(b"DDT-sha256-zap-" + kind) or ()
        tables[kind] = {struct.unpack(">4Q", key[:32]) for key, _ in Zap(spa.mos.dnode(number)).items()}
    for name, kind in {"random": b"duplicate", "again": b"duplicate", "wide": b"unique"}.items():
        dnode = filesystem._objset.dnode(filesystem.resolve(f"/{name}"))  # type: ignore[arg-type]
        pointers = [dnode.pointer(number) for number in range(dnode.max_block + 1)]
        assert {pointer.digest for pointer in pointers if pointer} <= tables[kind]


@pytest.mark.parametrize("without", [(), (1,)])
def test_a_member_that_was_away_is_no_witness(without: tuple[int, ...]) -> None:
    pool = assemble(members("offline", without))
    assert [slot.state for slot in pool.slots] == ["online", "missing" if without else "stale", "online", "online"]
    assert pool.state == "degraded"
    check("offline", pool)
    assert pool.health.report() == []


def test_a_member_that_was_away_helps_with_what_it_has() -> None:
    """Without another member the last changes are lost, and the state that it saw is there, which is told."""
    pool = assemble(members("offline", (0,)))
    filesystem = pool.open()
    assert filesystem.exists("/dir/text")
    assert not filesystem.exists("/during")
    assert len(filesystem.read_file("/random", 1 << 20)) == 60 * 1024
    assert any("the newest state" in line and f"txg {pool.spa().txg}" in line for line in pool.health.report())


def test_a_file_of_a_project() -> None:
    pool = assemble(members("xattrs"))
    for kind in ("sa", "on"):
        filesystem = pool.open(f"tank/{kind}")
        found = {name: filesystem.attributes(filesystem.resolve(f"/{name}")).projid for name in ("x50", "x200")}  # type: ignore[arg-type]
        assert found == {"x50": 42, "x200": 0}


def test_members_are_the_partitions_of_disks() -> None:
    for without in ((), (0,), (1,)):
        pool = assemble(members("partitions", without))
        check("partitions", pool)


@pytest.mark.parametrize("name", zfs_scripts.FOREIGN)
def test_pools_of_the_other_byte_order(name: str) -> None:
    pool = assemble(members(name))
    assert pool.spa().uberblock.order == BIG
    assert pool.spa().mos.pointer.order == BIG
    assert pool.spa().uberblock.version == int("".join(filter(str.isdigit, name)))


def test_an_expanded_raidz_has_blocks_of_three_widths() -> None:
    pool = assemble(members("expanded"))
    vdev = pool.spa().store.vdevs[0]
    assert isinstance(vdev, RaidZ)
    assert vdev.moved is None
    filesystem = pool.open()
    widths = {}
    for name in ("before", "between", "after", "random", "cloned"):
        pointer = filesystem._objset.dnode(filesystem.resolve(f"/{name}")).pointer(0)  # type: ignore[arg-type]
        assert pointer is not None
        widths[name] = vdev.width(pointer.physical_birth)
    assert widths == {"before": 4, "between": 5, "after": 6, "random": 4, "cloned": 4}


def test_a_raidz_in_the_middle_of_its_expansion() -> None:
    pool = assemble(members("expanding"))
    vdev = pool.spa().store.vdevs[0]
    assert isinstance(vdev, RaidZ)
    assert vdev.moved
    filesystem = pool.open()
    places = [
        pointer.dvas[0].offset
        for number in range(1, 7)
        for block in range(32)
        if (pointer := filesystem._objset.dnode(filesystem.resolve(f"/long{number}")).pointer(block))  # type: ignore[arg-type]
    ]
    assert min(places) < vdev.moved < max(places)


def test_a_table_of_pointers_outside_of_the_header() -> None:
    filesystem = assemble(members("zaptable")).open("tank/a")
    zap = Zap(filesystem._objset.dnode(filesystem.resolve("/many")))  # type: ignore[arg-type]
    assert zap._table_blocks
    tail = "long" * 250
    assert filesystem.read_file(f"/many/9000-{tail}", 10) == b"x\n"
    assert not filesystem.exists(f"/many/9001-{tail}")
    assert len(list(filesystem.listdir("/many"))) == 9000


def test_a_file_below_seven_levels_of_pointers() -> None:
    filesystem = assemble(members("tall")).open("tank/b")
    node = filesystem.resolve("/tall")
    assert filesystem._objset.dnode(node).levels == 8  # type: ignore[arg-type]
    for at in (0, 20000, 700000, 20000000, 700000000, 20000000000, 700000000000):
        text = f"at {at}".encode()
        pieces = list(filesystem.pieces(node, at, len(text)))
        assert b"".join(bytes(piece.data or b"") for piece in pieces) == text
    far = sum(piece.length for piece in filesystem.pieces(node, 1 << 36, 1 << 20) if piece.data is None)
    assert far == 1 << 20


def test_names_of_a_thousand_bytes() -> None:
    filesystem = assemble(members("longname")).open("tank/a")
    assert {len(entry.name) for entry in filesystem.listdir("/")} == {255, 256, 500, 1023}
    assert filesystem.read_file("/" + "n" * 1023, 10) == b"1023\n"


def test_a_micro_zap_above_128_kib() -> None:
    filesystem = assemble(members("microzap")).open("tank")
    dnode = filesystem._objset.dnode(filesystem.resolve("/many"))  # type: ignore[arg-type]
    assert dnode.block_size > 128 << 10
    assert dnode.max_block == 0


def test_an_encrypted_dataset_of_the_newer_version() -> None:
    pool = assemble(members("bookmarks"))
    for name in ("tank/secret", "tank/secret@one"):
        with pytest.raises(Locked, match="passphrase"):
            pool.open(name)


def _log_of(pool: ZfsPool, name: str) -> list[zil.Record]:
    filesystem = pool.open(name)
    objset = filesystem._objset
    assert isinstance(objset, Objset)
    return list(zil.records(objset, pool.spa().txg))


def _crashed(pool: ZfsPool, name: str) -> None:
    """The file system as it was when it was cut off, but for times that a replay sets to its own."""
    filesystem = pool.open("tank/a")
    wanted = manifest.read(unpacked(name)[0] / "manifests", "tank+a")
    found = {item.path: {**record(filesystem, item, sha256=True), "mtime": 0} for item in walk(filesystem)}
    assert found == {path: {**entry.fields(), "mtime": 0} for path, entry in wanted.items()}
    assert any("replayed" in line for line in pool.health.report())


def test_a_log_that_was_claimed_and_not_replayed() -> None:
    """The pool was imported after the crash and exported, the file system never mounted."""
    pool = assemble(members("claimed"))
    assert pool.notes == ["pool tank was exported"]
    _crashed(pool, "claimed")


def test_the_log_of_the_newer_version() -> None:
    pool = assemble(members("log23"))
    kinds = {one.kind for one in _log_of(pool, "tank/a")}
    assert {zil.CLONE_RANGE, zil.RENAME_EXCHANGE, zil.SETSAXATTR, zil.WRITE, zil.TRUNCATE} <= kinds
    _crashed(pool, "log23")
    filesystem = pool.open("tank/a")
    wanted: dict[str, dict[str, bytes]] = {}
    for paragraph in (unpacked("log23")[0] / "xattrs.txt").read_text().strip().split("\n\n"):
        head, *lines = paragraph.splitlines()
        pairs = (line.partition("=") for line in lines)
        wanted["/" + head.removeprefix("# file: ")] = {n: bytes.fromhex(v.removeprefix("0x")) for n, _, v in pairs}
    assert wanted["/b512"]["user.logged"] == b"yes"
    found = {item.path: filesystem.xattrs(item.node) for item in walk(filesystem)}
    assert {path: attributes for path, attributes in found.items() if attributes} == wanted


def test_without_the_device_of_the_log() -> None:
    """It is told, and what is served is the state before the log."""
    pool = assemble(members("log23", (2,)))
    filesystem = pool.open("tank/a")
    assert not filesystem.exists("/clone")
    assert any("intent log cannot be read" in line for line in pool.health.report())


@pytest.mark.parametrize("name", ["classes", "expanded", "expanding"])
def test_more_missing_than_tolerated(name: str) -> None:
    pool = assemble(members(name, (0, 1, 2)))
    with pytest.raises(MissingDevices):
        pool.open().read_file("/random", 1 << 20)


def test_every_feature_that_openzfs_has_is_known() -> None:
    """Those that zpool itself lists for a pool of OpenZFS 2.3."""
    lines = (unpacked("cloned")[0] / "features.txt").read_text().splitlines()
    short = {line.split("\t")[0].removeprefix("feature@") for line in lines}
    known = {name.partition(":")[2] for name in (*features.READ, *features.WRITERS, *features.REFUSED)}
    assert len(short) > 40
    assert short <= known
    assert zfs_recipes.POOLS["cloned"].suite == "trixie"
