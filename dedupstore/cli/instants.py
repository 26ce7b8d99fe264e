"""Times as a user gives them on the command line."""

from __future__ import annotations

from dedupstore.cli.session import Session
from dedupstore.service import times


def instant(session: Session, text: str | None) -> int | None:
    """The time a user names, in nanoseconds since the epoch; None for none. Raises UsageError."""
    if text is None:
        return None
    return times.instant(text, session.clock, session.environ, utc=session.settings.utc)
