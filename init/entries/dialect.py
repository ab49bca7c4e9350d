"""How a system on ZFS wants to be told its root: each maker of initrds has words of its own.

Sources: contrib/initramfs/scripts/zfs and contrib/dracut/README.md of OpenZFS 2.3; the zfs hook of zfs-utils for
mkinitcpio; zfsbootmenu(7), "org.zfsbootmenu:rootprefix", and its choice by os-release.
"""

from __future__ import annotations

import re
from functools import lru_cache
from weakref import WeakKeyDictionary

from fsdrivers.errors import FsError
from fsdrivers.filesystem import File, Filesystem
from init import config as _config
from init.entries import shellvars
from init.roots import OS_RELEASE, BootRoot

INITRAMFS_TOOLS, DRACUT, MKINITCPIO, OTHER = "initramfs-tools", "dracut", "mkinitcpio", "other"

# What comes before the dataset's name.  initramfs-tools and dracut understand each other's.
PREFIXES = {INITRAMFS_TOOLS: "root=ZFS=", DRACUT: "root=zfs:", MKINITCPIO: "zfs=", OTHER: "root=ZFS="}

# Files that are there when a root can make initrds of its kind that know ZFS, and names inside of such an initrd.
_INSTALLED = {
    INITRAMFS_TOOLS: ("/usr/share/initramfs-tools/scripts/zfs",),
    DRACUT: ("/usr/lib/dracut/modules.d/90zfs", "/usr/lib/dracut/modules.d/02zfsexpandknowledge"),
    MKINITCPIO: ("/usr/lib/initcpio/hooks/zfs", "/usr/lib/initcpio/install/zfs"),
}  # fmt: skip
_INSIDE = {
    b"scripts/zfs\0": INITRAMFS_TOOLS, b"lib/dracut/hooks": DRACUT, b"lib/dracut-lib.sh": DRACUT,
    b"hooks/zfs\0": MKINITCPIO, b"init_functions\0": MKINITCPIO,
}  # fmt: skip
_BY_ID = {
    "debian": INITRAMFS_TOOLS, "ubuntu": INITRAMFS_TOOLS, "devuan": INITRAMFS_TOOLS, "linuxmint": INITRAMFS_TOOLS,
    "arch": MKINITCPIO, "artix": MKINITCPIO, "cachyos": MKINITCPIO, "manjaro": MKINITCPIO,
    "fedora": DRACUT, "rhel": DRACUT, "centos": DRACUT, "suse": DRACUT, "opensuse": DRACUT, "void": DRACUT,
    "chimera": INITRAMFS_TOOLS,
}  # fmt: skip
MAX_INITRD = 32 << 20  # bytes of an initrd, packed and unpacked, in which names are looked for
MAX_OS_RELEASE = 1 << 16
MAX_EARLY_FILES = 256  # entries and stretches of padding of the archives in front
MAX_NAME = 4096
MAX_LOOKS = 32  # initrds of one root that are unpacked

_looked: WeakKeyDictionary[Filesystem, int] = WeakKeyDictionary()

_CPIO_HEAD = 110  # bytes of the header of a "newc" entry, in hexadecimal digits
_NEWC = re.compile(rb"07070[12][0-9A-Fa-f]{104}")
_EARLY = (b"kernel\0", b"kernel/", b".\0", b"early_cpio\0", b"TRAILER!!!\0")

HOSTID = ("spl.spl_hostid", "spl_hostid")


def words(place: BootRoot, stated: list[str], initrd: File | None) -> tuple[list[str], list[str]]:
    """(the words that name the root ``place`` on ZFS, the words of ``stated`` that they do not replace).

    ``initrd`` is looked into only when several makers of initrds are installed in this root.
    """
    said, rest = "", []
    traditional = False
    for word in stated:
        name, _, value = word.partition("=")
        if name == "zfs" and "/" in value:
            said = "zfs="
        elif name == "root":
            said = value[:4] if value[:4] in ("ZFS=", "zfs:") else said
        elif word == "boot=zfs":
            traditional = True
        elif not (name == "rootfstype" and value == "zfs"):
            rest.append(word)
    prefix = place.environment.rootprefix if place.environment else ""
    if not prefix and said:
        prefix = said if said == "zfs=" else f"root={said}"
    if not prefix:
        maker = _maker(place, initrd)
        prefix, traditional = PREFIXES[maker], maker == INITRAMFS_TOOLS
    found = [_word(prefix, place.root.name)]
    if traditional:
        found.append("boot=zfs")
    return found + _hostid(place, rest), rest


def clone(place: BootRoot) -> str:
    """The file system that the initrd of ``place``, a snapshot, makes of it to boot; "" when it boots what it is told.

    Source: contrib/initramfs/scripts/zfs:setup_snapshot_booting; nothing of the kind in contrib/dracut.
    """
    dataset, _, name = place.root.name.partition("@")
    return f"{dataset}_{name}" if _maker(place, None) == INITRAMFS_TOOLS else ""


def _word(prefix: str, name: str) -> str:
    if prefix == PREFIXES[DRACUT]:
        name = name.replace(" ", "+")
    key, _, start = prefix.partition("=")
    return _config.quote(key, start + name)


def _hostid(place: BootRoot, rest: list[str]) -> list[str]:
    """The host id of the pool's last user, as whom the system may import it; unless somebody states another one.

    Source: module/zfs/spa.c:spa_verify_host and lib/libspl/os/linux/gethostid.c of OpenZFS 2.3.
    """
    number = getattr(place.pool, "hostid", 0)
    if not number or any(word.partition("=")[0] in HOSTID for word in rest):
        return []
    return [f"spl.spl_hostid=0x{number:08x}"]


def _maker(place: BootRoot, initrd: File | None) -> str:
    """Who made the initrds of this root."""
    installed = [maker for maker, paths in _INSTALLED.items() if any(map(place.has, paths))]
    if len(installed) > 1 and initrd is not None and _may_look(place.filesystem):
        inside = _inside(initrd)
        if inside:
            return inside
    if len(installed) == 1:
        return installed[0]
    alike = _by_os_release(place.filesystem)
    if alike and (not installed or alike in installed):
        return alike
    return installed[0] if installed else OTHER


def _may_look(filesystem: Filesystem) -> bool:
    """Whether one more initrd of a root may be unpacked: each costs as much as a kernel does."""
    looks = _looked[filesystem] = _looked.get(filesystem, 0) + 1
    return looks <= MAX_LOOKS


def _inside(initrd: File) -> str:
    """Who made ``initrd``, by the names in it; "" when that cannot be seen in its first MAX_INITRD bytes."""
    from init.kernel import formats
    from init.kernel.files import Part

    tail, seen = b"", 0
    try:
        start = _compressed_at(initrd)
        for chunk in formats.decompressed(Part(initrd, initrd.path, start, min(initrd.size - start, MAX_INITRD))):
            text = tail + chunk
            for name, maker in _INSIDE.items():
                if name in text:
                    return maker
            tail, seen = text[-64:], seen + len(chunk)
            if seen >= MAX_INITRD:
                break
    except FsError:  # whoever boots it will say what is wrong with it
        pass
    return ""


def _compressed_at(initrd: File) -> int:
    """Where the first archive begins that holds more than microcode: behind the uncompressed ones at the front.

    Source: Documentation/driver-api/early-userspace/buffer-format.rst, v6.12.
    """
    offset = 0
    for _ in range(MAX_EARLY_FILES):
        head = initrd.read(offset, min(_CPIO_HEAD, max(0, initrd.size - offset)))
        if head[:1] == b"\0":
            offset += max(4, len(head) - len(head.lstrip(b"\0")) & ~3)
            continue
        if not _NEWC.fullmatch(head):
            break
        size, length = int(head[54:62], 16), int(head[94:102], 16)
        name = initrd.read(offset + _CPIO_HEAD, min(length, MAX_NAME)) if length else b""
        if not name.startswith(_EARLY):
            break
        offset += (_CPIO_HEAD + length + 3 & ~3) + (size + 3 & ~3)
    return min(offset, initrd.size)


@lru_cache(maxsize=4)
def _by_os_release(filesystem: Filesystem) -> str:
    """The maker that the distribution has; asked for every entry of a root."""
    for path in OS_RELEASE:
        try:
            text = filesystem.read_file(path, MAX_OS_RELEASE)
        except FsError:
            continue
        values, _ = shellvars.parse(text.decode("utf-8", "replace"))
        names = f"{values.get('ID', '')} {values.get('ID_LIKE', '')}".split()
        return next((_BY_ID[name] for name in names if name in _BY_ID), "")
    return ""
