"""Questions to a person, and what to do when there is none."""

from __future__ import annotations

import click

from dedupstore.cli.session import Session
from dedupstore.errors import UsageError
from dedupstore.service import secrets

MAX_TRIES = 3
"""How often a person may type a passphrase; the caller counts, because it knows whether it fits."""


def passphrase(session: Session, *, of: str = "") -> bytes:
    """The passphrase of a repository, from the environment or typed; `of` says which, where there are several."""
    found = secrets.passphrase(session.environ)
    if found is not None:
        session.out.findings(found.findings)
        return found.value
    return _typed(session, f"Passphrase of {of}" if of else "Passphrase", "DEDUP_PASSPHRASE")


def target_passphrase(session: Session, url: str) -> bytes:
    """The passphrase of the repository that is copied to, typed."""
    return _typed(session, f"Passphrase of {url}", "DEDUP_TO_PASSPHRASE")


def new_passphrase(session: Session, *, may_generate: bool = False) -> bytes | None:
    """The passphrase for something new, typed twice; None when the person left it empty to have one generated.

    The environment is asked for `DEDUP_NEW_PASSPHRASE`, then for `DEDUP_PASSPHRASE`.
    """
    given = new_passphrase_given(session)
    return given if given is not None else _typed_twice(session, "DEDUP_PASSPHRASE", may_generate=may_generate) or None


def new_passphrase_given(session: Session) -> bytes | None:
    """The same, from the environment alone; None when someone has to be asked, or the configuration."""
    found = secrets.new_passphrase(session.environ) or secrets.passphrase(session.environ)
    if found is None:
        return None
    session.out.findings(found.findings)
    return found.value


def added_passphrase(session: Session) -> bytes:
    """One more passphrase for a repository: from `DEDUP_NEW_PASSPHRASE`, or typed twice.

    `DEDUP_PASSPHRASE` is not asked: it is the one that opens the repository already.
    """
    found = secrets.new_passphrase(session.environ)
    if found is not None:
        session.out.findings(found.findings)
        return found.value
    return _typed_twice(session, "DEDUP_NEW_PASSPHRASE")


def _typed_twice(session: Session, variable: str, *, may_generate: bool = False) -> bytes:
    """What was typed twice alike; empty when that means to generate one."""
    question = "New passphrase (empty = generate one)" if may_generate else "New passphrase"
    while True:
        typed = _typed(session, question, variable, empty=may_generate)
        if not typed or _typed(session, "The same again", variable) == typed:
            return typed
        session.out.note("the two differ")


def _typed(session: Session, question: str, variable: str, *, empty: bool = False) -> bytes:
    if not session.can_ask:
        raise UsageError(
            "a passphrase is needed and nobody can be asked",
            hints=secrets.how_to_give(variable),
            code="usage.no_passphrase",
        )
    with session.signals.impatient():
        text = click.prompt(
            question, hide_input=True, err=True, default="" if empty else None, show_default=False, type=str
        )
    return secrets.normalized(text)
