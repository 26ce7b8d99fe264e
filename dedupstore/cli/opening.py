"""The way from a session to an open repository: where it is, what opens it, and a second try for a mistyped passphrase."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TypeVar

from dedupstore.cli import prompts
from dedupstore.cli.session import Session
from dedupstore.errors import WrongPassphrase
from dedupstore.service import access as service
from dedupstore.service import secrets
from dedupstore.service.access import Access, Credential

Answer = TypeVar("Answer")


def with_access(session: Session, work: Callable[[Access], Answer]) -> Answer:
    """Do the work with the repository of this session.

    Whether there is a repository is found out before anyone is asked for a passphrase. On a terminal a wrong
    passphrase may be typed again; `work` is started anew, so it opens the repository before it does anything else.
    The key is already being derived when `work` is called: what it loads by then costs no time.
    """
    url = session.require_repository_url()
    service.require_repository(url)
    return with_credential(session, lambda credential: work(access_to(session, url, credential).started()))


def with_credential(session: Session, work: Callable[[Credential], Answer]) -> Answer:
    """Do the work with what the environment gives, or with what is typed, up to three times."""
    given = from_environment(session)
    if given is not None:
        return work(given)
    for left in range(prompts.MAX_TRIES - 1, -1, -1):
        try:
            return work(Credential(passphrase=prompts.passphrase(session)))
        except WrongPassphrase as error:
            if not left:
                raise
            session.out.note(error.message)
    raise AssertionError("unreachable")


def from_environment(session: Session, environ: Mapping[str, str] | None = None) -> Credential | None:
    """A key file, a recovery key or a passphrase that the environment names, in this order; None: someone is asked."""
    given = session.environ if environ is None else environ
    for find, kind in (
        (secrets.key_file, "key_file"),
        (secrets.recovery_key, "recovery_key"),
        (secrets.passphrase, "passphrase"),
    ):
        found = find(given)
        if found is None:
            continue
        session.out.findings(found.findings)
        if kind == "key_file":
            return Credential(key_file=found.value)
        return Credential(recovery_key=found.text) if kind == "recovery_key" else Credential(passphrase=found.value)
    return None


def access_to(session: Session, url: str, credential: Credential) -> Access:
    return Access(
        url=url,
        credential=credential,
        clock=session.clock,
        environ=session.environ,
        note=lambda finding: session.out.findings([finding]),
    )


def repeated(session: Session) -> str:
    """` -r URL` for a command line we suggest, when the environment does not already say it."""
    url = session.settings.repo
    return "" if url is None or url == session.environ.get("DEDUP_REPO") else f" -r {quoted(url)}"


def quoted(text: str) -> str:
    """As a shell wants it. `shlex` would load more than it saves."""
    plain = all(letter.isalnum() or letter in "-_./:~@%+=," for letter in text)
    return text if text and plain else "'" + text.replace("'", "'\\''") + "'"


def path_argument(text: str) -> bytes:
    """The bytes of a path as the shell gave them."""
    return os.fsencode(text)
