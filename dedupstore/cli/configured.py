"""The rules of the configuration, for commands with --policy."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from dedupstore.cli.session import Session

# Loaded only for who asks for rules.
_RULES = "dedupstore.service.configured_rules"


def configured_rules(session: Session, source: str) -> Mapping[str, Any]:
    """What to keep of each source, or of one. Raises NothingMatches, UsageError where nothing says what to keep."""
    found: Mapping[str, Any] = import_module(_RULES).rules_of(session.configuration(), source)
    return found


def configured_host(session: Session) -> str:
    """The name that snapshots of this machine bear."""
    return str(import_module(_RULES).host_of(session.configuration()))
