"""More pools of zfs_recipes: the scripts of what needs OpenZFS 2.3, and of states that pools are found in."""

from __future__ import annotations

# Pool -> script, for OpenZFS 2.1.
STATES = {
    "destroyed": r"""
members 2
$CREATE tank mirror $D
mount -t zfs tank /mnt/a; fill /mnt/a 20; zmanifest tank /mnt/a; umount /mnt/a
zpool destroy tank""",
    # As it is while it is in use: the uberblocks say that a host writes them once a second.
    "multihost": r"""
members 2
test $(hostid) != 00bab10c; zgenhostid -f 00bab10c
$CREATE -o multihost=on tank mirror $D
mount -t zfs tank /mnt/a; fill /mnt/a 20; zmanifest tank /mnt/a; zpool sync tank; sleep 8
mkdir /out/copy; cp --sparse=always $D /out/copy; rm /etc/hostid
umount /mnt/a; zpool export tank; mv /out/copy/* /out/pool/; rmdir /out/copy""",
    # The second top-level vdev was a log: a hole now.
    "classes": r"""
members 8
$CREATE -f -O dedup=sha256 tank raidz1 $D0 $D1 $D2 log $D3 special mirror $D4 $D5 dedup $D6
mount -t zfs tank /mnt/a; fill /mnt/a; cp /mnt/a/random /mnt/a/again; umount /mnt/a
zpool remove tank $D3; rm $D3; zpool add -f tank $D7
mount -t zfs tank /mnt/a; text 60000 >/mnt/a/after; head -c 400000 /dev/urandom >/mnt/a/wide; umount /mnt/a
finish tank""",
    # One member has been away since before the last changes.
    "offline": r"""
members 4
$CREATE tank raidz1 $D
mount -t zfs tank /mnt/a; fill /mnt/a 60; text 400000 >/mnt/a/old; zpool sync tank
zpool offline tank $D1
text 400000 | tr a-z n-za-m >/mnt/a/old; head -c 300000 /dev/urandom >/mnt/a/during; rm /mnt/a/dir/text
umount /mnt/a
finish tank""",
    # Imported after a crash and exported again, never mounted between: the log is claimed, nobody has replayed it.
    "claimed": r"""
members 1
$CREATE tank $D
zfs create tank/a; mount -t zfs tank/a /mnt/a; fill /mnt/a 20
freeze tank
text 20000 >/mnt/a/written; mv /mnt/a/one /mnt/a/moved; rm /mnt/a/hundred
crash tank tank/a
zpool import -N -d /out/pool -o cachefile=none tank; zpool export tank""",
    # Members of the host's choice: disks with the partitions that zpool gives them.
    "partitions": r"""
whole=(${DISK[@]}); zpart
$CREATE tank mirror ${DISK[0]} ${DISK[1]}
mount -t zfs tank /mnt/a; fill /mnt/a 20; umount /mnt/a
finish tank
for number in 0 1; do dd if=${whole[$number]} of=d$number.img bs=1M conv=sparse status=none; done""",
}

# Pool -> the files of OpenZFS's own tests that are its members, made on SPARC machines.  Nothing is written to them.
FOREIGN = {
    "big1": ("v1stripe1", "v1stripe2", "v1stripe3"),
    "big2mirror": ("v2mirror1", "v2mirror2", "v2mirror3"),
    "big2raidz": ("v2raidz1", "v2raidz2", "v2raidz3"),
    "big15": ("v15",),
}


def foreign(name: str) -> str:
    """The script of one pool of FOREIGN: import it for reading and keep it as it was."""
    unpack = "\n".join(
        f"bunzip2 -c /in/zfs-pool-{file}.dat.bz2 | dd of=d{number}.img bs=64k conv=sparse iflag=fullblock status=none"
        for number, file in enumerate(FOREIGN[name])
    )
    return rf"""
{unpack}
sha256sum d*.img >/root/before
pool=$(zpool import -d $PWD | sed -n 's/^ *pool: //p'); test -n "$pool"
zpool import -d $PWD -f -N -o readonly=on -o cachefile=none $pool
for name in $(zfs list -rH -o name -t filesystem,snapshot $pool); do
    mount -t zfs -o ro,zfsutil $name /mnt/a || mount -t zfs -o ro $name /mnt/a; zmanifest $name /mnt/a; umount /mnt/a
done
zpool export $pool; sha256sum -c /root/before"""


# Pool -> script, for OpenZFS 2.3.
MODERN = {
    # A clone of a block keeps the width that it was written with.
    "expanded": r"""
param zfs_bclone_enabled 1
members 6
$CREATE tank raidz2 $D0 $D1 $D2 $D3
mount -t zfs tank /mnt/a; fill /mnt/a 100; text 900000 >/mnt/a/before
widen() { zpool attach -w tank raidz2-0 $1; for txg in 1 2 3 4 5; do zpool sync tank; done; }  # blocks are wider then
widen $D4; text 900000 >/mnt/a/between; head -c 100000 /dev/urandom >/mnt/a/second
widen $D5; text 900000 >/mnt/a/after; head -c 100000 /dev/urandom >/mnt/a/third
cp --reflink=always /mnt/a/random /mnt/a/cloned; umount /mnt/a
finish tank""",
    "cloned": r"""
param zfs_bclone_enabled 1
members 2
$CREATE -O compression=zstd tank mirror $D
mount -t zfs tank /mnt/a; fill /mnt/a 60; text 500000 >/mnt/a/original; sync -f /mnt/a; zpool sync tank
cp --reflink=always /mnt/a/original /mnt/a/clone; cp --reflink=always /mnt/a/random /mnt/a/cloned
zpool sync tank; rm /mnt/a/original; umount /mnt/a
zpool get -H -o property,value all tank | grep feature@ >/out/pool/features.txt
finish tank""",
    "longname": r"""
members 1
$CREATE tank $D
zfs create -o longname=on tank/a; mount -t zfs tank/a /mnt/a
for length in 255 256 500 1023; do
    name=$(head -c $length /dev/zero | tr '\0' n); echo $length >"/mnt/a/$name"; mkdir "/mnt/a/${name//n/d}"
done
umount /mnt/a
finish tank""",
    "dedup": r"""
members 1
$CREATE -O checksum=blake3 tank $D
zfs create -o dedup=on tank/a; mount -t zfs tank/a /mnt/a; fill /mnt/a 60
cp /mnt/a/random /mnt/a/again; text 300000 >/mnt/a/text1; text 300000 >/mnt/a/text2; umount /mnt/a
finish tank""",
    # So many leaves that the table of pointers to them has left the header; "zdb" says so.
    "zaptable": r"""
members 1 128M
$CREATE -O compression=lz4 -O atime=off tank $D
zfs create -o longname=on tank/a; mount -t zfs tank/a /mnt/a; mkdir /mnt/a/many; tail=$(printf 'long%.0s' {1..250})
(cd /mnt/a/many; seq -f "%.0f-$tail" 1 9000 | xargs touch -d @1000000000 --); echo x >"/mnt/a/many/9000-$tail"
number=$(stat -c %i /mnt/a/many); umount /mnt/a
finish tank
zdb -e -p $PWD -dddd tank/a $number >/root/zdb; grep -A6 'Pointer table:' /root/zdb
grep -A6 'Pointer table:' /root/zdb | grep -qE 'zt_numblks: +[1-9]'""",
    "microzap": r"""
param zap_micro_max_size 1048576
members 1
$CREATE -O atime=off tank $D
mount -t zfs tank /mnt/a; mkdir /mnt/a/many; seq 4000 | (cd /mnt/a/many; xargs touch -d @1000000000 --); umount /mnt/a
finish tank""",
    # Pointers to data in so small blocks that a file needs seven levels of them.
    "tall": r"""
param zfs_default_ibs 12
members 1
$CREATE -o ashift=9 -O recordsize=512 tank $D
zfs create tank/a; mount -t zfs tank/a /mnt/a
for at in 0 20000 700000 20000000; do printf "at $at" | dd of=/mnt/a/f$at bs=1 seek=$at status=none; done
zmanifest tank/a /mnt/a; umount /mnt/a
zfs create tank/b; mount -t zfs tank/b /mnt/a
for at in 0 20000 700000 20000000 700000000 20000000000 700000000000; do
    printf "at $at" | dd of=/mnt/a/tall bs=1 seek=$at conv=notrunc status=none
done
umount /mnt/a; zpool export tank""",
    # Two devices at once: the second waits until the first has been resilvered.
    "deferred": r"""
members 6
$CREATE tank raidz2 $D0 $D1 $D2 $D3
mount -t zfs tank /mnt/a; fill /mnt/a
param zfs_scan_suspend_progress 1; param zfs_resilver_defer_percent 0
zpool replace tank $D0 $D4; zpool sync tank; zpool replace tank $D1 $D5; zpool sync tank
text 50000 >/mnt/a/during; umount /mnt/a
zpool get -H -o value feature@resilver_defer tank
finish tank""",
    "destroying": r"""
members 1
$CREATE -O compression=off -O recordsize=4K tank $D
zfs create tank/gone; mount -t zfs tank/gone /mnt/a; text 4000000 >/mnt/a/large; umount /mnt/a
zfs create tank/a; mount -t zfs tank/a /mnt/a; fill /mnt/a 40; umount /mnt/a; zpool sync tank
param zfs_async_block_max_blocks 1
zfs destroy tank/gone; zpool get -H -o value feature@async_destroy tank
finish tank""",
    # A distributed spare has taken the place of a device; another is being rebuilt in sequence.
    "draidspare": r"""
param zfs_rebuild_scrub_enabled 0
members 8 192M
$CREATE tank draid1:3d:7c:2s $D0 $D1 $D2 $D3 $D4 $D5 $D6
mount -t zfs tank /mnt/a; fill /mnt/a 100
zpool offline -f tank $D1; zpool replace -w tank $D1 draid1-0-0
text 200000 >/mnt/a/during; head -c 200000 /dev/urandom >/mnt/a/second; umount /mnt/a
finish tank""",
    "bookmarks": r"""
members 1
$CREATE tank $D
zfs create tank/a; mount -t zfs tank/a /mnt/a; fill /mnt/a 40; umount /mnt/a; zfs snapshot tank/a@one
list=
for number in {1..40}; do
    zfs clone tank/a@one tank/c$number; mount -t zfs tank/c$number /mnt/a; echo $number >/mnt/a/one; umount /mnt/a
    zfs snapshot tank/c$number@s; list="$list tank/c$number@s"
done
zfs redact tank/a@one book $list
echo passphrase | zfs create -o encryption=on -o keyformat=passphrase tank/secret
mount -t zfs tank/secret /mnt/a; text 3000 >/mnt/a/secret; umount /mnt/a
zfs snapshot tank/secret@one; zfs bookmark tank/secret@one tank/secret#mark
zfs unload-key tank/secret
for name in tank/a tank/a@one tank/c40@s; do mount -t zfs $name /mnt/a; zmanifest $name /mnt/a; umount /mnt/a; done
zpool export tank""",
    # What only the log of 2.3 has: clones, exchanged names, attributes; on a device of its own, but for large writes.
    "log23": r"""
param zfs_bclone_enabled 1
members 3
$CREATE -O compression=lz4 -O xattr=sa tank $D0 $D1 log $D2
zfs create tank/b; zfs create -o logbias=throughput tank/a; mount -t zfs tank/a /mnt/a; fill /mnt/a 20
text 400000 >/mnt/a/source; head -c 400000 /dev/urandom >/mnt/a/noise; sync -f /mnt/a
freeze tank
cp --reflink=always /mnt/a/source /mnt/a/clone; cp --reflink=always /mnt/a/noise /mnt/a/cloned
mv --exchange /mnt/a/one /mnt/a/hundred; mv --exchange /mnt/a/dir /mnt/a/text128k+1
setfattr -n user.logged -v yes /mnt/a/b512; setfattr -n user.second -v "$(text 3000)" /mnt/a/b512
setfattr -n user.gone -v no /mnt/a/b513; setfattr -x user.gone /mnt/a/b513
head -c 500000 /dev/urandom | dd of=/mnt/a/large bs=128k iflag=fullblock conv=fsync status=none
printf XYZ | dd of=/mnt/a/noise bs=1 seek=200000 conv=notrunc status=none
fallocate -p -o 40000 -l 150000 /mnt/a/source; truncate -s 250000 /mnt/a/source; truncate -s 390000 /mnt/a/source
(cd /mnt/a; getfattr -R -h -P -d -m - -e hex .) >/out/pool/xattrs.txt
crash tank tank/a""",
    "expanding": r"""
members 4
$CREATE -O compression=off tank raidz1 $D0 $D1 $D2
mount -t zfs tank /mnt/a; fill /mnt/a 100
for number in {1..6}; do (echo $number; text 4000000) >/mnt/a/long$number; done; zpool sync tank
param raidz_expand_max_reflow_bytes 1000000
zpool attach tank raidz1-0 $D3; sleep 20; zpool status tank
zpool status tank | grep -E 'expansion of raidz1-0 in progress|expand: .* in progress'
text 900000 >/mnt/a/during; head -c 100000 /dev/urandom >/mnt/a/second; umount /mnt/a
finish tank""",
}
