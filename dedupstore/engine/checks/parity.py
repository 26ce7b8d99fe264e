"""Has every pack its parity, where the repository keeps any, and is the parity what was written?"""

from __future__ import annotations

from collections.abc import Iterator

from dedupstore.engine.check_options import Level
from dedupstore.engine.check_session import Session
from dedupstore.engine.parity_kept import damaged_parity, foreign_parity
from dedupstore.events import Finding
from dedupstore.repo.parity import keeps_parity, listed_parity


class ParityCheck:
    """What is wrong with parity hits no file: warnings and notes. All of it is read when all data is."""

    name = "parity"
    level = Level.QUICK

    def run(self, session: Session) -> Iterator[Finding]:
        store = session.repository.store
        there = listed_parity(store)
        for key in foreign_parity(store):
            yield Finding(code="check.foreign_object", message=f"{key} does not belong in a repository")
        lacking = session.inventory.packs.keys() - there.keys() if keeps_parity(store) else set()
        if lacking:
            yield Finding(
                code="check.parity_missing",
                message=f"{len(lacking)} packs have no parity; try: dedup repair parity",
                severity="note",
            )
        share = session.options.read_data
        if there and share is not None and share.all:
            yield from damaged_parity(store, session.cancel)
