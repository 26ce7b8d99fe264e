"""Can every prune plan be read? An unreadable one stops all writing: it may condemn anything. And every list of damage?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from dedupstore.engine.check_options import Level
from dedupstore.engine.check_session import Session
from dedupstore.engine.twice import twice
from dedupstore.errors import DedupError, StoreGone
from dedupstore.events import Finding
from dedupstore.repo.badlist import open_bad
from dedupstore.repo.gcplan import read_condemned


class PlansCheck:
    """Plans under `gc/` open and decode; one that is not carried out yet is a note."""

    name = "plans"
    level = Level.QUICK

    def run(self, session: Session) -> Iterator[Finding]:
        store, keyring = session.repository.store, session.repository.keyring
        for key in session.inventory.plans:
            try:
                packs = twice(partial(read_condemned, store, keyring, [key]))
            except StoreGone:
                raise
            except DedupError as exc:
                yield Finding(code="check.plan_damaged", message=f"{key}: {exc.message}", severity="error")
            else:
                if packs:
                    yield Finding(
                        code="check.plan_open", message=f"{key} waits to delete {len(packs)} packs", severity="note"
                    )
        for key in session.inventory.damage:
            try:
                twice(partial(open_bad, store, keyring, key))
            except StoreGone:
                raise
            except DedupError as exc:
                yield Finding(code="check.record_damaged", message=f"{key}: {exc.message}", severity="warning")
