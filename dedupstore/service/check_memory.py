"""What checks on this machine have proven: the last of each depth at each place, and which snapshots can be restored.

`checks.json` in the state directory, for `dedup replicas` (zero errors) and `dedup forget` (never drops the last snapshot
of a source that was proven). A place is a repository and a URL: what was proven of a mirror says nothing of the original.
Ids are those in object names, which whoever sees the storage sees as well. Losing the file loses a guard, never data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dedupstore.errors import DedupError
from dedupstore.events import Finding
from dedupstore.service import state_files
from dedupstore.service.dirs import state_dir
from dedupstore.types import SnapshotId
from dedupstore.units import format_id, parse_id


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckMemory:
    """The last check of one depth at one place."""

    repository: str
    url: str
    depth: str
    """`quick`, `structure`, `sample`, `data`, `restore` or `names` (a mirror against its names)."""

    time_ns: int
    errors: int

    @property
    def place(self) -> tuple[str, str]:
        return self.repository, self.url


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """The snapshots of a place that a check found restorable, among those that exist there: the others are dropped."""

    snapshots: tuple[SnapshotId, ...] = ()
    existing: tuple[SnapshotId, ...] = ()


def checks_of(environ: Mapping[str, str]) -> tuple[CheckMemory, ...]:
    """Every check that is remembered. Raises Refused for a damaged file."""
    return tuple(
        CheckMemory(
            repository=row["repository"],
            url=row["url"],
            depth=row["depth"],
            time_ns=row["time"],
            errors=row["errors"],
        )
        for row in state_files.read(_path(environ)).get("checks", [])
    )


def verified_at(environ: Mapping[str, str], repository: str, url: str, note: state_files.Note) -> dict[SnapshotId, int]:
    """When each snapshot of a place was last proven, in nanoseconds since the epoch; empty when nothing is known."""
    try:
        rows = _verified(state_files.read(_path(environ)), (repository, url))
        return {SnapshotId(parse_id(name)): int(time_ns) for name, time_ns in rows.items()}
    except (DedupError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{error.message}: {error.why}" if isinstance(error, DedupError) else "it is damaged"
        message = f"what was verified on this machine is not taken into account: {reason}"
        note(Finding(code="local.state_damaged", message=message))
        return {}


def remember_check(
    environ: Mapping[str, str], seen: CheckMemory, note: state_files.Note, proven: Proven | None = None
) -> None:
    """Keep the result of a check, instead of the last one of the same depth at the same place, and what it proved."""

    def change(document: state_files.Document) -> None:
        rows = [row for row in document.get("checks", []) if (*_place(row), row["depth"]) != (*seen.place, seen.depth)]
        rows.append(
            {
                "repository": seen.repository,
                "url": seen.url,
                "depth": seen.depth,
                "time": seen.time_ns,
                "errors": seen.errors,
            }
        )
        document["checks"] = rows
        if proven is not None and proven.snapshots:
            _keep_proven(document, seen, proven)

    state_files.keep(_path(environ), change, note)


def _keep_proven(document: state_files.Document, seen: CheckMemory, proven: Proven) -> None:
    alive = set(map(format_id, proven.existing))
    known = _verified(document, seen.place) | dict.fromkeys(map(format_id, proven.snapshots), seen.time_ns)
    rows = [row for row in document.get("verified", []) if _place(row) != seen.place]
    rows.append(
        {
            "repository": seen.repository,
            "url": seen.url,
            "snapshots": {name: time_ns for name, time_ns in known.items() if name in alive},
        }
    )
    document["verified"] = rows


def _verified(document: state_files.Document, place: tuple[str, str]) -> dict[str, int]:
    """Times by snapshot id text."""
    rows: Iterable[dict[str, Any]] = document.get("verified", [])
    return next((dict(row["snapshots"]) for row in rows if _place(row) == place), {})


def _place(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["repository"], row["url"]


def _path(environ: Mapping[str, str]) -> Path:
    return state_dir(environ) / "checks.json"
