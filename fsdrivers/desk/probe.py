"""What `fsdrivers probe` says of a pool: as one object, and as lines for a person."""

from __future__ import annotations

from collections.abc import Iterator

from fsdrivers import bounds
from fsdrivers.errors import FsError
from fsdrivers.pool import Pool
from fsdrivers.shown import when

SECONDS = "%Y-%m-%dT%H:%M:%SZ"


def describe(pool: Pool) -> tuple[dict[str, object], FsError | None]:
    """What `probe` says of one pool, and why its roots could not be listed if so."""
    report: dict[str, object] = {
        "kind": pool.kind,
        "name": pool.name,
        "uuid": pool.uuid,
        "state": pool.state,
        "present": len(pool.slots) - len(pool.missing),
        "total": len(pool.slots),
        "members": [slot._asdict() for slot in pool.slots],
        "notes": pool.notes,
        "roots": [],
    }
    problems: list[FsError] = []
    doing = f"{pool.kind} pool {pool.name or pool.uuid}: its roots"
    roots = bounds.attempt(doing, pool.devices, pool.roots, problems.append)
    if roots is None:
        report["error"] = str(problems[0])
        return report, problems[0]
    report["roots"] = [root._asdict() for root in roots]
    return report, None


def lines(report: dict[str, object]) -> Iterator[str]:
    """What describe() found, for a person."""
    name = report["name"] or "-"
    yield f"{report['kind']} {name} {report['uuid']} members {report['present']}/{report['total']} {report['state']}"
    members: list[dict[str, object]] = report["members"]  # type: ignore[assignment]
    for slot in members:
        yield f"  member {slot['id']} {slot['uuid']} {slot['device'] or '-'} {slot['state']}"
    for note in report["notes"]:  # type: ignore[attr-defined]
        yield f"  note {note}"
    roots: list[dict[str, object]] = report["roots"]  # type: ignore[assignment]
    for root in roots:
        yield f"  root {_root_line(root)}"


def _root_line(root: dict[str, object]) -> str:
    """Name and id of a root, what else is known of it, and its marks."""
    words = [f"{root['name']} id {root['id']}"]
    words += [f"{key} {root[key]}" for key in ("parent", "generation", "uuid") if root[key]]
    if isinstance(created := root["created"], int) and created:
        words.append(f"created {when(created, SECONDS)}")
    marks = [mark for mark in ("default", "readonly") if root[mark]]
    return " ".join(words) + (f" ({', '.join(marks)})" if marks else "")
