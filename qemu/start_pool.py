"""The small pool on which the build starts each program that it has made: ``artefacts/start.btrfs.zst``.

    python -m qemu.start_pool        make it anew, with mkfs.btrfs of Debian 13

On it is what the program's C modules are for: xxhash64 over all blocks, crc32c over names, extents in zstd.
artefacts/started.py holds what the program has to say of it.
"""

from __future__ import annotations

import os
import struct
import sys
import tempfile
from pathlib import Path

import zstandard

from artefacts import cache, debian, started
from artefacts.steps import BuildError, replace, run, short

_RELEASE = 'ID=poolboot\nPRETTY_NAME="a system to start with"\n'


def make() -> None:
    """Write the pool.  Raises artefacts.steps.BuildError."""
    tree = debian.packages("trixie", ["btrfs-progs"])
    with tempfile.TemporaryDirectory(prefix="poolboot-start-") as scratch:
        system, image = Path(scratch, "system"), Path(scratch, "pool")
        _system(system)
        image.touch()
        os.truncate(image, started.POOL_SIZE)
        loader = (tree / "usr/lib64/ld-linux-x86-64.so.2", "--library-path", tree / "usr/lib/x86_64-linux-gnu")
        options = ("--mixed", "--csum", "xxhash", "--label", "start", "--compress", "zstd:15", "--rootdir", system)
        command: list[str | Path] = [*loader, tree / "usr/sbin/mkfs.btrfs", *options, image]
        run(command, log=cache.root() / "debian" / "start-pool.log")
        packed = zstandard.ZstdCompressor(level=19, write_checksum=True).compress(image.read_bytes())
    replace(started.POOL, packed)
    print(f"{short(started.POOL)}  {len(packed):,} bytes")


def _system(tree: Path) -> None:
    """The least that is an installed system to poolboot."""
    for directory in ("boot", "etc", "usr/sbin"):
        (tree / directory).mkdir(parents=True)
    (tree / "etc/os-release").write_text(_RELEASE)
    (tree / "usr/sbin/init").write_text("#!/bin/sh\n")
    (tree / "usr/sbin/init").chmod(0o755)
    (tree / "sbin").symlink_to("usr/sbin")
    (tree / "boot/vmlinuz-6.12.1").write_bytes(_kernel())
    (tree / "boot/initrd.img-6.12.1").write_bytes(b"070701" + b"0" * 104)


def _kernel() -> bytes:
    """What looks like a bzImage; no machine can start it.  Source: Documentation/arch/x86/boot.rst, v6.12."""
    version = b"6.12.1 (build@start)\0"
    image = bytearray(5 * 512) + b"code that is never run; " * 2000
    image[0x1F1] = 4  # setup_sects
    struct.pack_into("<I", image, 0x1F4, (len(image) - 5 * 512) // 16)  # syssize
    image[0x1FE:0x206] = b"\x55\xaa\xeb\x6aHdrS"  # boot_flag, jump, header
    struct.pack_into("<H", image, 0x206, 0x20F)  # protocol version 2.15
    struct.pack_into("<H", image, 0x20E, 0x300 - 0x200)  # kernel_version
    image[0x211] = 1  # loadflags: LOADED_HIGH
    struct.pack_into("<I", image, 0x230, 0x200000)  # kernel_alignment
    image[0x234] = 1  # relocatable_kernel
    struct.pack_into("<HI", image, 0x236, 1, 2047)  # xloadflags: XLF_KERNEL_64, cmdline_size
    struct.pack_into("<QI", image, 0x258, 0x1000000, 0x100000)  # pref_address, init_size
    image[0x300 : 0x300 + len(version)] = version
    return bytes(image)


if __name__ == "__main__":
    try:
        make()
    except BuildError as error:
        sys.exit(f"qemu: error: {error}")
