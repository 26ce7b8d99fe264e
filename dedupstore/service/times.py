"""What a user calls a time, as an instant."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC

from dedupstore.clock import Clock
from dedupstore.policy.timespec import local_zone, parse_duration, parse_time


def instant(text: str, clock: Clock, environ: Mapping[str, str], *, utc: bool = False) -> int:
    """Nanoseconds since the epoch, read on the clocks of this machine unless `utc`. Raises UsageError."""
    return parse_time(text, now_ns=clock.now_ns(), zone=UTC if utc else local_zone(environ))


def duration(text: str) -> int:
    """Nanoseconds from `1h`, `90m`, `1h30m`. Raises UsageError."""
    return parse_duration(text)
