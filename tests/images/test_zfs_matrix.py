"""Vdev kind x members missing or rotten x codec x checksum x OpenZFS version: the matrix of docs/support-zfs.md."""

from __future__ import annotations

import contextlib
import itertools

import pytest
import zfs_matrix
from test_zfs import Rotten, _scratch, assemble, check, members  # noqa: F401

from fsdrivers.errors import Corrupt
from fsdrivers.zfs import checksum, compress

pytestmark = pytest.mark.images

CASES = [
    pytest.param(name, chosen, id=f"{name}-{'+'.join(map(str, chosen)) or 'none'}")
    for name, (kind, _) in zfs_matrix.POOLS.items()
    for chosen in zfs_matrix.subsets(kind)
]


@pytest.mark.parametrize("name", zfs_matrix.POOLS)
def test_the_pool_has_every_codec_with_every_checksum(name: str) -> None:
    """What the block pointers say, not what zfs was asked for."""
    kind, suite = zfs_matrix.POOLS[name]
    pool = assemble(members(name))
    filesystem = pool.open()
    found = set()
    for path in filesystem.listdir("/"):
        pointer = filesystem._objset.dnode(filesystem.resolve(f"/{path.name}")).pointer(0)  # type: ignore[arg-type]
        assert pointer is not None
        found.add((compress.NAMES[pointer.compress], checksum.name(pointer.checksum)))
    # On the disk zstd has no levels, they are in the block; fast and slow are one number.
    codecs = {"zstd" if codec.startswith("zstd") else codec for codec in zfs_matrix.CODECS}
    assert found == set(itertools.product(codecs, zfs_matrix.CHECKSUMS[suite]))
    assert pool.spa().store.vdevs[0].name.startswith("d0.img" if kind == "single" else kind)


@pytest.mark.parametrize(("name", "missing"), CASES)
def test_missing(name: str, missing: tuple[int, ...]) -> None:
    pool = assemble(members(name, missing))
    check(name, pool)
    assert pool.health.report() == []


@pytest.mark.parametrize(("name", "rotten"), [case for case in CASES if case.values[1]])
def test_rotten(name: str, rotten: tuple[int, ...]) -> None:
    devices = members(name)
    for number in rotten:
        devices[number] = Rotten(devices[number])
    filesystem = assemble(devices).open()
    for entry in filesystem.listdir("/"):
        codec, _, name_of_sum = entry.name.partition("+")
        if name_of_sum == "off":
            # Nothing can tell rotten data from good data; if anything, the decoder complains.
            with contextlib.suppress(Corrupt):
                filesystem.read_file(f"/{entry.name}", 1 << 20)
        else:
            assert filesystem.read_file(f"/{entry.name}", 1 << 20).endswith(f"{codec} {name_of_sum}\n".encode())
