"""btrfs with a raid-stripe-tree: made once, by hand, and kept in ``tests/images/btrfs`` as archives.

    python tests/images/btrfs_stripe_recipes.py        makes them anew: 15 minutes, and what `apt` lists below

Debian's tools and kernels refuse the feature, so this compiles both from Debian's sources (trixie): mkfs.btrfs of
btrfs-progs, configured with --enable-experimental, in a throw-away root of mmdebstrap; and the project's slim kernel with
kernel-config/stripe-tree.config on top.  A workshop guest then makes the filesystems; that very kernel writes the files
and says afterwards what it sees.  Needs: mmdebstrap, what `build.py kernel` needs, qemu-system-x86, zstd.

Each archive holds the disks (disk0.raw ...), sparse, and the kernel's view as ``qemu.manifest`` reads it.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import zstandard

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from btrfs_recipes import Layout  # noqa: E402

from artefacts import cache, debian, kernel_build  # noqa: E402
from artefacts.steps import run, step  # noqa: E402
from qemu import workshop  # noqa: E402
from qemu.workshop import MIB, Recipe  # noqa: E402

ARCHIVES = HERE / "btrfs"
SUITE = "trixie"
# Kernel 6.12 keeps in the tree what is data and has any of these profiles (RAID5 and RAID6 it does not mount with it).
LAYOUTS = (
    Layout("stripes-raid0", 3, "-d raid0 -m raid1"),
    Layout("stripes-raid1", 2, "-d raid1 -m raid1", "compress-force=zstd", 1),
    Layout("stripes-raid1c3", 3, "-d raid1c3 -m raid1c3", "compress-force=lzo", 2),
    Layout("stripes-raid10", 4, "-d raid10 -m raid1c3", tolerated=1),
    Layout("stripes-dup", 1, "-d dup -m dup -n 4096"),
    Layout("stripes-single", 1, "-d single -m dup"),
)

_BUILD_PACKAGES = (
    "gcc", "make", "libc6-dev", "pkg-config", "uuid-dev", "libblkid-dev", "libudev-dev", "libzstd-dev", "liblzo2-dev",
    "zlib1g-dev", "dpkg-dev", "autoconf", "automake",
)  # fmt: skip
_BUILD = """
sed -n "s/^deb /deb-src /p" /etc/apt/sources.list >/etc/apt/sources.list.d/source.list
cd /root
apt-get -q update
apt-get -q source --tar-only --download-only btrfs-progs
tar -xf btrfs-progs_*.orig.tar.*
cd btrfs-progs-*/
./autogen.sh
./configure --enable-experimental --disable-documentation --disable-convert --disable-python --disable-zoned
make mkfs.btrfs
cp mkfs.btrfs /root
"""

_SCRIPT = r"""
chmod 755 /in/mkfs.btrfs
fill() (
    cd "$1"
    mkdir -p dir/below
    head -c 300123 /dev/urandom >random
    seq 1 60000 >text
    for i in $(seq 40); do head -c $((i * 577)) /dev/urandom >dir/file$i; done
    sync
    # Old extents with holes in the middle, and ends of extents that nothing uses any more.
    dd if=/dev/urandom of=random bs=1000 seek=77 count=50 conv=notrunc status=none
    seq 7 9000 | dd of=text bs=100003 seek=1 conv=notrunc status=none
    fallocate -p -o 131072 -l 65536 text
    fallocate -l 400000 space
    sync
    dd if=/dev/urandom of=space bs=4096 seek=20 count=9 conv=notrunc status=none
    cp --reflink=always text clone
    rm dir/file3? dir/file7
    truncate -s 200007 random
    ln -s dir/file9 link
    : >plain
    chattr +C plain
    head -c 150000 /dev/urandom >>plain
    sync
    seq 1 50000 >dir/below/later
    btrfs -q subvolume snapshot . snapshot
    rm dir/file2?
)
make() { # NAME "DISKS" "MKFS" MOUNT
    local first=${2%% *}
    echo "making $1"
    /in/mkfs.btrfs -q -f -O raid-stripe-tree -L $1 $3 $2
    btrfs device scan $2 >/dev/null
    mount -o $4 $first /mnt; fill /mnt; umount /mnt
    mount -o ro $first /mnt; manifest /mnt $1; umount /mnt
    btrfs inspect-internal dump-super $first >/out/$1.super
    btrfs inspect-internal dump-tree -t 12 $first >/out/$1.tree || true
}
"""


def mkfs() -> Path:
    """mkfs.btrfs of SUITE with its experimental features, compiled when not cached.  Raises BuildError."""
    key = cache.key(SUITE, _BUILD, _BUILD_PACKAGES)
    log = cache.root() / "btrfs-progs" / f"{key}.log"

    def fill(work: Path) -> None:
        with step("compiling mkfs.btrfs with its experimental features", log):
            command = [
                "mmdebstrap",
                "--variant=apt",
                f"--include={','.join(_BUILD_PACKAGES)}",
                f"--customize-hook=chroot \"$1\" sh -exc '{_BUILD}'",
                f"--customize-hook=copy-out /root/mkfs.btrfs {work}",
                "--format=null",
                SUITE,
                os.devnull,
            ]
            run(command, log=log, hint="apt install mmdebstrap uidmap debian-archive-keyring; then see the log")

    return cache.entry("btrfs-progs", key, fill) / "mkfs.btrfs"


def kernel() -> debian.Kernel:
    """The slim kernel of SUITE with btrfs and what is experimental in it.  Raises BuildError."""
    built = kernel_build.build(SUITE, extra=[kernel_build.FRAGMENTS / "stripe-tree.config"])
    names = (*workshop.BASE_MODULES, "btrfs")

    def fill(work: Path) -> None:
        (work / "modules.builtin").write_text("".join(f"kernel/{name}.ko\n" for name in names))

    modules = cache.entry("kernel", f"{built.image.parent.name}-builtin", fill)
    return debian.Kernel(built.image, modules, built.release)


def make() -> list[Path]:
    """Make all LAYOUTS and pack them; the archives.  Raises RecipeError, BuildError."""
    lines, first = [], 0
    for layout in LAYOUTS:
        disks = " ".join(f"/dev/vd{chr(ord('a') + first + number)}" for number in range(layout.disks))
        lines.append(f'make {layout.name} "{disks}" "{layout.mkfs}" {layout.mount}')
        first += layout.disks
    recipe = Recipe(
        "btrfs-stripes",
        "\n".join([_SCRIPT, *lines, ""]),
        disks=(256 * MIB,) * first,
        suite=SUITE,
        inputs=(mkfs(),),
        packages=("btrfs-progs", "e2fsprogs"),
        kernel=kernel(),
        timeout=1200,
    )
    made = workshop.make(recipe)
    disks, archives = list(made.disks), []
    for layout in LAYOUTS:
        archives.append(_pack(layout, disks[: layout.disks], made.out))
        del disks[: layout.disks]
    return archives


def _pack(layout: Layout, disks: list[Path], out: Path) -> Path:
    """One archive: the disks as disk0.raw ..., and what the guest said of ``layout``."""
    ARCHIVES.mkdir(exist_ok=True)
    target = ARCHIVES / f"{layout.name}.tar.zst"
    said = [path for path in sorted(out.glob(f"{layout.name}.*")) if path.suffix != ".tree"]
    renames = [f"--transform=s,^{disk.name}$,disk{number}.raw," for number, disk in enumerate(disks)]
    command = ["tar", "--sparse", "--owner=0", "--group=0", "--mtime=@0", "-cf", "-", *renames]
    command += ["-C", str(disks[0].parent), *(disk.name for disk in disks), "-C", str(out), *(p.name for p in said)]
    compress(command, target, 19)
    return target


def compress(command: list[str], target: Path, level: int) -> None:
    """Write what tar (``command``) packs to ``target``, as unpack() reads it.  Raises CalledProcessError."""
    with target.open("wb") as sink, subprocess.Popen(command, stdout=subprocess.PIPE) as packing:
        subprocess.run(["zstd", f"-{level}", "--long=27", "-q", "-c"], stdin=packing.stdout, stdout=sink, check=True)
    if packing.returncode:
        raise subprocess.CalledProcessError(packing.returncode, command)


def unpack(name: str, directory: Path) -> list[Path]:
    """Unpack the archive ``name`` into ``directory``; the disks, in order."""
    data = (ARCHIVES / f"{name}.tar.zst").read_bytes()
    stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(io.BytesIO(data))
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4
            tar.extraction_filter = tarfile.data_filter
        tar.extractall(directory)
    return sorted(directory.glob("disk*.raw"))


if __name__ == "__main__":
    for made in make():
        print(made, made.stat().st_size)
