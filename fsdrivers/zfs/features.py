"""Feature flags of OpenZFS, and what each means to a reader.

Sources: module/zcommon/zfeature_common.c:zpool_feature_init, OpenZFS 2.3.4; man/man7/zpool-features.7.

A feature that is active and not read-only compatible changes what a reader has to understand: unless it is known
here the pool is refused by the feature's name.  Features that only change what a writer must keep up are in
``WRITERS``; an unknown one of those is worth a note and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable

from fsdrivers.errors import Unsupported
from fsdrivers.redundancy import Health

# Active means: the pool holds things that only a reader of the feature understands.
READ = {
    "org.illumos:lz4_compress": "blocks compressed with LZ4",
    "com.joyent:multi_vdev_crash_dump": "a dump device; no dataset of a root pool",
    "com.delphix:hole_birth": "holes with a birth txg",
    "com.delphix:extensible_dataset": "directories and datasets that are ZAPs with a bonus",
    "com.delphix:embedded_data": "data inside of block pointers",
    "org.open-zfs:large_blocks": "records up to 16 MiB",
    "org.zfsonlinux:large_dnode": "dnodes of several slots",
    "org.illumos:sha512": "SHA-512/256 checksums",
    "org.illumos:skein": "Skein-512/256 checksums",
    "org.illumos:edonr": "Edon-R-512 checksums",
    "org.openzfs:blake3": "BLAKE3 checksums",
    "com.delphix:redaction_bookmarks": "lists of redacted blocks, for zfs send alone",
    "com.delphix:redacted_datasets": "datasets with blocks left out: each is refused when opened, as by the kernel",
    "com.delphix:device_removal": "removed vdevs with a mapping to where their data went",
    "com.datto:bookmark_v2": "larger bookmarks, for zfs send alone",
    "com.delphix:bookmark_written": "bookmarks that know what was written since, for zfs send alone",
    "com.datto:encryption": "encrypted datasets: each is refused by name when opened",
    "org.freebsd:zstd_compress": "blocks compressed with Zstandard",
    "com.delphix:head_errlog": "another format of the error log, which a reader ignores",
    "com.klarasystems:vdev_zaps_v2": "properties of the root vdev",
    "org.openzfs:raidz_expansion": "RAID-Z groups with blocks of several widths",
    "com.delphix:redaction_list_spill": "long lists of redacted blocks, for zfs send alone",
    "com.klarasystems:large_microzap": "micro ZAPs above 128 KiB",
    "com.klarasystems:fast_dedup": "another format of the deduplication table, which a reader does not need",
    "org.openzfs:draid": "distributed RAID",
    "org.zfsonlinux:longname": "file names up to 1023 bytes",
}

# Known, and known to be unreadable here: name -> what would go wrong.
REFUSED: dict[str, str] = {}

WRITERS = {
    "com.delphix:async_destroy", "com.delphix:empty_bpobj", "com.delphix:spacemap_histogram",
    "com.delphix:enabled_txg",
    "com.delphix:zpool_checkpoint", "com.delphix:spacemap_v2", "com.delphix:bookmarks", "com.joyent:filesystem_limits",
    "com.delphix:livelist", "com.delphix:log_spacemap", "com.delphix:obsolete_counts",
    "org.zfsonlinux:userobj_accounting", "org.zfsonlinux:project_quota", "org.zfsonlinux:allocation_classes",
    "com.datto:resilver_defer", "org.openzfs:device_rebuild", "org.openzfs:zilsaxattr",
    "com.fudosecurity:block_cloning",
}  # fmt: skip


def check_read(active: Iterable[str]) -> None:
    """Raise Unsupported for the first of the read-incompatible features ``active`` that cannot be read."""
    for name in sorted(active):
        if name in REFUSED:
            raise Unsupported(name, REFUSED[name])
        if name not in READ and name not in WRITERS:
            raise Unsupported(name, "this pool feature is unknown here")


def note_writers(active: Iterable[str], health: Health) -> None:
    """Note unknown features that only a writer has to know."""
    for name in sorted(active):
        if name not in WRITERS and name not in READ and name not in REFUSED:
            health.note(f"unknown pool feature {name}: it concerns writers only")
