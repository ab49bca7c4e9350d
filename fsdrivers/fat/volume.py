"""A FAT volume: its geometry from the boot sector, and chains of clusters from its allocation tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from fsdrivers.block import BlockDevice
from fsdrivers.errors import Corrupt, NotThisFs, ReadError
from fsdrivers.fat import layout
from fsdrivers.redundancy import Attempt, Health, read

CHUNK = 1 << 16  # bytes of the table that are read and kept at once; holds all of a FAT12
CHUNKS = 64
SPACING = 256  # clusters between the places of a chain that are remembered


class Run(NamedTuple):
    """``length`` clusters from cluster ``first`` on that lie next to each other on the disk."""

    first: int
    length: int


class Chain:
    """The clusters of one file, followed as far as somebody reads: a disk of a few KiB may state millions."""

    def __init__(self, volume: Volume, first: int, what: str) -> None:
        self._volume, self._first, self._what = volume, first, what
        self._marks = [first]  # every SPACING-th cluster
        self._far = 0  # how far it was followed
        # A chain that comes to an earlier cluster goes round: an old one to compare with, moved ahead ever more rarely
        # (R. P. Brent, "An improved Monte Carlo factorization algorithm", 1980).
        self._old, self._renew = -1, 1

    def runs(self, count: int, start: int = 0, most: int = 1 << 32) -> Iterator[Run]:
        """At most ``count`` clusters from number ``start`` on, in runs of at most ``most`` clusters.

        Raises Corrupt for a cluster that cannot be in use, and when they go round.
        """
        volume, following = self._volume, self._volume.following
        number = min(start // SPACING, len(self._marks) - 1) * SPACING
        cluster, low, high = self._marks[number // SPACING], layout.FIRST_CLUSTER, volume.end
        stop, far, old, renew = start + count, self._far, self._old, self._renew
        mark = len(self._marks) * SPACING
        try:
            while number < stop:
                if not low <= cluster < high:
                    if number and cluster >= layout.END[volume.bits]:
                        return
                    self._corrupt("", cluster)
                first, begin = cluster, number
                end = min(stop, begin + most) if number >= start else start
                beside = cluster
                while cluster == beside and cluster < high and number < end:
                    cluster, beside, number = following(cluster), cluster + 1, number + 1
                    if number > far:
                        far = number
                        if cluster == old:
                            self._corrupt(" (it goes round)", cluster)
                        if number >= renew:
                            old, renew = cluster, 2 * number
                        if number == mark:
                            if number == len(self._marks) * SPACING:  # unless another reader came here meanwhile
                                self._marks.append(cluster)
                            mark += SPACING
                if begin >= start:
                    yield Run(first, number - begin)
        finally:
            if far > self._far:
                self._far, self._old, self._renew = far, old, renew

    def _corrupt(self, how: str, cluster: int) -> NoReturn:
        what, at = f"cluster chain of {self._what}{how}", self._volume.entry_at(cluster)
        raise Corrupt(self._volume.device.name, what, at, None, cluster)


class Volume:
    """The geometry, in bytes from the device's start, and the table of clusters."""

    def __init__(self, device: BlockDevice) -> None:
        """Read the boot sector.  Raises NotThisFs, Corrupt, ReadError.

        Sources: fs/fat/inode.c:fat_read_bpb and fat_fill_super, v6.12.
        """
        self.device, self.health = device, Health()
        if device.size < 512:
            raise NotThisFs(f"{device.name}: too small for a FAT file system")
        sector = device.read(0, 512)
        fields: tuple[bytes, bytes, int, int, int, int, int, int, int, int, int, int, int, int]
        fields = layout.BOOT_SECTOR.unpack_from(sector)
        jump, _, self.sector, per_cluster, reserved, self.fats, root_entries, count16, media, length16 = fields[:10]
        count32 = fields[13]
        if (
            sector[layout.BOOT_SIGNATURE_AT :] != layout.BOOT_SIGNATURE
            or jump[0] not in (0xEB, 0xE9)
            or self.sector not in layout.SECTOR_SIZES
            or per_cluster == 0
            or per_cluster & (per_cluster - 1)
            or not reserved
            or not self.fats
            or not (media == layout.MIN_MEDIA or media >= 0xF8)
        ):
            raise NotThisFs(f"{device.name}: no FAT boot sector")
        at, extended = layout.EXTENDED_32
        length32, flags, version, self.root_cluster, _, _ = extended.unpack_from(sector, at)
        is_32 = not length16 and bool(length32)
        if is_32 and version:
            raise Corrupt(device.name, "FAT32 version", 0x2A, 0, version)
        fat_sectors = length32 if is_32 else length16
        if not fat_sectors:
            raise NotThisFs(f"{device.name}: a boot sector without allocation tables")
        self.cluster = self.sector * per_cluster
        self._fat_start, self._fat_size = reserved * self.sector, fat_sectors * self.sector
        self.root_start = self._fat_start + self.fats * self._fat_size
        self.root_size = 0 if is_32 else root_entries * layout.ENTRY.size
        self.data_start = self.root_start + -(-self.root_size // self.sector) * self.sector
        data = (count16 or count32) * self.sector - self.data_start
        if data < self.cluster:
            raise Corrupt(device.name, "FAT boot sector (no room for data)", 0x13, None, count16 or count32)
        clusters = data // self.cluster
        self.bits = 32 if is_32 else 16 if clusters > layout.MAX_FAT12 else 12
        most = {12: layout.MAX_FAT12, 16: layout.MAX_FAT16, 32: layout.MAX_FAT32}[self.bits]
        # The table may be shorter than the volume, and so may the device: what they do not have cannot be in use.
        described = self._fat_size * 8 // self.bits - layout.FIRST_CLUSTER
        there = max(0, device.size - self.data_start) // self.cluster
        self.end = min(clusters, most, described, there) + layout.FIRST_CLUSTER
        active = flags & layout.ACTIVE_FAT if is_32 and flags & layout.NO_MIRROR else None
        if active is not None and active >= self.fats:
            raise Corrupt(device.name, "number of the active FAT", 0x28, f"below {self.fats}", active)
        self._copies = range(self.fats) if active is None else (active,)
        self._chunks: dict[int, bytes] = {}
        self._current = (-1, b"")  # the chunk that was used last, and its number
        self.serial, self.label = self._names(sector, is_32)

    def _names(self, sector: bytes, is_32: bool) -> tuple[str, str]:
        """The serial number as blkid writes it, and the label."""
        at, shape = layout.VOLUME_32 if is_32 else layout.EXTENDED_16
        _, _, signature, serial, label = shape.unpack_from(sector, at)
        if signature not in layout.EXTENDED_SIGNATURES:
            return "", ""
        text = label.rstrip(b" \0").decode("ascii", "replace") if signature == 0x29 else ""
        return f"{serial >> 16:04X}-{serial & 0xFFFF:04X}", "" if text == "NO NAME" else text

    def offset(self, cluster: int) -> int:
        """Where ``cluster`` lies on the device."""
        return self.data_start + (cluster - layout.FIRST_CLUSTER) * self.cluster

    def chain(self, first: int, limit: int, what: str) -> list[Run]:
        """The runs of the chain from cluster ``first`` to its end, which has to come within ``limit`` clusters: that of
        a directory.

        Raises Corrupt for a chain that leaves the volume, goes round, or runs into a free or bad cluster.
        """
        runs = list(Chain(self, first, what).runs(limit + 1))
        if sum(run.length for run in runs) > limit:
            raise Corrupt(self.device.name, f"cluster chain of {what} (no end)", self.entry_at(first))
        return runs

    def following(self, cluster: int) -> int:
        """What the table says comes behind ``cluster``."""
        number, at = divmod(cluster * self.bits // 8, CHUNK)
        if number != self._current[0]:
            self._current = number, self._chunk(number)
        chunk = self._current[1]
        if self.bits == 32:
            return int.from_bytes(chunk[at : at + 4], "little") & layout.MASK_32
        value = int.from_bytes(chunk[at : at + 2], "little")
        if self.bits == 16:
            return value
        return value >> 4 if cluster & 1 else value & 0xFFF

    def entry_at(self, cluster: int) -> int:
        """Where the table's entry for ``cluster`` lies on the device."""
        return self._fat_start + cluster * self.bits // 8

    def _chunk(self, number: int) -> bytes:
        """A piece of the table, from the next copy when the first cannot be read."""
        chunk = self._chunks.pop(number, None)
        if chunk is None:
            start = number * CHUNK
            chunk = read(self._attempts(start, min(CHUNK, self._fat_size - start)), _fine, self.health, self._lost)
            if len(self._chunks) >= CHUNKS:
                del self._chunks[next(iter(self._chunks))]
        self._chunks[number] = chunk
        return chunk

    def _attempts(self, start: int, length: int) -> Iterator[Attempt]:
        for copy in self._copies:
            at = self._fat_start + copy * self._fat_size + start
            yield Attempt(self.device.name, at, lambda at=at: self.device.read(at, length))  # type: ignore[misc]

    def _lost(self) -> ReadError:
        return ReadError(self.device.name, self._fat_start, self._fat_size, "no allocation table can be read")


def _fine(data: bytes, attempt: Attempt) -> None:
    """There is no checksum to verify."""
