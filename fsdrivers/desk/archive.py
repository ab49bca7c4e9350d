"""A tree as a tar archive: `fsdrivers tar`.  POSIX (pax) format, so that names, times and xattrs come through whole."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from typing import BinaryIO

from fsdrivers.desk.walk import NANO, Nanoseconds
from fsdrivers.errors import FsError
from fsdrivers.filesystem import DIRECTORY, FILE, SYMLINK, File, Filesystem, Node, Stat
from fsdrivers.traverse import Links, relative, walk

_TYPES = {
    "directory": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "char": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
    "fifo": tarfile.FIFOTYPE,
}
_BLOCK = tarfile.BLOCKSIZE


def write(filesystem: Filesystem, path: str, out: BinaryIO, warn: Callable[[str], None]) -> bool:
    """Write ``path`` and all below it to ``out``; member names are relative to ``path``.

    Hard links stay linked; sockets are left out as by every tar.  An object that cannot be read is told to
    ``warn`` and left out, and the result is False.  A file that turns out damaged in its middle is filled with
    zeros to its announced length (the archive would be unreadable behind it otherwise) and told as well.
    """
    links = Links()
    complete = True
    for found in walk(filesystem, path):
        if found.error is not None:
            warn(f"{found.path}: {found.error}")
            complete = False
        if found.stat is None or found.stat.type not in (*_TYPES, FILE):
            continue
        name = relative(found.path, path)
        if not name and found.stat.type != DIRECTORY:
            name = found.path.rsplit("/", 1)[-1]
        try:
            member = _member(filesystem, found.node, found.stat, "./" + name if name else ".", links)
            header = member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        except (FsError, ValueError) as error:  # the latter for a device's number that has no room in a header
            warn(f"{found.path}: left out: {error}")
            complete = False
            continue
        out.write(header)
        if member.type == tarfile.REGTYPE and not _content(filesystem, found.node, found.path, found.stat, out, warn):
            complete = False
    out.write(bytes(2 * _BLOCK))
    return complete


def _member(filesystem: Filesystem, node: Node, status: Stat, name: str, links: Links) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode, member.uid, member.gid = status.mode, status.uid, status.gid
    member.mtime = status.mtime // NANO
    member.pax_headers = {"mtime": str(Nanoseconds(status.mtime))}
    for key, value in filesystem.xattrs(node).items():
        # the value is bytes: pax records are UTF-8, and GNU tar and bsdtar take them as they come; a keyword ends at
        # its first "=" (GNU tar 1.35, src/xheader.c:xattr_encode_keyword)
        keyword = key.replace("%", "%25").replace("=", "%3D")
        member.pax_headers[f"SCHILY.xattr.{keyword}"] = value.decode("utf-8", "surrogateescape")
    if (known := links.before(node)) is not None:
        member.type, member.linkname = tarfile.LNKTYPE, known
        return member
    if status.type == FILE:
        member.type, member.size = tarfile.REGTYPE, status.size
    else:
        member.type = _TYPES[status.type]
    if status.type == SYMLINK:
        member.linkname = filesystem.link_target(node)
    member.devmajor, member.devminor = status.rdev
    links.add(node, status, name)
    return member


def _content(
    filesystem: Filesystem, node: Node, path: str, status: Stat, out: BinaryIO, warn: Callable[[str], None]
) -> bool:
    """The bytes of one file and its padding; False when zeros had to stand in for damage."""
    done = 0
    error: FsError | None = None
    try:
        for chunk in File(filesystem, node, path, status.size).chunks():
            out.write(chunk)
            done += len(chunk)
    except FsError as failure:
        error = failure
        warn(f"{path}: damaged from byte {done} on, zeros written instead: {failure}")
    while done < status.size:
        count = min(status.size - done, 1 << 20)
        out.write(bytes(count))
        done += count
    out.write(bytes(-done % _BLOCK))
    return error is None
