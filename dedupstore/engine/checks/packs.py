"""Listed packs against what the index says of them, and the index segments themselves."""

from __future__ import annotations

from collections.abc import Iterator

from dedupstore.engine.check_options import Level
from dedupstore.engine.check_session import Session
from dedupstore.events import Finding
from dedupstore.repo.gcplan import read_pruned
from dedupstore.repo.index import PackRow
from dedupstore.units import format_number


class PacksCheck:
    """Sizes, packs without segment, segment entries without pack, damaged segments."""

    name = "packs"
    level = Level.QUICK

    def run(self, session: Session) -> Iterator[Finding]:
        if _lost(session, _gone(session)):
            # Perhaps a prune finished between two of our listings: its record is there by now.
            session.look()
        yield from _cache(session)
        yield from _sizes(session)
        orphans = session.orphans()
        yield from _segments(session, len(orphans))
        if orphans and not session.damaged_segments:
            yield Finding(
                code="check.pack_unindexed",
                message=f"{len(orphans)} packs are not indexed yet; the next snapshot does it (or: dedup repair index)",
                severity="note",
            )


def _gone(session: Session) -> list[PackRow]:
    listed = session.inventory.packs
    return [row for row in session.index.packs() if row.id not in listed and row.id not in session.condemned]


def _lost(session: Session, gone: list[PackRow]) -> list[PackRow]:
    """Those that no prune accounts for."""
    if not gone:
        return []
    pruned = read_pruned(session.repository.store, session.repository.keyring, session.inventory.removals)
    return [row for row in gone if row.id not in pruned]


def _cache(session: Session) -> Iterator[Finding]:
    """A repository that was put back to an earlier state has lost nothing that it knows of."""
    if session.cache_ahead:
        session.repository.drop_index()
        yield Finding(
            code="check.cache_rebuilt",
            message=f"the local index knew {session.cache_ahead} packs that nothing in the repository names: it was put "
            "back to an earlier state; the index is built anew",
            severity="note",
        )


def _sizes(session: Session) -> Iterator[Finding]:
    gone = _gone(session)
    lost = _lost(session, gone)
    if len(gone) > len(lost):
        # After a prune, segments go on naming what it deleted: only a snapshot that needs it makes that damage.
        yield Finding(
            code="check.packs_removed",
            message=f"segments name {format_number(len(gone) - len(lost), 'pack')} that prune has deleted",
            severity="note",
        )
    for row in lost:
        yield _lacking(session, row, "check.pack_missing", f"pack {row.id.hex()[:16]} is gone; a segment names it")
    for row in session.index.packs():
        name, size = session.inventory.packs.get(row.id, (row.name, row.size))
        if size != row.size:
            yield _lacking(session, row, "check.pack_size", f"{name.key} has {size} bytes instead of {row.size}")
        elif name != row.name:
            yield _lacking(session, row, "check.pack_renamed", f"{name.key} was stored as {row.name.key}")


def _lacking(session: Session, row: PackRow, code: str, message: str) -> Finding:
    """A pack that is not there as it was stored."""
    session.lost.add(row.id)
    if row.id in session.known.lost:
        return Finding(code=code, message=f"{message}; as a check has told before", severity=session.known_severity)
    return Finding(code=code, message=message, severity="error")


def _segments(session: Session, orphans: int) -> Iterator[Finding]:
    for key in session.damaged_segments:
        if orphans:
            yield Finding(
                code="check.segment_damaged",
                message=f"{key} cannot be read and {orphans} packs are described by no other; try: dedup repair index",
                severity="error",
            )
        else:
            yield Finding(
                code="check.segment_superseded",
                message=f"{key} cannot be read; other segments say all it said",
                severity="note",
            )
    for pack in sorted(session.unread):
        yield Finding(code="check.pack_unread", message=session.unread[pack], severity="error")
    for pack in sorted(session.contradictions):
        yield Finding(
            code="check.segments_disagree", message=f"two segments describe pack {pack.hex()[:16]} differently",
            severity="error",
        )  # fmt: skip
