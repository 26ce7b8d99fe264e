"""Everything a store lists, taken down in an order in which nothing that is needed can seem to be missing.

Snapshots come first, packs last: whatever a listed snapshot uses was stored before, and is listed after. What prune
moves meanwhile may still seem to be gone; whoever finds a loss takes a second inventory before believing it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from dedupstore.engine.twice import twice
from dedupstore.errors import CorruptObject, IncompleteListing
from dedupstore.events import Finding
from dedupstore.repo import layout
from dedupstore.repo.pack_name import PackName
from dedupstore.storage.base import ObjectInfo, ObjectStore
from dedupstore.types import PackId, SnapshotId

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Inventory:
    """What one look at the store found. `findings` tells of listings and names that are not right."""

    roots: set[SnapshotId] = field(default_factory=set)
    commits: set[SnapshotId] = field(default_factory=set)
    forgotten: set[SnapshotId] = field(default_factory=set)
    plans: list[str] = field(default_factory=list)
    removals: list[str] = field(default_factory=list)
    """Records of executed plans: they name the packs that were deleted on purpose."""

    damage: list[str] = field(default_factory=list)
    """Records of what earlier checks found damaged."""

    configs: list[str] = field(default_factory=list)
    slots: list[ObjectInfo] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    segments: list[str] = field(default_factory=list)
    packs: dict[PackId, tuple[PackName, int]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def take_inventory(store: ObjectStore, *, marks_expected: bool = False) -> Inventory:
    """List everything. A listing that stays incomplete is a finding, and what it did show is used.

    `marks_expected`: the repository has had `marks/` since it was made.
    """
    found = Inventory()
    found.commits = _snapshots(store, layout.COMMITS, found)
    found.roots = _snapshots(store, layout.ROOTS, found)
    found.forgotten = _snapshots(store, layout.FORGOTTEN, found)
    if marks_expected or not _absent(store, layout.MARKS):
        found.marks = [row.key for row, _ in _parsed(_rows(store, layout.MARKS, found), found, layout.parse_mark_key)]
    for row, (kind, _) in _parsed(_rows(store, layout.GC, found), found, layout.parse_gc_key):
        if kind == "plan":
            found.plans.append(row.key)
        elif kind == "done":
            found.removals.append(row.key)
        elif kind == "bad":
            found.damage.append(row.key)
    found.configs = [row.key for row, _ in _parsed(_rows(store, layout.CONFIG, found), found, layout.parse_config_key)]
    slots = _rows(store, layout.KEYS, found)
    found.slots = [row for row, _ in _parsed(slots, found, lambda key: layout.parse_id_key(key, layout.KEYS))]
    found.segments = [row.key for row, _ in _parsed(_rows(store, layout.INDEX, found), found, layout.parse_segment_key)]
    for row, name in _parsed(_rows(store, layout.PACKS, found), found, PackName.parse):
        if name.id in found.packs:
            found.findings.append(_foreign(row.key, "a second name of a pack that is listed already"))
        else:
            found.packs[name.id] = (name, row.size)
    return found


def _snapshots(store: ObjectStore, prefix: str, found: Inventory) -> set[SnapshotId]:
    names = _parsed(_rows(store, prefix, found), found, lambda key: layout.parse_id_key(key, prefix))
    return {SnapshotId(identifier) for _, identifier in names}


def _rows(store: ObjectStore, prefix: str, found: Inventory) -> list[ObjectInfo]:
    try:
        return twice(lambda: layout.list_complete(store, prefix))
    except IncompleteListing as exc:
        found.findings.append(
            Finding(code="check.listing_incomplete", message=f"{exc.message}: {exc.why}", severity="error")
        )
    unique = {row.key: row for row in store.list(prefix) if row.key not in layout.SENTINELS}
    return [unique[key] for key in sorted(unique)]


def _absent(store: ObjectStore, prefix: str) -> bool:
    try:
        return twice(lambda: layout.list_if_there(store, prefix)) is None
    except IncompleteListing:
        return False


def _parsed(rows: list[ObjectInfo], found: Inventory, parse: Callable[[str], T]) -> list[tuple[ObjectInfo, T]]:
    """The rows whose names are ours; the others are findings."""
    parsed = []
    for row in rows:
        try:
            parsed.append((row, parse(row.key)))
        except CorruptObject as exc:
            found.findings.append(_foreign(row.key, exc.message))
    return parsed


def _foreign(key: str, why: str) -> Finding:
    return Finding(
        code="check.foreign_object", message=f"{key} does not belong in a repository: {why}", severity="warning"
    )
