"""The second repository of a command: what opens it, found out before anything else is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import click

from dedupstore.cli import prompts
from dedupstore.cli.opening import credential_of, proven, require_there
from dedupstore.cli.session import Session
from dedupstore.cli.store_options import options_at
from dedupstore.errors import RepositoryNotFound, StoreMissing, WrongPassphrase
from dedupstore.service.access import Access, Credential
from dedupstore.service.copy import require_two
from dedupstore.service.places import require_apart

Answer = TypeVar("Answer")
Decorated = TypeVar("Decorated", bound=Callable[..., object])


def target_options(function: Decorated) -> Decorated:
    """Adds `--to` and the options that say what opens the target; none of them takes a secret."""
    for decorator in (
        click.option("--to-key-file", metavar="FILE", default="", help="The key file that opens the target."),
        click.option(
            "--to-passphrase-command", metavar="CMD", default="", help="A command that prints the target's passphrase."
        ),
        click.option(
            "--to-passphrase-file", metavar="FILE", default="", help="A file that holds the target's passphrase."
        ),
        click.option("--to", "target", metavar="URL", required=True, help="The repository to copy to."),
    ):
        function = decorator(function)
    return function


def with_target(
    session: Session,
    url: str,
    environ: Mapping[str, str],
    work: Callable[[Access], Answer],
    *,
    storage_class: str = "",
) -> Answer:
    """Do the work with the repository at `url`, or repo:NAME, opened by what `environ` names or by what is typed, up to three times.

    `storage_class`: of what is stored there, where that is said for this call.
    It is opened once before the work begins: a wrong passphrase of the source can then not be taken for one of it.
    """
    place = session.resolved(url)
    url = place.url
    try:
        require_there(session, place)
    except (RepositoryNotFound, StoreMissing) as error:
        error.hints = (f"create it first: dedup init -r {url}", "is the disk mounted?")
        raise
    source = session.require_place()
    require_apart(source.url, url)
    require_there(session, source)
    # Before it is opened: who takes a mirror for a copy may well have another passphrase for it.
    require_two(session.found[source.url], session.found[url], url)
    asked = options_at(session, place, storage_class)
    given = credential_of(session, place, environ)
    if given is not None:
        return work(replace(proven(session, place, given), options=asked))
    for left in range(prompts.MAX_TRIES - 1, -1, -1):
        try:
            access = proven(session, place, Credential(passphrase=prompts.target_passphrase(session, url)))
        except WrongPassphrase as error:
            if not left:
                raise
            session.out.note(error.message)
            continue
        return work(replace(access, options=asked))
    raise AssertionError("unreachable")
