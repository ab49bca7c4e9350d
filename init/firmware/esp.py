"""EFI system partitions: which one may be written, and writing to it so that a power cut harms nothing.

A file is written under a temporary name, flushed, renamed, and read back from the disk.  Files are named after their
content, so that a new set never overwrites the one that the firmware's boot menu points at.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from fsdrivers import fat, partitions
from fsdrivers.block import BlockDevice
from fsdrivers.bounds import attempt
from fsdrivers.errors import FsError
from fsdrivers.filesystem import File
from fsdrivers.partitions import Partition
from init.console.progress import Progress
from init.machine import signals, syscalls
from init.machine.devices import human
from init.refused import Refused
from init.trust import Trust

NAME = "poolboot"
"""Of a GPT partition, or of the FAT file system on it: then it is ours to write to."""
TYPES = (fat.ESP, "0xef")
"""Of an ESP in a GPT and in an MBR."""
DIRECTORY = "EFI/poolboot"
"""All that we write is in here."""
TEMPORARY = ".tmp"
MOUNTPOINT = "/run/poolboot/esp"

MAX_PARTITIONS = 16  # of one disk
MARGIN = 1 << 20  # bytes that stay free: directories grow, and a full FAT serves nobody
CPIO_ALIGN = 4  # bytes between concatenated initrds; init/initramfs.c:unpack_to_rootfs, v6.12
CHUNK = 1 << 20

Mount = Callable[[str, str, str, int, str], None]


class Content(NamedTuple):
    """A file to be: what is in it, known before it is written."""

    role: str  # "linux", "initrd"
    suffix: str
    files: tuple[File, ...]
    size: int
    digest: bytes

    @property
    def name(self) -> str:
        """In DIRECTORY."""
        return f"{self.role}-{self.digest[:10].hex()}{self.suffix}"


def all_of(devices: Iterable[BlockDevice]) -> Iterator[Partition]:
    """Every ESP on some disks, MAX_PARTITIONS of each at most."""
    for device in devices:
        try:
            found = [one for one in partitions.partitions(device) if one.type in TYPES]
            yield from found[:MAX_PARTITIONS]
        except FsError:  # a damaged table is somebody else's to report
            continue


def find(devices: Iterable[BlockDevice], asked: str, trust: Trust | None = None) -> Partition:
    """The ESP that ``asked`` names (PARTUUID=, PARTLABEL=, LABEL=, /dev/...), for "" the one that is called poolboot:
    on the disk that the EFI file came from if there is one, and never on one that was plugged in.

    Raises Refused when there is none or more than one: a guess could destroy somebody's boot.
    """
    found = list(all_of(devices))
    if asked:
        fitting = [one for one in found if _answers(one, asked)]
        wish = f"poolboot.esp={asked}"
    else:
        # Anybody can call a partition so, and writing to one has the kernel's driver read what is on it.
        trusted = [one for one in found if trust is None or trust.rank_of(one) <= (0 if trust.origin else 1)]
        fitting = [one for one in trusted if NAME in (one.label.lower(), fat_label(one).lower())]
        wish = f"an EFI system partition called {NAME}"
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise Refused(
            f"{wish}: {', '.join(one.name for one in fitting)} all answer to it; use poolboot.esp=PARTUUID=..."
        )
    there = ", ".join(f"{one.name} (PARTUUID={one.uuid})" for one in found) or "none"
    raise Refused(f"{wish}: there is none; EFI system partitions here: {there}")


def fat_label(partition: Partition) -> str:
    """The label of the file system; "" when it cannot be read."""
    look = attempt(f"{partition.name}: its file system", [partition], lambda: fat.open(partition).label, _ignore)
    return (look or "").strip()


def _ignore(error: FsError) -> None:
    """What is wrong with a partition is told by who looks for entries on it."""


def _answers(partition: Partition, asked: str) -> bool:
    key, equals, value = asked.partition("=")
    if not equals:
        return partition.name == asked
    value = value.strip('"')
    if key.upper() == "PARTUUID":
        return partition.uuid.lower() == value.lower()
    if key.upper() == "PARTLABEL":
        return partition.label == value
    return key.upper() == "LABEL" and fat_label(partition) == value


@contextmanager
def mounted(
    partition: Partition,
    where: str = MOUNTPOINT,
    mount: Mount = syscalls.mount,
    umount: Callable[[str], None] = syscalls.umount,
) -> Iterator[str]:
    """Mount the ESP for writing; Ctrl-Alt-Del waits until it is unmounted.  Raises Refused."""
    os.makedirs(where, exist_ok=True)
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    try:
        mount(partition.name, where, "vfat", flags, "umask=0077,errors=remount-ro")
    except OSError as error:
        advice = {
            errno.ENODEV: "; this kernel has no vfat",
            errno.EROFS: "; the disk is read-only",
            errno.EACCES: "; the disk is read-only",
            errno.EINVAL: "; it holds no FAT file system, or this kernel lacks its character set (nls_cp437)",
        }.get(error.errno or 0, "")
        raise Refused(f"mount of {partition.name}: {explain(error)}{advice}") from error
    with signals.uninterrupted("writing to the EFI system partition"):
        try:
            yield where
        finally:
            os.sync()
            umount(where)


def content(role: str, suffix: str, files: Sequence[File], progress: Progress | None = None) -> Content:
    """Read ``files`` once to learn size and checksum of their concatenation."""
    from hashlib import sha256  # costs milliseconds, and most boots write nothing

    digest, size = sha256(), 0
    for block in blocks(files):
        digest.update(block)
        size += len(block)
        if progress is not None:
            progress.advance(len(block))
    return Content(role, suffix, tuple(files), size, digest.digest())


def blocks(files: Sequence[File]) -> Iterator[bytes | memoryview]:
    """The bytes of ``files``, each starting at a multiple of four."""
    end = 0
    for file in files:
        padding = -end % CPIO_ALIGN
        if padding:
            yield bytes(padding)
        end += padding + file.size
        yield from file.chunks()


def _told(data: Iterable[bytes | memoryview], progress: Progress) -> Iterator[bytes | memoryview]:
    """``data``, and word of how much of it went by."""
    for block in data:
        yield block
        progress.advance(len(block))


def write(root: str, contents: Sequence[Content], keep: Iterable[str], say: Callable[[str], None]) -> None:
    """Have ``contents`` as files in DIRECTORY of the ESP that is mounted at ``root``.

    Files named in ``keep`` stay whatever happens; others of ours make room.  Raises Refused.
    """
    directory = f"{root}/{DIRECTORY}"
    try:
        os.makedirs(directory, exist_ok=True)
        wanted = {one.name for one in contents}
        tidy(directory, {*keep, *wanted})
        missing = [one for one in contents if not _verified(f"{directory}/{one.name}", one)]
        need, free = sum(one.size for one in missing) + MARGIN, _free(directory)
        if missing and need > free:
            raise Refused(
                f"not enough room on the EFI system partition: {human(need)} needed, {human(free)} free"
                "; enlarge it, or remove what was staged before (python -m loader nvram clear)"
            )
        for one in missing:
            say(f"writing {DIRECTORY}/{one.name}, {human(one.size)}")
            put(directory, one.name, _told(blocks(one.files), Progress(f"writing {one.name}", one.size, say)))
        for one in contents:
            if not _verified(f"{directory}/{one.name}", one):
                raise Refused(f"{DIRECTORY}/{one.name} reads back different from what was written: the disk is failing")
    except FsError:  # some are OSErrors, too
        raise
    except OSError as error:
        raise Refused(f"writing to the EFI system partition: {explain(error)}") from error


def put(directory: str, name: str, data: Iterable[bytes | memoryview]) -> None:
    """Write a file whole or not at all.  Raises OSError."""
    temporary = f"{directory}/{name}{TEMPORARY}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        for block in data:
            rest = memoryview(block)
            while rest:
                rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, f"{directory}/{name}")
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    os.sync()  # FAT's tables belong to no file


def tidy(directory: str, keep: Iterable[str]) -> list[str]:
    """Remove our own files but those in ``keep``; returns what went.  Raises OSError."""
    kept = set(keep)
    gone = [name for name in os.listdir(directory) if name not in kept and _ours(name)]
    for name in gone:
        os.unlink(f"{directory}/{name}")
    return gone


def _ours(name: str) -> bool:
    return name.startswith(("linux-", "initrd-")) or name.endswith(TEMPORARY)


def _verified(path: str, wanted: Content) -> bool:
    """Whether the disk (not the page cache) holds at ``path`` what is wanted."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if os.fstat(fd).st_size != wanted.size:
            return False
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        from hashlib import sha256

        digest = sha256()
        while block := os.read(fd, CHUNK):
            digest.update(block)
        return digest.digest() == wanted.digest
    except OSError as error:
        if error.errno == errno.EIO:  # written anew, it may be remapped
            return False
        raise
    finally:
        os.close(fd)


def _free(path: str) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def explain(error: OSError) -> str:
    """errno's name and its meaning."""
    return f"{errno.errorcode.get(error.errno or 0, str(error.errno))}: {error.strerror}"
