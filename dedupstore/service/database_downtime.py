"""How long a restore of a database took on this machine, and so how long one of the newest snapshot would.

`restores.json` in the state directory: of each source the last restore of a whole database with `restore --as`.
"""

from __future__ import annotations

from collections.abc import Mapping

from dedupstore.events import Finding
from dedupstore.service import state_files
from dedupstore.service.config_schema import SqliteSource
from dedupstore.service.databases import Database
from dedupstore.service.dirs import state_dir
from dedupstore.units import format_bytes, format_duration

_FILE = "restores.json"
_LEAST_SECONDS = 0.1
"""A rate that was measured over less says nothing."""


def remember(environ: Mapping[str, str], source: str, count: int, seconds: float, note: state_files.Note) -> None:
    """Keep how long so many bytes of dump took."""
    if seconds < _LEAST_SECONDS or not count:
        return

    def change(document: state_files.Document) -> None:
        document.setdefault("sources", {})[source] = {"bytes": count, "seconds": round(seconds, 3)}

    state_files.keep(state_dir(environ) / _FILE, change, note)


def tell(environ: Mapping[str, str], database: Database, source: str, count: int, note: state_files.Note) -> None:
    """Say how long a restore of a dump of so many bytes would take, if the configuration wants to know (max_downtime_check)."""
    if isinstance(database, SqliteSource) or not database.max_downtime_check:
        return
    known = state_files.read(state_dir(environ) / _FILE).get("sources", {}).get(source)
    if known is None:
        message = (
            f'nobody has restored "{source}" on this machine, so it is not known how long that takes: '
            f"dedup restore --source {source} --as NAME"
        )
        note(Finding(code="database.downtime_unknown", message=message, severity="note"))
        return
    rate = known["bytes"] / known["seconds"]
    message = (
        f'a restore of "{source}" would take about {format_duration(count / rate)}: {format_bytes(count)}, as fast as the '
        f"last one here ({format_bytes(rate)}/s)"
    )
    note(Finding(code="database.downtime", message=message, severity="note"))
