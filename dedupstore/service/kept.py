"""The configuration that a snapshot was made by, kept in its record."""

from __future__ import annotations

from dataclasses import dataclass

from dedupstore.errors import NothingMatches
from dedupstore.service.access import Access
from dedupstore.service.records import CONFIG, SnapshotInfo, snapshot_info
from dedupstore.service.selection import Selection, choose


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptConfig:
    """`text` is TOML, without what concerns the machine: schedules, messages, the server."""

    snapshot: SnapshotInfo
    text: str


def kept_config(access: Access, selection: Selection) -> KeptConfig:
    """Raises NothingMatches when the snapshot was not made by a configuration."""
    opened = access.open_keys()
    try:
        snapshot = choose(opened.catalog, selection)
    finally:
        opened.store.close()
    info = snapshot_info(snapshot)
    text = dict(snapshot.details).get(CONFIG)
    if text is None:
        raise NothingMatches(
            f'snapshot {info.short} "{info.source}" keeps no configuration',
            why="it was made of paths or of a command that were named in the call",
            hints=["dedup snapshots"],
            code="snapshot.no_config",
        )
    return KeptConfig(snapshot=info, text=text)
