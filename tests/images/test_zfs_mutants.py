"""Pools with damaged metadata whose checksums are right: an FsError or an answer, in bounded time, never anything else.

The damage is done behind the verification, so it is what a mutant with repaired checksums would show.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import zfs_recipes

from fsdrivers import pools
from fsdrivers.block import BlockDevice, FileDevice
from fsdrivers.damage import Totals
from fsdrivers.desk.walk import record
from fsdrivers.errors import FsError, Unsupported
from fsdrivers.traverse import walk
from fsdrivers.zfs import checksum, compress, label, layout, nvlist, zil
from fsdrivers.zfs.blkptr import Blkptr
from fsdrivers.zfs.store import Store

pytestmark = pytest.mark.images

SEEDS = 40
MAX_OBJECTS = 2000
EDGES = (0, 1, 2, 7, 0xFF, 0x100, 0xFFFF, 1 << 20, 1 << 31, (1 << 32) - 1, 1 << 47, 1 << 62, 1 << 63, (1 << 64) - 1)
SECONDS = 20  # for one mutant; the machine may be busy


def mutate(data: bytes, dice: random.Random) -> bytes:
    """Change a few bytes or words, mostly among those that say something; or let pointers lead where others lead."""
    changed = bytearray(data)
    telling = [at for at in range(0, len(data), 8) if any(data[at : at + 8])]
    for _ in range(dice.choice((1, 1, 2, 8))):
        shape = dice.random()
        if shape < 0.2 and telling:
            at = dice.choice(telling)
            changed[at : at + 8] = dice.choice(EDGES).to_bytes(8, "little")[: len(data) - at]
            continue
        if shape < 0.4 and len(data) >= 2 * layout.BLKPTR_SIZE:
            size = dice.choice((8, 24, layout.BLKPTR_SIZE))
            source, target = (dice.randrange(len(data) // size) * size for _ in range(2))
            changed[target : target + size] = changed[source : source + size]
            continue
        at = dice.choice(telling) + dice.randrange(8) if telling and dice.random() < 0.9 else dice.randrange(len(data))
        changed[at] = dice.choice((0, 0xFF, dice.randrange(256), changed[at] ^ 1 << dice.randrange(8)))
    return bytes(changed)


def look_at_everything(devices: Sequence[BlockDevice]) -> int:
    """Read all that the pools on ``devices`` let one read; returns how many objects that were."""
    count = 0
    for pool in pools.assemble(devices):
        for root in pool.roots():
            filesystem = pool.open(root.name)
            for item in walk(filesystem):
                count += 1
                if count > MAX_OBJECTS:
                    return count
                if item.stat and item.stat.size < 1 << 26:
                    record(filesystem, item, sha256=True)
                    filesystem.xattrs(item.node)
    return count


@pytest.fixture(scope="module", params=["single", "raidz1", "datasets", "big2raidz", "removed", "draidspare"])
def images(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return zfs_recipes.unpack(request.param, tmp_path_factory.mktemp(request.param))


def test_mutants(images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read = Store.read
    dice = random.Random(0)
    rate = 0.0
    mutants = 0

    def damaged(self: Store, pointer: Blkptr, structure: str) -> bytes:
        nonlocal mutants
        data = read(self, pointer, structure)
        content = pointer.type == layout.OT_PLAIN_FILE and not pointer.level
        if content or not pointer.dvas or dice.random() >= rate:
            return data
        mutants += 1
        return mutate(data, dice)

    monkeypatch.setattr(Store, "read", damaged)
    complaints = 0
    for seed in range(SEEDS):
        dice.seed(seed)
        rate = dice.choice((0.02, 0.1, 0.4))
        start = time.monotonic()
        try:
            look_at_everything([FileDevice(str(path), path.name) for path in images])
        except FsError:
            complaints += 1
        assert time.monotonic() - start < SECONDS, f"seed {seed}"
    assert mutants > SEEDS
    assert complaints


VALUES: tuple[object, ...] = (
    0, 1, -1, 1 << 63, (1 << 64) - 1, 5, 255, 10**6, "x", "", True, b"zz", [], [1, 2], ["a"], {}, [{}], {"a": 1},
    "raidz", "draid", "mirror", "spare", "dspare", "indirect", "disk", "hole",
)  # fmt: skip
KEYS = ("raidz_expanding", "raidz_expand_txgs", "hole_array", "nparity", "draid_ndata")


def mutate_list(config: nvlist.NvList, dice: random.Random) -> nvlist.NvList:
    """Change a few values anywhere in a configuration."""
    lists: list[nvlist.NvList] = []
    todo: list[object] = [config]
    while todo:
        here = todo.pop()
        if isinstance(here, dict):
            lists.append(here)
            todo += here.values()
        elif isinstance(here, list):
            todo += here
    for _ in range(dice.choice((1, 1, 2, 4))):
        chosen = dice.choice(lists)
        key = dice.choice([*chosen, *KEYS])
        if dice.random() < 0.2:
            chosen.pop(key, None)
        else:
            chosen[key] = dice.choice(VALUES)
    return config


@pytest.mark.parametrize("images", ["single", "raidz1", "datasets", "big2raidz", "expanding"], indirect=True)
def test_mutated_configurations(images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    parse = nvlist.parse
    dice = random.Random(0)

    def damaged(data: bytes) -> nvlist.NvList:
        found = parse(data)
        return mutate_list(found, dice) if dice.random() < 0.5 else found

    monkeypatch.setattr(nvlist, "parse", damaged)
    monkeypatch.setattr(label, "parse", damaged)
    answers = complaints = 0
    for seed in range(100):
        dice.seed(seed)
        start = time.monotonic()
        try:
            for pool in pools.assemble([FileDevice(str(path), path.name) for path in images]):
                assert pool.slots is not None
                assert pool.open().listdir("/") is not None
                answers += 1
        except FsError:
            complaints += 1
        assert time.monotonic() - start < SECONDS, f"seed {seed}"
    assert answers
    assert complaints


class Patched(BlockDevice):
    """A device with other bytes in some places."""

    def __init__(self, parent: BlockDevice, patches: dict[int, bytes]) -> None:
        self.parent, self.patches, self.name, self.size = parent, patches, parent.name, parent.size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.parent.read_into(offset, buffer)
        for start, data in self.patches.items():
            low, high = max(start, offset), min(start + len(data), offset + len(buffer))
            if low < high:
                buffer[low - offset : high - offset] = data[low - start : high - start]


def repaired(data: bytes, offset: int, order: str) -> bytes:
    """``data`` with the embedded checksum that belongs to what it says now."""
    eck = layout.ECK[order]
    body = data[: -eck.size]
    words = checksum.sha256(body + eck.pack(layout.ECK_MAGIC, offset, 0, 0, 0))
    return body + eck.pack(layout.ECK_MAGIC, *words)


def mutated_labels(device: BlockDevice, dice: random.Random) -> dict[int, bytes]:
    """The four labels with bytes of their lists changed (the same ones, as a writer would), checksums repaired."""
    seed = dice.random()
    patches = {}
    for start in label.offsets(device.size):
        offset = start + layout.LABEL_NVLIST
        data = device.read(offset, layout.LABEL_NVLIST_SIZE)
        used = len(data[: -layout.ECK["<"].size].rstrip(b"\0")) + 7 & -8
        changed = mutate(data[:used], random.Random(seed)) + data[used:]
        patches[offset] = repaired(changed, offset, label.eck_order(data) or "<")
    return patches


def mutated_uberblocks(device: BlockDevice, dice: random.Random) -> dict[int, bytes]:
    """All uberblocks with bytes changed, checksums repaired."""
    found = label.read(device)
    assert found is not None
    ashift = int(str(found.tree["ashift"]))
    size = label.slot_size(ashift)
    seed = dice.random()
    patches = {}
    for offset, uberblock in label.uberblocks(device, ashift):
        data = device.read(offset, size)
        used = len(uberblock.raw)
        # The magic stays: without it there is nothing to see.
        changed = data[:8] + mutate(data[8:used], random.Random(seed)) + data[used:]
        patches[offset] = repaired(changed, offset, uberblock.order)
    return patches


@pytest.mark.parametrize("images", ["single", "raidz1", "datasets", "big2raidz", "expanding"], indirect=True)
@pytest.mark.parametrize("damage", [mutated_labels, mutated_uberblocks])
def test_mutated_labels_and_uberblocks(
    images: list[Path], damage: Callable[[BlockDevice, random.Random], dict[int, bytes]]
) -> None:
    answers = complaints = 0
    for seed in range(60):
        dice = random.Random(seed)
        devices: list[BlockDevice] = []
        for path in images:
            device = FileDevice(str(path), path.name)
            devices.append(Patched(device, damage(device, dice)))
        heard: list[FsError] = []
        start = time.monotonic()
        try:
            for pool in pools.assemble(devices, heard.append):
                assert pool.slots is not None
                answers += len(pool.open().listdir("/"))
        except FsError as error:
            heard.append(error)
        complaints += bool(heard)
        assert time.monotonic() - start < SECONDS, f"seed {seed}"
    assert answers
    assert complaints


def test_verify_of_mutants(images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What verify walks over is as hostile as what a reader does."""
    physical = Store.physical
    dice = random.Random(0)

    def damaged(self: Store, pointer: Blkptr, structure: str) -> bytes:
        data = physical(self, pointer, structure)
        # Compressed metadata would end in the decoder: what is stored plainly leads further.
        plain = pointer.compress == compress.OFF or dice.random() < 0.1
        return mutate(data, dice) if plain and dice.random() < 0.3 else data

    monkeypatch.setattr(Store, "physical", damaged)
    monkeypatch.setattr(Store, "unpack", unpacked_or_not(Store.unpack, dice))
    complaints = 0
    for seed in range(20):
        dice.seed(seed)
        start = time.monotonic()
        with contextlib.suppress(FsError):
            for pool in pools.assemble([FileDevice(str(path), path.name) for path in images]):
                for damage in pool.verify(bool(seed % 2), Totals()):
                    complaints += 1
                    assert str(damage)
                    if complaints % 1000 == 0:
                        break
        assert time.monotonic() - start < SECONDS, f"seed {seed}"
    assert complaints


def unpacked_or_not(
    unpack: Callable[[Store, Blkptr, bytes, str], bytes], dice: random.Random
) -> Callable[[Store, Blkptr, bytes, str], bytes]:
    """Store.unpack, with the result changed now and then."""

    def changed(self: Store, pointer: Blkptr, data: bytes, structure: str) -> bytes:
        plain = unpack(self, pointer, data, structure)
        return mutate(plain, dice) if dice.random() < 0.1 else plain

    return changed


def test_an_unknown_feature_is_refused_by_name(images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    parse = nvlist.parse

    def from_the_future(data: bytes) -> nvlist.NvList:
        return {**parse(data), "features_for_read": {"org.example:holographic": True}}

    monkeypatch.setattr(label, "parse", from_the_future)
    (pool,) = pools.assemble([FileDevice(str(path), path.name) for path in images])
    with pytest.raises(Unsupported, match=r"org\.example:holographic"):
        pool.open()


@pytest.mark.parametrize("name", ["log", "log23"])
def test_mutated_intent_logs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = zil._split
    dice = random.Random(0)

    def damaged(content: bytes, order: str) -> Iterator[tuple[zil.Record, int]]:
        for entry, txg in split(content, order):
            body = mutate(entry.body, dice) if entry.body and dice.random() < 0.1 else entry.body
            kind = dice.randrange(27) if dice.random() < 0.02 else entry.kind
            yield entry._replace(kind=kind, body=body), txg

    monkeypatch.setattr(zil, "_split", damaged)
    images = zfs_recipes.unpack(name, tmp_path)
    answers = 0
    for seed in range(100):
        dice.seed(seed)
        start = time.monotonic()
        with contextlib.suppress(FsError):
            answers += look_at_everything([FileDevice(str(path), path.name) for path in images])
        assert time.monotonic() - start < SECONDS, f"seed {seed}"
    assert answers
