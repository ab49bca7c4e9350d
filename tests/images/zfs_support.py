"""What of ZFS is read, as a page: generated from the tables that the tests run through.

python tests/images/zfs_support.py          writes docs/support-zfs.md
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/support-zfs.md"
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import zfs_matrix  # noqa: E402
import zfs_recipes  # noqa: E402

from fsdrivers.zfs import checksum, compress, features  # noqa: E402

# Pool of zfs_recipes.POOLS -> what it shows, and which members were left out, rotten and dying in turn.
SHOWN = {
    "single": ("one file, ashift 9; snapshots; all four labels lost in turn", "labels"),
    "codecs": ("every compression: off, lzjb, gzip-1/6/9, zle, lz4, zstd, zstd-19, zstd-fast-10, on", "-"),
    "checksums": ("every checksum of OpenZFS 2.1: off, fletcher2/4, sha256, sha512, skein, edonr", "-"),
    "records": ("records of 512 bytes to 16 MiB; dnodes of 512 bytes to 16 KiB", "-"),
    "mirror": ("mirror of three, ashift 12", "any one, any two"),
    "raidz1": ("raidz1 of three, ashift 12, on both sides of the column swap", "any one"),
    "raidz2": ("raidz2 of five, ashift 9", "any one, any two"),
    "raidz3": ("raidz3 of six, ashift 12", "any one, two, three"),
    "mixed": ("mirror + raidz1 + special + log + cache", "one of the mirror, one of the raidz1"),
    "sectors": ("raidz1 with ashift 16 + mirror with ashift 13", "one of either"),
    "removed": ("one of three top-level vdevs removed", "-"),
    "replacing": ("raidz1 while a child is being replaced", "any one"),
    "spare": ("mirror with a hot spare in use", "any one"),
    "draid": ("draid1:2d:6c:1s", "any one"),
    "gang": ("gang blocks on a mirror", "any one"),
    "gangz": ("gang blocks on raidz1", "any one"),
    "copies": ("two disks, copies=3", "-"),
    "version1": ("pool version 1", "-"),
    "version28": ("pool version 28 with file systems of version 1, 3, 4, 5 on raidz1", "any one"),
    "plain5000": ("feature flags, none enabled", "-"),
    "datasets": ("datasets, volumes, snapshots, clones, a promoted clone, properties, bootfs", "-"),
    "names": ("case-insensitive, mixed and normalised file systems; a directory of 1500 names", "-"),
    "xattrs": ("extended attributes in SA, in spill blocks and in directories; access lists", "-"),
    "symlinks": ("targets of every length, in file systems of versions 4 and 5", "-"),
    "encrypted": ("encrypted datasets beside a plain one: refused with the format of their key", "-"),
    "features": ("bookmarks, a redacted dataset, a checkpoint, a limit: what a reader has nothing to do with", "-"),
    "log": ("a crash: the intent log with creates, writes, renames, removes, truncates, attributes", "any one"),
    "claimed": ("a log that an import has claimed and no mount has replayed", "-"),
    "destroyed": ("`zpool destroy`: told, and read", "any one"),
    "multihost": ("in use by another host, which writes uberblocks with its mark (MMP)", "any one"),
    "classes": ("raidz1 + special mirror + dedup + a disk, a hole where a log was removed", "one of either group"),
    "offline": ("raidz1 with a member that was taken offline before the last changes", "the offline one; another"),
    "partitions": ("mirror of two disks with the partitions that zpool gives them", "any one, missing"),
    "big1": ("big-endian, pool version 1, three disks", "-"),
    "big2mirror": ("big-endian, pool version 2, mirror of three", "any one, any two"),
    "big2raidz": ("big-endian, pool version 2, raidz1 of three", "any one"),
    "big15": ("big-endian, pool version 15", "-"),
    "expanded": (
        "raidz2 expanded from four disks to six: blocks of three widths, one cloned",
        "any one, any two",
    ),
    "expanding": ("raidz1 in the middle of its expansion from three disks to four", "any one"),
    "cloned": ("cloned blocks, of a file that is gone too", "any one"),
    "dedup": ("deduplicated blocks, the table in the format of OpenZFS 2.3; BLAKE3", "-"),
    "longname": ("names of 255 to 1023 bytes", "-"),
    "microzap": ("a directory in one block above 128 KiB", "-"),
    "zaptable": ("a directory whose table of leaves is outside of its header", "-"),
    "tall": ("a file below seven levels of pointers", "-"),
    "deferred": ("raidz2 with two children being replaced, one of them waiting", "any one"),
    "destroying": ("a dataset whose blocks are being freed", "-"),
    "draidspare": ("draid1:3d:7c:2s, a distributed spare in the place of a failed device", "any one"),
    "bookmarks": ("bookmarks of an encrypted snapshot, a redaction of forty snapshots", "-"),
    "log23": (
        "a crash: clones, exchanged names, attributes, holes; a log device, large writes in place",
        "the log",
    ),
}

# Feature -> a pool in which it is active: OpenZFS itself says so.  The rest are known from OpenZFS's sources.
SEEN = {
    "com.datto:bookmark_v2": "bookmarks",
    "com.datto:encryption": "encrypted",
    "com.datto:resilver_defer": "deferred",
    "com.delphix:async_destroy": "destroying",
    "com.delphix:bookmark_written": "features",
    "com.delphix:bookmarks": "features",
    "com.delphix:device_removal": "removed",
    "com.delphix:embedded_data": "codecs",
    "com.delphix:empty_bpobj": "datasets",
    "com.delphix:enabled_txg": "codecs",
    "com.delphix:extensible_dataset": "codecs",
    "com.delphix:head_errlog": "cloned",
    "com.delphix:hole_birth": "codecs",
    "com.delphix:livelist": "datasets",
    "com.delphix:log_spacemap": "codecs",
    "com.delphix:obsolete_counts": "removed",
    "com.delphix:redacted_datasets": "features",
    "com.delphix:redaction_bookmarks": "features",
    "com.delphix:redaction_list_spill": "bookmarks",
    "com.delphix:spacemap_histogram": "codecs",
    "com.delphix:spacemap_v2": "codecs",
    "com.delphix:zpool_checkpoint": "features",
    "com.fudosecurity:block_cloning": "cloned",
    "com.joyent:filesystem_limits": "features",
    "com.klarasystems:fast_dedup": "dedup",
    "com.klarasystems:large_microzap": "microzap",
    "com.klarasystems:vdev_zaps_v2": "cloned",
    "org.freebsd:zstd_compress": "codecs",
    "org.illumos:edonr": "checksums",
    "org.illumos:lz4_compress": "codecs",
    "org.illumos:sha512": "checksums",
    "org.illumos:skein": "checksums",
    "org.open-zfs:large_blocks": "records",
    "org.openzfs:blake3": "dedup",
    "org.openzfs:draid": "draid",
    "org.openzfs:raidz_expansion": "expanded",
    "org.openzfs:zilsaxattr": "log23",
    "org.zfsonlinux:allocation_classes": "mixed",
    "org.zfsonlinux:large_dnode": "records",
    "org.zfsonlinux:longname": "longname",
    "org.zfsonlinux:project_quota": "codecs",
    "org.zfsonlinux:userobj_accounting": "codecs",
}


def _matrix_row(kind: str, suite: str) -> str:
    chosen = "; ".join(" ".join(map(str, one)) or "none" for one in zfs_matrix.subsets(kind))
    count = f"{len(zfs_matrix.CODECS)} x {len(zfs_matrix.CHECKSUMS[suite])}"
    name = zfs_matrix.KINDS[kind][2].partition(" ")[0] or "one disk"
    return f"| {name}, {zfs_matrix.KINDS[kind][0]} | {zfs_matrix.VERSIONS[suite]} | {chosen} | {count} |"


def page() -> str:
    """The page as Markdown."""
    return "\n".join([*_pools(), *_matrix(), *_others(), *_features()])


def _pools() -> list[str]:
    return [
        "# ZFS: what is read",
        "",
        "Generated by `python tests/images/zfs_support.py` from the tables of the tests; a test compares this page.",
        "",
        "## Pools",
        "",
        "Made by OpenZFS, each in `tests/images/zfs`. Every dataset and snapshot is compared with OpenZFS's own view:",
        "types, modes, owners, sizes, times, targets, SHA-256.",
        "",
        "| Pool | OpenZFS | What it shows | Members missing, rotten, dying |",
        "|---|---|---|---|",
        *(
            f"| {name} | {zfs_recipes.VERSIONS[zfs_recipes.POOLS[name].suite]} | {what} | {without} |"
            for name, (what, without) in SHOWN.items()
        ),
        "",
    ]


def _matrix() -> list[str]:
    return [
        "## Matrix",
        "",
        "One pool of each kind by each version of OpenZFS, in it one file for every codec with every checksum: the",
        "block pointers are compared with this table. Every file is read without each of these sets of members, and",
        "with each of them rotten: one byte in every sector changed (without a checksum nothing can tell).",
        "",
        "| Vdev | OpenZFS | Members left out or rotten, in turn | Codecs x checksums |",
        "|---|---|---|---|",
        *(_matrix_row(kind, suite) for kind, suite in zfs_matrix.POOLS.values()),
        "",
        f"Codecs: {', '.join(zfs_matrix.CODECS)}.",
        *(
            f"Checksums of OpenZFS {zfs_matrix.VERSIONS[suite]}: {', '.join(sums)}."
            for suite, sums in zfs_matrix.CHECKSUMS.items()
        ),
        "",
    ]


def _others() -> list[str]:
    return [
        "## Boots",
        "",
        "In QEMU, from power-on to what the pool holds. With every run: a small system on a mirror minus one, a raidz1",
        "minus one and a raidz2 minus two (`tests/boot/test_zfs_pools.py`). With `ZFS=1`, to the login of Debian 12:",
        "on a mirror, on a raidz1 minus one that another host had not exported, and on a raidz2 minus two, imported by",
        "its own zfs-initramfs (`tests/boot/test_zfs_debian.py`); from a snapshot of its root; as OpenZFS's HOWTO",
        "installs it, with /boot in a pool of its own, by the entry that its `grub-mkconfig` wrote, both pools without",
        "their second disk; and with an initrd by dracut (`tests/boot/test_zfs_roots.py`).",
        "",
        "## Machines of the other byte order",
        "",
        "The pools whose names begin with *big* are from OpenZFS's own tests (Debian's package zfs-test, CDDL), where",
        "SPARC machines wrote them; the view to compare with is that of OpenZFS 2.1, which imported them read-only.",
        "",
        "## Algorithms",
        "",
        f"- checksums: {', '.join(checksum.NAMES[2:])}",
        f"- compression: {', '.join(compress.NAMES[2:])}",
        "",
    ]


def _features() -> list[str]:
    return [
        "## Feature flags of OpenZFS 2.3",
        "",
        "All that zpool of OpenZFS 2.3 lists for a pool of its own; a test compares. *Shown by* is a pool above in",
        "which OpenZFS says that the feature is active; those without one are not active in a Linux pool at rest.",
        "",
        "| Feature | State | What it is | Shown by |",
        "|---|---|---|---|",
        *(f"| {name} | read | {what} | {SEEN.get(name, '-')} |" for name, what in sorted(features.READ.items())),
        *(f"| {name} | refused | {why} | - |" for name, why in sorted(features.REFUSED.items())),
        *(f"| {name} | no matter to a reader | | {SEEN.get(name, '-')} |" for name in sorted(features.WRITERS)),
        "| any other | refused by name if it is needed for reading, else noted | | mutants |",
        "",
    ]


if __name__ == "__main__":
    PAGE.write_text(page())
