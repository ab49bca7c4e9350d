"""The small pools in tests/images/zfs: how the real OpenZFS made each of them.

    PYTHONPATH=. python tests/images/zfs_recipes.py [NAME ...]       makes (again) the named pools, or all of them

Each archive holds the members of one pool (d0.img, d1.img ...) and in ``manifests`` the real driver's view of every
dataset and snapshot.  The members are sparse files of a guest, so that archives stay small; a pool's paths are
those of the guest.
"""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import zfs_matrix
import zfs_scripts
import zstandard

from artefacts import debian
from qemu import workshop, zfs

ARCHIVES = Path(__file__).parent / "zfs"

# Every script finds: members N [SIZE] (makes d0.img .. and sets $D to their names), fill DIR [KIB] (makes files of many
# kinds), finish POOL (writes the manifests of all datasets and exports).
LIBRARY = r"""
mkdir -p /out/pool /mnt/a; cd /out/pool
param() { echo "$2" >/sys/module/zfs/parameters/$1; }
while read -r name value; do
    test ! -e /sys/module/zfs/parameters/$name || param $name $value  # a pool before this one may have set it
done <<END
metaslab_force_ganging 16777217
raidz_expand_max_reflow_bytes 0
zap_micro_max_size 131072
zfs_async_block_max_blocks 18446744073709551615
zfs_default_ibs 17
zfs_rebuild_scrub_enabled 1
zfs_resilver_defer_percent 10
zfs_scan_suspend_progress 0
END
CREATE="zpool create -O mountpoint=legacy -o cachefile=none"
members() {
    local number; D=
    for number in $(seq 0 $(($1 - 1))); do truncate -s ${2:-64M} d$number.img; D="$D $PWD/d$number.img"; done
    set -- $D; D0=$1; D1=${2-}; D2=${3-}; D3=${4-}; D4=${5-}; D5=${6-}; D6=${7-}; D7=${8-}
}
text() { seq -f 'line %.0f of some text that compresses' 1 100000 2>/dev/null | head -c $1 || true; }
fill() {  # fill DIR [KIB of random data]
    mkdir -p "$1/dir/deep/er" "$1/etc" "$1/usr"
    : >"$1/empty"
    text 1 >"$1/one"; text 100 >"$1/hundred"; text 511 >"$1/b511"; text 512 >"$1/b512"; text 513 >"$1/b513"
    text 131073 >"$1/text128k+1"; text 300000 >"$1/dir/text"
    head -c $((${2:-160} * 1024)) /dev/urandom >"$1/random"
    head -c 5000 /dev/zero >"$1/zeros"; printf 'x' | dd of="$1/tail" bs=1 seek=700000 status=none
    truncate -s 900000 "$1/tail"
    (text 4000; head -c 200000 /dev/zero; text 3000) >"$1/holes"
    ln -s one "$1/link"; ln -s "$(printf 'd/%.0s' $(seq 300))end" "$1/longlink"; ln -s ../../one "$1/dir/deep/up"
    ln "$1/random" "$1/dir/hardlink"
    mknod "$1/char" c 10 200; mknod "$1/block" b 259 70000; mkfifo "$1/fifo"
    echo x >"$1/dir/deep/er/$(printf '\303\244\377\n')"
    touch -d @-12345.678 "$1/one"; chmod 4751 "$1/one"; chown 4000000000:4000000001 "$1/hundred"; chmod 1777 "$1/dir"
}
finish() {
    local name
    zpool sync $1
    for name in $(zfs list -rH -o name -t filesystem,snapshot $1); do
        if mount -t zfs $name /mnt/a 2>/dev/null; then zmanifest $name /mnt/a; umount /mnt/a; fi
    done
    zpool export $1
}
freeze() {  # freeze POOL DATASET (mounted at /mnt/a): from here on everything is in the intent log alone
    dd if=/dev/zero of=/mnt/a/sync conv=fdatasync,fsync bs=1 count=1 status=none  # a frozen pool can start no log
    zpool sync $1; zpool freeze $1
}
crash() {  # crash POOL DATASET: keep the members as they are now
    local file
    sync -f /mnt/a; for file in /mnt/a/* /mnt/a/*/*; do test -f "$file" && sync "$file"; done || true
    zmanifest $2 /mnt/a
    mkdir /out/copy; cp --sparse=always $D /out/copy
    umount /mnt/a; zpool export $1 || true
    mv /out/copy/* /out/pool/; rmdir /out/copy
}
send() { mv /out/manifests /out/pool/; tar -S -C /out/pool -cf /out/$1.tar .; cd /; rm -r /out/pool; }
"""

CREATE = "zpool create -O mountpoint=legacy -o cachefile=none"


class Pool(NamedTuple):
    """One archive: what the guest runs, and which OpenZFS does (bookworm: 2.1, trixie: 2.3)."""

    script: str
    suite: str = "bookworm"
    disks: int = 0  # that the script needs besides files


POOLS = {
    "single": Pool(rf"""
members 1
{CREATE} -o ashift=9 tank $D
mount -t zfs tank /mnt/a; fill /mnt/a
zfs snapshot tank@one; rm /mnt/a/random; mv /mnt/a/dir /mnt/a/renamed; text 70000 >/mnt/a/b512; zfs snapshot tank@two
rm -r /mnt/a/renamed; umount /mnt/a
finish tank"""),
    "codecs": Pool(rf"""
members 1
{CREATE} tank $D
for codec in off lzjb gzip-1 gzip-6 gzip-9 zle lz4 zstd zstd-19 zstd-fast-10 on; do
    zfs create -o compression=$codec tank/$codec; mount -t zfs tank/$codec /mnt/a
    text 200000 >/mnt/a/text; text 300 >/mnt/a/small; (text 9000; head -c 9000 /dev/zero; text 9000) >/mnt/a/mixed
    text 30000 | tr 'a-z' 'n-za-m' >/mnt/a/rot; head -c 3000 /dev/urandom >/mnt/a/random; umount /mnt/a
done
finish tank"""),
    "checksums": Pool(rf"""
members 1
{CREATE} -O compression=off tank $D
for sum in off fletcher2 fletcher4 sha256 sha512 skein edonr; do
    zfs create -o checksum=$sum tank/$sum; mount -t zfs tank/$sum /mnt/a
    text 150000 >/mnt/a/text; text 513 >/mnt/a/small; text 3000 >/mnt/a/medium; umount /mnt/a
done
finish tank"""),
    "records": Pool(rf"""
param zfs_max_recordsize 16777216
members 1 128M
{CREATE} -O compression=lz4 tank $D
text 1500000 >/root/text
for size in 512 4K 32K 1M 16M; do
    zfs create -o recordsize=$size tank/$size; mount -t zfs tank/$size /mnt/a
    head -c 200000 /root/text >/mnt/a/text; head -c 700 /root/text >/mnt/a/small
    printf end >/mnt/a/sparse; truncate -s 20000000 /mnt/a/sparse; printf end >>/mnt/a/sparse; umount /mnt/a
done
zfs create -o recordsize=16M tank/large; mount -t zfs tank/large /mnt/a
for number in {{1..14}}; do cat /root/text; done >/mnt/a/large; umount /mnt/a
for size in auto 1k 2k 16k; do
    zfs create -o dnodesize=$size -o xattr=sa tank/dn$size; mount -t zfs tank/dn$size /mnt/a
    for name in {{1..20}}; do echo $name >/mnt/a/$name; done; ln -s "$(printf 'd/%.0s' {{1..400}})" /mnt/a/link
    setfattr -n user.large -v "$(printf 'v%.0s' {{1..1500}})" /mnt/a/1; umount /mnt/a
done
finish tank"""),
    "mirror": Pool(rf"""
members 3
{CREATE} -o ashift=12 tank mirror $D
mount -t zfs tank /mnt/a; fill /mnt/a; umount /mnt/a
finish tank"""),
    "raidz1": Pool(rf"""
members 3
{CREATE} -o ashift=12 tank raidz1 $D
mount -t zfs tank /mnt/a; fill /mnt/a 100; text 3000000 >/mnt/a/long
for number in $(seq 40); do text $((number * 997)) >/mnt/a/n$number; done
umount /mnt/a
finish tank"""),
    "raidz2": Pool(rf"""
members 5
{CREATE} -o ashift=9 tank raidz2 $D
mount -t zfs tank /mnt/a; fill /mnt/a 100; text 2000000 >/mnt/a/long; umount /mnt/a
finish tank"""),
    "raidz3": Pool(rf"""
members 6
{CREATE} -o ashift=12 tank raidz3 $D
mount -t zfs tank /mnt/a; fill /mnt/a 100; umount /mnt/a
finish tank"""),
    "mixed": Pool(rf"""
members 8
{CREATE} -f -O special_small_blocks=4K tank mirror $D0 $D1 raidz1 $D2 $D3 $D4 special $D5 log $D6 cache $D7
mount -t zfs tank /mnt/a; fill /mnt/a; umount /mnt/a
finish tank"""),
    "removed": Pool(rf"""
members 3 192M
{CREATE} -o ashift=12 tank $D
zfs create tank/a; mount -t zfs tank/a /mnt/a; fill /mnt/a
umount /mnt/a; zfs snapshot tank/a@before
zpool remove -w tank $D0
mount -t zfs tank/a /mnt/a; text 40000 >/mnt/a/after; umount /mnt/a

finish tank"""),
    "replacing": Pool(rf"""
members 6
{CREATE} tank raidz1 $D0 $D1 $D2
mount -t zfs tank /mnt/a; fill /mnt/a
param zfs_scan_suspend_progress 1
zpool replace tank $D0 $D3
text 50000 >/mnt/a/during; umount /mnt/a
finish tank"""),
    # On partitions: zpool does not take a file for the spare that it is.
    "spare": Pool(rf"""
zpart; D0=${{DISK[0]}}; D1=${{DISK[1]}}; D2=${{DISK[2]}}; D3=${{DISK[3]}}
{CREATE} tank mirror $D0 $D1 spare $D2 $D3
mount -t zfs tank /mnt/a; fill /mnt/a
zpool offline -f tank $D0
zpool replace tank $D0 $D2
text 50000 >/mnt/a/during; umount /mnt/a
finish tank
for number in {{0..3}}; do dd if=${{DISK[$number]}} of=d$number.img bs=1M conv=sparse status=none; done""", disks=4),
    "version28": Pool(rf"""
members 3
{CREATE} -o version=28 tank raidz1 $D
for version in 1 3 4 5; do
    zfs create -o version=$version tank/v$version; mount -t zfs tank/v$version /mnt/a; fill /mnt/a 20
    setfattr -n user.name -v value /mnt/a/one || true; umount /mnt/a
done
finish tank"""),
    "version1": Pool(r"""
members 2
zpool create -f -o version=1 -o cachefile=none -m legacy tank mirror $D
mount -t zfs tank /mnt/a; fill /mnt/a 40; umount /mnt/a
finish tank"""),
    "plain5000": Pool(rf"""
members 1
{CREATE} -d tank $D
mount -t zfs tank /mnt/a; fill /mnt/a 40; umount /mnt/a
finish tank"""),
    "datasets": Pool(rf"""
members 1
{CREATE} -O compression=lz4 tank $D
zfs create -o mountpoint=none tank/ROOT
zfs create -o mountpoint=/ -o canmount=noauto tank/ROOT/debian
zfs create -o mountpoint=/home tank/home; zfs create tank/home/user; zfs create -V 8M tank/volume
mount -t zfs -o zfsutil tank/ROOT/debian /mnt/a; fill /mnt/a 10; zfs snapshot tank/ROOT/debian@before
text 999 >/mnt/a/new; zfs snapshot tank/ROOT/debian@after; umount /mnt/a
zfs clone -o canmount=noauto -o mountpoint=/ tank/ROOT/debian@before tank/ROOT/clone
mount -t zfs -o zfsutil tank/ROOT/clone /mnt/a; text 555 >/mnt/a/of-the-clone; umount /mnt/a
zfs clone tank/ROOT/debian@after tank/ROOT/promoted; zfs promote tank/ROOT/promoted
zfs set org.zfsbootmenu:commandline="quiet loglevel=4" tank/ROOT
zfs set org.zfsbootmenu:active=off tank/ROOT/clone
zpool set bootfs=tank/ROOT/debian tank
mount -t zfs tank/home/user /mnt/a 2>/dev/null && umount /mnt/a
for name in tank/ROOT/debian tank/ROOT/clone tank/ROOT/promoted tank/home tank/home/user; do
    mount -t zfs -o zfsutil $name /mnt/a; zmanifest $name /mnt/a; umount /mnt/a
done
for name in tank/ROOT/promoted@before tank/ROOT/promoted@after; do
    mount -t zfs $name /mnt/a; zmanifest $name /mnt/a; umount /mnt/a
done
zpool export tank"""),
    "names": Pool(rf"""
members 1
{CREATE} -O compression=lz4 tank $D
zfs create -o casesensitivity=insensitive tank/insensitive; zfs create -o casesensitivity=mixed tank/mixed
zfs create -o normalization=formD -o utf8only=on tank/formd
for kind in insensitive mixed formd; do
    mount -t zfs tank/$kind /mnt/a
    for name in README readme.txt "$(printf 'caf\303\251')" "$(printf 'e\314\201')" Dir; do echo $name >"/mnt/a/$name"; done
    mkdir /mnt/a/many; for number in $(seq 100); do : >"/mnt/a/many/A-Rather-Long-Name-For-A-Fat-Zap-$number-$(printf 'Z%.0s' $(seq 30))"; done
    umount /mnt/a
done
zfs create tank/large; mount -t zfs tank/large /mnt/a; mkdir /mnt/a/links; tail=$(printf 'long%.0s' $(seq 12))
for number in {{1..1500}}; do : >/mnt/a/links/$number-$tail; done; umount /mnt/a
finish tank"""),
    "xattrs": Pool(rf"""
members 1
{CREATE} -O compression=lz4 -O acltype=posixacl tank $D
for kind in sa on; do
    zfs create -o xattr=$kind tank/$kind; mount -t zfs tank/$kind /mnt/a; mkdir /mnt/a/dir; ln -s dir /mnt/a/link
    for size in 1 50 200 3000 20000; do
        : >/mnt/a/x$size; setfattr -n user.size -v "$(text $size)" /mnt/a/x$size
        setfattr -n user.second -v "0sAAEC/w==" /mnt/a/x$size; setfattr -n trusted.third -v "" /mnt/a/x$size
    done
    setfacl -m u:1000:rwx,g:100:r /mnt/a/x1 /mnt/a/dir; setfacl -d -m u:7:rx /mnt/a/dir; : >/mnt/a/dir/inherits
    ln -s "$(printf 'long/%.0s' $(seq 60))" /mnt/a/longlink; setfattr -h -n trusted.onlink -v yes /mnt/a/longlink
    chattr -p 42 /mnt/a/x50 2>/dev/null || zfs project -s -p 42 /mnt/a/x50
    (cd /mnt/a; getfattr -R -h -P -d -m - -e hex .) >/out/pool/xattrs-$kind.txt
    umount /mnt/a
done
finish tank"""),
    # A target may stand among the attributes, behind them, in a spill block or in the object, and be of any length.
    "symlinks": Pool(rf"""
members 1
{CREATE} -o version=28 tank $D
for version in 4 5; do
    zfs create -o version=$version tank/v$version; mount -t zfs tank/v$version /mnt/a
    for length in {{1..300}} 511 512 513 1000 4000; do ln -s "$(printf "%0${{length}}d" $length | tr 0 /)" /mnt/a/l$length; done
    umount /mnt/a
done
finish tank"""),
    # OpenZFS 2.1 makes gang blocks of three in a hundred of those above the limit.
    "gang": Pool(rf"""
members 2
{CREATE} -O compression=off -O recordsize=16K -o ashift=12 tank mirror $D
param metaslab_force_ganging 8193
mount -t zfs tank /mnt/a; fill /mnt/a 60; text 4000000 >/mnt/a/long; umount /mnt/a
finish tank"""),
    "gangz": Pool(rf"""
members 3
{CREATE} -O compression=off -O recordsize=16K -o ashift=12 tank raidz1 $D
param metaslab_force_ganging 4097
mount -t zfs tank /mnt/a; fill /mnt/a 60; text 4000000 >/mnt/a/long; umount /mnt/a
finish tank"""),
    "encrypted": Pool(rf"""
members 1
{CREATE} tank $D
zfs create tank/plain; mount -t zfs tank/plain /mnt/a; text 3000 >/mnt/a/plain; umount /mnt/a
echo passphrase | zfs create -o encryption=aes-256-gcm -o keyformat=passphrase -o keylocation=prompt tank/pass
head -c 32 /dev/zero >/root/key
zfs create -o encryption=aes-128-ccm -o keyformat=raw -o keylocation=file:///root/key tank/raw
zfs create tank/raw/child
mount -t zfs tank/raw/child /mnt/a; text 3000 >/mnt/a/secret; umount /mnt/a
finish tank/plain || true
mount -t zfs tank/plain /mnt/a; zmanifest tank/plain /mnt/a; umount /mnt/a
zpool export tank"""),
    "sectors": Pool(rf"""
members 5
{CREATE} -o ashift=16 tank raidz1 $D0 $D1 $D2
zpool add -o ashift=13 -f tank mirror $D3 $D4
mount -t zfs tank /mnt/a; fill /mnt/a 60; umount /mnt/a
finish tank"""),
    "copies": Pool(rf"""
members 2
{CREATE} -O copies=3 -O compression=lz4 tank $D
mount -t zfs tank /mnt/a; fill /mnt/a 40; umount /mnt/a
finish tank"""),
    "draid": Pool(rf"""
members 6 192M
{CREATE} tank draid1:2d:6c:1s $D
mount -t zfs tank /mnt/a; fill /mnt/a 100; umount /mnt/a
finish tank"""),
    "features": Pool(rf"""
members 1
{CREATE} tank $D
zfs create tank/a; mount -t zfs tank/a /mnt/a; fill /mnt/a 40; text 200000 >/mnt/a/secret; umount /mnt/a
zfs snapshot tank/a@one; zfs clone tank/a@one tank/clone
mount -t zfs tank/clone /mnt/a; text 200000 | tr a-z n-za-m >/mnt/a/secret; umount /mnt/a; zfs snapshot tank/clone@changed
zfs redact tank/a@one book tank/clone@changed
zfs send --redact book tank/a@one | zfs receive -u tank/redacted
zfs bookmark tank/a@one tank/a#mark; zfs set filesystem_limit=20 tank; zpool checkpoint tank
finish tank"""),
    "log": Pool(rf"""
members 2
{CREATE} -O compression=lz4 tank mirror $D
zfs create tank/a; mount -t zfs tank/a /mnt/a; fill /mnt/a 20; zfs create tank/b
dd if=/dev/zero of=/mnt/a/sync conv=fdatasync,fsync bs=1 count=1 status=none  # a frozen pool can start no log
zpool sync tank; zpool freeze tank
text 20000 >/mnt/a/written; mkdir /mnt/a/made; mv /mnt/a/one /mnt/a/made/moved; rm /mnt/a/hundred; ln -s to /mnt/a/pointer
ln /mnt/a/b511 /mnt/a/made/hard; truncate -s 100 /mnt/a/text128k+1; chmod 600 /mnt/a/b513; chown 1:2 /mnt/a/b513
mkdir /mnt/a/gone; rmdir /mnt/a/gone; mknod /mnt/a/null c 1 3; setfattr -n user.logged -v yes /mnt/a/b512
(text 3000; head -c 300000 /dev/urandom) >/mnt/a/large; printf XYZ | dd of=/mnt/a/dir/text bs=1 seek=1000 conv=notrunc status=none
sync -f /mnt/a; for file in /mnt/a/* /mnt/a/*/*; do test -f "$file" && sync "$file"; done || true
zmanifest tank/a /mnt/a
mkdir /out/copy; cp --sparse=always $D /out/copy
umount /mnt/a; zpool export tank || true
mv /out/copy/* /out/pool/"""),
}  # fmt: skip

POOLS.update({name: Pool(script) for name, script in zfs_scripts.STATES.items()})
POOLS["partitions"] = POOLS["partitions"]._replace(disks=2)
POOLS.update({name: Pool(zfs_scripts.foreign(name)) for name in zfs_scripts.FOREIGN})
POOLS.update({name: Pool(script, "trixie") for name, script in zfs_scripts.MODERN.items()})
POOLS.update({name: Pool(zfs_matrix.script(*chosen), chosen[1]) for name, chosen in zfs_matrix.POOLS.items()})
VERSIONS = zfs_matrix.VERSIONS


def make(names: Sequence[str]) -> list[Path]:
    """Make the pools ``names`` (of one suite) in one guest and pack them; returns the archives."""
    script = "cat >/root/library.sh <<'END OF LIBRARY'\n" + LIBRARY + "END OF LIBRARY\n"
    for name in names:
        # Each in a shell of its own: what it has set and how it ends is its own affair.
        script += f"cat >/root/pool.sh <<'END OF POOL'\n{POOLS[name].script}\nEND OF POOL\n"
        script += f"echo 'making {name}'; bash -euo pipefail -c '. /settings; . /root/prelude; . /root/library.sh; . /root/pool.sh;"
        script += (
            f" send {name}' || {{ echo 'pool {name} failed'; zpool destroy -f tank || true; umount /mnt/a || true;"
        )
        script += " rm -rf /out/pool /out/manifests; }\n"
    suite = POOLS[names[0]].suite
    disks = (96 * workshop.MIB,) * max(POOLS[name].disks for name in names)
    prelude = "declare -f >/root/prelude\n"
    made = workshop.make(
        zfs.recipe(
            f"pools-{names[0]}", prelude + script, disks, suite=suite, inputs=_foreign_files(names), timeout=3000
        )
    )  # fmt: skip
    ARCHIVES.mkdir(exist_ok=True)
    archives = []
    for name in names:
        tar = made.out / f"{name}.tar"
        if not tar.exists():
            print(f"{name} was not made: see the log of the workshop", file=sys.stderr)
            continue
        packer = zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters.from_level(19, window_log=27, enable_ldm=True)
        )
        archives.append(ARCHIVES / f"{name}.tar.zst")
        archives[-1].write_bytes(packer.compress(tar.read_bytes()))
    return archives


def _foreign_files(names: Sequence[str]) -> list[Path]:
    """Members of pools that OpenZFS's own tests came with: Debian has them in a package."""
    wanted = [file for name in names for file in zfs_scripts.FOREIGN.get(name, ())]
    if not wanted:
        return []
    tree = debian.packages("bookworm", ["zfs-test"], zfs.COMPONENTS, dependencies=False)
    blocks = tree / "usr/share/zfs/zfs-tests/tests/functional/cli_root/zpool_upgrade/blockfiles"
    return [blocks / f"zfs-pool-{file}.dat.bz2" for file in wanted]


def unpack(name: str, directory: Path) -> list[Path]:
    """Unpack the archive ``name`` into ``directory``; returns the pool's members in order."""
    data = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
        io.BytesIO((ARCHIVES / f"{name}.tar.zst").read_bytes())
    )  # fmt: skip
    with tarfile.open(fileobj=data, mode="r|") as tar:
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4
            tar.extraction_filter = tarfile.data_filter
        tar.extractall(directory)
    return sorted(directory.glob("d*.img"))


def main() -> None:
    """The command line."""
    for suite in sorted({pool.suite for pool in POOLS.values()}):
        names = [name for name in sys.argv[1:] or POOLS if POOLS[name].suite == suite]
        for archive in make(names) if names else ():
            print(f"{archive.name}: {archive.stat().st_size} bytes")


if __name__ == "__main__":
    main()
