"""What this machine remembers of replicas: where copies went, what was there, who said what about them.

`replicas-<repository>.json` in the state directory lists the replicas of one repository.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dedupstore.errors import NothingMatches
from dedupstore.service import state_files
from dedupstore.service.dirs import state_dir

FACTS = ("offsite", "offline", "immutable")
"""What nobody can see from here, and a person may state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What a person said, and when."""

    value: bool
    time_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One place that `copy` or `mirror` was run to. `device` is the file system's number, None where there is none."""

    url: str
    way: str
    """`copy` or `mirror`."""

    repository: str
    first_ns: int
    last_ns: int
    complete: bool
    """Whether the last run ended without damage."""

    snapshots: tuple[str, ...]
    """Ids, in the source, of those that were there then."""

    device: int | None
    facts: Mapping[str, Fact] = field(default_factory=dict)


def replicas_of(environ: Mapping[str, str], repository: str) -> tuple[Replica, ...]:
    """The remembered replicas of a repository, the oldest first. Raises Refused for a damaged file."""
    rows = state_files.read(_path(environ, repository)).get("replicas", [])
    return tuple(sorted((_replica(row) for row in rows), key=lambda replica: (replica.first_ns, replica.url)))


def remember_run(environ: Mapping[str, str], repository: str, seen: Replica, note: state_files.Note) -> None:
    """Keep what a run left behind. A state directory that cannot be written is a note: the copy itself is safe."""

    def change(document: state_files.Document) -> None:
        rows = document.setdefault("replicas", [])
        before = next((row for row in rows if row["url"] == seen.url and row["repository"] == seen.repository), None)
        row = _row(seen)
        if before is not None:
            rows.remove(before)
            row |= {"first": before["first"], "facts": before.get("facts", {})}
        rows.append(row)

    state_files.keep(_path(environ, repository), change, note)


def state_facts(environ: Mapping[str, str], repository: str, url: str, facts: Mapping[str, bool], now_ns: int) -> None:
    """Keep what a person says about a replica. Raises NothingMatches for an unknown one."""

    def change(document: state_files.Document) -> None:
        said = _row_of(document, url).setdefault("facts", {})
        said.update({name: {"value": value, "time": now_ns} for name, value in facts.items()})

    state_files.update(_path(environ, repository), change)


def forget(environ: Mapping[str, str], repository: str, url: str) -> None:
    """Remember a replica no longer; nothing of it is touched. Raises NothingMatches for an unknown one."""

    def change(document: state_files.Document) -> None:
        document["replicas"].remove(_row_of(document, url))

    state_files.update(_path(environ, repository), change)


def device_of(url: str) -> int | None:
    """The number of the file system a place lies on; None for what is no path, or not there."""
    try:
        return os.stat(url).st_dev if url.startswith("/") else None
    except OSError:
        return None


def _row_of(document: state_files.Document, url: str) -> dict[str, Any]:
    for row in document.get("replicas", []):
        if row["url"] in (url, os.path.abspath(url)):
            found: dict[str, Any] = row
            return found
    raise NothingMatches(
        f"{url} is no replica that this machine knows of",
        hints=["dedup replicas", f"dedup mirror --to {url}"],
        code="replicas.unknown",
    )


def _path(environ: Mapping[str, str], repository: str) -> Path:
    return state_dir(environ) / f"replicas-{repository}.json"


def _row(replica: Replica) -> dict[str, Any]:
    return {
        "url": replica.url,
        "way": replica.way,
        "repository": replica.repository,
        "first": replica.first_ns,
        "last": replica.last_ns,
        "complete": replica.complete,
        "snapshots": list(replica.snapshots),
        "device": replica.device,
        "facts": {name: {"value": fact.value, "time": fact.time_ns} for name, fact in replica.facts.items()},
    }


def _replica(row: Mapping[str, Any]) -> Replica:
    return Replica(
        url=row["url"],
        way=row["way"],
        repository=row["repository"],
        first_ns=row["first"],
        last_ns=row["last"],
        complete=row["complete"],
        snapshots=tuple(row["snapshots"]),
        device=row["device"],
        facts={name: Fact(value=said["value"], time_ns=said["time"]) for name, said in row.get("facts", {}).items()},
    )
