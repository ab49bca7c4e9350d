"""Every object of a tree as a record: what `fsdrivers walk` prints and what manifests are compared with."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterator
from typing import NamedTuple

from fsdrivers.errors import Corrupt, FsError
from fsdrivers.filesystem import DIRECTORY, FILE, SYMLINK, DirEntry, File, Filesystem, Node, Stat

MAX_DEPTH = 1024  # directories below each other; PATH_MAX allows 2048 with names of one letter
NANO = 1_000_000_000


class Found(NamedTuple):
    """One object on the way; ``error`` says why it, or (for a directory) what is in it, could not be read."""

    path: str
    node: Node
    stat: Stat | None
    error: FsError | None


def walk(filesystem: Filesystem, path: str = "/") -> Iterator[Found]:
    """``path`` and everything below it, depth first, names in code point order.

    Damage does not end the walk: the object comes with its ``error``.  Nested btrfs subvolumes are entered as the
    kernel does.  A hostile tree whose directories form a loop or go too deep yields Corrupt there.
    """
    node = filesystem.resolve(path, follow=path.endswith("/"))
    yield from _walk(filesystem, path.rstrip("/") or "/", node, frozenset())


def _walk(filesystem: Filesystem, path: str, node: Node, above: frozenset[Node]) -> Iterator[Found]:
    # An explicit stack: the depth of the tree is the disk's choice, not the interpreter's.
    stack = [(path, node, above)]
    while stack:
        path, node, above = stack.pop()
        try:
            status = filesystem.stat(node)
        except FsError as error:
            yield Found(path, node, None, error)
            continue
        if status.type != DIRECTORY:
            yield Found(path, node, status, None)
            continue
        try:
            if node in above or len(above) > MAX_DEPTH:
                raise Corrupt(filesystem.root_name or filesystem.kind, f"directory {path} (a loop)", status.inode)
            children = sorted_entries(filesystem, node)
        except FsError as error:
            yield Found(path, node, status, error)
            continue
        yield Found(path, node, status, None)
        below = above | {node}
        prefix = path.rstrip("/") + "/"
        stack += [(prefix + child.name, child.node, below) for child in reversed(children)]


def sorted_entries(filesystem: Filesystem, directory: Node) -> list[DirEntry]:
    """The entries of ``directory`` by name; raises Corrupt for names that no kernel would create."""
    children = sorted(filesystem.entries(directory), key=lambda entry: entry.name)
    for child in children:
        # Such a name would leave the tree when used as a path on the reader's side.
        if child.name in ("", ".", "..") or "/" in child.name or "\0" in child.name:
            raise Corrupt(filesystem.root_name or filesystem.kind, f"directory entry named {child.name!r}", 0)
    return children


def record(filesystem: Filesystem, found: Found, sha256: bool, xattrs: bool = False) -> dict[str, object]:
    """The fields of one line of `walk`: see the contract in docs/command-line.md.

    ``xattrs`` adds the extended attributes, in base64, of objects that have any.
    """
    status = found.stat
    if status is None:
        return {"path": found.path, "type": "unknown", "error": str(found.error)}
    fields: dict[str, object] = {
        "path": found.path,
        "type": status.type,
        "mode": status.mode,
        "uid": status.uid,
        "gid": status.gid,
        "size": status.size,
        "mtime": Nanoseconds(status.mtime),
    }
    error = found.error
    try:
        if status.type == SYMLINK:
            fields["target"] = filesystem.link_target(found.node)
        elif status.type == FILE and sha256:
            fields["sha256"] = digest(File(filesystem, found.node, found.path, status.size))
        elif status.type in ("char", "block"):
            fields["rdev"] = list(status.rdev)
        if xattrs and (attributes := filesystem.xattrs(found.node)):
            fields["xattrs"] = {name: _base64(value) for name, value in sorted(attributes.items())}
    except FsError as failure:
        error = failure
    if error is not None:
        fields["error"] = str(error)
    return fields


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def digest(file: File) -> str:
    """The SHA-256 of the whole file in hex."""
    import hashlib  # OpenSSL takes longer to load than most commands take

    total = hashlib.sha256()
    for chunk in file.chunks():
        total.update(chunk)
    return total.hexdigest()


class Nanoseconds(int):
    """A time that is written as seconds with nine decimals: a double would lose the last digits."""

    def __str__(self) -> str:
        return f"{'-' if self < 0 else ''}{abs(self) // NANO}.{abs(self) % NANO:09d}"


def to_json(fields: dict[str, object]) -> str:
    """One line of JSON; Nanoseconds keep all their digits."""
    import json

    return "{" + ", ".join(f"{json.dumps(key)}: {_value(value)}" for key, value in fields.items()) + "}"


def _value(value: object) -> str:
    import json

    return str(value) if isinstance(value, Nanoseconds) else json.dumps(value)


def to_text(fields: dict[str, object]) -> str:
    """One line for a person: type, mode, owner, size, then hash and path."""
    mode = fields.get("mode")
    parts = [
        f"{fields['type']:<9}",
        f"{mode:04o}" if isinstance(mode, int) else "????",
        f"{fields.get('uid', '?')}:{fields.get('gid', '?')}",
        f"{fields.get('size', '?'):>10}",
    ]
    if "sha256" in fields:
        parts.append(str(fields["sha256"]))
    parts.append(str(fields["path"]))
    if "target" in fields:
        parts.append(f"-> {fields['target']}")
    if "error" in fields:
        parts.append(f"ERROR: {fields['error']}")
    return " ".join(parts)
