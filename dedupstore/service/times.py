"""What a user calls a time, as an instant."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from importlib import import_module

from dedupstore.clock import Clock
from dedupstore.errors import UsageError

# Loaded only when there is a time to be read: its grammar and the time zones are slow to load, most calls name no time.
_GRAMMAR = "dedupstore.policy.timespec"


LATEST_NS = 1 << 63
"""What a record can hold: some time in 2262."""


def instant(text: str, clock: Clock, environ: Mapping[str, str], *, utc: bool = False) -> int:
    """Nanoseconds since the epoch, read on the clocks of this machine unless `utc`. Raises UsageError."""
    grammar = import_module(_GRAMMAR)
    moment: int = grammar.parse_time(text, now_ns=clock.now_ns(), zone=UTC if utc else grammar.local_zone(environ))
    if moment >= LATEST_NS:
        raise UsageError(f"that is too late to be written down: {text!r}", code="usage.time")
    return moment


def duration(text: str) -> int:
    """Nanoseconds from `1h`, `90m`, `1h30m`. Raises UsageError."""
    length: int = import_module(_GRAMMAR).parse_duration(text)
    return length
