"""What the configuration says of keeping: the rules of each source, for `dedup forget --policy`."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from dedupstore.errors import UsageError
from dedupstore.policy.keeping import SourceRules
from dedupstore.policy.retention import Policy, parse_span
from dedupstore.service.config import Loaded
from dedupstore.service.config_schema import Retention
from dedupstore.service.records import safety_source

_COUNTS = ("last", "hourly", "daily", "weekly", "monthly", "quarterly", "yearly")
_SPANS = ("within", *(f"within_{name}" for name in _COUNTS[1:]))


def rules_of(loaded: Loaded, source: str = "") -> Mapping[str, SourceRules]:
    """By source: all of the configuration, or one. What was kept before a restore goes by the rules of its source.

    Raises NothingMatches for a source that is none, UsageError where nothing says what to keep.
    """
    names = (source,) if source else tuple(loaded.config.sources)
    if source:
        loaded.source(source)
    if not names:
        raise UsageError(
            "the configuration has no source", hints=["dedup config init", "give rules: --keep-daily 14"]
        )  # fmt: skip
    found: dict[str, SourceRules] = {}
    for name in names:
        found[name] = found[safety_source(name)] = _rules(loaded, name)
    return found


def host_of(loaded: Loaded) -> str:
    """The name that snapshots of this machine bear."""
    return loaded.config.host or socket.gethostname()


def _rules(loaded: Loaded, name: str) -> SourceRules:
    chosen = loaded.source(name).retention
    retention = loaded.config.retention.get(chosen)
    policy = Policy() if retention is None else _policy(retention)
    if retention is None or policy.empty:
        raise UsageError(
            f'nothing says what to keep of "{name}"',
            why=f"[retention.{chosen}] {'is not there' if retention is None else 'keeps nothing'}",
            hints=[f"write [retention.{chosen}] with keep_daily = 14 into the configuration", "dedup config show"],
            code="usage.no_policy",
        )
    return SourceRules(policy=policy, min_age_ns=retention.min_age, verified=retention.require_verified)


def _policy(retention: Retention) -> Policy:
    counts = {name: getattr(retention, f"keep_{name}") for name in _COUNTS}
    spans = {name: parse_span(text) for name in _SPANS if (text := getattr(retention, f"keep_{name}"))}
    return Policy(**counts, **spans, tags=retention.keep_tags)  # type: ignore[arg-type]  # names are those of Policy
