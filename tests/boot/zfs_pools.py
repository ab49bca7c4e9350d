"""The bootable pools in tests/images/zfs/boot.tar.zst: small systems that the real OpenZFS wrote.

    python -m tests.boot.zfs_pools      makes them again

The kernel on them is the one of kernel-config (its source is Debian's linux-source package), the initrd is
qemu.layouts': a busybox whose init tells how it was started.  One archive for all, since they differ in little more
than parity.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from pathlib import Path

import zstandard

from artefacts import kernel_build
from qemu import layouts

ARCHIVE = Path(__file__).parents[1] / "images/zfs/boot.tar.zst"
WINDOW_LOG = 27


def make() -> None:
    """Have the workshop make the pools, and pack their disks with the manifests."""
    made = layouts.zfs(kernel_build.build().image)
    with tempfile.TemporaryDirectory() as scratch:
        stage = Path(scratch) / "pools"
        stage.mkdir()
        (stage / "manifests").symlink_to(made.out / "manifests")
        for name, (first, last) in layouts.ZFS.items():
            for number, disk in enumerate(made.disks[first:last]):
                (stage / f"{name}-{number}.img").symlink_to(disk)
        command = ["tar", "-C", stage, "-Sch", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "."]
        tar = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    parameters = zstandard.ZstdCompressionParameters.from_level(19, window_log=WINDOW_LOG, enable_ldm=True)
    ARCHIVE.write_bytes(zstandard.ZstdCompressor(compression_params=parameters).compress(tar))


def unpack(directory: Path) -> dict[str, list[Path]]:
    """Unpack into ``directory``; the disks of each pool, in order.  The manifests are in ``directory``/manifests."""
    reader = zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG)
    with tarfile.open(fileobj=reader.stream_reader(io.BytesIO(ARCHIVE.read_bytes())), mode="r|") as tar:
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4
            tar.extraction_filter = tarfile.data_filter
        tar.extractall(directory)
    return {name: sorted(directory.glob(f"{name}-*.img")) for name in layouts.ZFS}


if __name__ == "__main__":
    make()
    print(f"{ARCHIVE}: {ARCHIVE.stat().st_size} bytes")
