"""Every object of a tree as a record: what `fsdrivers walk` prints and what manifests are compared with."""

from __future__ import annotations

from binascii import b2a_base64

from fsdrivers.errors import FsError
from fsdrivers.filesystem import FILE, SYMLINK, File, Filesystem
from fsdrivers.traverse import Found

NANO = 1_000_000_000


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
