"""`--from`: the replica that a repair takes good copies from, and what opens it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from dedupstore.cli.session import Session
from dedupstore.cli.store_options import options_at
from dedupstore.cli.target import with_target
from dedupstore.service import repair as service
from dedupstore.service import secrets

Answer = TypeVar("Answer")
Decorated = TypeVar("Decorated", bound=Callable[..., object])


def replica_options(function: Decorated) -> Decorated:
    """Adds `--from` and the options that say what opens a copy; none of them takes a secret. A mirror needs none."""
    for decorator in (
        click.option("--from-key-file", metavar="FILE", default="", help="The key file that opens the copy."),
        click.option(
            "--from-passphrase-command", metavar="CMD", default="", help="A command that prints the copy's passphrase."
        ),
        click.option(
            "--from-passphrase-file", metavar="FILE", default="", help="A file that holds the copy's passphrase."
        ),
        click.option("--from", "replica", metavar="URL", default="", help="A mirror or a copy that has good copies."),
    ):
        function = decorator(function)
    return function


def with_replica(
    session: Session, url: str, passphrase_file: str, passphrase_command: str, key_file: str,
    work: Callable[[service.Replica | None], Answer],
) -> Answer:  # fmt: skip
    """Do the work with the replica that was named, if any. A copy is opened as the target of `dedup copy` would be."""
    if not url:
        return work(None)
    place = session.resolved(url)
    if service.is_mirror(session.require_repository_url(), place.url):
        return work(service.Replica(url=place.url, options=options_at(session, place)))
    environ = secrets.of_target(
        session.environ, passphrase_file=passphrase_file, passphrase_command=passphrase_command, key_file=key_file
    )
    return with_target(session, url, environ, lambda access: work(service.Replica(url=access.url, access=access)))


def repair_fields(outcome: service.PacksOutcome) -> dict[str, object]:
    """What a repair of packs did, or would do, for machines."""
    return {
        "dry_run": outcome.dry_run,
        "packs": outcome.packs,
        "pack_bytes": outcome.pack_bytes,
        "chunks": outcome.chunks,
        "chunk_bytes": outcome.chunk_bytes,
        "lost": outcome.lost,
    }
