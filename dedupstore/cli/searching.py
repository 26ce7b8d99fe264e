"""What `dedup find` and `dedup history` have in common: how a version is shown, and progress until there is one."""

from __future__ import annotations

import contextlib

from dedupstore.cli import progress
from dedupstore.cli.output import Output, path_fields
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import kind_word, moment
from dedupstore.events import Listener, NullListener
from dedupstore.service.find import VersionInfo
from dedupstore.service.records import SnapshotInfo
from dedupstore.units import format_bytes


class Indexing(contextlib.ExitStack):
    """Shows progress while a query prepares its answer; closed before the first line of it."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        # A query's JSON is one document: no events in it.
        quiet = session.out.json or not session.out.error_terminal
        self.listener: Listener = NullListener() if quiet else self.enter_context(progress.showing(session))


def version_fields(out: Output, version: VersionInfo) -> dict[str, object]:
    return {
        **path_fields(version.path),
        "kind": kind_word(version.kind),
        "mode": f"{version.mode:04o}",
        "uid": version.uid,
        "gid": version.gid,
        "size": version.size,
        "mtime": moment(out.timestamp, version.mtime_ns),
        "first": _snapshot(out, version.first),
        "last": _snapshot(out, version.last),
        "snapshots": version.snapshots,
    }


def size_text(version: VersionInfo) -> str:
    return format_bytes(version.size) if version.kind == "f" else kind_word(version.kind)


def range_text(out: Output, version: VersionInfo) -> str:
    """`4kq2-m8` or `4kq2-m8..5r01-xx`."""
    if version.first.id == version.last.id:
        return version.first.short
    return f"{version.first.short}..{version.last.short}"


def _snapshot(out: Output, snapshot: SnapshotInfo) -> dict[str, object]:
    return {"id": snapshot.id, "short": snapshot.short, "time": out.timestamp(snapshot.time_ns)}
