"""Disks that somebody plugs in to stop a machine or to take it over.  Nothing on them needs a key or a secret."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

from artefacts import kernel_build
from fsdrivers import pools
from fsdrivers.block import FileDevice
from fsdrivers.btrfs.pool import BtrfsPool
from fsdrivers.checksums.crc32c import crc32c
from fsdrivers.desk.inspect.derived import Structures
from fsdrivers.fat import layout as fat
from fsdrivers.zfs import label
from fsdrivers.zfs import layout as zfs
from loader import esp
from qemu.workshop import MIB

_fat, _zfs_pool = Structures(fat), Structures(zfs)
LABEL = zfs.LABEL_NVLIST_SIZE - _zfs_pool.ECK.size  # the packed list of a label
SIZE = 64 * MIB
EMPTY_LIST = b"\1\1\0\0" + struct.pack(">iI", 0, 1)


def label_hang(target: Path, pairs: int = 31) -> Path:
    """A ZFS label whose lists lie in each other: 2**31 steps for who parses each from where it begins."""
    pair = struct.pack(">iiIii", 28, 1, 0, 19, 1) + struct.pack(">iI", 0, 1)
    return _zfs(target, EMPTY_LIST + pairs * pair)


def label_memory(target: Path, pairs: int = 4000) -> Path:
    """A ZFS label of 4000 names, each of which reaches to its end: 572 MiB, and that in four labels."""
    data = bytearray(EMPTY_LIST)
    for _ in range(pairs):
        data += struct.pack(">iiI", 20, 1, (LABEL - 16 - (len(data) + 12)) & ~3) + bytes(8)
    return _zfs(target, bytes((data + bytes(8)).ljust(LABEL - 16, b"A") + struct.pack(">iiii", 1, 1, 0, 0)))


def _zfs(target: Path, data: bytes) -> Path:
    data = data.ljust(LABEL, b"\0")
    with target.open("wb") as file:
        file.truncate(SIZE)
        for start in label.offsets(SIZE):
            offset = start + zfs.LABEL_NVLIST
            eck = _zfs_pool.ECK(zec_magic=zfs.ECK_MAGIC, zec_cksum=[offset, 0, 0, 0])
            digest = hashlib.sha256(data + eck).digest()
            file.seek(offset)
            file.write(data + _zfs_pool.ECK(zec_magic=zfs.ECK_MAGIC, zec_cksum=struct.unpack(">4Q", digest)))
    return target


def fat_loop(target: Path, clusters: int = 66000) -> Path:
    """A FAT32 whose one file of 4 GiB goes 3, 5, 3, 5, ..."""
    table, reserved = -(-(clusters + 2) * 4 // 512), 32
    boot = _fat.BOOT_SECTOR(
        jump=b"\xeb\x58\x90", system_id=b"MSDOS5.0", sector_size=512, sec_per_clus=1, reserved=reserved, fats=1,
        media=0xF8, secs_track=63, heads=255, total_sect=reserved + table + clusters,
    )  # fmt: skip
    boot += _fat.EXTENDED_32(length=table, root_cluster=2, info_sector=1, backup_boot=6)
    volume = _fat.VOLUME_32(drive_number=0x80, signature=0x29, vol_id=0xBADF00D, vol_label=b"EVIL       ")
    boot = (boot.ljust(fat.VOLUME_32[0], b"\0") + volume).ljust(fat.BOOT_SIGNATURE_AT, b"\0") + fat.BOOT_SIGNATURE
    entry = _fat.ENTRY(name=b"VMLINUZ    ", attr=0x20, start=3, size=0xFFFFFFFF)
    with target.open("wb") as file:
        file.truncate(SIZE)
        for sector, data in (
            (0, boot), (reserved, struct.pack("<6I", 0x0FFFFFF8, 0x0FFFFFFF, 0x0FFFFFFF, 5, 0, 3)),
            (reserved + table, entry),
        ):  # fmt: skip
            file.seek(sector * 512)
            file.write(data)
    return target


def newer(image: Path, by: int = 1000) -> Path:
    """Raise the generation of a btrfs on one device, as if that copy had been written to since; returns ``image``."""
    (pool,) = pools.assemble([FileDevice(str(image))])
    assert isinstance(pool, BtrfsPool)
    block, volume = pool.superblock, pool._opened().volume
    places = [copy.offset for part in volume.segments(block.root, block.nodesize) for _, copy in volume.ranked(part)]
    with image.open("r+b") as file:
        for offset, size, field in (
            *((offset, block.nodesize, 0x50) for offset in places),
            *((offset, 4096, 0x48) for offset in (0x10000, 0x4000000)),
        ):
            file.seek(offset)
            data = bytearray(file.read(size))
            if field == 0x48 and data[0x40:0x48] != b"_BHRfS_M":
                continue
            struct.pack_into("<Q", data, field, block.generation + by)
            data[:4] = crc32c(bytes(data[32:])).to_bytes(4, "little")
            file.seek(offset)
            file.write(data)
    return image


def evil_esp(target: Path, root: str, initrd: Path, work: Path) -> Path:
    """An EFI system partition with an entry for the file system ``root`` of somebody else, and a kernel of its own."""
    conf, entry = work / "loader.conf", work / "evil.conf"
    conf.write_text("default evil*\n")
    entry.write_text(f"title Evil Linux\nlinux /evil/vmlinuz\ninitrd /evil/initrd\noptions root=UUID={root} ro evil\n")
    files = {"loader/loader.conf": conf, "loader/entries/evil.conf": entry, "evil/vmlinuz": kernel_build.build().image,
             "evil/initrd": initrd}  # fmt: skip
    esp.disk(files, target, work / "log", 40 * MIB)
    return target
