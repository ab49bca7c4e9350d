"""Pools with one file for each codec with each checksum, of every kind of vdev, by both versions of OpenZFS."""

from __future__ import annotations

import itertools

# Kind of vdev -> (members, their size, what zpool is told, how many of them the pool can do without).
KINDS = {
    "single": (1, "64M", "", 0),
    "mirror": (2, "64M", "mirror", 1),
    "raidz1": (3, "64M", "raidz1", 1),
    "raidz2": (4, "64M", "raidz2", 2),
    "raidz3": (5, "64M", "raidz3", 3),
    "draid": (5, "192M", "draid1:2d:5c:1s", 1),
}
CODECS = ("off", "lzjb", "gzip-1", "gzip-6", "gzip-9", "zle", "lz4", "zstd", "zstd-19", "zstd-fast-10")
CHECKSUMS = {
    "bookworm": ("off", "fletcher2", "fletcher4", "sha256", "sha512", "skein", "edonr"),
    "trixie": ("off", "fletcher2", "fletcher4", "sha256", "sha512", "skein", "edonr", "blake3"),
}
VERSIONS = {"bookworm": "2.1", "trixie": "2.3"}  # of OpenZFS, by suite
# Pool -> (kind of vdev, suite)
POOLS = {f"matrix{VERSIONS[suite]}-{kind}": (kind, suite) for suite in VERSIONS for kind in KINDS}


def script(kind: str, suite: str) -> str:
    """How such a pool is made; see zfs_recipes.  Setting properties ends a txg: what came before keeps the old ones."""
    count, size, vdev, _ = KINDS[kind]
    return rf"""
members {count} {size}
$CREATE tank {vdev} $D
mount -t zfs tank /mnt/a
for codec in {" ".join(CODECS)}; do for sum in {" ".join(CHECKSUMS[suite])}; do
    zfs set compression=$codec checksum=$sum tank
    (text 7000; head -c 7000 /dev/zero; text 7000; echo $codec $sum) >/mnt/a/$codec+$sum
done; done
umount /mnt/a
finish tank"""


def subsets(kind: str) -> list[tuple[int, ...]]:
    """The members that a pool of this kind can do without, from none to as many as it tolerates."""
    count, _, _, tolerated = KINDS[kind]
    return [chosen for size in range(tolerated + 1) for chosen in itertools.combinations(range(count), size)]
