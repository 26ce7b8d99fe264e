"""A yes or a no of a person."""

from __future__ import annotations

import click

from dedupstore.cli.session import Session
from dedupstore.errors import UsageError


def confirm(session: Session, question: str, *, default: bool = False) -> bool:
    """Yes or no. `--yes` says yes; when nobody can be asked it is an error that names `--yes`."""
    if session.settings.yes:
        return True
    if not session.can_ask:
        raise UsageError(f"nobody to ask: {question}", hints=["add --yes to agree"], code="usage.no_input")
    with session.signals.impatient():
        return click.confirm(question, default=default, err=True)
