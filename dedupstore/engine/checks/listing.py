"""Are the listings complete, and is everything listed ours?"""

from __future__ import annotations

from collections.abc import Iterator

from dedupstore.engine.check_options import Level
from dedupstore.engine.check_session import Session
from dedupstore.events import Finding


class ListingCheck:
    """Both sentinels of every listing; names that dedup does not write."""

    name = "listing"
    level = Level.QUICK

    def run(self, session: Session) -> Iterator[Finding]:
        yield from session.inventory.findings
