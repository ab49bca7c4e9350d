"""Path A: load the root's kernel and initrd into the running kernel, and jump.

Kernel and initrd go piece by piece from the driver into a memfd each: there is no second copy of them here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from fsdrivers.bounds import around
from fsdrivers.errors import FsError, TooLarge
from fsdrivers.filesystem import File, Filesystem
from init import roots
from init.config import BootConfig, parse
from init.console.progress import Progress
from init.entries.entry import BootEntry
from init.kernel import image
from init.machine import syscalls
from init.machine.devices import human
from init.machine.meminfo import memory_available
from init.phases import CLOCK, LOAD, READ
from init.refused import Refused

# The kernel reads both memfds into buffers of its own and copies those to their destination before it frees them; there
# it also takes the pages of all that the unpacked kernel will fill: kernel/kexec_file.c:kimage_file_prepare_segments,
# kernel/kexec_core.c:kimage_load_normal_segment, v6.12.
BUFFERS = 2
MARGIN = 24 << 20  # bytes left for page tables, caches of the drivers and ourselves
LOADING = 2.5  # what the kernel's copies and SHA-256 take, in multiples of our own work on the same bytes (measured)
CPIO_ALIGN = 4  # bytes between concatenated initrds; init/initramfs.c:unpack_to_rootfs, v6.12

_ADVICE = {
    errno.ENOSYS: "the running kernel has no kexec: it needs CONFIG_KEXEC_FILE=y",
    errno.EPERM: "kexec is disabled: kernel lockdown (Secure Boot) or kernel.kexec_load_disabled=1; "
    "turn Secure Boot off, or boot with lockdown=none",
    errno.ENOKEY: "the kernel is signed with a key that is not trusted here: enrol it in the firmware's db, or sign "
    "the kernel with one that is",
    errno.EKEYREJECTED: "the kernel's signature is not trusted: sign it with an enrolled key, or turn Secure Boot off",
    errno.ENODATA: "the kernel is not signed and this machine insists on it: sign it, or turn Secure Boot off",
    errno.EBADMSG: "the kernel's signature is damaged: reinstall the kernel package",
    errno.ENOEXEC: "the running kernel does not know this kernel's format; it takes bzImage (x86_64) or Image (arm64)",
    errno.ENOMEM: "not enough memory for kernel and initrd: give the machine more, or make the initrd smaller",
    errno.EADDRNOTAVAIL: "no free memory at an address that the kernel can run from: give the machine more memory",
    errno.EINVAL: "the kernel image or the command line is not acceptable to the running kernel",
    errno.EBUSY: "another kexec is under way",
    errno.EFBIG: "kernel or initrd is larger than the running kernel accepts",
}


class TooLittleMemory(TooLarge):
    """Kernel and initrd do not fit into this machine's memory; sizes in bytes, ``unpacked`` that of the kernel."""

    def __init__(self, path: str, kernel: int, unpacked: int, initrd: int, need: int, free: int) -> None:
        super().__init__(path, need, free)
        size = human(kernel) + (f", unpacked {human(unpacked)}" if unpacked > kernel else "")
        self.args = (
            f"{human(need - free)} of memory are missing: to load {path} ({size}) and {human(initrd)} of "
            f"initrd takes {human(need)}, {human(free)} are free",
        )


def stage(entry: BootEntry, config: BootConfig, say: Callable[[str], None]) -> None:
    """Read ``entry``'s files and give them to the kernel.

    Raises Refused with advice, TooLarge when they do not fit into memory, or the driver's FsError.
    """
    reading = around(f"{entry.place.where}: reading kernel and initrd", (), large=True)
    with CLOCK.of(READ), reading:
        preflight(entry)
        files, parts = [entry.open_kernel(config.whole)], entry.open_initrds()
        size = sum(file.size for file in (*files, *parts))
        progress = Progress("reading kernel and initrd", size, say)
        kernel = load(files, progress)
        files.clear()  # it may hold an unwrapped kernel
    initrd = None
    try:
        with CLOCK.of(READ), reading:
            initrd = load(parts, progress) if parts else None
        if progress.slow:
            say(f"the kernel copies and checks {human(size)}, which takes roughly {progress.work(LOADING)} s")
        with CLOCK.of(LOAD):
            syscalls.kexec_file_load(kernel, initrd, entry.cmdline)
    except FsError:  # some of those are OSErrors, too
        raise
    except OSError as error:
        raise Refused(explain(error, entry)) from error
    finally:
        # The kernel has its own copy now, and the memory may be scarce.
        os.close(kernel)
        if initrd is not None:
            os.close(initrd)


def go() -> None:
    """Write back what is dirty and start the staged kernel."""
    os.sync()
    try:
        syscalls.reboot(syscalls.LINUX_REBOOT_CMD_KEXEC)
    except OSError as error:
        raise Refused(f"reboot(KEXEC): {_name(error)}: {error.strerror}") from error


def preflight(
    entry: BootEntry, available: int | None = None, machine: str | None = None, whole: bool = False
) -> list[str]:
    """Check what can be known before anything large is read; returns what was found, a line each.

    ``available`` is the free memory in bytes (default: this machine's), ``whole`` as BootConfig has it.

    Raises Refused, TooLarge, Unsupported, Corrupt, NotFound.
    """
    filesystem = entry.place.filesystem
    kernel = entry.open_kernel(whole)
    facts = image.identify(kernel, machine or os.uname().machine)
    initrds = entry.open_initrds()
    sizes = [kernel.size, *(file.size for file in initrds)]
    if initrds and not any(sizes[1:]):
        raise Refused(f"{', '.join(file.path for file in initrds)}: empty; the system could not find its root without")
    length = len(os.fsencode(entry.cmdline))
    if length > facts.cmdline_size:
        raise Refused(f"the command line has {length} bytes, {entry.kernel} takes {facts.cmdline_size}")
    init = check_init(filesystem, entry.cmdline)
    need = sum(sizes) * BUFFERS + facts.memory + sum(sizes[1:]) + MARGIN
    free = memory_available() if available is None else available
    if free and need > free:
        raise TooLittleMemory(entry.kernel, sizes[0], facts.memory, sum(sizes[1:]), need, free)
    return [f"{facts.format} {facts.version}".rstrip(), f"{human(sum(sizes))} to read", f"init {init}"]


def check_init(filesystem: Filesystem, cmdline: str) -> str:
    """The init that the root has; raises Refused when it has none."""
    asked = next((value for name, value in parse(cmdline) if name == "init" and value), "")
    path = roots.init_path(filesystem, asked)
    if path is not None:
        return path
    # In a tree of its own, where what asks for it leads to is not here to be seen: /usr, or NixOS's /nix.
    where = (roots.elsewhere(filesystem, asked) if asked else "") or roots.elsewhere(filesystem, "/usr")
    if not where:
        raise Refused(f"the root has no init: {asked or ', '.join(roots.INITS)} not found")
    return f"somewhere in a separate {where}"


def load(files: Sequence[File], progress: Progress | None = None) -> int:
    """A memfd with ``files`` one after the other, each at a multiple of four bytes."""
    fd = os.memfd_create(os.path.basename(files[0].path).encode("ascii", "replace").decode(), os.MFD_CLOEXEC)
    try:
        end = 0
        for file in files:
            start = -(-end // CPIO_ALIGN) * CPIO_ALIGN
            end = start + _copy(file, fd, start, progress)
        os.ftruncate(fd, end)  # the last piece may be a hole
    except BaseException as error:
        os.close(fd)
        if isinstance(error, OSError) and not isinstance(error, FsError):
            raise Refused(f"{files[0].path} into memory: {_name(error)}: {error.strerror}") from error
        raise
    return fd


def _copy(file: File, fd: int, start: int, progress: Progress | None) -> int:
    """Write ``file`` to ``fd`` at ``start``, leaving its holes as holes; returns its size in bytes."""
    for piece in file.pieces():
        if progress is not None:
            progress.advance(piece.length)
        if piece.data is None:
            continue
        rest, position = memoryview(piece.data), start + piece.offset
        while rest:
            written = os.pwrite(fd, rest, position)
            rest, position = rest[written:], position + written
    return file.size


def explain(error: OSError, entry: BootEntry) -> str:
    """Which call refused which object with which errno, and what to do about it."""
    advice = _ADVICE.get(error.errno or 0, "")
    return f"kexec_file_load of {entry.kernel}: {_name(error)}: {error.strerror}" + (f"; {advice}" if advice else "")


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error.errno))
