"""The superblock: its copies on one device, which of them to believe, and what it promises.

Source: fs/btrfs/disk-io.c:btrfs_validate_super, fs/btrfs/volumes.c:btrfs_sb_offset, v6.12.  The kernel mounts from
the first copy alone; here the newest valid copy wins, so a wiped start of the disk does not end the boot.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fsdrivers.block import BlockDevice
from fsdrivers.btrfs import checksum, features, layout
from fsdrivers.errors import Corrupt, FsError, ReadError, Unsupported


def uuid_text(raw: bytes) -> str:
    """A UUID as people write it; the library's module takes longer to import than a small file to read."""
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


class Superblock(NamedTuple):
    """A verified superblock.  Sizes and addresses in bytes; ``fsid`` is the UUID people know, ``metadata_uuid`` the one
    that tree nodes carry (they differ after ``btrfstune -m``)."""

    fsid: bytes
    metadata_uuid: bytes
    label: str
    generation: int
    flags: int
    root: int
    root_level: int
    chunk_root: int
    chunk_root_level: int
    chunk_root_generation: int
    log_root: int
    log_root_level: int
    num_devices: int
    sectorsize: int
    nodesize: int
    csum_type: int
    incompat_flags: int
    sys_chunk_array: bytes
    devid: int
    dev_uuid: bytes
    dev_size: int  # bytes of the device that the filesystem uses
    backups: tuple[Backup, ...]
    raw: bytes
    offset: int  # where on the device this copy was found

    @property
    def uuid(self) -> str:
        return uuid_text(self.fsid)

    @property
    def seeding(self) -> bool:
        """Whether the device is a seed: read-only for ever, others may be built on top of it."""
        return bool(self.flags & layout.SUPER_FLAG_SEEDING)


class Backup(NamedTuple):
    """An older tree root that the superblock remembers, for when the newest is lost."""

    tree_root: int
    tree_root_level: int
    generation: int
    chunk_root: int
    chunk_root_level: int
    chunk_root_generation: int


# Signatures that say "something else lives here now" when only a later copy of the superblock is left:
# (offset, bytes, what).  Making a new filesystem wipes the copy at 64 KiB, never the ones behind it.
_FOREIGN = (
    (0x438, b"\x53\xef", "ext2/3/4"),
    (0, b"XFSB", "XFS"),
    (0, b"LUKS\xba\xbe", "LUKS"),
    (0x200, b"EFI PART", "GPT"),
    (0x218, b"LVM2 001", "LVM"),
    (0x1000, b"\xfc\x4e\x2b\xa9", "MD RAID"),
    (0xFF6, b"SWAPSPACE2", "swap"),
    (0x10040, b"BcAcHe", "bcache"),
    (0x3, b"NTFS    ", "NTFS"),
    (0x1FE, b"\x55\xaa", "MBR"),
)


def find(device: BlockDevice) -> Superblock | None:
    """The newest valid superblock on ``device``, or None when it carries no btrfs.

    Raises Corrupt when a superblock is there but no copy of it verifies, Unsupported for feature flags that cannot
    be read.
    """
    best: Superblock | None = None
    problems: list[FsError] = []
    for offset in layout.SUPER_OFFSETS:
        if offset + layout.SUPER_SIZE > device.size:
            break
        try:
            found = parse(device.read(offset, layout.SUPER_SIZE), device.name, offset)
        except FsError as error:
            problems.append(error)
            continue
        if found is None:
            if offset == layout.SUPER_OFFSETS[0] and _foreign(device):
                return None
        elif best is None or found.generation > best.generation:
            best = found
    if best is None and problems:
        raise problems[0]
    if best is None and device.size >= layout.SUPER_SIZE:
        zoned = device.read(layout.ZONED_OFFSET, layout.SUPER_SIZE)
        if zoned[0x40:0x48] == layout.SUPER_MAGIC:
            features.check(layout.SUPERBLOCK.parse(zoned).incompat_flags, 0)
    return best


def parse(raw: bytes, device: str, offset: int) -> Superblock | None:
    """The superblock in the 4096 bytes ``raw`` from ``offset`` of ``device``; None when its magic is absent.

    Raises Corrupt when it does not verify, Unsupported for what cannot be read.
    """
    if raw[0x40:0x48] != layout.SUPER_MAGIC:
        return None
    record = layout.SUPERBLOCK.parse(raw)
    if record.csum_type not in checksum.TYPES:
        # The checksum's own type field may be what is damaged: without knowing, there is nothing to verify with.
        raise Unsupported(f"btrfs checksum type {record.csum_type}", f"superblock of {device}")
    kind = checksum.TYPES[record.csum_type]
    computed = kind.sum(raw[layout.CSUM_FIELD :])
    if computed != record.csum[: kind.size]:
        raise Corrupt(device, "superblock checksum", offset, record.csum[: kind.size], computed)
    features.check(record.incompat_flags, record.compat_ro_flags)
    _validate(record, device, offset)
    separate = record.incompat_flags & 1 << 10  # METADATA_UUID
    return Superblock(
        fsid=record.fsid,
        metadata_uuid=record.metadata_uuid if separate else record.fsid,
        label=record.label.split(b"\0")[0].decode("utf-8", "surrogateescape"),
        generation=record.generation,
        flags=record.flags,
        root=record.root,
        root_level=record.root_level,
        chunk_root=record.chunk_root,
        chunk_root_level=record.chunk_root_level,
        chunk_root_generation=record.chunk_root_generation,
        log_root=record.log_root,
        log_root_level=record.log_root_level,
        num_devices=record.num_devices,
        sectorsize=record.sectorsize,
        nodesize=record.nodesize,
        csum_type=record.csum_type,
        incompat_flags=record.incompat_flags,
        sys_chunk_array=record.sys_chunk_array[: record.sys_chunk_array_size],
        devid=record.dev_item.devid,
        dev_uuid=record.dev_item.uuid,
        dev_size=record.dev_item.total_bytes,
        backups=tuple(
            Backup(
                item.tree_root,
                item.tree_root_level,
                item.tree_root_gen,
                item.chunk_root,
                item.chunk_root_level,
                item.chunk_root_gen,
            )
            for item in record.super_roots
        ),
        raw=raw,
        offset=offset,
    )


def notes(superblock: Superblock) -> list[str]:
    """Sentences about features that are read although this program does not know them."""
    record = layout.SUPERBLOCK.parse(superblock.raw)
    return features.check(record.incompat_flags, record.compat_ro_flags)


def _validate(record: Any, device: str, offset: int) -> None:
    """Raise Corrupt or Unsupported unless the fields make sense together (btrfs_validate_super, v6.12)."""
    sizes = (0x1000, 0x2000, 0x4000, 0x8000, 0x10000)

    def demand(good: bool, field: str, got: object) -> None:
        if not good:
            raise Corrupt(device, f"superblock field {field}", offset, None, got)

    sectorsize, nodesize = record["sectorsize"], record["nodesize"]
    demand(record["bytenr"] == offset, "bytenr", record["bytenr"])
    demand(sectorsize in (0x800, *sizes), "sectorsize", sectorsize)
    demand(nodesize in sizes and nodesize >= sectorsize, "nodesize", nodesize)
    for name in ("root", "chunk_root", "log_root"):
        demand(record[name] % sectorsize == 0, name, record[name])
        demand(record[f"{name}_level"] < layout.MAX_LEVEL, f"{name}_level", record[f"{name}_level"])
    smallest = layout.KEY.size + layout.CHUNK.size + layout.STRIPE.size
    size = record["sys_chunk_array_size"]
    demand(smallest <= size <= layout.SYS_CHUNK_ARRAY_SIZE, "sys_chunk_array_size", size)
    demand(record["num_devices"] > 0, "num_devices", 0)
    demand(record["generation"] > 0, "generation", 0)
    flags = record["flags"]
    if flags & (layout.SUPER_FLAG_METADUMP | layout.SUPER_FLAG_METADUMP_V2):
        raise Unsupported("btrfs metadump", f"{device} is an image of metadata without the data")
    changing = layout.SUPER_FLAG_CHANGING_DATA_CSUM | layout.SUPER_FLAG_CHANGING_META_CSUM
    if flags & changing:
        raise Unsupported("btrfs change of checksums under way", f"finish it on {device} with btrfstune --csum")


def _foreign(device: BlockDevice) -> str:
    """What else claims the start of ``device``, "" for nothing."""
    try:
        head = device.read(0, min(device.size, 0x11000))
        # ZFS: the uberblocks in the first label, 1 KiB apart
        ring = device.read(0x20000, 0x20000) if device.size >= 0x40000 else b""
    except ReadError:
        return ""
    for offset, magic, what in _FOREIGN:
        if head[offset : offset + len(magic)] == magic:
            return what
    for magic in (b"\x0c\xb1\xba\0\0\0\0\0", b"\0\0\0\0\0\xba\xb1\x0c"):
        at = ring.find(magic)
        while at >= 0:
            if at % 0x400 == 0:
                return "ZFS"
            at = ring.find(magic, at + 1)
    return ""
