"""Can every mark be read? One that cannot may have protected its snapshot, which then cannot be forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from dedupstore.engine.check_options import Level
from dedupstore.engine.check_session import Session
from dedupstore.engine.twice import twice
from dedupstore.errors import DedupError, ObjectNotFound, StoreGone
from dedupstore.events import Finding
from dedupstore.repo import layout
from dedupstore.repo.marks import open_mark


class MarksCheck:
    """Marks under `marks/` open and decode. Those of snapshots that are gone are left to the next forget."""

    name = "marks"
    level = Level.QUICK

    def run(self, session: Session) -> Iterator[Finding]:
        repository = session.repository
        book = repository.catalog.marks()
        for key in sorted(book.damaged.keys() & set(session.inventory.marks)):
            session.cancel.check()
            try:
                twice(partial(open_mark, repository.store, repository.keyring, key))
            except (StoreGone, ObjectNotFound) as exc:
                if isinstance(exc, StoreGone):
                    raise
            except DedupError as exc:
                # A later mark that protects or unprotects says all that matters of an earlier one.
                matters = layout.parse_mark_key(key)[0] in book.unclear & session.inventory.commits
                yield Finding(
                    code="check.mark_damaged",
                    message=f"{key}: {exc.message}",
                    severity="error" if matters else "note",
                )
